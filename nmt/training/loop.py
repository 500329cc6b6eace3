"""The training loop: functions over an explicit :class:`~nmt.training.session.Session`.

What comes next follows from the session's state alone, so that a training killed at any step and resumed does the same.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nmt.data.batches import Batch, TokenBatches
from nmt.model.scheduled import begin_step
from nmt.training.averaging import Averaging
from nmt.training.clipping import clip_gradients
from nmt.training.graphs import Graphs, own_stream
from nmt.training.interruption import Interrupted, Interruption
from nmt.training.log import Log
from nmt.training.loss import LossFunction, add_gradients
from nmt.training.meter import WARM_STEPS
from nmt.training.schedule import Schedule
from nmt.training.session import Session
from nmt.training.state import Limits, TrainingState
from nmt.training.validation import AfterValidation, Validate, Validation, run_validation

__all__ = ["FitResult", "Interrupted", "StepResult", "fit", "train_step"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitResult:
    """What a training came to.

    Attributes:
        steps: updates made, over all resumptions.
        epochs: passes through the training data, real-valued.
        target_tokens_per_second: with EOS, without BOS and padding; updates only, those after the 50th if any.
        wall_seconds: over all resumptions.
        reason: why it stopped, in words.
        best_step: step of the weights saved as ``best``.
        best: what their validation returned; empty without validation.
    """

    steps: int
    epochs: float
    target_tokens_per_second: float
    wall_seconds: float
    reason: str
    best_step: int
    best: Mapping[str, float]


class StepResult(NamedTuple):
    """An update: ``sums`` [4] float64 as :class:`nmt.training.meter.Meter` takes them; target tokens."""

    sums: Tensor
    tokens: int


class _Update(NamedTuple):
    """The batches of one update, and the position in the training data behind them."""

    batches: list[Batch]
    epoch: int
    batch: int
    progress: float


def fit(
    model: nn.Module,
    batches: TokenBatches,
    *,
    loss_function: LossFunction,
    optimizer: Optimizer,
    schedule: Schedule,
    averaging: Averaging,
    limits: Limits,
    checkpoints: Path,
    logs: Sequence[Log] = (),
    validate: Validate | None = None,
    after_validation: Sequence[AfterValidation] = (),
    validate_every: int | None = None,
    select: Literal["bleu", "loss"] = "bleu",
    accumulate: int = 1,
    clip_norm: float | None = None,
    log_every: int = 50,
    checkpoint_minutes: float = 10.0,
    cuda_graphs: bool = False,
) -> FitResult:
    """Train ``model`` until a limit is reached, from the checkpoint ``last`` in ``checkpoints`` on where there is one.

    Args:
        model: on its device; in training mode when the call returns, with the weights of the last step.
        batches: the training data.
        loss_function: gives the loss of a batch, both on the model's device.
        optimizer: over the model's parameters; its learning rate is the peak.
        schedule: multiplies the learning rate.
        averaging: of the same model; its weights are those validated and saved as ``best``.
        limits: when to stop.
        checkpoints: the folder of the checkpoints.
        logs: where records go; the caller closes them.
        validate: returns scores of the model, among them ``select``; gets it in evaluation mode, without gradients,
            with the averaged weights. None: no validation; the weights at the end are ``best``.
        after_validation: functions of the model, so prepared, and the step, for samples and pictures.
        validate_every: steps between validations; None: at the end of every epoch. Where training stops elsewhere there
            is one more, which a resumption with higher limits knows nothing of.
        select: which score chooses the best weights: ``bleu`` (the higher) or ``loss`` (the lower).
        accumulate: batches an update.
        clip_norm: longest gradient, in the norm over all parameters; None for any.
        log_every: steps between training records.
        checkpoint_minutes: minutes after which ``last`` is saved between validations.
        cuda_graphs: on a CUDA device, make gradients by :class:`nmt.training.graphs.Graphs`; the batches are then
            :class:`~nmt.data.batches.Batch` in main memory.

    Raises:
        Interrupted: SIGINT or SIGTERM came; ``last`` is saved.
        TrainingError: a loss or gradient is not finite; nothing is overwritten.
        RunError: the checkpoint is damaged or another model's.
    """
    session = Session(
        model=model, optimizer=optimizer, schedule=schedule, averaging=averaging, logs=logs, folder=checkpoints
    )
    graphs = Graphs(model, loss_function) if cuda_graphs and session.device.type == "cuda" else None
    validation = Validation(validate, after_validation, validate_every, select)
    updates = _updates(batches, session.state, accumulate)
    interruption = Interruption()
    model.train()
    with nullcontext() if graphs is None else own_stream(session.device):
        try:
            while True:
                interruption.check()
                if validation.due(session.state):
                    run_validation(session, validation, interruption)
                    session.save_last()
                reason = limits.reached(session.state)
                if reason is not None:
                    break
                _advance(session, next(updates), loss_function=loss_function, clip_norm=clip_norm, graphs=graphs)
                _report(session, limits, log_every)
                if time.perf_counter() - session.saved_at >= 60 * checkpoint_minutes:
                    session.save_last()
            return _finish(session, validation, interruption, reason)
        except Interrupted:
            session.save_last()
            raise
        finally:
            interruption.close()


def train_step(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Sequence[Batch],
    *,
    loss_function: LossFunction,
    clip_norm: float | None = None,
    graphs: Graphs | None = None,
) -> StepResult:
    """Make one update, from the summed loss of all ``batches`` over their real target tokens; waits for nothing.

    Args:
        model: the model.
        optimizer: over its parameters.
        batches: at least one.
        loss_function: gives the loss of a batch on the model's device.
        clip_norm: longest gradient; None for any.
        graphs: makes the gradients, with the same model and loss; None: operation by operation.
    """
    device = next(model.parameters()).device
    tokens = sum(batch.target_tokens for batch in batches)
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    # written by the device: to copy a number there would make the host wait
    total = torch.full((), float(tokens), device=device)
    for batch in batches:
        if graphs is None:
            add_gradients(model, loss_function, batch.to(device), total, sums)
        else:
            graphs.add_gradients(batch, total, sums)
    sums[2] = clip_gradients(model.parameters(), clip_norm)
    optimizer.step()
    # graphs add to gradients that stay where they are; otherwise nothing is kept for a validation
    optimizer.zero_grad(set_to_none=graphs is None)
    return StepResult(sums, tokens)


def _updates(batches: TokenBatches, state: TrainingState, accumulate: int) -> Iterator[_Update]:
    """Yield updates without end from the position of ``state`` on; an epoch's last may have fewer batches."""
    epoch, position = state.epoch, state.batch
    while True:
        count = batches.count(epoch)
        stream = iter(batches.epoch(epoch, start=position))
        while group := list(islice(stream, accumulate)):
            position += len(group)
            finished = position >= count
            after = (epoch + 1, 0) if finished else (epoch, position)
            yield _Update(group, *after, progress=epoch + position / count)
        epoch, position = epoch + 1, 0


