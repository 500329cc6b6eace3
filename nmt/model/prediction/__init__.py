"""Predictions: how readouts, attention and the output layer make a distribution over the next target token."""

from nmt.model.prediction.base import Losses, NextTokens, Prediction
from nmt.model.prediction.marginal import MarginalPrediction
from nmt.model.prediction.pointer import Pointer, PointerGenerator
from nmt.model.prediction.vocabulary import VocabularyPrediction

__all__ = [
    "Losses",
    "MarginalPrediction",
    "NextTokens",
    "Pointer",
    "PointerGenerator",
    "Prediction",
    "VocabularyPrediction",
]
