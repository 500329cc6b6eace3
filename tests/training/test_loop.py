import copy
import os
import signal
import threading
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from training_toy import ToyBatch, ToyBatches, make_model, records, toy_loss, train

from nmt.errors import TrainingError
from nmt.training import (
    BatchLoss,
    Interrupted,
    Limits,
    Log,
    TrainingState,
    build_averaging,
    build_optimizer,
    build_schedule,
    load_best,
    load_checkpoint,
    train_step,
)
from nmt.training.interruption import Interruption
from nmt.training.session import Session

PLAIN = {"averaging": "none", "schedule": "constant"}


def scripted(scores):
    """A validation that returns the given BLEU scores in turn."""
    rest = iter(scores)
    return lambda model: {"bleu": next(rest)}


def sgd_step(batches, **options):
    """Weights of the toy model without dropout after one step."""
    model = make_model().eval()
    optimizer = build_optimizer(model.parameters(), name="sgd", learning_rate=1.0)
    result = train_step(model, optimizer, batches, loss_function=toy_loss, **options)
    return model, result


def moved(model):
    """How far the weights of the toy model have moved from their start."""
    pairs = zip(model.parameters(), make_model().parameters(), strict=True)
    return torch.sqrt(sum((new - old).square().sum() for new, old in pairs)).item()


def test_a_step_is_the_gradient_of_the_mean_over_all_tokens():
    first, second = list(ToyBatches().epoch(0))[:2]
    assert first.target_tokens != second.target_tokens
    both = ToyBatch(torch.cat([first.inputs, second.inputs]), torch.cat([first.targets, second.targets]))
    model = make_model().eval()
    (1.5 * nn.functional.cross_entropy(model(both.inputs), both.targets)).backward()
    accumulated, result = sgd_step([first, second])
    for new, old in zip(accumulated.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(new, old - old.grad, rtol=0, atol=1e-6)
    assert result.tokens == both.target_tokens
    norm = torch.sqrt(sum(old.grad.square().sum() for old in model.parameters())).item()
    nll = nn.functional.cross_entropy(model(both.inputs), both.targets, reduction="sum").item()
    assert result.sums.tolist() == pytest.approx([1.5 * nll, nll, norm, 0], rel=1e-5)


def test_gradients_are_clipped_by_their_global_norm():
    batches = list(ToyBatches().epoch(0))[:1]
    free, result = sgd_step(batches)
    norm = result.sums[2].item()
    assert moved(free) == pytest.approx(norm, rel=1e-4)
    assert moved(sgd_step(batches, clip_norm=norm / 3)[0]) == pytest.approx(norm / 3, rel=1e-4)
    assert moved(sgd_step(batches, clip_norm=norm * 3)[0]) == pytest.approx(norm, rel=1e-4)


def test_loss_falls_and_records_say_so(tmp_path):
    fixed = list(ToyBatches(5).epoch(0))
    batches = SimpleNamespace(count=lambda epoch: 5, epoch=lambda epoch, start=0: iter(fixed[start:]))
    train(tmp_path, batches=batches, max_steps=100, log_every=10, **PLAIN)
    losses = [record["loss"] for record in records(tmp_path) if record["kind"] == "train"]
    assert len(losses) == 10
    assert losses[-1] < 0.6 * losses[0]


def test_train_records_are_means_over_tokens(tmp_path):
    results = []

    def kept(model, batch):
        losses = toy_loss(model, batch)
        results.append((losses.nll.item(), batch.target_tokens))
        return losses

    train(tmp_path, max_steps=7, log_every=3, loss_function=kept, **PLAIN)
    lines = [record for record in records(tmp_path) if record["kind"] == "train"]
    assert [(line["step"], line["epoch"]) for line in lines] == [(3, 0.6), (6, 1.2)]
    assert [line["learning_rate"] for line in lines] == pytest.approx([0.75 * 0.05, 0.05])
    for line, part in zip(lines, (results[:3], results[3:6]), strict=True):
        loss = sum(nll for nll, _ in part) / sum(tokens for _, tokens in part)
        assert line["loss"] == pytest.approx(loss, rel=1e-6)
        assert line["smoothed_loss"] == pytest.approx(1.5 * loss, rel=1e-6)
        assert line["perplexity"] == pytest.approx(torch.tensor(loss).exp().item(), rel=1e-5)


def test_what_attention_adds_is_recorded_where_there_is_any(tmp_path):
    def guided(model, batch):
        losses = toy_loss(model, batch)
        return losses._replace(attention=0.25 * losses.nll)

    for number, loss_function in enumerate((guided, toy_loss)):
        train(tmp_path / str(number), max_steps=4, log_every=2, loss_function=loss_function, **PLAIN)
    found, plain = (
        [record for record in records(tmp_path / number) if record["kind"] == "train"] for number in ("0", "1")
    )
    assert [line["attention_loss"] for line in found] == pytest.approx([0.25 * line["loss"] for line in found])
    assert not any("attention_loss" in line for line in plain)


def test_learning_rate_follows_the_schedule(tmp_path):
    train(tmp_path, max_steps=9, log_every=1, averaging="none", schedule="inverse_sqrt")
    rates = [record["learning_rate"] / 0.05 for record in records(tmp_path) if record["kind"] == "train"]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0] + [(4 / step) ** 0.5 for step in range(5, 10)])


