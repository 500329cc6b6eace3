"""A model, batches and a loss small enough to train hundreds of steps in a test."""

import json
from pathlib import Path

import torch
from torch import nn

from nmt.training import BatchLoss, Limits, MetricsLog, build_averaging, build_optimizer, build_schedule, fit

FEATURES, CLASSES = 5, 7


class ToyBatch:
    def __init__(self, inputs, targets):
        self.inputs, self.targets = inputs, targets
        self.target_tokens = len(targets)

    def to(self, device):
        return ToyBatch(self.inputs.to(device), self.targets.to(device))


class ToyBatches:
    """`size` batches an epoch, of 2 to 4 tokens; everything follows from (epoch, index)."""

    def __init__(self, size=5):
        self.size = size

    def count(self, epoch):
        return self.size

    def epoch(self, epoch, start=0):
        for index in range(start, self.size):
            generator = torch.Generator().manual_seed(1000 * epoch + index)
            tokens = 2 + (epoch + index) % 3
            inputs = torch.randn(tokens, FEATURES, generator=generator)
            yield ToyBatch(inputs, torch.randint(CLASSES, (tokens,), generator=generator))


def make_model(seed=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(FEATURES, 11), nn.Tanh(), nn.Dropout(0.3), nn.Linear(11, CLASSES))


def toy_loss(model, batch):
    loss = nn.functional.cross_entropy(model(batch.inputs), batch.targets, reduction="sum")
    return BatchLoss(1.5 * loss, loss.detach(), batch.target_tokens)


def validate(model):
    """A score of the weights alone that goes up and down while they change."""
    total = sum(float(parameter.double().sum()) for parameter in model.parameters())
    return {"bleu": 50 + 10 * torch.tensor(7 * total).sin().item(), "loss": abs(total)}


def train(
    folder: Path,
    *,
    max_steps=23,
    max_epochs=100.0,
    max_minutes=None,
    patience=None,
    averaging="ema",
    optimizer="adam",
    schedule="plateau",
    loss_function=toy_loss,
    model=None,
    batches=None,
    logs=None,
    **options,
):
    """Train the toy model in the run folder `folder`; returns (model, optimizer, result)."""
    folder.mkdir(exist_ok=True)
    model = model or make_model()
    chosen = build_optimizer(model.parameters(), name=optimizer, learning_rate=0.05)
    settings = {"log_every": 3, "checkpoint_minutes": 1e9, "clip_norm": 0.7, "validate": validate, **options}
    result = fit(
        model,
        batches or ToyBatches(),
        loss_function=loss_function,
        optimizer=chosen,
        schedule=build_schedule(schedule, warmup_steps=4, factor=0.5, patience=1, horizon_epochs=6.0),
        averaging=build_averaging(averaging, model, decay=0.9, last=3),
        limits=Limits(max_epochs=max_epochs, max_steps=max_steps, max_minutes=max_minutes, patience=patience),
        checkpoints=folder / "checkpoints",
        logs=[MetricsLog(folder / "metrics.jsonl")] if logs is None else logs,
        **settings,
    )
    return model, chosen, result


def records(folder: Path):
    """The records of metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "timing"} for line in lines]
