"""``nmt translate RUN``: a line in, a line out."""

import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TextIO

import torch

from nmt.assemble import OpenRun
from nmt.cli.common import open_input, open_output, read_chunks, require_weights, say, write_line
from nmt.cli.decoding import chosen_batch_tokens, chosen_options, open_for
from nmt.cli.drawing import Drawings
from nmt.cli.scoring import sampling_generator
from nmt.data import format_links
from nmt.evaluation import Translation, WordAlignment, translate_lines, translation_alignments
from nmt.report import figure_suffix
from nmt.search import SearchOptions

_CHUNK_LINES = 1000


@dataclass
class _Translator:
    """Translates chunk after chunk and notes the time it takes.

    Attributes:
        run: the open run.
        options: how to search.
        batch_tokens: at most this many positions at a time.
        generator: random numbers for sampling, one sequence for all chunks.
        keep_weights: whether alignments are wanted.
        seconds: time spent on decoding so far; reading, waiting for input and start-up apart.
        sentences: lines translated so far.
    """

    run: OpenRun
    options: SearchOptions
    batch_tokens: int
    generator: torch.Generator | None
    keep_weights: bool
    seconds: float = field(default=0.0, init=False)
    sentences: int = field(default=0, init=False)

    def translate(self, lines: Sequence[str]) -> list[Translation]:
        start = time.perf_counter()
        with self.run.arithmetic():
            found = translate_lines(
                self.run.model,
                self.run.tokenizers,
                lines,
                self.options,
                batch_tokens=self.batch_tokens,
                device=self.run.device,
                generator=self.generator,
                keep_weights=self.keep_weights,
            )
        self.seconds += time.perf_counter() - start
        self.sentences += len(lines)
        return found

    def summary(self) -> str:
        rate = self.sentences / self.seconds if self.seconds else 0.0
        return (
            f"{self.sentences:,} sentences in {self.seconds:.2f} seconds, {rate:.1f} sentences/s "
            "(decoding, start-up apart)"
        )


def run(args: Namespace) -> None:
    """Translate.

    Raises:
        NmtError: the run, an option or a file cannot be used.
    """
    if args.heatmap is not None:
        figure_suffix(args.heatmap)
    with ExitStack() as stack:
        stream = stack.enter_context(open_input(args.input))
        opened = open_for(args)
        translator = _translator(opened, args)
        links = _open_links(stack, opened, args.alignments)
        drawings = Drawings(opened, args)
        shift = opened.alignment_shift
        for number, translation in _translations(translator, stream, _chunk_lines(args, stream)):
            for line in _lines(translation, number, n_best=args.n_best is not None):
                write_line(line)
            if links is not None or drawings.wanted:
                _align(translation_alignments(translation, opened.tokenizers, shift=shift), links, drawings)
        drawings.save(sentences=translator.sentences)
    say(translator.summary())


def _translator(opened: OpenRun, args: Namespace) -> _Translator:
    """Return what translates; a run configured for several translations still writes one unless --n-best is given."""
    options = chosen_options(opened, args, n_best=1 if args.n_best is None else args.n_best)
    if args.heatmap is not None:
        require_weights(opened, "--heatmap")
    return _Translator(
        opened,
        options,
        chosen_batch_tokens(opened, args),
        sampling_generator(opened, options, args.seed),
        keep_weights=args.alignments is not None or args.heatmap is not None,
    )


def _open_links(stack: ExitStack, opened: OpenRun, path: Path | None) -> TextIO | None:
    """Open the file of ``--alignments``, once all else is known to be right: what it held is lost then."""
    if path is None:
        return None
    require_weights(opened, "--alignments")
    return stack.enter_context(open_output(path, "--alignments"))


def _chunk_lines(args: Namespace, stream: BinaryIO) -> int:
    if args.chunk is not None:
        return args.chunk
    return 1 if stream.isatty() else _CHUNK_LINES


def _translations(translator: _Translator, stream: BinaryIO, lines: int) -> Iterator[tuple[int, Translation]]:
    """Yield the translation of each line with the line's number, from 0; a chunk is written before the next is read."""
    number = 0
    for chunk in read_chunks(stream, lines=lines):
        for translation in translator.translate(chunk):
            yield number, translation
            number += 1
        sys.stdout.buffer.flush()


def _lines(translation: Translation, number: int, *, n_best: bool) -> list[str]:
    """Return what is written for a line."""
    if not n_best:
        return [translation.text]
    return [f"{number} ||| {candidate.text} ||| {candidate.score:.6f}" for candidate in translation.candidates]


def _align(alignments: list[WordAlignment], links: TextIO | None, drawings: Drawings) -> None:
    """Write the links of all candidates of a line, which each have an output line, and draw the best one's."""
    if links is not None:
        links.writelines(f"{format_links(alignment.links)}\n" for alignment in alignments)
    drawings.add(alignments[0])
