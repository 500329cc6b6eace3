"""Measure training (with its padding), translation, start-up and the machine's own ceilings; JSON out.

    python scripts/benchmark.py train experiment=benchmark_a data.root=DATA --against "OTHER OPTIONS"
    python scripts/benchmark.py translate RUN --input FILE [--beam 5] [--against OTHER_RUN]
    python scripts/benchmark.py startup RUN experiment=benchmark_a data.root=DATA
    python scripts/benchmark.py floor [--device cuda]

Every measurement is a process of its own, so that peak memory is its own too, and the first is a warm-up that does not
count (it fills caches). Two configurations take turns, A B A B, since machines change their minds; what is reported is
the median of each with its range, and the ratio of medians. Nothing else should run meanwhile: on two cores a second
job takes more than half.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one kind of benchmark and print its JSON."""
    args = _parser().parse_args(argv)
    result = {"benchmark": args.kind, "machine": _machine(args.threads), **args.run(args)}
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
        added.add_argument("--repeats", type=int, default=3, help="measurements of each, the warm-up apart")
        added.add_argument("--threads", type=int, default=os.cpu_count(), help="OMP_NUM_THREADS of what is measured")
        added.add_argument("--out", type=Path, help="also write the JSON there")
        return added

    train = kind("train", _train, "target tokens per second and peak memory of train.py")
    train.add_argument("overrides", nargs="+", help="options of train.py")
    train.add_argument("--against", action="append", default=[], help="options of another configuration, in one string")
    train.add_argument("--steps", type=int, default=250, help="updates; the first 50 do not count")
    translate = kind("translate", _translate, "sentences per second of nmt translate")
    translate.add_argument("folder", type=Path, help="run folder")
    translate.add_argument("--input", type=Path, required=True, help="source lines")
    translate.add_argument("--beam", type=int, default=5)
    translate.add_argument(
        "--against", action="append", default=[], help="another run folder, or more options after it"
    )
    startup = kind("startup", _startup, "seconds from the command to the first update and to the first line")
    startup.add_argument("folder", type=Path, help="run folder to translate with")
    startup.add_argument("overrides", nargs="*", help="options of train.py; its corpus should be cached")
    floor = kind("floor", _floor, "rates of matrix products, and of a fused LSTM pair without attention")
    floor.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    return parser


def _machine(threads: int) -> dict[str, Any]:
    import torch

    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
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


def _run(command: Sequence[str], threads: int) -> tuple[subprocess.CompletedProcess[str], float, float]:
    """Run a process; return it, its wall seconds and its peak resident memory in MB."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=err, text=True)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        done = subprocess.CompletedProcess(command, process.returncode, out.read(), err.read())
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{done.stderr[-2000:]}")
    return done, seconds, usage.ru_maxrss / 1024


def _in_turns(measures: dict[str, Callable[[], dict[str, float]]], repeats: int) -> dict[str, Any]:
    """Measure each in turn, ``repeats`` times after a warm-up; return medians, ranges and ratios to the first."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in measures}
    for turn in range(repeats + 1):
        for name, measure in measures.items():
            values = measure()
            print(f"{'warm-up' if turn == 0 else f'turn {turn}'}: {name}: {values}", file=sys.stderr, flush=True)
            if turn:
                found[name].append(values)
    summaries = {name: _summary(values) for name, values in found.items()}
    first = next(iter(summaries.values()))
    ratios = {
        name: {key: round(summary[key]["median"] / first[key]["median"], 3) for key in summary}
        for name, summary in list(summaries.items())[1:]
    }
    return {"results": summaries, "ratios_to_the_first": ratios}


