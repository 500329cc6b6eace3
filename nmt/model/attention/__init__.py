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
from nmt.model.attention.concat_linear import ConcatLinearScore
from nmt.model.attention.constant import ConstantScore
from nmt.model.attention.contexts import FixedContext, WeightedMean
from nmt.model.attention.cosine import CosineScore
from nmt.model.attention.coverage import Coverage, NoCoverage
from nmt.model.attention.dot import DotScore
from nmt.model.attention.general import GeneralScore
from nmt.model.attention.hierarchical import HierarchicalAttention
from nmt.model.attention.key_value import ProjectedAnnotations, SplitAnnotations
from nmt.model.attention.local import LocalMonotonic, LocalPredictive
from nmt.model.attention.location import LocationScore
from nmt.model.attention.monotonic import Monotonic
from nmt.model.attention.multi_head import MultiHeadAttention
from nmt.model.attention.pooling import PoolingScore
from nmt.model.attention.sampled import GumbelSoftmax, SampledAlignment
from nmt.model.attention.softmax import NoAlignment, Softmax
from nmt.model.attention.sparse import Entmax15, Sparsemax

__all__ = [
    "AdditiveScore",
    "Aligned",
    "Alignment",
    "Annotations",
    "Attended",
    "Attention",
    "AttentionParts",
    "AttentionState",
    "ConcatLinearScore",
    "ConstantScore",
    "Context",
    "CosineScore",
    "Coverage",
    "DotScore",
    "Entmax15",
    "FixedContext",
    "GeneralScore",
    "GumbelSoftmax",
    "HierarchicalAttention",
    "Keys",
    "LocalMonotonic",
    "LocalPredictive",
    "LocationScore",
    "Memory",
    "Monotonic",
    "MultiHeadAttention",
    "NoAlignment",
    "NoCoverage",
    "PoolingScore",
    "Prepared",
    "ProjectedAnnotations",
    "SampledAlignment",
    "Score",
    "SharedAnnotations",
    "SingleAttention",
    "Softmax",
    "Sparsemax",
    "SplitAnnotations",
    "WeightedMean",
    "total_penalty",
]
