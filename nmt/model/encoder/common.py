"""What encoders share: checks of their options, and the mean in the place of a last state."""

from torch import Tensor

from nmt.errors import ConfigError


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Return the mean [B, M] of states [B, S, M], zero on padding, over the positions where the mask [B, S] is True."""
    return states.sum(1) / mask.sum(1, keepdim=True)


def require_encoder_options(dropout: float, **counts: int) -> None:
    """Refuse a dropout rate outside [0, 1), and counts below 1, by the names of the encoder's options."""
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"encoder.{name}={value} is not accepted; it must be at least 1")
    if not 0 <= dropout < 1:
        raise ConfigError(f"encoder.dropout={dropout} is not accepted; it must be at least 0 and below 1")
