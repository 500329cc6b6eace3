"""One training run from configuration to results: prepare or resume the folder, load data, train, evaluate."""

import logging
import math
from contextlib import ExitStack
from typing import Any

import torch

from nmt.assemble import ProductPrecision, resolve_device, resolve_precision, set_threads
from nmt.cli.environment import describe_environment, git_revision
from nmt.cli.logs import to_file
from nmt.cli.memory import give_back
from nmt.cli.preparation import Setting, count_parameters, goes_on, limits, prepare
from nmt.cli.results import evaluate_and_write, summary
from nmt.cli.validation import Validation
from nmt.config import Config, flatten, to_plain
from nmt.data import Batch, Corpus, TokenBatches
from nmt.model import TranslationModel
from nmt.run_folder import RunFolder
from nmt.training import (
    BatchLoss,
    FitResult,
    MetricsLog,
    ProgressLog,
    TensorBoardLog,
    batch_loss,
    fit,
)

log = logging.getLogger(__name__)


def run_experiment(config: Config, folder: RunFolder) -> None:
    """Train and evaluate ``config`` in ``folder``, going on from where an earlier start of the same run stopped.

    Raises:
        NmtError: bad configuration or data, or the folder holds a run of another configuration.
    """
    device = resolve_device(config.device)
    precision = resolve_precision(config, device)
    with ExitStack() as stack:
        stack.enter_context(folder.locked())
        if folder.started and not config.training.resume:
            log.info("%s is renamed to %s", folder.path, folder.set_aside())
            stack.enter_context(folder.locked())
        if not goes_on(config, folder):
            log.info("%s is finished; training.resume=false starts anew", folder.path)
            log.info("%s", summary(folder.read_metrics()))
            return
        # a start that was refused leaves nothing
        stack.callback(_forget_log, folder)
        stack.enter_context(to_file(folder.log))
        # the next job of a sweep may ask for no number of its own
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        _run(config, folder, device=device, precision=precision)


def _run(config: Config, folder: RunFolder, *, device: torch.device, precision: ProductPrecision) -> None:
    """Train to the end and evaluate."""
    set_threads(config.threads)
    corpus, parameters, training = _trained(config, folder, device=device, precision=precision)
    give_back()
    evaluate_and_write(
        folder,
        corpus,
        training=training,
        parameters=parameters,
        environment=describe_environment(device, rounding=precision.rounding, search_int8=precision.search_int8),
        git=git_revision(),
    )


def _trained(
    config: Config, folder: RunFolder, *, device: torch.device, precision: ProductPrecision
) -> tuple[Corpus, int, dict[str, Any]]:
    """Train to the end; return the corpus, the number of parameters and what the training came to.

    The training's model and optimiser are gone then, so that the memory they had serves the evaluation.
    """
    setting = prepare(config, folder, device=device, precision=precision)
    result, padding = _train(setting)
    return setting.corpus, count_parameters(setting.model), {**_training_summary(result), "padding": padding}


def _forget_log(folder: RunFolder) -> None:
    if not folder.started:
        folder.log.unlink(missing_ok=True)


def _batches(setting: Setting) -> TokenBatches:
    options, train = setting.config.training, setting.corpus.train
    resegment = setting.tokenizers.epoch_encoder(
        train.sources, train.targets, seed=setting.config.seed, indices=setting.kept
    )
    return TokenBatches(
        setting.pairs,
        batch_tokens=options.batch_tokens,
        batch_sentences=options.batch_sentences,
        pool_batches=options.pool_batches,
        seed=setting.config.seed,
        encode_epoch=resegment,
    )


def _train(setting: Setting) -> tuple[FitResult, float]:
    """Train, or go on training; return what it came to and the share of padding in its last epoch's batches."""
    options, model = setting.config.training, setting.model
    batches = _batches(setting)

    def loss_function(model: TranslationModel, batch: Batch) -> BatchLoss:
        with setting.precision.arithmetic(fast=options.fast):
            return batch_loss(model, batch, options.label_smoothing, guided_alignment=options.guided_alignment.weight)

    with (
        MetricsLog(setting.folder.path / "metrics.jsonl") as metrics,
        TensorBoardLog(setting.folder.path / "tensorboard") as board,
        ProgressLog() as progress,
    ):
        validation = Validation(setting, board) if setting.corpus.valid is not None else None
        result = fit(
            model,
            batches,
            loss_function=loss_function,
            optimizer=setting.learning.optimizer,
            schedule=setting.learning.schedule,
            averaging=setting.learning.averaging,
            limits=limits(setting.config),
            checkpoints=setting.folder.checkpoints,
            logs=(metrics, board, progress),
            validate=None if validation is None else validation.scores,
            after_validation=() if validation is None else (validation.show,),
            validate_every=options.validate_every,
            select=options.select.value,
            accumulate=options.accumulate,
            clip_norm=options.clip_norm,
            log_every=options.log_every,
            checkpoint_minutes=options.checkpoint_minutes,
            cuda_graphs=options.cuda_graphs,
        )
        board.hparams(_hyperparameters(setting.config), {f"hparam/valid_{k}": v for k, v in result.best.items()})
    # the epoch whose batches are known: another would have to be segmented and sorted for this alone
    return result, batches.padding(max(math.ceil(result.epochs) - 1, 0))


def _hyperparameters(config: Config) -> dict[str, bool | int | float | str]:
    """Return the options that distinguish runs, as TensorBoard's table takes them."""
    flat = flatten(to_plain(config))
    left_out = ("_target_", "run_dir")
    plain = (bool, int, float, str)
    return {key: value for key, value in flat.items() if isinstance(value, plain) and not key.endswith(left_out)}


def _training_summary(result: FitResult) -> dict[str, Any]:
    return {
        "epochs": result.epochs,
        "steps": result.steps,
        "best_step": result.best_step,
        "target_tokens_per_second": result.target_tokens_per_second,
        "wall_seconds": result.wall_seconds,
        "stopped": result.reason,
    }
