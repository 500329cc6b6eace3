"""Encoders: what turns embedded source tokens into annotations."""

from nmt.model.encoder.attended_rnn import AttendedRecurrentEncoder
from nmt.model.encoder.base import Encoded, Encoder, mask_from_lengths
from nmt.model.encoder.cnn import ConvolutionalEncoder
from nmt.model.encoder.rnn import RecurrentEncoder
from nmt.model.encoder.self_attention import SelfAttentionEncoder

__all__ = [
    "AttendedRecurrentEncoder",
    "ConvolutionalEncoder",
    "Encoded",
    "Encoder",
    "RecurrentEncoder",
    "SelfAttentionEncoder",
    "mask_from_lengths",
]