@pytest.mark.parametrize(
    ("accumulate", "epochs"), [(1, [0.2, 0.4, 0.6, 0.8, 1.0, 1.2]), (2, [0.4, 0.8, 1, 1.4, 1.8, 2])]
)
def test_an_update_does_not_cross_epochs(tmp_path, accumulate, epochs):
    train(tmp_path, max_steps=6, log_every=1, accumulate=accumulate, **PLAIN)
    assert [record["epoch"] for record in records(tmp_path) if record["kind"] == "train"] == pytest.approx(epochs)


@pytest.mark.parametrize(
    ("limits", "every", "validated", "reason"),
    [
        ({"max_steps": 12}, None, [5, 10, 12], "max_steps=12 reached"),
        ({"max_steps": 10}, None, [5, 10], "max_steps=10 reached"),
        ({"max_steps": 9}, 4, [4, 8, 9], "max_steps=9 reached"),
        ({"max_epochs": 1.5, "max_steps": None}, None, [5, 8], "max_epochs=1.5 reached"),
        ({"max_epochs": 2.0, "max_steps": None}, None, [5, 10], "max_epochs=2 reached"),
        ({"max_steps": 0}, None, [0], "max_steps=0 reached"),
    ],
)
def test_limits_and_validations(tmp_path, limits, every, validated, reason):
    _, _, result = train(tmp_path, **limits, validate_every=every, **PLAIN)
    assert [record["step"] for record in records(tmp_path) if record["kind"] == "valid"] == validated
    assert (result.steps, result.epochs, result.reason) == (validated[-1], pytest.approx(validated[-1] / 5), reason)
    assert load_checkpoint(tmp_path / "checkpoints", "last").counters["state"]["step"] == result.steps


def test_early_stopping_and_the_best_weights(tmp_path):
    seen = []
    model, _, result = train(
        tmp_path,
        patience=2,
        max_steps=100,
        validate=scripted([1.0, 3.0, 3.0, 2.0, 9.0]),
        after_validation=[lambda model, step: seen.append((step, copy.deepcopy(model.state_dict())))],
    )
    assert result.reason == "no better validation in the last 2 (patience=2)"
    assert (result.steps, result.best_step, result.best) == (20, 10, {"bleu": 3.0})
    assert [record["best"] for record in records(tmp_path) if record["kind"] == "valid"] == [True, True, False, False]
    best = make_model(seed=9)
    counters = load_best(tmp_path / "checkpoints", best)
    assert counters == {"step": 10, "epoch": 2.0, "validation": {"bleu": 3.0}}
    step, validated = seen[1]
    assert step == 10
    assert all(torch.equal(validated[name], tensor) for name, tensor in best.state_dict().items())
    assert not torch.equal(best[0].weight, model[0].weight)


def test_schedule_hears_of_validations(tmp_path):
    train(tmp_path, max_steps=14, log_every=7, schedule="plateau", validate=scripted([2.0, 1.0, 1.0]), patience=9)
    rates = [record["learning_rate"] / 0.05 for record in records(tmp_path) if record["kind"] == "train"]
    assert rates == [1.0, 0.5]


