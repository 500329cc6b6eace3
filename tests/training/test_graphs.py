"""CUDA graphs: which batches share one and when there are none (on any machine), and that they compute the same."""

import logging
import re
import warnings
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from training_toy import records, train

from nmt.data.batches import EncodedPairs, TokenBatches
from nmt.model.scheduled import Scheduled
from nmt.sizes import rounded_up
from nmt.training import BatchLoss, build_optimizer, graphs, train_step
from nmt.training.graphs import Graphs, in_few_shapes
from nmt.training.loss import add_gradients

SOURCES, TARGETS, SIZE = 13, 11, 7
PLAIN = {"averaging": "none", "schedule": "constant", "validate": None, "optimizer": "adamw"}
gpu = pytest.mark.gpu


class Reader(nn.Module):
    """Predicts each target word from the one before and the mean of the source; one layer is never used."""

    def __init__(self, rate=0.0):
        super().__init__()
        torch.manual_seed(3)
        self.source, self.target = nn.Embedding(SOURCES, SIZE), nn.Embedding(TARGETS, SIZE)
        self.output, self.idle = nn.Linear(SIZE, TARGETS), nn.Linear(SIZE, SIZE)
        self.dropout = nn.Dropout(rate)
        self.hook = lambda: None

    def forward(self, batch):
        self.hook()
        places = torch.arange(batch.source.shape[1], device=batch.source.device)
        real = (places < batch.source_lengths.unsqueeze(1)).unsqueeze(2)
        mean = (self.source(batch.source) * real).sum(1, keepdim=True) / real.sum(1, keepdim=True)
        return self.output(self.dropout(torch.tanh(mean + self.target(batch.target_in))))


def reader_loss(model, batch):
    """A loss that waits for nothing."""
    logits = model(batch).transpose(1, 2)
    nll = nn.functional.cross_entropy(logits, batch.target_out, reduction="none") * batch.target_mask
    loss = nll.sum()
    return BatchLoss(1.5 * loss, loss.detach(), batch.target_tokens, attention=0.25 * loss.detach())


def pairs_of(lengths, seed=1):
    generator = np.random.default_rng(seed)
    sides = zip((SOURCES, TARGETS), zip(*lengths, strict=True), strict=True)
    return EncodedPairs.from_lists(*([generator.integers(4, size, n).tolist() for n in side] for size, side in sides))


def batch_of(sentences=3, source=4, target=5, seed=1):
    """A batch of that shape, EOS counted."""
    lengths = [(source - 1 - n % 2, target - 1 - n % 3) for n in range(sentences)]
    return pairs_of(lengths, seed).batch(range(sentences))


def corpus(seed=1):
    """Batches of several shapes."""
    generator = np.random.default_rng(seed)
    lengths = np.stack([generator.integers(1, 25, 90), generator.integers(1, 25, 90)], 1)
    return TokenBatches(pairs_of(lengths.tolist()), batch_tokens=90, pool_batches=5, seed=seed)


def test_sizes_are_few_and_not_much_larger():
    found = [rounded_up(size) for size in range(1, 201)]
    assert found[:16] == list(range(1, 17))
    assert [rounded_up(size) for size in (17, 18, 33, 36, 37, 64, 65, 113, 128, 129)] == [
        *(18, 18, 36, 36, 40),
        *(64, 72, 120, 128, 144),
    ]
    assert all(size <= wide < 1.125 * size for size, wide in enumerate(found, start=1))
    assert len(set(found)) < 48 and all(rounded_up(wide) == wide for wide in found)


def test_batches_are_padded_to_few_shapes():
    shapes = [in_few_shapes(batch_of(sentences, 17, 37)) for sentences in (33, 48)]
    for batch in shapes:
        assert batch.source.shape == (48, 20) and batch.target_in.shape == batch.target_out.shape == (48, 40)
    small, long = in_few_shapes(batch_of(3, 4, 5)), in_few_shapes(batch_of(3, 65, 129))
    assert small.source.shape == (4, 4) and small.target_out.shape == (4, 8)
    assert long.source.shape == (4, 72) and long.target_out.shape == (4, 144)
    assert [len(in_few_shapes(batch_of(sentences))) for sentences in (1, 2, 5, 9, 16, 17)] == [1, 2, 8, 16, 16, 32]


