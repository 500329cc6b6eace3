"""What the training pairs have to copy, where the prediction copies source words."""

from collections.abc import Sequence

import numpy as np

from nmt.data import Corpus, EncodedPairs, TokenizerPair, first_without_copy, line_surfaces
from nmt.errors import ConfigError, DataError
from nmt.model import TranslationModel


def with_copies(
    pairs: EncodedPairs, corpus: Corpus, tokenizers: TokenizerPair, kept: np.ndarray, *, model: TranslationModel
) -> EncodedPairs:
    """Return the pairs with their copies; as they are where nothing is copied.

    Args:
        pairs: the training pairs.
        corpus: whose training split the pairs are of.
        tokenizers: those that made the pairs.
        kept: the line of each pair in the training split.
        model: the model to be trained.

    Raises:
        ConfigError: the tokenizers leave nothing fixed to copy.
        DataError: the model can only copy, and a target word of the training or the validation split is no copy.
    """
    if not model.copies:
        return pairs
    if tokenizers.sampling:
        raise ConfigError(
            "a prediction that copies needs pieces that stay as they are, but tokenizer.sampling segments anew in each "
            "epoch; it must be 0"
        )
    train, valid = corpus.train, corpus.valid
    pairs = tokenizers.copies.of_pairs(train.sources, train.targets, pairs, kept)
    if not model.prediction.generates:
        _check(pairs, "training", train.targets, tokenizers, kept)
        if valid is not None:
            encoded = tokenizers.encode_pairs(valid.sources, valid.targets, copies=True)
            _check(encoded, "validation", valid.targets, tokenizers, np.arange(len(valid)))
    return pairs


def _check(
    pairs: EncodedPairs, split: str, targets: Sequence[str], tokenizers: TokenizerPair, lines: np.ndarray
) -> None:
    """Refuse pairs of a split with a target word that cannot be copied; ``lines`` are their numbers, from 0."""
    place = first_without_copy(pairs)
    if place is None:
        return
    line = int(lines[place[0]])
    text, target = targets[line], tokenizers.target
    word = line_surfaces(target, text, target.encode([text])[0])[place[1]].decode("utf-8", errors="replace").strip()
    raise DataError(
        f"line {line + 1} of the {split} targets has {word!r}, which its source line has not, and "
        "attention/prediction=pointer can only copy; attention/prediction=pointer_generator writes other words too"
    )
