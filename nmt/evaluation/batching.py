"""What every pass over an evaluation set shares: batches of bounded size, and a model that is not training."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

# pairs of a source and a target position in a batch of forced decoding; without input feeding the additive score's
# hidden layer is computed for all of them at once, which is 1 GiB of float32 for a layer of 256
_GRID = 2**20


def pair_batches(source_lengths: np.ndarray, target_lengths: np.ndarray, *, positions: int) -> list[np.ndarray]:
    """Cut sentence pairs, longest first, into batches for a model that reads both sides at once.

    A batch of B pairs, padded to S source and T target positions, has B * S and B * T of at most ``positions``, and
    B * S * T of at most 2**20, so that the memory of attention does not grow without bound where ``positions`` is large
    or the sentences are long. A pair beyond these is a batch of its own.

    Args:
        source_lengths: [count], at least 1.
        target_lengths: [count], at least 1.
        positions: as above.

    Returns:
        Arrays of indices that together hold each pair once.
    """
    longest = np.maximum(source_lengths, target_lengths).astype(np.int64)
    return length_batches(longest, positions=positions, squares=_GRID)


def length_batches(
    lengths: np.ndarray, *, positions: int, rows: int | None = None, squares: int | None = None
) -> list[np.ndarray]:
    """Cut sentences, longest first, into batches of bounded size.

    The longest come first so that what does not fit into memory fails at once. Equal lengths keep their order.

    Args:
        lengths: [count] positions each sentence takes, at least 1.
        positions: at most this many positions a batch, padding included; a longer sentence is a batch of its own.
        rows: at most this many sentences a batch; None for no limit.
        squares: the same as ``positions`` for the squares of lengths; None for no limit.

    Returns:
        Arrays of indices that together hold each sentence once.
    """
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    batches, start = [], 0
    while start < len(order):
        longest = int(lengths[order[start]])
        limits = (positions // longest, rows, None if squares is None else squares // longest**2)
        count = max(1, min(limit for limit in limits if limit is not None))
        batches.append(order[start : start + count])
        start += count
    return batches


@contextlib.contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Run a block without dropout and without gradients; the model is then put back into the mode it was in."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)
