"""Word links of the training pairs, between their pieces, where a training is to guide attention by them."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nmt.cli.common import read_gold
from nmt.config import GuidedAlignmentConfig
from nmt.data import UNK, Corpus, EncodedPairs, FlatSequences, GoldLinks, Link, TokenizerPair
from nmt.errors import ConfigError, DataError
from nmt.evaluation import Sentence, piece_links
from nmt.model import TranslationModel

log = logging.getLogger(__name__)

_KEY = "training.guided_alignment"
# pairs whose links are held as Python lists at a time
_CHUNK_PAIRS = 10_000


def with_links(
    pairs: EncodedPairs,
    options: GuidedAlignmentConfig,
    corpus: Corpus,
    tokenizers: TokenizerPair,
    kept: np.ndarray,
    *,
    model: TranslationModel,
) -> EncodedPairs:
    """Return the pairs with the sure links between their pieces; as they are where attention is not guided.

    Args:
        pairs: the training pairs.
        options: whether attention is guided, and where the links come from.
        corpus: whose training split the pairs are of.
        tokenizers: those that made the pairs.
        kept: the line of each pair in the training split.
        model: the model to be trained.

    Raises:
        ConfigError: the model or the tokenizers leave nothing to guide.
        DataError: there are no links, or not those of these sentences.
    """
    if not options.weight:
        if options.links is not None:
            log.warning("%s.links is not read, since %s.weight is 0", _KEY, _KEY)
        return pairs
    if not model.weights_learn:
        raise ConfigError(
            f"{_KEY}.weight={options.weight:g} needs attention weights that links can teach, but this attention has "
            "none, has all alike, or samples one position in training"
        )
    if tokenizers.sampling:
        raise ConfigError(
            f"{_KEY}.weight={options.weight:g} needs pieces that stay as they are, but tokenizer.sampling segments "
            "anew in each epoch; it must be 0"
        )
    gold = _gold(options, corpus)
    parts, unusable = [], 0
    for start in range(0, len(kept), _CHUNK_PAIRS):
        found = list(_piece_links(pairs, gold, corpus, tokenizers, kept, range(start, len(kept))[:_CHUNK_PAIRS]))
        unusable += sum(links is None for links in found)
        flat = [[place for source, target in links or () for place in (target, source)] for links in found]
        parts.append(FlatSequences.from_lists(flat))
    links = FlatSequences.concatenate(parts)
    if not len(links.ids):
        raise DataError(f"no pair of {corpus.name} to train on has a sure link, so {_KEY} has nothing to guide by")
    log.info(
        "guided alignment: %s links between pieces, in %d of %d pairs",
        f"{len(links.ids) // 2:,}",
        np.count_nonzero(links.lengths),
        len(links),
    )
    if unusable:
        log.warning("the pieces of %d pairs do not make the words of their lines; their links are left out", unusable)
    return replace(pairs, links=links)


def _gold(options: GuidedAlignmentConfig, corpus: Corpus) -> Sequence[GoldLinks]:
    """Return the links of the training split."""
    if options.links is not None:
        return read_gold(Path(options.links).expanduser(), corpus.train.sources, corpus.train.targets)
    if corpus.train.links is None:
        raise DataError(
            f"{_KEY}.weight={options.weight:g} needs word links of the training split, and {corpus.name} has none; "
            f"{_KEY}.links=FILE names a Pharaoh file with a line for each pair"
        )
    return corpus.train.links


def _piece_links(
    pairs: EncodedPairs,
    gold: Sequence[GoldLinks],
    corpus: Corpus,
    tokenizers: TokenizerPair,
    kept: np.ndarray,
    chosen: range,
) -> Iterator[list[Link] | None]:
    """Yield the links between pieces of the pairs ``chosen``; None where the words are not known."""
    for index in chosen:
        line = int(kept[index])
        source = Sentence(corpus.train.sources[line], pairs.source[index])
        # a target token that is copied may have a number beyond the vocabulary; what it stands for is in the line
        tokens = [token if token < tokenizers.target.size else UNK for token in pairs.target[index]]
        target = Sentence(corpus.train.targets[line], tokens)
        yield piece_links(tokenizers, source, target, gold[line].sure)
