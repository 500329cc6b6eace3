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
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, final

from nmt.data.corpus import Corpus, CorpusSource, ParallelText, checked_separator
from nmt.data.synthetic.copies import Copies
from nmt.data.synthetic.generation import Generator
from nmt.data.synthetic.lines import Line, in_natural_order, in_source_order, joined
from nmt.data.synthetic.words import Pair
from nmt.errors import ConfigError

SHORT, LONG = (3, 30), (31, 60)
# weights of sentences with 1, 2, 3, ... clauses
_CLAUSES = {SHORT: (58, 29, 10, 3), LONG: (0, 0, 1, 2, 3, 3, 2, 1)}
_DEFAULT = {"order": "natural", "sentences": 1, "sentence_separator": "<sep>", "names": 0.0}
_ORDERS = {"natural": in_natural_order, "source": in_source_order}


@final
class SyntheticCorpus(CorpusSource):
    """English and German sentence pairs from a synchronous grammar, with exact word alignments.

    Sentences of ``train``, ``valid`` and ``test`` have 3 to 30 words on both sides, those of ``valid_long`` and
    ``test_long`` 31 to 60. No sentence appears twice. The other splits do not depend on ``train_sentences``.

    Three options change what has to be learnt; the links stay exact:

    =============  ===========================  ========================================================================
    option         configs/data                 what it is for
    =============  ===========================  ========================================================================
    ``order``      synthetic_shared_order.yaml  monotonic and ``local_m`` attention where word order is shared, against
                                                the default corpus, where it is not
    ``sentences``  synthetic_paragraphs.yaml    attention over several sentences; where one of them ends is marked
    ``names``      synthetic_copying.yaml       copying: with words as tokens, names and numbers that training has not
                                                shown are unknown and can only be copied
    =============  ===========================  ========================================================================

    With ``order`` ``source`` the target is no grammatical language: its words stand in the order of the source words
    they are linked to, and so do its punctuation marks. No links cross, sure or possible; sentences in which they would
    in every order are left out (14 % and 28 % of the long ones from English, 20 % and 42 % from German): what goes is
    above all the *do* of a negation and verbs with a separated prefix for an English particle.

    Args:
        source: ``en`` or ``de``.
        target: the other one.
        train_sentences: pairs to train on; pairs are lines, of so many ``sentences`` each.
        valid_sentences: pairs of ``valid``.
        test_sentences: pairs of ``test``.
        long_sentences: pairs of ``valid_long`` and of ``test_long`` each.
        seed: seed of the text; a run's seed does not change it.
        order: ``natural``, or ``source`` for target words in the order of the source.
        sentences: sentences of a line; the limits of length are those of each sentence.
        sentence_separator: the word between the sentences of a source line, without links and one token; in the
            target there is none.
        names: share of the sentences that have made-up names (*Marovik*, *the teacher Marovik*) or numbers (*the room
            number 4711*), the same in both languages. Those of ``train`` and those of the other splits have none in
            common.

    Raises:
        ConfigError: the languages are not English and German, a count is less than 1, the order is neither, the
            separator is not one word, or the share not from 0 to 1.
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
        order: Literal["natural", "source"] = "natural",
        sentences: int = 1,
        sentence_separator: str = "<sep>",
        names: float = 0.0,
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
        self._sentences = sentences
        self._separator = checked_separator(sentence_separator)
        self._names = names
        if order not in _ORDERS:
            raise ConfigError(f"data.order={order} is not accepted; it must be natural or source")
        if sentences < 1:
            raise ConfigError(f"data.sentences={sentences} is not accepted; it must be at least 1")
        if not 0 <= names <= 1:
            raise ConfigError(f"data.names={names} is not accepted; it must be a share from 0 to 1")
        self._line = partial(_ORDERS[order], forth=source == "en")
        options = {
            "order": order,
            "sentences": sentences,
            "sentence_separator": sentence_separator,
            "names": float(names),
        }
        # the default corpus keeps the fingerprint that it had before there were these options
        self._changed = [option for option in options.items() if option not in _DEFAULT.items()]

    def load(self) -> Corpus:
        """Generate the corpus."""
        seen: set[str] = set()
        texts = {}
        for number, (key, size) in enumerate(self._sizes.items()):
            bounds = LONG if key.endswith("long") else SHORT
            seed = self._seed * len(self._sizes) + number
            copies = Copies(self._names, seed, held_out=key != "train")
            lines = _draw(Generator(seed), copies, size * self._sentences, bounds, self._line, seen)
            texts[key] = self._text(lines)
        return Corpus(
            name="synthetic",
            synthetic=True,
            source_language=self._source,
            target_language=self._target,
            train=texts["train"],
            valid=texts["valid"],
            test=texts["test"],
            extra={key: texts[key] for key in ("valid_long", "test_long")},
            fingerprint=_fingerprint(
                texts["train"], (self._source, self._target, *self._sizes.values(), self._seed, *self._changed)
            ),
        )

    def _text(self, lines: Sequence[Line]) -> ParallelText:
        """Return lines of so many sentences each."""
        size = self._sentences
        groups = [joined(lines[first : first + size], self._separator) for first in range(0, len(lines), size)]
        return ParallelText(*map(list, zip(*groups, strict=True)))


def _draw(
    generator: Generator,
    copies: Copies,
    size: int,
    bounds: tuple[int, int],
    line_of: Callable[[Pair], Line | None],
    seen: set[str],
) -> list[Line]:
    """Draw sentences whose sides have lengths within bounds and are not in ``seen``, which they join."""
    low, high = bounds
    lines: list[Line] = []
    copying = copies.wanted()
    while len(lines) < size:
        pair = generator.pair(1 + generator.number(_CLAUSES[bounds]), copies if copying else None)
        lengths = len(pair.english_words), len(pair.german_words)
        line = line_of(pair) if low <= min(lengths) and max(lengths) <= high else None
        if line is not None and line.source not in seen and line.target not in seen:
            seen.update((line.source, line.target))
            lines.append(line)
            copying = copies.wanted()
    return lines


def _fingerprint(train: ParallelText, options: Sequence[object]) -> str:
    """Return a hash of the training text and the options."""
    digest = hashlib.sha256(repr(options).encode())
    for line in (*train.sources, *train.targets):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