def test_validated_weights_enter_the_mean_of_checkpoints(tmp_path):
    train(tmp_path, max_steps=17, averaging="checkpoints")
    tensors = load_checkpoint(tmp_path / "checkpoints", "last").tensors
    assert {key.split("/")[1] for key in tensors if key.startswith("average/")} == {"10", "15"}


@pytest.mark.parametrize(("select", "best_step"), [("bleu", 10), ("loss", 5)])
def test_select(tmp_path, select, best_step):
    values = iter([{"bleu": 1.0, "loss": 2.0}, {"bleu": 2.0, "loss": 3.0}])
    _, _, result = train(tmp_path, select=select, max_steps=10, validate=lambda model: next(values), **PLAIN)
    assert result.best_step == best_step


def test_validation_sees_averaged_weights_in_evaluation_mode(tmp_path):
    seen = []

    def look(model):
        seen.append((model.training, torch.is_grad_enabled(), model[0].weight.clone()))
        return {"bleu": 0.0}

    model, _, _ = train(tmp_path, max_steps=5, validate=look)
    training, gradients, weights = seen[0]
    assert (training, gradients) == (False, False)
    average = load_checkpoint(tmp_path / "checkpoints", "last").tensors["average/0.weight"]
    assert torch.equal(weights, average)
    assert model.training
    assert not torch.equal(model[0].weight, average)


def test_without_validation_the_last_weights_are_best(tmp_path):
    model, _, result = train(tmp_path, max_steps=7, validate=None, **PLAIN)
    best = make_model(seed=9)
    assert load_best(tmp_path / "checkpoints", best)["step"] == 7
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), best.parameters(), strict=True))
    assert (result.best_step, dict(result.best)) == (7, {})


def poisoned(at):
    """The toy loss, not a number in call `at`."""
    calls = []

    def loss(model, batch):
        calls.append(1)
        found = toy_loss(model, batch)
        return found if len(calls) != at else BatchLoss(found.loss * float("nan"), found.nll, found.tokens)

    return loss


def test_a_loss_that_is_not_finite_stops_and_overwrites_nothing(tmp_path):
    with pytest.raises(
        TrainingError, match=r"not finite at step 8; the last good checkpoint is .*last.safetensors, of step 5$"
    ):
        train(tmp_path, loss_function=poisoned(8), log_every=100)
    last = load_checkpoint(tmp_path / "checkpoints", "last")
    assert last.counters["state"]["step"] == 5
    assert all(tensor.isfinite().all() for tensor in last.tensors.values())


def test_not_finite_before_any_checkpoint(tmp_path):
    with pytest.raises(TrainingError, match=r"not finite at step 1; there is no checkpoint yet$"):
        train(tmp_path, loss_function=poisoned(1), checkpoint_minutes=0.0)
    assert not (tmp_path / "checkpoints").exists()


def test_where_steps_are_not_checked_one_by_one_a_checkpoint_is_refused(tmp_path):
    """On a GPU the check waits for a log line or a checkpoint."""
    model = make_model()
    session = Session(
        model=model,
        optimizer=build_optimizer(model.parameters(), name="sgd", learning_rate=1.0),
        schedule=build_schedule("constant"),
        averaging=build_averaging("none", model),
        logs=[],
        folder=tmp_path,
    )
    session.save_last()
    session.state.step = 3
    session.meter.add(torch.tensor([1.0, 1.0, float("inf"), 0.0]), 2)
    with pytest.raises(TrainingError, match=r"not finite at step 3; .* of step 0$"):
        session.save_last()
    assert load_checkpoint(tmp_path, "last").counters["state"]["step"] == 0


def test_a_score_that_is_not_finite(tmp_path):
    with pytest.raises(TrainingError, match=r"the validation's bleu at step 5 is not finite \(nan\)"):
        train(tmp_path, validate=scripted([float("nan")]))
    assert not (tmp_path / "checkpoints").exists()


