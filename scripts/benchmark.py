"""Measure training (with its padding), translation, start-up and the machine's own ceilings; JSON out.

    python scripts/benchmark.py train experiment=benchmark_a data.root=DATA --against "OTHER OPTIONS"
    python scripts/benchmark.py translate RUN --input FILE [--beam 5] [--against OTHER_RUN]
    python scripts/benchmark.py startup RUN experiment=benchmark_a data.root=DATA
    python scripts/benchmark.py floor [--device cuda]

Every measurement is a process of its own, so that peak memory (resident, of the host; of a whole training, its final
evaluation included) is its own too, and the first is a warm-up that does not count (it fills caches). Configurations
take turns, A B A B, since machines change their minds; what is reported is the median of each with its range, and the
ratio of medians. Nothing else should run meanwhile: on two cores a second job takes more than half.
"""

import argparse
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nmt.model.products import Rounding

ROOT = Path(__file__).resolve().parents[1]
# the programs of this very tree, whatever is installed and wherever this is called
_TRAIN = [sys.executable, str(ROOT / "train.py")]
_NMT = [sys.executable, "-c", "import sys; from nmt.cli import main; sys.exit(main())"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one kind of benchmark and print its JSON."""
    args = _parser().parse_args(argv)
    measured = args.run(args)
    # torch is imported only now: a process inherits the peak memory of the one that starts it
    result = {"benchmark": args.kind, "machine": _machine(args.threads), **measured}
    text = json.dumps(result, indent=2)
    print(text)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    kinds = parser.add_subparsers(dest="kind", required=True)

    def kind(name: str, run: Callable[[argparse.Namespace], dict[str, Any]], what: str) -> argparse.ArgumentParser:
        added = kinds.add_parser(name, help=what)
        added.set_defaults(run=run)
        if name != "floor":
            added.add_argument("--repeats", type=_positive, default=3, help="measurements of each, the warm-up apart")
        cores = os.cpu_count()
        added.add_argument("--threads", type=_positive, default=cores, help="OMP_NUM_THREADS of what is measured")
        added.add_argument("--out", type=Path, help="also write the JSON there")
        return added

    train = kind("train", _train, "target tokens per second and peak memory of train.py")
    train.add_argument("overrides", nargs="+", help="options of train.py")
    train.add_argument("--against", action="append", default=[], help="options of another configuration, in one string")
    train.add_argument("--steps", type=_positive, default=250, help="updates; the first 50 do not count")
    translate = kind("translate", _translate, "sentences per second of nmt translate")
    translate.add_argument("folder", type=Path, help="run folder")
    translate.add_argument("--input", type=Path, required=True, help="source lines")
    translate.add_argument("--beam", type=_positive, default=5)
    translate.add_argument(
        "--against",
        action="append",
        default=[],
        help="a run folder, the same or another, and options of nmt translate after it, in one string",
    )
    startup = kind("startup", _startup, "seconds from the command to the first update and to the first line")
    startup.add_argument("folder", type=Path, help="run folder to translate with")
    startup.add_argument("overrides", nargs="*", help="options of train.py; its corpus should be cached")
    floor = kind("floor", _floor, "rates of matrix products, and of a fused LSTM pair without attention")
    floor.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    return parser


def _positive(text: str) -> int:
    """Read an argument that must be at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def _machine(threads: int) -> dict[str, Any]:
    import torch

    # the commit, and -dirty where the tree is another
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    revision = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "revision": revision.stdout.strip() or None,
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _environment(threads: int) -> dict[str, str]:
    """Return the environment of what is measured: this tree first among what can be imported."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}


def _run(command: Sequence[str], threads: int) -> tuple[str, float, float]:
    """Run a process; return its standard error, its wall seconds and its peak resident memory in MB (of 2^20 bytes)."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=_environment(threads), stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read()
    if process.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{said[-2000:]}")
    return said, seconds, usage.ru_maxrss / 1024


def _in_turns(measures: dict[str, Callable[[], dict[str, float]]], repeats: int) -> dict[str, Any]:
    """Measure each in turn, ``repeats`` times after a warm-up; return medians, ranges and ratios to the first."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in measures}
    for turn in range(repeats + 1):
        for name, measure in measures.items():
            values = measure()
            print(f"{'warm-up' if turn == 0 else f'turn {turn}'}: {name}: {values}", file=sys.stderr, flush=True)
            if turn:
                found[name].append(values)
    return _summary(found)


def _summary(found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return the medians and ranges of what was measured of each, and their medians' ratios to the first's."""
    medians = {
        name: {key: statistics.median(each[key] for each in values) for key in values[0]}
        for name, values in found.items()
    }
    results = {
        name: {
            key: {
                "median": round(median, 3),
                "minimum": round(min(each[key] for each in found[name]), 3),
                "maximum": round(max(each[key] for each in found[name]), 3),
            }
            for key, median in of_one.items()
        }
        for name, of_one in medians.items()
    }
    first, *others = medians
    ratios = {
        name: {key: round(medians[name][key] / median, 3) if median else None for key, median in medians[first].items()}
        for name in others
    }
    return {"results": results, **({"ratios_to_the_first": ratios} if others else {})}


def _named(given: Sequence[Sequence[str]]) -> dict[str, Sequence[str]]:
    """Return what is measured by its name; the same options once more are a measurement of their own."""
    named: dict[str, Sequence[str]] = {}
    for options in given:
        name = shlex.join(options)
        while name in named:
            name += " (again)"
        named[name] = options
    return named


def _train(args: argparse.Namespace) -> dict[str, Any]:
    def measure(overrides: Sequence[str]) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            fixed = [f"training.max_steps={args.steps}", "training.validate_sentences=1", f"run_dir={folder}/run"]
            _, seconds, memory = _run([*_TRAIN, *overrides, *fixed], args.threads)
            training = json.loads(Path(folder, "run", "metrics.json").read_text(encoding="utf-8"))["train"]
        measured = {name: training[name] for name in ("target_tokens_per_second", "padding")}
        return {**measured, "peak_memory_mb": memory, "wall_seconds": seconds}

    given = _named([args.overrides, *map(shlex.split, args.against)])
    return _in_turns({name: partial(measure, overrides) for name, overrides in given.items()}, args.repeats)


def _translate(args: argparse.Namespace) -> dict[str, Any]:
    # before the options of each, which take their place
    common = ["--input", str(args.input), "--beam", str(args.beam)]

    def measure(options: Sequence[str]) -> dict[str, float]:
        said, seconds, memory = _run([*_NMT, "translate", *common, *options], args.threads)
        return {"sentences_per_second": _rate(said), "peak_memory_mb": memory, "wall_seconds": seconds}

    given = _named([[str(args.folder)], *map(shlex.split, args.against)])
    return _in_turns({name: partial(measure, options) for name, options in given.items()}, args.repeats)


def _rate(said: str) -> float:
    """Return the rate in the last line that ``nmt translate`` writes to standard error."""
    last = said.rstrip().rpartition("\n")[2]
    found = re.search(r" seconds, ([\d.,]+) sentences/s", last)
    if found is None:
        raise SystemExit(f"nmt translate ended with no rate but with: {last}")
    return float(found[1].replace(",", ""))


def _startup(args: argparse.Namespace) -> dict[str, Any]:
    def first_update() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder, "run")
            fixed = ["training.max_steps=2", "training.log_every=1", f"run_dir={run}"]
            command = [*_TRAIN, *args.overrides, *fixed]
            return {"first_update_seconds": _seconds_until(command, args.threads, run / "metrics.jsonl")}

    def first_line() -> dict[str, float]:
        command = [*_NMT, "translate", str(args.folder), "--chunk", "1"]
        environment, pipe = _environment(args.threads), subprocess.PIPE
        start = time.perf_counter()
        with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"A man is here.\n")
            process.stdin.flush()
            if not process.stdout.readline():
                raise SystemExit(f"{shlex.join(command)} ended before its first line")
            return {"first_line_seconds": time.perf_counter() - start}

    # not in turns: the two are not compared
    results = _in_turns({"translate": first_line}, args.repeats)["results"]
    if args.overrides:
        results |= _in_turns({"train": first_update}, args.repeats)["results"]
    return {"results": results}


