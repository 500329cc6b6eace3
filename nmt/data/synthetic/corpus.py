"""The corpus as a component: splits of the right lengths that share no sentence, in either direction.

From English to German the translation is a function: every English word form has one German translation given its
sentence. From German to English it is one on the corpus: no German sentence appears twice, and the lexicon has no
German word for two English ones in the same place (hence no *them* and *their* beside *her*).

Punctuation is written at the word before it and belongs to that word's token, as in raw text; it changes no link. What
links to what is said in ``nominals``, ``verb_groups``, ``predicates`` and ``clauses``.

The default corpus (seed 1), a token without its punctuation and lower-cased:

=================================================  ==========  =============
                                                   train       test_long
=================================================  ==========  =============
English words a sentence, mean (median)            11.5 (10)   43.4 (42)
German words a sentence, mean (median)             11.0 (10)   41.4 (40)
English, German word forms                         515, 894    498, 766
sentences with crossing sure links                 84 %        100 %
sure links that cross another                      53 %        60 %
farthest link of a sentence, positions, mean       3.4         9.5
=================================================  ==========  =============
"""

import hashlib
from collections.abc import Sequence
from typing import Literal, final

from nmt.data.corpus import Corpus, CorpusSource, GoldLinks, ParallelText
from nmt.data.synthetic.generation import Generator
from nmt.data.synthetic.words import Pair
from nmt.errors import ConfigError

SHORT, LONG = (3, 30), (31, 60)
# weights of sentences with 1, 2, 3, ... clauses
_CLAUSES = {SHORT: (58, 29, 10, 3), LONG: (0, 0, 1, 2, 3, 3, 2, 1)}


@final
class SyntheticCorpus(CorpusSource):
    """English and German sentence pairs from a synchronous grammar, with exact word alignments.

    Sentences of ``train``, ``valid`` and ``test`` have 3 to 30 words on both sides, those of ``valid_long`` and
    ``test_long`` 31 to 60. No sentence appears twice. The other splits do not depend on ``train_sentences``.

    Args:
        source: ``en`` or ``de``.
        target: the other one.
        train_sentences: pairs to train on.
        valid_sentences: pairs of ``valid``.
        test_sentences: pairs of ``test``.
        long_sentences: pairs of ``valid_long`` and of ``test_long`` each.
        seed: seed of the text; a run's seed does not change it.

    Raises:
        ConfigError: the languages are not English and German, or a count is less than 1.
    """

    def __init__(
        self,
        *,
        source: Literal["en", "de"] = "en",
        target: Literal["en", "de"] = "de",
        train_sentences: int = 30000,
        valid_sentences: int = 500,
        test_sentences: int = 1000,
        long_sentences: int = 300,
        seed: int = 1,
    ) -> None:
        if {source, target} != {"en", "de"}:
            raise ConfigError(f"data.source={source} data.target={target} is not accepted; one is en, the other de")
        self._source = source
        self._target = target
        # test first: a larger training set leaves the others as they are
        self._sizes = {
            "test": test_sentences,
            "valid": valid_sentences,
            "test_long": long_sentences,
            "valid_long": long_sentences,
            "train": train_sentences,
        }
        for key, size in self._sizes.items():
            if size < 1:
                option = "long_sentences" if key.endswith("long") else f"{key}_sentences"
                raise ConfigError(f"data.{option}={size} is not accepted; it must be at least 1")
        self._seed = seed

    def load(self) -> Corpus:
        """Generate the corpus."""
        seen: set[str] = set()
        texts = {}
        for number, (key, size) in enumerate(self._sizes.items()):
            bounds = LONG if key.endswith("long") else SHORT
            texts[key] = self._text(_draw(Generator(self._seed * len(self._sizes) + number), size, bounds, seen))
        return Corpus(
            name="synthetic",
            synthetic=True,
            source_language=self._source,
            target_language=self._target,
            train=texts["train"],
            valid=texts["valid"],
            test=texts["test"],
            extra={key: texts[key] for key in ("valid_long", "test_long")},
            fingerprint=_fingerprint(texts["train"], (self._source, self._target, *self._sizes.values(), self._seed)),
        )

    def _text(self, pairs: Sequence[Pair]) -> ParallelText:
        """Return the pairs in the direction asked for."""
        english, german = [pair.english for pair in pairs], [pair.german for pair in pairs]
        links = [GoldLinks(pair.sure, pair.possible) for pair in pairs]
        if self._source == "en":
            return ParallelText(english, german, links)
        return ParallelText(german, english, [link.flipped() for link in links])


def _draw(generator: Generator, size: int, bounds: tuple[int, int], seen: set[str]) -> list[Pair]:
    """Draw pairs whose sides have lengths within bounds and are not in ``seen``, which they join."""
    low, high = bounds
    pairs: list[Pair] = []
    while len(pairs) < size:
        pair = generator.pair(1 + generator.number(_CLAUSES[bounds]))
        lengths = pair.english.count(" ") + 1, pair.german.count(" ") + 1
        if low <= min(lengths) and max(lengths) <= high and pair.english not in seen and pair.german not in seen:
            seen.update((pair.english, pair.german))
            pairs.append(pair)
    return pairs


def _fingerprint(train: ParallelText, options: Sequence[object]) -> str:
    """Return a hash of the training text and the options."""
    digest = hashlib.sha256(repr(options).encode())
    for line in (*train.sources, *train.targets):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
