"""What a user may choose about decoding, and which values are accepted."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nmt.errors import ConfigError


@dataclass(frozen=True)
class SearchOptions:
    """How hypotheses are searched for and ranked; lengths are target pieces without EOS.

    Attributes:
        beam: hypotheses kept for a sentence; 1 is greedy. Not used by sampling.
        n_best: hypotheses returned for a sentence, at most ``beam``; with ``sample``, how many are drawn.
        length_penalty: alpha of GNMT's length normalisation; 0 ranks by log-probability.
        coverage_penalty: beta of GNMT's coverage penalty; 0 is off.
        min_length: EOS is not chosen earlier, unless the maximum is smaller or nothing else may follow.
        max_length_ratio, max_length_offset: the maximum is ratio * source pieces (without EOS) + offset, rounded down;
            there EOS is forced.
        no_repeat_ngram: no n-gram of this order occurs twice in a hypothesis; 0 is off.
        sample: draw instead of searching.
        temperature: divides the logits of the distribution that is drawn from.
        top_k: draw among that many most probable pieces; 0 is off.
        top_p: draw among the smallest set of most probable pieces that has this share of the mass; 1 is off.

    Raises:
        ConfigError: a value is outside its range.
    """

    beam: int = 5
    n_best: int = 1
    length_penalty: float = 1.0
    coverage_penalty: float = 0.0
    min_length: int = 0
    max_length_ratio: float = 2.0
    max_length_offset: int = 10
    no_repeat_ngram: int = 0
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        self._require("beam", self.beam >= 1, "at least 1")
        self._require("n_best", self.n_best >= 1, "at least 1")
        self._require("length_penalty", math.isfinite(self.length_penalty), "a finite number")
        self._require("coverage_penalty", 0 <= self.coverage_penalty < math.inf, "at least 0 and finite")
        self._require("min_length", self.min_length >= 0, "at least 0")
        self._require("max_length_ratio", 0 <= self.max_length_ratio < math.inf, "at least 0 and finite")
        self._require("max_length_offset", self.max_length_offset >= 0, "at least 0")
        self._require("no_repeat_ngram", self.no_repeat_ngram >= 0, "at least 0 (0 is off)")
        self._require("temperature", 0 < self.temperature < math.inf, "above 0 and finite")
        self._require("top_k", self.top_k >= 0, "at least 0 (0 is off)")
        self._require("top_p", 0 < self.top_p <= 1, "above 0 and at most 1 (1 is off)")
        if not self.sample and self.n_best > self.beam:
            raise ConfigError(
                f"search.n_best={self.n_best} is above search.beam={self.beam}; it may be at most the beam"
            )

    def _require(self, name: str, fulfilled: bool, accepted: str) -> None:
        if not fulfilled:
            raise ConfigError(f"search.{name}={getattr(self, name)} is not accepted; it must be {accepted}")

    def maximum_lengths(self, source_lengths: Tensor) -> Tensor:
        """Return the most pieces, without EOS, that each sentence's hypotheses may have.

        Args:
            source_lengths: [B], pieces with EOS.

        Returns:
            [B] int64.
        """
        pieces = (source_lengths - 1).clamp(min=0).to(torch.float64)
        # a ratio such as 1.15 is not exact in binary: 1.15 * 20 is 22.999999999999996
        return (pieces * self.max_length_ratio + 1e-9).floor().long() + self.max_length_offset
