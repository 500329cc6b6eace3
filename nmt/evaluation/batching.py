"""What every pass over an evaluation set shares: batches of bounded size, and a model that is not training."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn


def length_batches(lengths: np.ndarray, *, positions: int, rows: int | None = None) -> list[np.ndarray]:
    """Cut sentences, longest first, into batches of bounded size.

    The longest come first so that what does not fit into memory fails at once. Equal lengths keep their order.

    Args:
        lengths: [count] positions each sentence takes, at least 1.
        positions: at most this many positions a batch, padding included; a longer sentence is a batch of its own.
        rows: at most this many sentences a batch; None for no limit.

    Returns:
        Arrays of indices that together hold each sentence once.
    """
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    batches, start = [], 0
    while start < len(order):
        fitting = positions // int(lengths[order[start]])
        count = max(1, fitting if rows is None else min(fitting, rows))
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