@contextmanager
def unwatched():
    yield []


class Recorded:
    """In the place of a graph: counts, and does eagerly what the graph would."""

    made = 0

    def __init__(self, model, loss_function, batch, pool):
        type(self).made += 1
        if model.refuses and type(self).made >= model.refuses:
            raise RuntimeError("no capture\nof this")
        self.given = model, loss_function
        self.gradients = [each.grad for each in model.parameters()]
        self.shape = batch.source.shape, batch.target_out.shape
        self.replays = 0

    def replay(self, batch, tokens, sums):
        assert (batch.source.shape, batch.target_out.shape) == self.shape
        now = (each.grad for each in self.given[0].parameters())
        assert all(one is other for one, other in zip(now, self.gradients, strict=True)), "memory written by the graph"
        self.replays += 1
        add_gradients(*self.given, batch, tokens, sums)


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr(graphs, "_Graph", Recorded)
    monkeypatch.setattr(graphs, "_waits", unwatched)
    monkeypatch.setattr(graphs, "_reset_generator", lambda device: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(Recorded, "made", 0)
    return Recorded


def reader(refuses=0, **options):
    model = Reader(**options)
    model.refuses = refuses
    return model


def run(subject, model, batches):
    """Give batches to Graphs; returns gradients and sums."""
    model.zero_grad(set_to_none=False)
    device = next(model.parameters()).device
    sums, tokens = torch.zeros(4, dtype=torch.float64, device=device), torch.full((), 10.0, device=device)
    for batch in batches:
        subject.add_gradients(batch, tokens, sums)
    return [sums, *(each.grad for each in model.parameters() if each.grad is not None)]


def eager(model, batches):
    """The same of eager passes."""
    model = deepcopy(model)
    model.zero_grad()
    device = next(model.parameters()).device
    sums, tokens = torch.zeros(4, dtype=torch.float64, device=device), torch.full((), 10.0, device=device)
    for batch in batches:
        add_gradients(model, reader_loss, batch.to(device), tokens, sums)
    return [sums, *(each.grad for each in model.parameters() if each.grad is not None)]


def assert_same(found, expected, **tolerance):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


def test_a_shape_is_captured_once_after_the_first_batches(recorded):
    model = reader()
    subject = Graphs(model, reader_loss)
    batches = [batch_of(seed=seed) for seed in range(9)]
    assert_same(run(subject, model, batches[:3]), eager(model, batches[:3]))
    assert recorded.made == 0
    assert_same(run(subject, model, batches), eager(model, batches))
    assert recorded.made == 1
    run(subject, model, [batch_of(source=5), batch_of(target=9), batch_of(sentences=17), *batches])
    assert recorded.made == 4
    run(subject, model, [batch_of(17, 18, 19), batch_of(18, 17, 20)])
    assert recorded.made == 5, "both are padded to one shape"


def test_padding_changes_neither_sums_nor_gradients(recorded):
    model = reader()
    batches = [batch_of(17, 19, 21), batch_of(33, 17, 18), batch_of(17, 20, 22)] * 2
    assert_same(run(Graphs(model, reader_loss), model, batches), eager(model, batches))


def test_beyond_the_limit_batches_are_eager(recorded, monkeypatch, caplog):
    monkeypatch.setattr(graphs, "_LIMIT", 2)
    model = reader()
    subject = Graphs(model, reader_loss)
    batches = [batch_of(seed=seed) for seed in range(3)] + [batch_of(source=width) for width in (4, 8, 12, 16, 4, 8)]
    with caplog.at_level(logging.INFO):
        assert_same(run(subject, model, batches), eager(model, batches))
    assert recorded.made == 2 and [graph.replays for graph in subject._graphs.values()] == [2, 2]
    assert [record.message for record in caplog.records] == [
        "Reader: no more CUDA graphs: as many as are kept; 2 shapes of batches are CUDA graphs, all others run eagerly"
    ]


def test_a_model_that_cannot_be_captured_is_trained_eagerly_and_the_log_says_so_once(recorded, caplog):
    model = reader(refuses=1)
    batches = [batch_of(source=width) for width in range(4, 12)]
    with caplog.at_level(logging.INFO):
        assert_same(run(Graphs(model, reader_loss), model, batches), eager(model, batches))
    assert recorded.made == 1
    assert [record.message for record in caplog.records] == [
        "Reader: no CUDA graphs: RuntimeError: no capture; it runs eagerly"
    ]


def test_after_a_capture_that_fails_there_are_no_graphs(recorded, monkeypatch, caplog):
    resets = []
    monkeypatch.setattr(graphs, "_reset_generator", resets.append)
    model = reader(refuses=3)
    subject = Graphs(model, reader_loss)
    batches = [batch_of(source=width) for width in (4, 4, 4, 4, 8, 12, 16, 4, 8)]
    with caplog.at_level(logging.INFO):
        assert_same(run(subject, model, batches), eager(model, batches))
    assert recorded.made == 3 and subject.count == 0 and len(resets) == 1
    assert [record.message for record in caplog.records] == [
        "Reader: no CUDA graphs: RuntimeError: no capture; it runs eagerly"
    ]


def test_a_model_that_waits_for_the_device_is_not_captured(recorded, monkeypatch, caplog):
    @contextmanager
    def watched():
        yield ["model.py, line 7"]

    monkeypatch.setattr(graphs, "_waits", watched)
    model = reader()
    with caplog.at_level(logging.INFO):
        run(Graphs(model, reader_loss), model, [batch_of()] * 6)
    assert recorded.made == 0
    assert [record.message for record in caplog.records] == [
        "Reader: no CUDA graphs: the host waits for the device (model.py, line 7); it runs eagerly"
    ]


class Stepwise(nn.Module, Scheduled):
    """Changes until the fifth update."""

    step = 0

    def begin_step(self, step):
        self.step = step

    @property
    def settled(self):
        return self.step >= 5


def test_what_changes_by_schedule_is_captured_when_it_does_no_more(recorded):
    model = reader()
    model.add_module("part", Stepwise())
    subject = Graphs(model, reader_loss)
    for step in range(8):
        model.part.begin_step(step)
        run(subject, model, [batch_of()])
        assert recorded.made == (step >= 5)


def test_an_update_is_that_of_the_eager_passes(recorded):
    found = []
    for graphed in (True, False):
        model = reader()
        optimizer = build_optimizer(model.parameters(), name="adamw", learning_rate=0.1, weight_decay=0.1)
        subject, sums = Graphs(model, reader_loss) if graphed else None, []
        for step in range(6):
            group = [batch_of(17, 18, 19, seed=2 * step + n) for n in range(2)]
            result = train_step(model, optimizer, group, loss_function=reader_loss, clip_norm=0.5, graphs=subject)
            sums.append(result.sums)
            assert result.tokens == sum(batch.target_tokens for batch in group)
        found.append([torch.stack(sums), *model.parameters()])
    assert recorded.made == 1
    assert_same(*found, rtol=1e-5, atol=1e-6)
    start = reader()
    assert torch.equal(model.idle.weight, start.idle.weight), "what has no gradient is not decayed either"
    assert not torch.equal(model.output.weight, start.output.weight)


def test_on_a_cpu_the_option_changes_nothing(tmp_path):
    found = [train(tmp_path / str(on), max_steps=7, cuda_graphs=on)[0].state_dict() for on in (True, False)]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@gpu
def test_graphs_have_the_gradients_of_eager_passes(cuda):
    model = Reader().to(cuda)
    subject, batches = Graphs(model, reader_loss), list(corpus().epoch(0))
    with graphs.own_stream(cuda):
        for _ in range(3):
            found = run(subject, model, batches)
    assert 2 < len(subject._graphs) <= len(batches)
    assert_same(found, eager(model, batches), rtol=1e-4, atol=1e-5)


@gpu
def test_training_with_graphs_is_training_without(cuda, tmp_path):
    found = []
    for on in (True, False):
        options = {"loss_function": reader_loss, "batches": corpus(), "accumulate": 2, "cuda_graphs": on, **PLAIN}
        model = train(tmp_path / str(on), model=Reader().to(cuda), max_steps=40, **options)[0]
        found.append((list(model.parameters()), records(tmp_path / str(on))))
    assert_same(found[0][0], found[1][0], rtol=1e-3, atol=1e-4)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert one["step"] == other["step"] and one.keys() == other.keys()
        assert [one[key] for key in ("loss", "grad_norm", "attention_loss")] == pytest.approx(
            [other[key] for key in ("loss", "grad_norm", "attention_loss")], rel=1e-3
        )


@gpu
def test_dropout_differs_from_replay_to_replay(cuda):
    model = Reader(rate=0.5).to(cuda)
    subject, batch = Graphs(model, reader_loss), batch_of(17, 18, 19)
    with graphs.own_stream(cuda):
        losses = [run(subject, model, [batch])[0][0].item() for _ in range(8)]
    assert len(subject._graphs) == 1 and len(set(losses)) == 8


@gpu
def test_graphs_draw_what_eager_passes_draw(cuda, monkeypatch):
    found = []
    for warm_up in (1, 100):
        monkeypatch.setattr(graphs, "_WARM_UP", warm_up)
        model = Reader(rate=0.5).to(cuda)
        subject = Graphs(model, reader_loss)
        torch.manual_seed(5)
        with graphs.own_stream(cuda):
            found.append([run(subject, model, [batch_of(17, 18, 19)])[0] for _ in range(6)])
    assert_same(*found, rtol=1e-5, atol=1e-5)


@gpu
def test_a_resumed_training_with_graphs_goes_on(cuda, tmp_path):
    options = {"loss_function": reader_loss, "batches": corpus(), "cuda_graphs": True, **PLAIN}
    whole = train(tmp_path / "whole", model=Reader(rate=0.3).to(cuda), max_steps=40, **options)[0]
    train(tmp_path / "parts", model=Reader(rate=0.3).to(cuda), max_steps=17, **options)
    parts = train(tmp_path / "parts", model=Reader(rate=0.3).to(cuda), max_steps=40, **options)[0]
    assert_same(list(parts.parameters()), list(whole.parameters()), rtol=1e-3, atol=1e-4)


def looks_always(batch):
    batch.source.sum().item()


def looks_while_capturing(batch):
    if torch.cuda.is_current_stream_capturing():
        batch.source.sum().item()


def fails_while_capturing(batch):
    if torch.cuda.is_current_stream_capturing():
        raise ValueError("not now")


@gpu
@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (looks_always, r"the host waits for the device \(.*test_graphs.py, line \d+\)"),
        (looks_while_capturing, "Error: "),
        (fails_while_capturing, "ValueError: not now"),
    ],
)
def test_what_cannot_be_captured_is_trained_eagerly(cuda, caplog, hook, message):
    model = Reader(rate=0.3).to(cuda)

    def loss_function(model, batch):
        hook(batch)
        return reader_loss(model, batch)

    optimizer = build_optimizer(model.parameters(), name="adam", learning_rate=0.03)
    subject, losses = Graphs(model, loss_function), []
    with caplog.at_level(logging.INFO), graphs.own_stream(cuda):
        for step in range(40):
            group = [batch_of(17, 18 + step % 3, 19)]
            result = train_step(model, optimizer, group, loss_function=loss_function, graphs=subject)
            losses.append(result.sums[1].item() / result.tokens)
    assert not subject._graphs
    assert len(caplog.records) == 1
    assert re.search(message, caplog.records[0].message)
    assert losses[-1] < 0.8 * losses[0]


@contextmanager
def no_waiting():
    """Refuse all that makes the host wait for the device."""
    with warnings.catch_warnings():
        # of torch's, that it does not find all
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


@gpu
@pytest.mark.parametrize("graphed", [True, False])
def test_updates_wait_for_nothing(cuda, graphed):
    model = Reader(rate=0.3).to(cuda)
    optimizer = build_optimizer(model.parameters(), name="adam", learning_rate=0.03)
    subject, batches = Graphs(model, reader_loss) if graphed else None, list(corpus().epoch(0))

    def epoch():
        for batch in batches:
            train_step(model, optimizer, [batch], loss_function=reader_loss, clip_norm=1.0, graphs=subject)

    with graphs.own_stream(cuda):
        # captures wait; by the third time there are none
        epoch()
        epoch()
        with no_waiting():
            epoch()
