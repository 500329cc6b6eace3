"""Decoders: the two wirings, the bridges that start them, the readouts that end a step."""

from nmt.model.decoder.attend_then_update import AttendThenUpdate
from nmt.model.decoder.base import Decoded, Decoder, DecoderState
from nmt.model.decoder.bridge import BackwardFirstBridge, Bridge, FinalBridge, ZeroBridge
from nmt.model.decoder.readout import AttentionalReadout, MaxoutReadout, Readout
from nmt.model.decoder.self_attention import CausalSelfAttention, NoSelfAttention
from nmt.model.decoder.update_then_attend import UpdateThenAttend

__all__ = [
    "AttendThenUpdate",
    "AttentionalReadout",
    "BackwardFirstBridge",
    "Bridge",
    "CausalSelfAttention",
    "Decoded",
    "Decoder",
    "DecoderState",
    "FinalBridge",
    "MaxoutReadout",
    "NoSelfAttention",
    "Readout",
    "UpdateThenAttend",
    "ZeroBridge",
]
