"""Attention: score, alignment, context, and the module that composes them."""

from nmt.model.attention.additive import AdditiveScore
from nmt.model.attention.attention import Attended, Attention
from nmt.model.attention.base import Alignment, Context, Keys, Memory, Score
from nmt.model.attention.constant import ConstantScore
from nmt.model.attention.contexts import FixedContext, WeightedMean
from nmt.model.attention.cosine import CosineScore
from nmt.model.attention.dot import DotScore
from nmt.model.attention.general import GeneralScore
from nmt.model.attention.local import LocalMonotonic, LocalPredictive
from nmt.model.attention.location import LocationScore
from nmt.model.attention.softmax import NoAlignment, Softmax

__all__ = [
    "AdditiveScore",
    "Alignment",
    "Attended",
    "Attention",
    "ConstantScore",
    "Context",
    "CosineScore",
    "DotScore",
    "FixedContext",
    "GeneralScore",
    "Keys",
    "LocalMonotonic",
    "LocalPredictive",
    "LocationScore",
    "Memory",
    "NoAlignment",
    "Score",
    "Softmax",
    "WeightedMean",
]
