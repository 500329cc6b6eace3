"""Collects the alignments that ``--heatmap`` draws."""

from argparse import Namespace
from pathlib import Path

from nmt.assemble import OpenRun
from nmt.cli.common import say
from nmt.data import GoldLinks
from nmt.evaluation import WordAlignment
from nmt.report import Heatmap, save_heatmaps


class Drawings:
    """Heatmaps of the first sentences of a call; without a file nothing is kept."""

    def __init__(self, run: OpenRun, args: Namespace) -> None:
        """Draw to ``args.heatmap`` at most ``args.heatmap_sentences``."""
        self._path: Path | None = args.heatmap
        self._limit: int = args.heatmap_sentences
        self._languages = {name: run.corpus[name] for name in ("source_language", "target_language")}
        self._heatmaps: list[Heatmap] = []

    @property
    def wanted(self) -> bool:
        """Whether the next alignment would be drawn."""
        return self._path is not None and len(self._heatmaps) < self._limit

    def add(self, alignment: WordAlignment, gold: GoldLinks | None = None) -> None:
        """Take the alignment of the next sentence, if it is to be drawn."""
        if not self.wanted:
            return
        title = f"line {len(self._heatmaps) + 1}"
        self._heatmaps.append(
            Heatmap(
                alignment.source_words,
                alignment.target_words,
                alignment.weights,
                gold=gold,
                title=f"{title}, mean of {len(alignment.heads)} heads" if alignment.heads else title,
                heads=alignment.heads,
                **self._languages,
            )
        )

    def save(self, *, sentences: int) -> None:
        """Write the file or files, and say so if they do not show all ``sentences`` of the call.

        Raises:
            ConfigError: that is not possible.
        """
        if self._path is None:
            return
        save_heatmaps(self._heatmaps, self._path)
        if sentences > len(self._heatmaps):
            say(
                f"{self._path} shows the first {len(self._heatmaps):,} of {sentences:,} sentences; "
                "--heatmap-sentences changes that"
            )
