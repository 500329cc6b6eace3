"""Subword units by SentencePiece: unigram language model or byte-pair encoding."""

import io
import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, final

from nmt.data.tokenizer.base import Sampling, Tokenizer
from nmt.data.tokenizer.trainer import TokenizerTrainer, has_word, require
from nmt.data.vocabulary import BOS, EOS, PAD, UNK
from nmt.errors import ConfigError, DataError

log = logging.getLogger(__name__)
T = TypeVar("T")

_TRAINING_SEED = 1
# the library's seed is global until a thread makes its generator
_SEED_LOCK = threading.Lock()


@final
class SentencePieceTokenizer(Tokenizer):
    """Encodes with a trained SentencePiece model (Kudo and Richardson 2018, arXiv:1808.06226).

    The one character that does not survive is U+2581, the library's own sign for a space, which becomes a space.

    With ``sampling`` above 0 a line can be segmented at random: for a unigram model from all segmentations, with
    probability proportional to P(x) ** sampling (Kudo 2018, arXiv:1804.10959, subword sampling; lower is more
    random); for BPE by leaving out each merge with probability ``sampling`` (Provilkov et al. 2020, arXiv:1910.13267).
    """

    def __init__(self, model: bytes, *, sampling: float) -> None:
        """Open a serialized model.

        Raises:
            RuntimeError: ``model`` is not one.
        """
        from sentencepiece import SentencePieceProcessor  # noqa: PLC0415 (slow to import)

        self._model = model
        self._sampling = sampling
        self._processor: Any = SentencePieceProcessor(model_proto=model)

    @property
    def size(self) -> int:
        """Number of ids."""
        return self._processor.get_piece_size()

    @property
    def sampling(self) -> float:
        """Strength of random segmentation in training; 0 where there is none."""
        return self._sampling

    def encode(self, lines: Sequence[str], *, sampler: Sampling | None = None) -> list[list[int]]:
        """Return the ids of each line, the most probable segmentation or, with ``sampler``, a random one."""
        if sampler is not None and self._sampling > 0:
            return seeded(sampler.number, lambda: self._sample(lines))
        return self._processor.encode(list(lines))

    def _sample(self, lines: Sequence[str]) -> list[list[int]]:
        encode, alpha = self._processor.encode, self._sampling
        # line by line, because a list may be shared out among threads of the library, each with its own generator
        return [encode(line, enable_sampling=True, nbest_size=-1, alpha=alpha) for line in lines]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each id as something to read."""
        return [self._names[index] for index in ids]

    def surfaces(self, ids: Sequence[int]) -> list[bytes]:
        """Return the UTF-8 bytes that each id gives to the text."""
        return [self._surface(index) for index in ids]

    def unknown(self, lines: Sequence[str]) -> list[list[str]]:
        """Return, for each line, the text that each of its UNK stands for."""
        texts = self._processor.encode(list(lines), out_type=str)
        return [
            [text.replace("\u2581", " ") for index, text in zip(ids, found, strict=True) if index == UNK]
            for ids, found in zip(self.encode(lines), texts, strict=True)
        ]

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """Write the model, readable by any SentencePiece."""
        file = f"{name}.model"
        (folder / file).write_bytes(self._model)
        return {"file": file, "sampling": self._sampling}

    @classmethod
    def load(cls, folder: Path, description: Mapping[str, Any]) -> Self:
        """Read the model."""
        return cls((folder / description["file"]).read_bytes(), sampling=description["sampling"])

    @cached_property
    def _names(self) -> list[str]:
        return [self._processor.id_to_piece(index) for index in range(self.size)]

    @cached_property
    def _surface(self) -> Callable[[int], bytes]:
        """Of an id its surface, found when it is first asked for: few texts have all pieces of a vocabulary."""
        return cache(self._find_surface)

    def _find_surface(self, index: int) -> bytes:
        name = self._processor.id_to_piece(index)
        if self._processor.is_control(index):
            return b""
        if self._processor.is_byte(index):
            return bytes([int(name[1:-1], base=16)])
        return " \u2047 ".encode() if index == UNK else name.replace("\u2581", " ").encode()


@final
@dataclass(frozen=True)
class SentencePieceTrainer(TokenizerTrainer):
    """Trains SentencePiece models.

    Attributes:
        model_type: ``unigram`` or ``bpe``.
        byte_fallback: a character outside the vocabulary is spelled in UTF-8 bytes; false: it is UNK.
        sampling: random segmentation in training, 0 for none; see ``SentencePieceTokenizer``.
        character_coverage: part of the text whose characters must be in the vocabulary, 0.98 to 1.
        threads: threads used in training; fixed, since the result may depend on it.
    """

    model_type: Literal["unigram", "bpe"]
    byte_fallback: bool
    sampling: float
    character_coverage: float
    threads: int

    def __post_init__(self) -> None:
        require(self.vocabulary_size > 4, "vocabulary_size", self.vocabulary_size, "at least 5")
        require(0 <= self.sampling <= 1, "sampling", self.sampling, "from 0 to 1")
        coverage = self.character_coverage
        require(0.98 <= coverage <= 1, "character_coverage", coverage, "from 0.98 to 1")
        require(self.threads >= 1, "threads", self.threads, "at least 1")

    def version(self) -> str:
        """Name the library's version, on which the result may depend."""
        import sentencepiece  # noqa: PLC0415 (slow to import)

        return f"sentencepiece {sentencepiece.__version__}"

    def train_one(self, lines: Iterable[str]) -> Tokenizer:
        """Train one model.

        Raises:
            ConfigError: the vocabulary is too small for the text's characters.
            DataError: the text is empty.
        """
        lines = [line for line in lines if line.strip(" ")]
        if not lines:
            raise DataError("the training text of the tokenizer is empty")
        model = seeded(_TRAINING_SEED, lambda: self._train(lines, self.vocabulary_size))
        tokenizer = SentencePieceTokenizer(model, sampling=self.sampling)
        if tokenizer.size < self.vocabulary_size:
            wanted = self.vocabulary_size
            log.warning("the text gives %d pieces, not tokenizer.vocabulary_size=%d", tokenizer.size, wanted)
        return tokenizer

    def _train(self, lines: Sequence[str], size: int) -> bytes:
        import sentencepiece  # noqa: PLC0415 (slow to import)

        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=model,
                vocab_size=size,
                model_type=self.model_type,
                character_coverage=self.character_coverage,
                byte_fallback=self.byte_fallback,
                num_threads=self.threads,
                user_defined_symbols=self._symbols(lines),
                **_FIXED_OPTIONS,
            )
        except RuntimeError as error:
            return self._retry(lines, str(error))
        return model.getvalue()

    def _symbols(self, lines: Sequence[str]) -> list[str]:
        """Return what must be one piece: the separator with the space before it, if the text has it as a word."""
        return [f"\u2581{self.separator}"] if any(has_word(line, self.separator) for line in lines) else []

    def _retry(self, lines: Sequence[str], message: str) -> bytes:
        """Train with the vocabulary that the text allows, or say why none can be made."""
        if found := re.search(r"Vocabulary size too high.* value <= (\d+)", message):
            # `hard_vocab_limit` is not heard in every case
            return self._train(lines, int(found[1]))
        if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
            raise ConfigError(
                f"tokenizer.vocabulary_size={self.vocabulary_size} is too small for the characters of the training "
                f"text; it must be at least {found[1]}, or tokenizer.character_coverage={self.character_coverage} lower"
            )
        raise DataError(f"SentencePiece cannot be trained on this text: {message}")


_FIXED_OPTIONS = {
    "normalization_rule_name": "identity",
    "hard_vocab_limit": False,
    "add_dummy_prefix": True,
    "remove_extra_whitespaces": True,
    "shuffle_input_sentence": False,
    "max_sentence_length": 1 << 16,
    "pad_id": PAD,
    "unk_id": UNK,
    "bos_id": BOS,
    "eos_id": EOS,
    "minloglevel": 2,
}


def seeded(seed: int, work: Callable[[], T]) -> T:
    """Run ``work`` in a new thread whose SentencePiece generator starts from ``seed``.

    The library keeps a generator per thread and, in some versions, reads the seed only when a thread makes it, so a new
    thread is the one place where a seed always counts.
    """
    import sentencepiece  # noqa: PLC0415 (slow to import)

    def run() -> T:
        sentencepiece.set_random_generator_seed(seed)
        return work()

    with _SEED_LOCK, ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(run).result()
