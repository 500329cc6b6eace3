"""Training: optimiser, schedule, averaging, checkpoints, logs and the loop. It knows neither search nor evaluation."""

from nmt.training.averaging import Averaging, build_averaging
from nmt.training.checkpoint import (
    Checkpoint,
    checkpoint_path,
    load_best,
    load_checkpoint,
    load_model_tensors,
    model_tensors,
    save_checkpoint,
)
from nmt.training.log import Log, MetricsLog, ProgressLog, TensorBoardLog
from nmt.training.loop import FitResult, Interrupted, StepResult, fit, train_step
from nmt.training.loss import BatchLoss, batch_loss
from nmt.training.optimizer import build_optimizer
from nmt.training.schedule import Schedule, build_schedule
from nmt.training.state import Limits, TrainingState

__all__ = [
    "Averaging",
    "BatchLoss",
    "Checkpoint",
    "FitResult",
    "Interrupted",
    "Limits",
    "Log",
    "MetricsLog",
    "ProgressLog",
    "Schedule",
    "StepResult",
    "TensorBoardLog",
    "TrainingState",
    "batch_loss",
    "build_averaging",
    "build_optimizer",
    "build_schedule",
    "checkpoint_path",
    "fit",
    "load_best",
    "load_checkpoint",
    "load_model_tensors",
    "model_tensors",
    "save_checkpoint",
    "train_step",
]
