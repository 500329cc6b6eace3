"""Annotations whose keys are not their values."""

from dataclasses import replace
from typing import final

from torch import Tensor

from nmt.errors import ConfigError
from nmt.model.attention.annotations import Annotations
from nmt.model.encoder.base import Encoded
from nmt.model.products import Linear


@final
class SplitAnnotations(Annotations):
    """[k_j; v_j] = h_j: the first half of a state is its key, the second its value.

    Daniluk et al. 2017, arXiv:1702.04521, "key-value attention". Differs: the paper attends to a language model's own
    past states; here they are the encoder's, and the query is the decoder's whole state. So the keys of a
    bidirectional RNN are its forward states, the values its backward ones. Where the encoder gives values of their own,
    v_j is the second half of those.

    Args:
        source_size: M, even.
    """

    def __init__(self, source_size: int) -> None:
        super().__init__()
        if source_size % 2:
            raise ConfigError(
                f"attention/annotations=split cuts encoder states in two halves, but their size is {source_size}; "
                "take an even size or attention/annotations=projected"
            )
        self.key_size = self.value_size = source_size // 2

    def forward(self, source: Encoded) -> tuple[Encoded, Encoded]:
        """Return the batch with k_j as its states, and with v_j."""
        keys, values = source.states[..., : self.key_size], _values(source)[..., self.key_size :]
        return replace(source, states=keys), replace(source, states=values)


@final
class ProjectedAnnotations(Annotations):
    """k_j = W_k h_j, v_j = W_v h_j, without bias (Vaswani et al. 2017, arXiv:1706.03762v7, section 3.2.2, one head).

    Differs: the query is not projected; that is the score's affair. Where the encoder gives values of their own, W_v
    maps those. Under the scores ``location`` and ``constant``, which look at no keys, W_k is idle.

    Args:
        source_size: M.
        key_size: of k_j; None for M.
        value_size: of v_j, and so of the context; None for M.
    """

    def __init__(self, source_size: int, key_size: int | None = None, value_size: int | None = None) -> None:
        super().__init__()
        for name, size in (("key_size", key_size), ("value_size", value_size)):
            if size is not None and size < 1:
                raise ConfigError(f"attention.annotations.{name}={size} is not accepted; it must be at least 1 or null")
        self.key_size = source_size if key_size is None else key_size
        self.value_size = source_size if value_size is None else value_size
        self.key = Linear(source_size, self.key_size, bias=False, of_keys=True)
        self.value = Linear(source_size, self.value_size, bias=False)

    def forward(self, source: Encoded) -> tuple[Encoded, Encoded]:
        """Return the batch with k_j as its states, and with v_j."""
        keys, values = self.key(source.states), self.value(_values(source))
        return replace(source, states=keys), replace(source, states=values)


def _values(source: Encoded) -> Tensor:
    return source.states if source.values is None else source.values
