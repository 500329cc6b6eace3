"""Encoders: what turns embedded source tokens into annotations."""

from nmt.model.encoder.base import Encoded, Encoder, mask_from_lengths
from nmt.model.encoder.rnn import RecurrentEncoder

__all__ = ["Encoded", "Encoder", "RecurrentEncoder", "mask_from_lengths"]
