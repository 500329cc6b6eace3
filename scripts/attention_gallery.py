"""Draw what several runs attend to in one sentence pair, a small heatmap each, and an overview of them all.

    python scripts/attention_gallery.py RUN... --output FOLDER --line 17
    python scripts/attention_gallery.py RUN... --output FOLDER --source "the old man sleeps" --target "der Alte schläft"

The target is fed to every model (forced decoding). A pair of a test set has its gold links outlined. Runs without
attention weights are left out.
"""

import argparse
import io
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from nmt.assemble import OpenRun, open_run
from nmt.cli.common import exit_code, say
from nmt.cli.naming import attention_name
from nmt.config import read as read_config
from nmt.data import GoldLinks, parse_links
from nmt.errors import ConfigError, RunError
from nmt.evaluation import align_lines
from nmt.report import Heatmap
from nmt.report.figure import write_file
from nmt.report.heatmap import heatmap_bytes
from nmt.run_folder import RunFolder, read_lines

OVERVIEW = "overview.png"


class Pair(NamedTuple):
    """The sentence pair to draw; its gold links where there are any."""

    source: str
    target: str
    gold: GoldLinks | None


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the gallery that the arguments describe; return the exit code."""
    return exit_code(lambda: _draw(_arguments(argv)))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    summary, _, details = (__doc__ or "").partition("\n\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=summary, epilog=details, formatter_class=raw)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders, drawn in this order")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where the pictures go")
    parser.add_argument("--split", default="test", help="test set of the runs that the pair is of (default: test)")
    parser.add_argument("--line", type=int, metavar="N", help="number of the pair in that set, from 1 on")
    parser.add_argument("--source", metavar="TEXT", help="source line, in place of --line")
    parser.add_argument("--target", metavar="TEXT", help="target line, in place of --line")
    parser.add_argument("--width", type=int, default=420, help="of each heatmap in pixels (default: 420)")
    parser.add_argument("--columns", type=int, default=3, help="heatmaps side by side in the overview (default: 3)")
    args = parser.parse_args(argv)
    texts = [text for text in (args.source, args.target) if text is not None]
    if len(texts) != (2 if args.line is None else 0):
        parser.error("either --line or both --source and --target must be given")
    if args.width < 1 or args.columns < 1:
        parser.error("--width and --columns must be at least 1")
    return args


def _draw(args: argparse.Namespace) -> int:
    pair = _given(args) if args.line is None else _of_split(args)
    pictures: list[bytes] = []
    for path, title in zip(args.runs, _titles(args.runs), strict=True):
        run = open_run(path)
        if not run.model.has_weights:
            say(f"{path} has no attention weights and is left out")
            continue
        pictures.append(heatmap_bytes(_heatmap(run, pair, title), ".png", width=args.width))
        file = args.output / (re.sub(r"[^\w.=+-]+", "-", title).strip("-") + ".png")
        write_file(file, pictures[-1])
        say(f"written: {file}")
    if not pictures:
        raise ConfigError("no run has attention weights, so there is nothing to draw")
    write_file(args.output / OVERVIEW, _overview(pictures, args.columns))
    say(f"written: {args.output / OVERVIEW}")
    return 0


def _given(args: argparse.Namespace) -> Pair:
    """Return the pair of the command line."""
    if not (args.source.strip() and args.target.strip()):
        raise ConfigError("--source and --target must have at least a word each")
    return Pair(args.source, args.target, None)


def _of_split(args: argparse.Namespace) -> Pair:
    """Return the pair of a test set, which must be the same one in all runs."""
    found = [_read(RunFolder(path), args.split, args.line) for path in args.runs]
    for path, pair in zip(args.runs, found, strict=True):
        if pair != found[0]:
            raise RunError(f"line {args.line} of {args.split} is another one in {path} than in {args.runs[0]}")
    return found[0]


def _read(folder: RunFolder, split: str, line: int) -> Pair:
    sources, references = read_lines(folder.sources(split)), read_lines(folder.references(split))
    if not 1 <= line <= min(len(sources), len(references)):
        raise ConfigError(f"--line {line} is not accepted; {split} of {folder.path} has lines 1 to {len(sources)}")
    gold = None
    if folder.gold(split).exists():
        gold = parse_links(read_lines(folder.gold(split))[line - 1], where=f"{folder.gold(split)}:{line}")
    return Pair(sources[line - 1], references[line - 1], gold)


def _titles(paths: Sequence[Path]) -> list[str]:
    """Return what each run's attention is called, with the folder's name where several runs have the same."""
    names = [attention_name(read_config(RunFolder(path).config)) or path.resolve().name for path in paths]
    counts = Counter(names)
    titles = [
        name if counts[name] == 1 else f"{name} ({path.resolve().name})"
        for name, path in zip(names, paths, strict=True)
    ]
    repeated = [title for title, count in Counter(titles).items() if count > 1]
    if repeated:
        raise ConfigError(f"two of the runs would be called {repeated[0]}; give each folder once, or rename one")
    return titles


def _heatmap(run: OpenRun, pair: Pair, title: str) -> Heatmap:
    """Return the run's attention in the pair, read at the shift that its validation links decided."""
    with run.arithmetic():
        found = align_lines(
            run.model,
            run.tokenizers,
            [pair.source],
            [pair.target],
            batch_tokens=run.config.search.batch_tokens,
            device=run.device,
        )
    alignment = found[run.alignment_shift][0]
    return Heatmap(
        alignment.source_words,
        alignment.target_words,
        alignment.weights,
        gold=pair.gold,
        title=title,
        source_language=run.corpus["source_language"],
        target_language=run.corpus["target_language"],
    )


def _overview(pictures: Sequence[bytes], columns: int) -> bytes:
    """Return the pictures row by row on white, as a PNG."""
    images = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    width = max(sum(image.width for image in row) for row in rows)
    heights = [max(image.height for image in row) for row in rows]
    sheet = Image.new("RGB", (width, sum(heights)), "white")
    for number, row in enumerate(rows):
        left = 0
        for image in row:
            sheet.paste(image, (left, sum(heights[:number])))
            left += image.width
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
