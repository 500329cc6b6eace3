"""``nmt align RUN``: word links of given sentence pairs, by forced decoding."""

from argparse import Namespace
from collections.abc import Iterator, Sequence

from nmt.assemble import OpenRun
from nmt.cli.common import read_gold, read_pairs, require_weights, say, write_line
from nmt.cli.decoding import chosen_batch_tokens, open_for
from nmt.cli.drawing import Drawings
from nmt.data import GoldLinks, Link, format_links
from nmt.errors import ConfigError
from nmt.evaluation import WordAlignment, align_lines, alignment_error_rate, oracle_aer
from nmt.model.attention import MultiHeadAttention
from nmt.report import figure_suffix

# pairs aligned at a time: a corpus of any size fits into memory as text, its weights do not
_CHUNK_PAIRS = 1000


def run(args: Namespace) -> None:
    """Align.

    Raises:
        NmtError: the run, an option or a file cannot be used, or the run has no attention weights.
    """
    if args.heatmap is not None:
        figure_suffix(args.heatmap)
    sources, targets = read_pairs(args.source, args.target)
    gold = None if args.gold is None else read_gold(args.gold, sources, targets)
    opened = open_for(args)
    require_weights(opened, "nmt align")
    if args.heads:
        _check_heads(opened, args)
    shift = opened.alignment_shift if args.shift is None else args.shift
    drawings = Drawings(opened, args)
    found: tuple[list[list[Link]], list[list[Link]]] = ([], [])
    lengths: list[int] = []
    for both in _alignments(opened, sources, targets, args):
        write_line(format_links(both[shift].links))
        drawings.add(both[shift], None if gold is None else gold[len(lengths)])
        for links, alignment in zip(found, both, strict=True):
            links.append(alignment.links)
        lengths.append(len(both[shift].target_words))
    drawings.save(sentences=len(sources))
    if gold is not None:
        say(_rates(found, gold, lengths, shift))


def _check_heads(opened: OpenRun, args: Namespace) -> None:
    """Refuse to draw heads without a picture, or of attention that has none.

    Raises:
        ConfigError: that is so.
    """
    if args.heatmap is None:
        raise ConfigError("--heads says what --heatmap draws; give --heatmap FILE beside it")
    if not isinstance(opened.model.decoder.attention, MultiHeadAttention):
        attention = opened.config.choices.get("attention", "none")
        raise ConfigError(
            f"--heads needs attention/form=multi_head, but {opened.folder.path} was trained with attention={attention}"
        )


def _alignments(
    opened: OpenRun, sources: Sequence[str], targets: Sequence[str], args: Namespace
) -> Iterator[tuple[WordAlignment, WordAlignment]]:
    """Yield the alignment of each pair at both shifts."""
    for start in range(0, len(sources), _CHUNK_PAIRS):
        chunk = slice(start, start + _CHUNK_PAIRS)
        with opened.arithmetic():
            aligned = align_lines(
                opened.model,
                opened.tokenizers,
                sources[chunk],
                targets[chunk],
                batch_tokens=chosen_batch_tokens(opened, args),
                device=opened.device,
                heads=args.heads,
            )
        yield from zip(aligned.unshifted, aligned.shifted, strict=True)


def _rates(
    found: tuple[list[list[Link]], list[list[Link]]], gold: list[GoldLinks], lengths: list[int], shift: int
) -> str:
    """Return the error rates as a line to read."""
    unshifted, shifted = (alignment_error_rate(links, gold) for links in found)
    return (
        f"AER {unshifted:.4f} unshifted (--shift 0), {shifted:.4f} shifted (--shift 1); the links written have shift "
        f"{shift}; one link for each target word could reach {oracle_aer(gold, lengths):.4f}"
    )
