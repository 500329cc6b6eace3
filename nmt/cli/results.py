"""The end of a run: score the best weights on every test set, write the result files, draw alignments and curves."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nmt.assemble import OpenRun, open_run, search_options
from nmt.cli.naming import attention_name
from nmt.cli.scoring import sampling_generator, score_test
from nmt.data import Corpus, GoldLinks, ParallelText, format_links, split_words
from nmt.evaluation import (
    Translation,
    WordAlignment,
    align_lines,
    better_shift,
    corpus_bleu,
    score_alignments,
    translate_lines,
    translation_alignments,
)
from nmt.report import Chart, Example, Heatmap, Table, length_curve, save_chart, save_heatmap, write_report
from nmt.run_folder import RunFolder, write_json, write_lines

log = logging.getLogger(__name__)

# sentences drawn on the page, and as pictures of their own
_DRAWN, _PICTURES = 12, 3
_LONGEST_DRAWN = 60


def evaluate_and_write(
    folder: RunFolder,
    corpus: Corpus,
    *,
    training: Mapping[str, Any],
    parameters: int,
    environment: Mapping[str, Any],
    git: Mapping[str, Any],
) -> None:
    """Open the run as anyone would, evaluate it, and write what a finished run folder has, ``metrics.json`` last.

    What cannot be drawn is told and left out.
    """
    run = open_run(folder.path)
    metrics: dict[str, Any] = {}
    shift = None
    if corpus.valid is not None:
        metrics["valid"], shift = _validate(run, corpus.valid)
    tests = {"test": corpus.test, **{name: text for name, text in corpus.extra.items() if name.startswith("test")}}
    examples: list[Example] = []
    for name, text in tests.items():
        if text is None:
            continue
        log.info("translating %s: %d sentences", name, len(text))
        metrics[name], translations = _test(run, folder, name, text, shift)
        if name == "test":
            with _drawing(folder.alignments):
                examples = _examples(run, text, translations, shift=shift or 0)
    metrics |= {
        "train": dict(training),
        "model": {"parameters": parameters},
        "corpus": run.corpus,
        "git": dict(git),
        "environment": dict(environment),
    }
    _draw(run, metrics, examples)
    write_json(folder.metrics, metrics)
    log.info("%s", summary(metrics))
    log.info("run folder: %s", folder.path)


def summary(metrics: Mapping[str, Any]) -> str:
    """Return the results in lines for people, the corpus named and marked where it is synthetic."""
    corpus = metrics["corpus"]
    lines = [f"results on {corpus['name']}{' (synthetic corpus)' if corpus['synthetic'] else ''}"]
    if "valid" in metrics:
        lines.append(f"  valid      BLEU {metrics['valid']['bleu']:.2f}")
    for name in sorted(name for name in metrics if name.startswith("test")):
        scores = metrics[name]
        aer = (
            f"  AER {scores['aer']:.3f} (shift {scores['aer_shift']}, oracle {scores['aer_oracle']:.3f})"
            if "aer" in scores
            else ""
        )
        lines.append(f"  {name:<10} BLEU {scores['bleu']:.2f}  chrF {scores['chrf']:.2f}  TER {scores['ter']:.2f}{aer}")
        lines.append(f"  {'':<10} {scores['signature']}")
    train = metrics["train"]
    lines.append(
        f"  training   {train['epochs']:.2f} epochs, {train['steps']} steps, {train['wall_seconds']:.0f} s, "
        f"{train['target_tokens_per_second']:.0f} target tokens/s"
    )
    return "\n".join(lines)


def _validate(run: OpenRun, valid: ParallelText) -> tuple[dict[str, Any], int | None]:
    """Return BLEU of the selected checkpoint under the run's search, and the shift that valid's links favour."""
    batch_tokens = run.config.search.batch_tokens
    options = search_options(run.config.search, n_best=1)
    shift = None
    with run.arithmetic():
        translations = translate_lines(
            run.model,
            run.tokenizers,
            list(valid.sources),
            options,
            batch_tokens=batch_tokens,
            device=run.device,
            generator=sampling_generator(run, options),
            keep_weights=False,
        )
        if valid.links is not None and run.model.has_weights:
            alignments = align_lines(
                run.model,
                run.tokenizers,
                list(valid.sources),
                list(valid.targets),
                batch_tokens=batch_tokens,
                device=run.device,
            )
            found = score_alignments(alignments, valid.links)
            shift = better_shift(found.unshifted, found.shifted)
    texts = [translation.text for translation in translations]
    scores: dict[str, Any] = {"bleu": corpus_bleu(texts, list(valid.targets), run.corpus["target_language"])}
    return scores | ({} if shift is None else {"aer_shift": shift}), shift


def _test(
    run: OpenRun, folder: RunFolder, name: str, text: ParallelText, shift: int | None
) -> tuple[dict[str, Any], list[Translation]]:
    """Score one test set and write its files."""
    scores, translations = score_test(
        run,
        text.sources,
        text.targets,
        text.links,
        options=search_options(run.config.search, n_best=1),
        shift=shift,
        batch_tokens=run.config.search.batch_tokens,
    )
    write_lines(folder.sources(name), list(text.sources))
    write_lines(folder.references(name), list(text.targets))
    write_lines(folder.hypotheses(name), [translation.text for translation in translations])
    if text.links is not None:
        write_lines(folder.gold(name), [format_links(links.sure, links.possible) for links in text.links])
    return scores, translations


def _examples(run: OpenRun, text: ParallelText, translations: Sequence[Translation], *, shift: int) -> list[Example]:
    """Return heatmaps of sentences of all lengths: forced on the references where there are gold links to outline."""
    if not run.model.has_weights:
        return []
    chosen = _spread([len(split_words(line)) for line in text.sources])
    sources, references = [text.sources[i] for i in chosen], [text.targets[i] for i in chosen]
    gold: list[GoldLinks | None] = [None if text.links is None else text.links[i] for i in chosen]
    with run.arithmetic():
        if text.links is None:
            shown, alignments = _translate_again(run, sources, shift=shift)
        else:
            shown = [translations[i].text for i in chosen]
            alignments = _forced(run, sources, references, shift=shift)
    languages = {
        "source_language": run.corpus["source_language"],
        "target_language": run.corpus["target_language"],
    }
    return [
        Example(
            [Heatmap(alignment.source_words, alignment.target_words, alignment.weights, gold=links, **languages)],
            {"source": text.sources[i], "translation": translation, "reference": text.targets[i]},
            title=f"test sentence {i + 1}",
        )
        for i, translation, alignment, links in zip(chosen, shown, alignments, gold, strict=True)
    ]


def _forced(run: OpenRun, sources: list[str], references: list[str], *, shift: int) -> list[WordAlignment]:
    """Return the alignments of references."""
    batch_tokens = run.config.search.batch_tokens
    found = align_lines(run.model, run.tokenizers, sources, references, batch_tokens=batch_tokens, device=run.device)
    return found[shift]


def _translate_again(run: OpenRun, sources: list[str], *, shift: int) -> tuple[list[str], list[WordAlignment]]:
    """Return translations and their alignments; those of the test set were made without keeping their attention.

    Where the search samples they are other translations than those of the test set.
    """
    options = search_options(run.config.search, n_best=1)
    found = translate_lines(
        run.model,
        run.tokenizers,
        sources,
        options,
        batch_tokens=run.config.search.batch_tokens,
        device=run.device,
        generator=sampling_generator(run, options),
    )
    alignments = [translation_alignments(translation, run.tokenizers, shift=shift)[0] for translation in found]
    return [translation.text for translation in found], alignments


def _spread(lengths: Sequence[int]) -> list[int]:
    """Return the numbers of sentences at even ranks of length, up to what can be drawn well."""
    ranked = sorted((i for i, length in enumerate(lengths) if 0 < length <= _LONGEST_DRAWN), key=lambda i: lengths[i])
    count = min(_DRAWN, len(ranked))
    return [ranked[(2 * k + 1) * len(ranked) // (2 * count)] for k in range(count)]


def _draw(run: OpenRun, metrics: Mapping[str, Any], examples: Sequence[Example]) -> None:
    """Write ``report.html``, the pictures of ``alignments/`` and the curve of BLEU by length."""
    folder, tests = run.folder, sorted(name for name in metrics if name.startswith("test"))
    attention = attention_name(run.config) or "run"
    charts: list[Chart] = []
    if tests:
        path = folder.path / "bleu_by_length.png"
        with _drawing(path):
            bins = [entry for name in tests for entry in metrics[name]["bleu_by_length"]]
            charts.append(length_curve({attention: bins}))
            save_chart(charts[0], path)
    _draw_alignments(folder, examples)
    path = folder.path / "report.html"
    with _drawing(path):
        write_report(
            path,
            title=f"{attention} on {run.corpus['name']}",
            corpus=run.corpus["name"],
            synthetic=run.corpus["synthetic"],
            tables=[_score_table(metrics, tests)] if tests else [],
            charts=charts,
            examples=examples,
        )


def _draw_alignments(folder: RunFolder, examples: Sequence[Example]) -> None:
    """Write some of the examples as pictures."""
    step = max(1, len(examples) // _PICTURES)
    with _drawing(folder.alignments):
        folder.alignments.mkdir(exist_ok=True)
    for example in examples[step // 2 :: step]:
        path = folder.alignments / f"{example.title.replace(' ', '-')}.png"
        with _drawing(path):
            save_heatmap(example.heatmaps[0], path)


@contextmanager
def _drawing(path: Path) -> Iterator[None]:
    """Tell of an error inside the block and go on: a picture must not keep a run from having its results.

    Every kind of error is caught, since fonts and figures fail in as many ways as Matplotlib has.
    """
    try:
        yield
    except Exception as error:
        log.warning("%s is not drawn: %s: %s", path, type(error).__name__, " ".join(str(error).split()))


def _score_table(metrics: Mapping[str, Any], tests: Sequence[str]) -> Table:
    columns = ("bleu", "chrf", "ter", "perplexity", "aer", "aer_oracle")
    headings = ("test set", "BLEU", "chrF", "TER", "perplexity", "AER", "oracle AER")
    rows = [[name, *(metrics[name].get(column) for column in columns)] for name in tests]
    return Table("Scores", headings, rows, notes=[metrics[name]["signature"] for name in tests[:1]])