class Seconds:
    """A clock that moves only when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("nmt.training.meter.time", SimpleNamespace(perf_counter=lambda: self.now))

    def taking(self, seconds, function):
        """Return `function`, taking so long."""

        def timed(*arguments):
            self.now += seconds
            return function(*arguments)

        return timed


@pytest.mark.parametrize("steps", [30, 60])
def test_speed_counts_neither_validations_nor_the_first_steps(tmp_path, monkeypatch, steps):
    clock = Seconds(monkeypatch)
    tokens = []

    def loss(model, batch):
        tokens.append(batch.target_tokens)
        clock.now += 1.0 if len(tokens) <= 50 else 2.0
        return toy_loss(model, batch)

    validation = clock.taking(1000.0, lambda model: {"bleu": 1.0})
    _, _, result = train(
        tmp_path, max_steps=steps, loss_function=loss, validate=validation, batches=ToyBatches(3), **PLAIN
    )
    assert result.target_tokens_per_second == pytest.approx(sum(tokens) / 30 if steps == 30 else sum(tokens[50:]) / 20)
    assert result.wall_seconds == pytest.approx(min(steps, 50) + 2 * max(steps - 50, 0) + 1000 * steps / 3)


def test_minutes_are_a_limit(tmp_path, monkeypatch):
    loss = Seconds(monkeypatch).taking(25.0, toy_loss)
    assert train(tmp_path, max_steps=9, max_minutes=1.0, loss_function=loss, **PLAIN)[2].steps == 3


def test_minutes_of_earlier_starts_count(tmp_path, monkeypatch):
    clock = Seconds(monkeypatch)
    loss = clock.taking(12.0, toy_loss)
    train(tmp_path, max_steps=6, loss_function=loss, **PLAIN)
    clock.now = 0.0
    state = TrainingState(**load_checkpoint(tmp_path / "checkpoints", "last").counters["state"])
    assert state.wall_seconds == 72.0
    assert Limits(max_minutes=1.2).reached(state) == "max_minutes=1.2 reached"
    assert Limits(max_minutes=1.3).reached(state) is None
    _, _, result = train(tmp_path, max_steps=7, loss_function=loss, **PLAIN)
    assert result.wall_seconds == 84.0


def test_part_done():
    state = TrainingState(step=30, progress=1.5, wall_seconds=60.0)
    assert Limits(max_epochs=6.0).done(state) == 0.25
    assert Limits(max_epochs=6.0, max_steps=40).done(state) == 0.75
    assert Limits(max_epochs=6.0, max_minutes=2.0).done(state) == 0.5
    assert Limits(max_epochs=1.0).done(state) == 1.0
    assert Limits().done(state) == 0.0


class Steps(Log):
    """Remembers what the progress bar would show."""

    def __init__(self):
        self.done, self.left = [], []

    def write(self, record):
        if record["kind"] == "train":
            self.left.append(record["timing"]["seconds_left"])

    def advance(self, done):
        self.done.append(done)


def test_progress_is_told_after_every_step(tmp_path, monkeypatch):
    clock, seen = Seconds(monkeypatch), Steps()
    train(tmp_path, max_steps=4, log_every=1, logs=[seen], loss_function=clock.taking(5.0, toy_loss), **PLAIN)
    assert seen.done == [0.25, 0.5, 0.75, 1.0]
    assert seen.left == [15.0, 10.0, 5.0, 0.0]


def test_signal_handlers_return(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(tmp_path, max_steps=2, **PLAIN)
    with pytest.raises(TrainingError):
        train(tmp_path / "other", loss_function=poisoned(1), **PLAIN)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_signal_acts_at_once():
    former = signal.getsignal(signal.SIGINT)
    interruption = Interruption()
    assert signal.getsignal(signal.SIGINT) != former
    os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == former
    with pytest.raises(Interrupted):
        interruption.check()


def test_trains_in_a_thread(tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(train(tmp_path, max_steps=2, **PLAIN)[2]))
    thread.start()
    thread.join()
    assert results[0].steps == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT TESTED: needs a CUDA device")
def test_resumes_on_a_gpu(tmp_path):
    def cuda_model():
        return make_model().cuda()

    whole = train(tmp_path / "whole", model=cuda_model())[0]
    train(tmp_path / "parts", model=cuda_model(), max_steps=12)
    parts = train(tmp_path / "parts", model=cuda_model())[0]
    for one, two in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, two)
