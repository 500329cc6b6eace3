"""Where the numbers of a training go: metrics.jsonl, TensorBoard, the terminal.

A record is ``{"step", "epoch", "kind": "train" | "valid", ...}``. Whatever depends on the clock stands
under ``"timing"``, so that the rest of a resumed run's records equals the rest of an uninterrupted one's.
"""

import json
import logging
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter
    from tqdm import tqdm

Record = Mapping[str, Any]

log = logging.getLogger(__name__)


class Log(ABC):
    """Takes the records of a training; a context manager that closes itself."""

    @abstractmethod
    def write(self, record: Record) -> None:
        """Take a record."""

    def advance(self, done: float) -> None:  # noqa: B027 - a hook
        """Take note, after each step, of the part of the training that is done, 0 to 1."""

    def state(self) -> dict[str, Any]:
        """Return, as plain JSON values, what :meth:`restore` needs."""
        return {}

    def restore(self, state: Mapping[str, Any], step: int) -> None:  # noqa: B027 - a hook
        """Forget what was written after ``step`` and after :meth:`state` was taken; ``{}`` and 0 at a first start."""

    def close(self) -> None:  # noqa: B027 - a hook
        """Write what is still held back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@final
class MetricsLog(Log):
    """One JSON object per line."""

    def __init__(self, path: Path) -> None:
        """Append to ``path``."""
        self._path = path

    def write(self, record: Record) -> None:
        """Append a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def state(self) -> dict[str, Any]:
        """Return the length of the file."""
        return {"bytes": self._path.stat().st_size if self._path.exists() else 0}

    def restore(self, state: Mapping[str, Any], step: int) -> None:
        """Cut the lines written since."""
        if self._path.exists():
            os.truncate(self._path, min(state.get("bytes", 0), self._path.stat().st_size))


@final
class TensorBoardLog(Log):
    """Scalars ``train/*``, ``valid/*``, ``learning_rate``, ``grad_norm``, ``tokens_per_second``; texts, images."""

    _TAGS = {
        "loss": "train/loss",
        "smoothed_loss": "train/smoothed_loss",
        "attention_loss": "train/attention_loss",
        "perplexity": "train/perplexity",
        "learning_rate": "learning_rate",
        "grad_norm": "grad_norm",
        "tokens_per_second": "tokens_per_second",
    }

    def __init__(self, folder: Path) -> None:
        """Write event files to ``folder``, from the first record on."""
        self._folder = folder
        self._purge_step: int | None = None
        self._opened: SummaryWriter | None = None

    def restore(self, state: Mapping[str, Any], step: int) -> None:
        """Have TensorBoard hide what earlier event files hold after ``step``."""
        self._purge_step = step + 1

    def write(self, record: Record) -> None:
        """Write the record's numbers; those of a validation are on the disk at once."""
        values = {**record, **record["timing"]}
        if record["kind"] == "train":
            scalars = {tag: values[name] for name, tag in self._TAGS.items() if name in values}
        else:
            scalars = {f"valid/{name}": value for name, value in _scores(record).items()}
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, record["step"])
        if record["kind"] == "valid":
            self._writer.flush()

    def text(self, tag: str, text: str, step: int) -> None:
        """Show ``text`` (Markdown) under ``tag``."""
        self._writer.add_text(tag, text, step)

    def image(self, tag: str, pixels: np.ndarray, step: int) -> None:
        """Show ``pixels`` [height, width, 3] uint8 under ``tag``."""
        self._writer.add_image(tag, pixels, step, dataformats="HWC")

    def hparams(self, values: Mapping[str, bool | int | float | str], metrics: Mapping[str, float]) -> None:
        """Show the run's options and final ``metrics`` in the HPARAMS tab, in this folder and not one more below it."""
        from torch.utils.tensorboard.summary import hparams

        file_writer = self._writer._get_file_writer()
        for summary in hparams(dict(values), dict(metrics)):
            file_writer.add_summary(summary)
        for tag, value in metrics.items():
            self._writer.add_scalar(tag, value)

    def close(self) -> None:
        """Write what is still held back."""
        if self._opened is not None:
            self._opened.close()

    @property
    def _writer(self) -> "SummaryWriter":
        """The writer, opened at first use: its import takes seconds."""
        if self._opened is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            self._opened = SummaryWriter(str(self._folder), purge_step=self._purge_step)
        return self._opened


@final
class ProgressLog(Log):
    """A bar on a terminal, with loss, tokens per second and time left; plain log lines elsewhere."""

    def __init__(self, *, terminal: bool | None = None) -> None:
        """Write to standard error; ``terminal`` None asks it whether it is one."""
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._bar: tqdm[Any] | None = None

    def write(self, record: Record) -> None:
        """Show a record: a line, or with a bar, for training, its changing text."""
        if record["kind"] == "valid":
            log.info("validation  %s%s", _validation_text(record), "  (best)" if record["best"] else "")
        elif self._terminal:
            self._shown().set_postfix_str(_training_text(record), refresh=False)
        else:
            log.info("%4.0f%%  %s", 100 * record["timing"]["done"], _training_text(record))

    def advance(self, done: float) -> None:
        """Move the bar."""
        if self._terminal:
            bar = self._shown()
            bar.update(done - bar.n)

    def close(self) -> None:
        """Leave the bar as it is and the terminal to others."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _shown(self) -> "tqdm[Any]":
        if self._bar is None:
            from tqdm import tqdm

            layout = "{percentage:3.0f}%|{bar}| {elapsed}{postfix}"
            self._bar = tqdm(total=1.0, bar_format=layout, file=sys.stderr)
        return self._bar


def _training_text(record: Record) -> str:
    """Return a training record for people."""
    timing = record["timing"]
    return (
        f"step {record['step']}  epoch {record['epoch']:.2f}  loss {record['loss']:.3f}  ppl {record['perplexity']:.2f}"
        f"  {timing['tokens_per_second']:.0f} tokens/s  {_duration(timing['seconds_left'])} left"
    )


def _validation_text(record: Record) -> str:
    """Return a validation record for people."""
    scores = [f"{name} {value:.4g}" for name, value in _scores(record).items()]
    return f"step {record['step']}  epoch {record['epoch']:.2f}  {'  '.join(scores)}"


def _scores(record: Record) -> dict[str, float]:
    """Return what a validation measured."""
    return {name: value for name, value in record.items() if isinstance(value, float) and name != "epoch"}


def _duration(seconds: float | None) -> str:
    """Return hours, minutes and seconds as ``h:mm:ss``, or ``?``."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