def _advance(
    session: Session, update: _Update, *, loss_function: LossFunction, clip_norm: float | None, graphs: Graphs | None
) -> None:
    """Make an update and count it."""
    state = session.state
    session.set_learning_rate()
    begin_step(session.model, state.step)
    result = train_step(
        session.model,
        session.optimizer,
        update.batches,
        loss_function=loss_function,
        clip_norm=clip_norm,
        graphs=graphs,
    )
    state.step += 1
    state.epoch, state.batch, state.progress = update.epoch, update.batch, update.progress
    state.tokens += result.tokens
    session.averaging.update(state.step)
    session.meter.add(result.sums, result.tokens)
    session.clock.tick()
    if state.step == WARM_STEPS:
        session.clock.end_warm()
    if session.device.type == "cpu":
        session.check_finite()


def _report(session: Session, limits: Limits, log_every: int) -> None:
    """Move the progress bar; write a training record where one is due."""
    state, done = session.state, limits.done(session.state)
    for each in session.logs:
        each.advance(done)
    if state.step % log_every:
        return
    session.check_finite()
    session.clock.lap()
    timing = {
        "tokens_per_second": state.tokens_per_second,
        "wall_seconds": state.wall_seconds,
        "done": done,
        "seconds_left": state.wall_seconds * (1 - done) / done if done else None,
    }
    rate = session.optimizer.param_groups[0]["lr"]
    session.write("train", {**session.meter.take(), "learning_rate": rate}, timing)


def _finish(session: Session, validation: Validation, interruption: Interruption, reason: str) -> FitResult:
    """Save ``last``, then validate once more where the last step was not; returns the result."""
    state = session.state
    if session.saved_step != state.step:
        session.save_last()
    if validation.run is None:
        with session.evaluating():
            state.best_step = state.step
            session.save_best()
    elif state.validated_step != state.step:
        run_validation(session, validation, interruption)
    session.clock.lap()
    session.clock.tick()
    log.info("training ends at step %d, epoch %.2f: %s", state.step, state.progress, reason)
    return FitResult(
        steps=state.step,
        epochs=state.progress,
        target_tokens_per_second=state.tokens_per_second,
        wall_seconds=state.wall_seconds,
        reason=reason,
        best_step=state.step if state.best_step is None else state.best_step,
        best=state.best,
    )
