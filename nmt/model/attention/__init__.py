"""Attention: annotations, score, coverage, alignment, context, and the modules that compose them."""

from nmt.model.attention.additive import AdditiveScore
from nmt.model.attention.annotations import Annotations, SharedAnnotations
from nmt.model.attention.attention import AttentionParts, SingleAttention, total_penalty
from nmt.model.attention.base import (
    Aligned,
    Alignment,
    Attended,
    Attention,
    AttentionState,
    Context,
    Keys,
    Memory,
    Prepared,
    Score,
)
from nmt.model.attention.constant import ConstantScore
from nmt.model.attention.contexts import FixedContext, WeightedMean
from nmt.model.attention.cosine import CosineScore
from nmt.model.attention.coverage import Coverage, NoCoverage
from nmt.model.attention.dot import DotScore
from nmt.model.attention.general import GeneralScore
from nmt.model.attention.local import LocalMonotonic, LocalPredictive
from nmt.model.attention.location import LocationScore
from nmt.model.attention.softmax import NoAlignment, Softmax

__all__ = [
    "AdditiveScore",
    "Aligned",
    "Alignment",
    "Annotations",
    "Attended",
    "Attention",
    "AttentionParts",
    "AttentionState",
    "ConstantScore",
    "Context",
    "CosineScore",
    "Coverage",
    "DotScore",
    "FixedContext",
    "GeneralScore",
    "Keys",
    "LocalMonotonic",
    "LocalPredictive",
    "LocationScore",
    "Memory",
    "NoAlignment",
    "NoCoverage",
    "Prepared",
    "Score",
    "SharedAnnotations",
    "SingleAttention",
    "Softmax",
    "WeightedMean",
    "total_penalty",
]
