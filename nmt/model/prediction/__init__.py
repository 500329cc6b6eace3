"""Predictions: how readouts, attention and the output layer make a distribution over the next target token."""

from nmt.model.prediction.base import Losses, Prediction
from nmt.model.prediction.vocabulary import VocabularyPrediction

__all__ = ["Losses", "Prediction", "VocabularyPrediction"]