def _seconds_until(command: Sequence[str], threads: int, path: Path) -> float:
    """Start a process and return the seconds until ``path`` has content; then end it."""
    environment, nowhere = _environment(threads), subprocess.DEVNULL
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=nowhere, stderr=nowhere)
    try:
        while not (path.exists() and path.stat().st_size):
            if process.poll() is not None:
                raise SystemExit(f"{shlex.join(command)} ended with {process.returncode} before its first update")
            time.sleep(0.01)
        return time.perf_counter() - start
    finally:
        process.terminate()
        process.wait()


def _floor(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    from nmt.cli.memory import set_limits
    from nmt.model.library import multiplies_integers
    from nmt.model.products import Rounding, times_transposed

    # as in training: freed memory is kept
    set_limits()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    rates = {
        "float32 torch.mm": _product_rate(device, torch.float32, torch.mm),
        "bfloat16 torch.mm": _product_rate(device, torch.bfloat16, torch.mm),
    }
    rates["float32, the fastest product nmt finds"] = _product_rate(
        device, torch.float32, lambda left, right: times_transposed(left, right.t())
    )
    kinds = {"float32": (torch.float32, Rounding.none), "bfloat16": (torch.bfloat16, Rounding.none)}
    if device.type == "cpu" and multiplies_integers():
        for rounding in (Rounding.int16, Rounding.int8):
            kinds[rounding.value] = torch.float32, rounding
            rates[f"{rounding.value}, nmt's, what it makes of float32 included"] = _product_rate(
                device,
                torch.float32,
                lambda left, right, rounding=rounding: times_transposed(left, right.t(), rounding=rounding),
            )
    floors = {str(dtype).removeprefix("torch."): _lstm_pair(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    return {
        "products_gflop_per_second": rates,
        "products_of_an_update_alone": {name: _products_alone(device, *kind) for name, kind in kinds.items()},
        "fused_lstm_pair_target_tokens_per_second": floors,
    }


def _product_rate(
    device: "torch.device", dtype: "torch.dtype", multiply: "Callable[[Tensor, Tensor], Tensor]", size: int = 2048
) -> dict[str, float]:
    """Return multiply-adds of a product of square matrices, twice counted, a second."""
    import torch

    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    rates = [2 * size**3 / seconds / 1e9 for seconds in _timed(lambda: multiply(left, right), device, times=20)]
    return {"median": round(statistics.median(rates), 1), "maximum": round(max(rates), 1)}


def _products_alone(
    device: "torch.device", dtype: "torch.dtype", rounding: "Rounding", batch: int = 80, length: int = 16
) -> dict[str, float]:
    """Rate of the products of an update of ``benchmark_a`` alone, one after the other, with nothing between."""
    import torch

    from nmt.model.products import Factor, times_transposed

    vocabulary, embedding, hidden, half, rows = 8000, 256, 512, 256, batch * length
    # (k, m) of products [rows, k] x [k, m]: once forward, and backward [rows, m] x [m, k] and [m, rows] x [rows, k]
    whole = [*[(embedding, 4 * half)] * 2, (hidden, hidden), (embedding, 4 * hidden)]
    # the same, but forward and backward a step at a time, or a chunk of logits
    steps = [*[(half, 4 * half, batch)] * 2, (2 * hidden, 4 * hidden, batch), (2 * hidden, hidden, batch)]
    steps.append((hidden, vocabulary, 256))
    work, recurrent, operations = [], [], 0

    def add(left: "Tensor", right: "Tensor", *, of_gradients: bool = True) -> None:
        nonlocal operations
        work.append((left, right, of_gradients))
        operations += 2 * len(left) * left.shape[1] * len(right)

    def tensor(*shape: int) -> "Tensor":
        return torch.randn(*shape, device=device, dtype=dtype)

    for k, m in whole:
        inputs, weight, gradient = tensor(rows, k), tensor(m, k), tensor(rows, m)
        add(inputs, weight, of_gradients=False)
        add(gradient, weight.t())
        add(gradient.t(), inputs.t())
    for k, m, part in steps:
        recurrent.append((tensor(m, k), tensor(rows // part, part, k), tensor(rows // part, part, m)))
        operations += 2 * 2 * rows * k * m
        add(tensor(rows, m).t(), tensor(rows, k).t())

    def update() -> None:
        for left, right, of_gradients in work:
            times_transposed(left, right, rounding=rounding, of_gradients=of_gradients)
        for weight, inputs, gradients in recurrent:
            factor = Factor(weight, rounding=rounding)
            for t in range(len(inputs)):
                factor.times_transposed(inputs[t])
                factor.times(gradients[t])

    seconds = statistics.median(_timed(update, device, times=20))
    return {
        "gflop": round(operations / 1e9, 1),
        "gflop_per_second": round(operations / seconds / 1e9, 1),
        "target_tokens_per_second": round(rows / seconds, 1),
    }


def _timed(work: Callable[[], object], device: "torch.device", times: int) -> list[float]:
    """Return the seconds of each time after three that do not count."""
    import torch

    found = []
    for _ in range(times + 3):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return found[3:]


def _lstm_pair(device: "torch.device", dtype: "torch.dtype", batch: int = 80, length: int = 16) -> dict[str, float]:
    """Rate of torch's own LSTMs in the sizes of ``benchmark_a``: no attention, no feeding, no padding, no dropout."""
    import torch
    from torch import nn
    from torch.nn import functional

    vocabulary, embedding, hidden = 8000, 256, 512
    torch.manual_seed(1)
    parts = nn.ModuleDict(
        {
            "source": nn.Embedding(vocabulary, embedding),
            "target": nn.Embedding(vocabulary, embedding),
            "encoder": nn.LSTM(embedding, hidden // 2, bidirectional=True, batch_first=True),
            "decoder": nn.LSTM(embedding, hidden, batch_first=True),
            "output": nn.Linear(hidden, vocabulary),
        }
    ).to(device)
    optimizer = torch.optim.Adam(parts.parameters(), lr=1e-3, fused=True)
    source, target = (torch.randint(4, vocabulary, (batch, length + extra), device=device) for extra in (0, 1))

    def add_gradients() -> None:
        enabled = dtype == torch.bfloat16
        # what it keeps of weights would be kept by a graph
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False):
            _, state = parts["encoder"](parts["source"](source))
            first = tuple(torch.cat(part.unbind(0), -1).unsqueeze(0) for part in state)
            hiddens, _ = parts["decoder"](parts["target"](target[:, :-1]), first)
            logits = parts["output"](hiddens)
        functional.cross_entropy(logits.float().flatten(0, 1), target[:, 1:].flatten()).backward()

    def update(work: Callable[[], None]) -> None:
        work()
        optimizer.step()
        # a graph adds to gradients that stay where they are
        optimizer.zero_grad(set_to_none=device.type == "cpu")

    rates = [batch * length / seconds for seconds in _timed(partial(update, add_gradients), device, times=20)]
    found = {"median": round(statistics.median(rates), 1), "maximum": round(max(rates), 1)}
    if device.type == "cuda":
        stream, graph = torch.cuda.Stream(device), torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            update(add_gradients)
            with torch.cuda.graph(graph, stream=stream):
                add_gradients()
            rates = [batch * length / seconds for seconds in _timed(partial(update, graph.replay), device, times=20)]
        found["median as a CUDA graph"] = round(statistics.median(rates), 1)
    return found


if __name__ == "__main__":
    sys.exit(main())