def _summary(values: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {
        key: {
            "median": round(statistics.median(each[key] for each in values), 3),
            "minimum": round(min(each[key] for each in values), 3),
            "maximum": round(max(each[key] for each in values), 3),
        }
        for key in values[0]
    }


def _train(args: argparse.Namespace) -> dict[str, Any]:
    def measure(overrides: Sequence[str]) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            fixed = [f"training.max_steps={args.steps}", "training.validate_sentences=1", f"run_dir={folder}/run"]
            command = [sys.executable, "train.py", *overrides, *fixed]
            _, seconds, memory = _run(command, args.threads)
            training = json.loads(Path(folder, "run", "metrics.json").read_text(encoding="utf-8"))["train"]
        rate, padding = training["target_tokens_per_second"], training["padding"]
        measured = {"target_tokens_per_second": rate, "peak_memory_mb": memory, "wall_seconds": seconds}
        return {**measured, "padding": padding}

    given = [args.overrides, *(shlex.split(other) for other in args.against)]
    return _in_turns({shlex.join(one): lambda one=one: measure(one) for one in given}, args.repeats)


def _translate(args: argparse.Namespace) -> dict[str, Any]:
    def measure(options: Sequence[str]) -> dict[str, float]:
        command = [sys.executable, "-m", "nmt.cli", "translate", *options]
        command += ["--input", str(args.input.resolve()), "--beam", str(args.beam)]
        done, seconds, memory = _run(command, args.threads)
        # "1,000 sentences in 3.21 seconds, 311.5 sentences/s (decoding, start-up apart)"
        rate = float(done.stderr.rstrip().splitlines()[-1].split(" seconds, ")[1].split()[0].replace(",", ""))
        return {"sentences_per_second": rate, "peak_memory_mb": memory, "wall_seconds": seconds}

    given = [[str(args.folder.resolve())], *(shlex.split(other) for other in args.against)]
    return _in_turns({shlex.join(one): lambda one=one: measure(one) for one in given}, args.repeats)


def _startup(args: argparse.Namespace) -> dict[str, Any]:
    def first_update() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder, "run")
            fixed = ["training.max_steps=2", "training.log_every=1", f"run_dir={run}"]
            command = [sys.executable, "train.py", *args.overrides, *fixed]
            return {"first_update_seconds": _seconds_until(command, args.threads, run / "metrics.jsonl")}

    def first_line() -> dict[str, float]:
        command = [sys.executable, "-m", "nmt.cli", "translate", str(args.folder.resolve()), "--chunk", "1"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
        start = time.perf_counter()
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"A man is here.\n")
            process.stdin.flush()
            process.stdout.readline()
            return {"first_line_seconds": time.perf_counter() - start}

    measures = {"translate": first_line, **({"train": first_update} if args.overrides else {})}
    return {"results": {name: _in_turns({name: one}, args.repeats)["results"][name] for name, one in measures.items()}}


def _seconds_until(command: Sequence[str], threads: int, path: Path) -> float:
    """Start a process and return the seconds until ``path`` has content; then end it."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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

    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    rates = {
        "float32 torch.mm": _product_rate(device, torch.float32, torch.mm),
        "bfloat16 torch.mm": _product_rate(device, torch.bfloat16, torch.mm),
    }
    from nmt.model.products import times_transposed

    rates["float32, the fastest product nmt finds"] = _product_rate(
        device, torch.float32, lambda left, right: times_transposed(left, right.t())
    )
    floors = {str(dtype).removeprefix("torch."): _lstm_pair(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    return {"products_gflop_per_second": rates, "fused_lstm_pair_target_tokens_per_second": floors}


def _product_rate(device: Any, dtype: Any, multiply: Callable[[Any, Any], Any], size: int = 2048) -> dict[str, float]:
    import torch

    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    rates = [2 * size**3 / seconds / 1e9 for seconds in _timed(lambda: multiply(left, right), device, times=20)]
    return {"median": round(statistics.median(rates), 1), "maximum": round(max(rates), 1)}


def _timed(work: Callable[[], Any], device: Any, times: int) -> list[float]:
    import torch

    found = []
    for turn in range(times + 3):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if turn >= 3:
            found.append(time.perf_counter() - start)
    return found


def _lstm_pair(device: Any, dtype: Any, batch: int = 80, length: int = 16) -> dict[str, float]:
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

    def update() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            _, state = parts["encoder"](parts["source"](source))
            first = tuple(torch.cat(part.unbind(0), -1).unsqueeze(0) for part in state)
            hiddens, _ = parts["decoder"](parts["target"](target[:, :-1]), first)
            logits = parts["output"](hiddens)
        loss = functional.cross_entropy(logits.float().flatten(0, 1), target[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    rates = [batch * length / seconds for seconds in _timed(update, device, times=20)]
    return {"median": round(statistics.median(rates), 1), "maximum": round(max(rates), 1)}


if __name__ == "__main__":
    sys.exit(main())
