"""Measure, in one process on one device, what an update costs in each way there is, for each attention, and search.

    python scripts/gpu_speed.py data.root=DATA --out FILE
    python scripts/gpu_speed.py data.root=DATA --parts updates search --steps 300

The configuration is `experiment=benchmark_a` with the options given. Updates are measured twice: over the first
batches, in which CUDA graphs are captured, and over the same batches again. Searches are by a model of three times so
many updates as are measured. Nothing is validated, and nothing is kept;
`scripts/benchmark.py` measures whole commands, and the device's own floor.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from nmt.assemble import build_model_for, resolve_device, resolve_precision, set_threads
from nmt.cli.environment import describe_environment, git_revision
from nmt.cli.preparation import Setting, prepare
from nmt.config import Config, Device, from_omegaconf
from nmt.data import Batch, TokenBatches
from nmt.evaluation import translate_lines
from nmt.model import Rounding, TranslationModel, arithmetic
from nmt.model.scheduled import begin_step
from nmt.run_folder import RunFolder
from nmt.search import SearchOptions
from nmt.training import BatchLoss, batch_loss, build_optimizer, train_step
from nmt.training.graphs import Graphs, own_stream

ROOT = Path(__file__).resolve().parents[1]
ATTENTIONS = sorted(path.stem for path in (ROOT / "configs" / "attention").glob("*.yaml"))


class Way(NamedTuple):
    """A way of making updates."""

    name: str
    fast: bool
    rounding: Rounding
    graphs: bool


WAYS = [
    Way("plain, float32", fast=False, rounding=Rounding.none, graphs=False),
    Way("fast, float32", fast=True, rounding=Rounding.none, graphs=False),
    Way("fast, bf16", fast=True, rounding=Rounding.bf16, graphs=False),
    Way("graphs, float32", fast=True, rounding=Rounding.none, graphs=True),
    Way("graphs, bf16", fast=True, rounding=Rounding.bf16, graphs=True),
]


class Learner:
    """A model that is trained in one way; a context, in whose stream its updates are."""

    def __init__(self, model: TranslationModel, way: Way) -> None:
        """Start from the model's weights."""
        self.model, self.device = model.train(), next(model.parameters()).device
        # nothing changes by schedule any more
        begin_step(model, 10**6)
        self._optimizer = build_optimizer(model.parameters(), name="adam", learning_rate=1e-3)

        def loss_function(model: TranslationModel, batch: Batch) -> BatchLoss:
            with arithmetic(fast=way.fast, rounding=way.rounding):
                return batch_loss(model, batch, 0.0)

        self._loss_function = loss_function
        graphed = way.graphs and self.device.type == "cuda"
        self.graphs = Graphs(model, loss_function) if graphed else None
        self._stream = own_stream(self.device) if graphed else nullcontext()

    def __enter__(self) -> "Learner":
        self._stream.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stream.__exit__(*error)

    def make(self, batches: Sequence[Batch]) -> Tensor:
        """Make an update of each batch; returns the sums of the last."""
        given = {"loss_function": self._loss_function, "clip_norm": 5.0, "graphs": self.graphs}
        return [train_step(self.model, self._optimizer, [batch], **given).sums for batch in batches][-1]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is asked for; write and print JSON."""
    args = _parser().parse_args(argv)
    device = resolve_device(Device(args.device))
    found: dict[str, Any] = {"environment": describe_environment(device, rounding=Rounding.bf16, search_int8=False)}
    found |= {"git": git_revision(), "date": time.strftime("%Y-%m-%d"), "overrides": args.overrides}
    with tempfile.TemporaryDirectory() as folder:
        setting = _prepared(args.overrides, device, Path(folder))
        for part in args.parts:
            measure = {"updates": updates, "attentions": attentions, "search": searches}[part]
            found[part] = measure(setting, args)
            if args.out is not None:
                args.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))
    return 0


def _parser() -> argparse.ArgumentParser:
    summary, _, details = (__doc__ or "").partition("\n\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=summary, epilog=details, formatter_class=raw)
    parser.add_argument("overrides", nargs="*", help="options of train.py")
    parser.add_argument("--device", choices=[device.value for device in Device], default="auto")
    parts = ["updates", "attentions", "search"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--steps", type=int, default=363, help="updates; a third of them, at most 30, without graphs")
    parser.add_argument("--attentions", nargs="+", choices=ATTENTIONS, default=ATTENTIONS, metavar="NAME")
    parser.add_argument("--out", type=Path, help="also write the JSON there, part by part")
    return parser


def _composed(overrides: Sequence[str], folder: Path) -> Config:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return from_omegaconf(compose("train", ["experiment=benchmark_a", *overrides, f"run_dir={folder}"]))


def _prepared(overrides: Sequence[str], device: torch.device, folder: Path) -> Setting:
    config = _composed(overrides, folder)
    set_threads(config.threads)
    return prepare(config, RunFolder(folder), device=device, precision=resolve_precision(config, device))


def _batches(setting: Setting) -> Iterator[Batch]:
    options = setting.config.training
    yield from TokenBatches(setting.pairs, batch_tokens=options.batch_tokens, seed=setting.config.seed).epoch(0)


def _fresh(setting: Setting, overrides: Sequence[str] = ()) -> TranslationModel:
    """Return a model of new weights, always the same; of another configuration where there are overrides."""
    config = _composed(overrides, Path("unused")) if overrides else setting.config
    torch.manual_seed(setting.config.seed)
    return build_model_for(config, setting.tokenizers).to(setting.device)


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Return how long something takes to be done."""
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def updates(setting: Setting, args: argparse.Namespace) -> dict[str, Any]:
    """Measure updates in all ways, and list what they are made of on a GPU."""
    found = {}
    for way in _ways(setting.device, WAYS):
        batches = list(islice(_batches(setting), _steps(way, args)))
        tokens = sum(batch.target_tokens for batch in batches)
        if setting.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with Learner(_fresh(setting), way) as learner:
            # libraries start; as many updates as there are without a capture
            learner.make(batches[:3])
            first, again = (_seconds(partial(learner.make, batches), setting.device) for _ in range(2))
            found[way.name] = {
                "updates": len(batches),
                "first_target_tokens_per_second": round(tokens / first),
                "target_tokens_per_second": round(tokens / again),
                "milliseconds_an_update": round(1e3 * again / len(batches), 3),
                "graphs": None if learner.graphs is None else learner.graphs.count,
                "loss": round(learner.make(batches[:1])[1].item() / batches[0].target_tokens, 4),
            }
            if setting.device.type == "cuda":
                found[way.name]["peak_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
                found[way.name]["kernels_of_an_update"] = _kernels(partial(learner.make, batches[:1]))
        _say(way.name, found[way.name])
    return found


def _steps(way: Way, args: argparse.Namespace) -> int:
    """Return how many updates are to be measured."""
    return args.steps if way.graphs else min(30, max(args.steps // 3, 1))


def _ways(device: torch.device, ways: Sequence[Way]) -> list[Way]:
    """Return those that there are on the device."""
    return [way for way in ways if device.type == "cuda" or not way.graphs]


def _kernels(work: Callable[[], Any], times: int = 5) -> list[str]:
    """Return what runs on the GPU, longest first: microseconds in all and how often."""
    from torch.profiler import ProfilerActivity, profile

    work()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in range(times):
            work()
        torch.cuda.synchronize()
    microseconds, count = Counter[str](), Counter[str]()
    for event in profiled.events() or []:
        if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation:
            for name in ("all", event.name[:100]):
                microseconds[name] += event.device_time
                count[name] += 1
    return [f"{of / times:.1f} us, {count[name] / times:g} times: {name}" for name, of in microseconds.most_common(30)]


def attentions(setting: Setting, args: argparse.Namespace) -> dict[str, Any]:
    """Measure updates with one batch, in milliseconds, for each attention."""
    found, batch = {}, next(_batches(setting))
    for name in args.attentions:
        found[name], overrides = {}, [*args.overrides, f"attention={name}"]
        for way in _ways(setting.device, (WAYS[0], *WAYS[2:])):
            try:
                found[name][way.name] = _milliseconds(_fresh(setting, overrides), way, batch)
            except Exception as error:  # one attention that cannot be is no reason to measure no other
                found[name][way.name] = f"{type(error).__name__}: {error}"[:200]
        _say(name, found[name])
    return found


def _milliseconds(model: TranslationModel, way: Way, batch: Batch) -> float | str:
    """Return what an update takes."""
    with Learner(model, way) as learner:
        learner.make([batch] * 5)
        if learner.graphs is not None and not learner.graphs.count:
            return "not captured"
        work = partial(learner.make, [batch])
        times = [_seconds(work, learner.device) for _ in range(20 if way.graphs else 3)]
    return round(1e3 * statistics.median(times), 3)


def searches(setting: Setting, args: argparse.Namespace) -> dict[str, Any]:
    """Measure translation of the test set, text included, the first time and again."""
    assert setting.corpus.test is not None
    lines, found, given = setting.corpus.test.sources, {}, setting.config.search.batch_tokens
    way = _ways(setting.device, WAYS)[-1]
    with Learner(_fresh(setting), way) as learner:
        learner.make(list(islice(_batches(setting), _steps(way, args))) * 3)
    kinds = {"float32": Rounding.none} | ({"bf16": Rounding.bf16} if setting.device.type == "cuda" else {})
    for (name, rounding), beam in product(kinds.items(), (1, 5)):
        options = SearchOptions(beam=beam, length_penalty=0.0, max_length_ratio=0.0, max_length_offset=60)
        common = {"batch_tokens": given, "device": setting.device, "keep_weights": False}
        work = partial(translate_lines, learner.model, setting.tokenizers, lines, options, **common)
        with arithmetic(rounding=rounding, prepared={}):
            first, *again = (_seconds(work, setting.device) for _ in range(4))
        found[f"beam {beam}, {name}"] = {
            "sentences": len(lines),
            "first_sentences_per_second": round(len(lines) / first, 1),
            "sentences_per_second": round(len(lines) / statistics.median(again), 1),
        }
        _say(f"beam {beam}, {name}", found[f"beam {beam}, {name}"])
    return found


def _say(name: str, values: Any) -> None:
    print(f"{name}: {json.dumps(values)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
