"""`python train.py`: run folders, resumption, refusals, sweeps, on a corpus of a few hundred lines."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nmt.assemble import open_run, search_options
from nmt.cli.preparation import Setting, prepare
from nmt.cli.scoring import score_test
from nmt.cli.train import main
from nmt.data import TokenizerPair
from nmt.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
WORDS = {
    "the": "das",
    "dog": "Hund",
    "cat": "Katze",
    "sees": "sieht",
    "a": "ein",
    "red": "rot",
    "small": "klein",
    "house": "Haus",
}
TINY = (
    "data=files",
    "data.source=en",
    "data.target=de",
    "data.train=train",
    "data.valid=valid",
    "data.test=test",
    "tokenizer=word",
    "embedding.size=12",
    "encoder.hidden_size=8",
    "decoder.hidden_size=16",
    "training.batch_tokens=100",
    "training.max_epochs=2",
    "training.log_every=3",
    "training.validate_every=7",
    "search.beam=2",
    "device=cpu",
    "precision=fp32",
    "threads=1",
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    draw = random.Random(7)
    for split, size in (("train", 200), ("valid", 20), ("test", 30)):
        lines = [[draw.choice(list(WORDS)) for _ in range(draw.randint(3, 8))] for _ in range(size)]
        (folder / f"{split}.en").write_text("".join(" ".join(line) + "\n" for line in lines), encoding="utf-8")
        translated = [[WORDS[word] for word in reversed(line)] for line in lines]
        (folder / f"{split}.de").write_text("".join(" ".join(line) + "\n" for line in translated), encoding="utf-8")
        if split != "train":
            links = [" ".join(f"{i}-{len(line) - 1 - i}" for i in range(len(line))) for line in lines]
            (folder / f"{split}.align").write_text("".join(line + "\n" for line in links), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.getbasetemp() / "caches"
    monkeypatch.setenv("NMT_CACHE", str(folder / "nmt"))
    monkeypatch.setenv("HF_HOME", str(folder / "hf"))


def command(corpus: Path, run: Path, *overrides: str) -> list[str]:
    return [*TINY, f"data.root={corpus}", f"data.cache={corpus / 'cache'}", f"run_dir={run}", *overrides]


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "finished"
    assert main(command(corpus, run)) == 0
    return run


def records(run: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "timing"} for line in lines]


def same_tensors(one: Path, other: Path) -> bool:
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def contents(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def test_run_folder_is_complete(finished: Path) -> None:
    for name in (
        "config.yaml",
        "corpus.json",
        "tokenizer.json",
        "checkpoints/best.safetensors",
        "checkpoints/last.safetensors",
        "metrics.json",
        "metrics.jsonl",
        "train.log",
        "test.sources.txt",
        "test.references.txt",
        "test.hypotheses.txt",
        "test.gold.align",
        "report.html",
    ):
        assert (finished / name).is_file(), name
    assert any((finished / "tensorboard").iterdir())
    assert any((finished / "alignments").glob("*.png"))


def test_metrics_have_the_contract_s_names(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert {"bleu", "signature", "chrf", "chrf_signature", "ter", "ter_signature"} <= metrics["test"].keys()
    assert {"aer", "aer_shift", "aer_unshifted", "aer_shifted"} <= metrics["test"].keys()
    assert metrics["test"]["aer_shift"] in (0, 1)
    assert isinstance(metrics["train"]["epochs"], float) and metrics["train"]["epochs"] == pytest.approx(2.0)
    assert metrics["train"]["steps"] > 7 and metrics["train"]["target_tokens_per_second"] > 0
    assert 0 < metrics["train"]["padding"] < 0.5
    assert metrics["valid"]["bleu"] >= 0 and metrics["model"]["parameters"] > 0
    assert "revision" in metrics["git"] and metrics["environment"]["precision"] == "fp32"


def test_the_evaluation_begins_without_the_training(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[object]] = []
    left: list[object] = []

    def noted(*arguments: object, **options: object) -> Setting:
        setting = prepare(*arguments, **options)
        held.extend([weakref.ref(setting.model), weakref.ref(setting.learning.optimizer)])
        return setting

    monkeypatch.setattr("nmt.cli.experiment.prepare", noted)
    monkeypatch.setattr("nmt.cli.experiment.evaluate_and_write", lambda *_, **__: left.extend(ref() for ref in held))
    assert main(command(corpus, tmp_path / "run", "training.max_steps=3")) == 0
    assert left == [None, None]


def test_finished_run_prints_its_result_and_changes_nothing(
    finished: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(finished)
    assert main(command(corpus, finished)) == 0
    assert "BLEU" in capsys.readouterr().err
    assert contents(finished) == before


def test_changed_configuration_is_refused_and_nothing_touched(
    finished: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(finished)
    assert main(command(corpus, finished, "embedding.size=13", "seed=9")) == 2
    message = capsys.readouterr().err
    assert "embedding.size was 12 and is now 13" in message and "seed was 1 and is now 9" in message
    assert "Traceback" not in message
    assert contents(finished) == before


def test_search_may_differ_on_resuming(finished: Path, corpus: Path) -> None:
    assert main(command(corpus, finished, "search.beam=3")) == 0


def test_raised_limit_goes_on_as_if_never_stopped(finished: Path, corpus: Path, tmp_path: Path) -> None:
    assert main(command(corpus, tmp_path / "a", "training.max_epochs=1")) == 0
    assert main(command(corpus, tmp_path / "a", "training.max_epochs=2")) == 0
    assert same_tensors(tmp_path / "a/checkpoints/last.safetensors", finished / "checkpoints/last.safetensors")


def test_ids_are_encoded_once(finished: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list((corpus / "cache").glob("*.ids"))
    monkeypatch.setattr("nmt.data.training_pairs._parts", lambda *_, **__: pytest.fail("encoded again"))
    assert main(command(corpus, tmp_path / "run")) == 0
    assert same_tensors(tmp_path / "run/checkpoints/last.safetensors", finished / "checkpoints/last.safetensors")


def test_interrupted_beyond_a_raised_limit_is_not_finished(
    finished: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    run, saved = tmp_path / "run", TokenizerPair.save

    def save(tokenizers: TokenizerPair, folder: Path) -> None:
        assert folder != run, "the tokenizers are written again"
        saved(tokenizers, folder)

    shutil.copytree(finished, run)
    raised = command(corpus, run, "training.max_epochs=3")
    with monkeypatch.context() as patch:
        patch.setattr("nmt.cli.experiment.fit", interrupt)
        # a kill while they are written would cost the run
        patch.setattr("nmt.data.TokenizerPair.save", save)
        with pytest.raises(SystemExit, match="130"):
            main(raised)
    assert main(raised) == 0
    assert json.loads((run / "metrics.json").read_text())["train"]["epochs"] == pytest.approx(3.0)


def test_two_processes_do_not_train_in_one_folder(
    finished: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = contents(run)
    with RunFolder(run).locked():
        for override in ("training.max_epochs=3", "training.resume=false"):
            assert main(command(corpus, run, override)) == 2
            assert f"another process trains in {run}" in capsys.readouterr().err
    assert contents(run) == before and not (tmp_path / "run.1").exists()


def test_checkpoints_of_an_unknown_configuration_are_not_gone_on_from(
    finished: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run/config.yaml").unlink()
    before = contents(tmp_path / "run")
    assert main(command(corpus, tmp_path / "run")) == 2
    assert "has checkpoints but no config.yaml" in capsys.readouterr().err
    assert contents(tmp_path / "run") == before


def test_threads_of_a_job_are_not_those_of_the_next(corpus: Path, tmp_path: Path) -> None:
    former = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert main(command(corpus, tmp_path / "run", "training.max_steps=1")) == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(former)


def test_a_run_that_samples_is_scored_by_sampling(corpus: Path, tmp_path: Path) -> None:
    sampling = command(corpus, tmp_path / "run", "search=sample", "search.n_best=3", "training.max_steps=3")
    assert main(sampling) == 0
    opened = open_run(tmp_path / "run")
    lines = {name: (corpus / f"valid.{name}").read_text().splitlines() for name in ("en", "de")}
    options = search_options(opened.config.search, n_best=1)
    scores, _ = score_test(opened, lines["en"], lines["de"], None, options=options, shift=None, batch_tokens=4000)
    assert json.loads((tmp_path / "run/metrics.json").read_text())["valid"]["bleu"] == scores["bleu"]


def test_attention_is_guided_by_a_file_of_links(corpus: Path, tmp_path: Path) -> None:
    lengths = [len(line.split()) for line in (corpus / "train.en").read_text().splitlines()]
    links = tmp_path / "links"
    links.write_text("".join(" ".join(f"{i}-{n - 1 - i}" for i in range(n)) + "\n" for n in lengths))
    guidance = ("training.guided_alignment.weight=2", f"training.guided_alignment.links={links}")
    assert main(command(corpus, tmp_path / "run", *guidance, "training.max_steps=6")) == 0
    found = [record for record in records(tmp_path / "run") if record["kind"] == "train"]
    assert found and all(2 * 0.5 < float(str(record["attention_loss"])) < 2 * 4 for record in found)


def test_resume_false_renames_the_old_folder(finished: Path, corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = contents(run)
    assert main(command(corpus, run, "training.resume=false", "training.max_steps=3")) == 0
    assert contents(tmp_path / "run.1") == before
    assert json.loads((run / "metrics.json").read_text())["train"]["steps"] == 3


def test_changed_corpus_is_refused_on_resuming(
    finished: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, text = tmp_path / "run", tmp_path / "text"
    shutil.copytree(corpus, text, ignore=shutil.ignore_patterns("cache"))
    shutil.copytree(finished, run)
    config = (run / "config.yaml").read_text().replace(str(corpus), str(text))
    (run / "config.yaml").write_text(config)
    lines = (text / "train.en").read_text().splitlines()
    (text / "train.en").write_text("\n".join(["the small dog", *lines[1:]]) + "\n")
    arguments = command(text, run, "training.max_epochs=3")
    assert main(arguments) == 2
    assert "has changed" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_killed_run_resumes_bit_identically(
    finished: Path, corpus: Path, tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, str(ROOT / "train.py"), *command(corpus, run)]
    process = subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL)
    last = run / "checkpoints" / "last.safetensors"
    for _ in range(2400):
        if last.exists() or process.poll() is not None:
            break
        time.sleep(0.025)
    process.send_signal(number)
    code = process.wait(timeout=60)
    assert code == (-signal.SIGKILL if number is signal.SIGKILL else 143) or (run / "metrics.json").exists()
    assert main(command(corpus, run)) == 0
    assert same_tensors(last, finished / "checkpoints/last.safetensors")
    assert same_tensors(run / "checkpoints/best.safetensors", finished / "checkpoints/best.safetensors")
    assert records(run) == records(finished)
    assert (run / "test.hypotheses.txt").read_bytes() == (finished / "test.hypotheses.txt").read_bytes()


def test_sweep_over_seeds_leaves_a_folder_each_with_other_weights(corpus: Path, tmp_path: Path) -> None:
    assert main(["-m", *command(corpus, tmp_path / "sweep", "seed=1,2", "training.max_steps=2")]) == 0
    runs = sorted((tmp_path / "sweep").glob("*_*"))
    assert [run.name for run in runs] == ["0_seed=1", "1_seed=2"]
    weights = [load_file(run / "checkpoints/best.safetensors")["output.weight"] for run in runs]
    assert not torch.equal(*weights)


def test_failing_job_of_a_sweep_is_reported_and_the_others_run(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(corpus, tmp_path / "sweep", "decoder.hidden_size=14,16", "training.max_steps=2")
    arguments = [a for a in arguments if a != "decoder.hidden_size=16"]
    assert main(["-m", *arguments, "attention=luong_dot"]) == 2
    assert "decoder.hidden_size is 14" in capsys.readouterr().err
    assert len(list((tmp_path / "sweep").glob("*/metrics.json"))) == 1


def test_run_dir_that_cannot_be_made_and_unknown_options_are_told_in_words(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):  # the outermost level, nmt.cli.common.exit_code, makes it exit code 2
        main(command(corpus, tmp_path / "file" / "run"))
    assert main(command(corpus, tmp_path / "run", "attention=nonesuch")) == 2
    assert "luong_general" in capsys.readouterr().err
    assert main(command(corpus, tmp_path / "run", "embedding.tie=four")) == 2
    message = capsys.readouterr().err
    assert "embedding.tie=four" in message and "three_way" in message


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("training.batch_tokens=0", "training.batch_tokens=0"),
        ("data.train=absent", "absent"),
        ("embedding.dropout=1.5", "embedding.dropout=1.5"),
        ("search.temperature=0", "search.temperature=0"),
        ("training.optimizer.momentum=0.5", "training.optimizer.momentum=0.5"),
        ("training.schedule.factor=2 training.schedule.name=plateau", "training.schedule.factor=2"),
        ("data.valid=null training.patience=3", "training.patience=3 goes by validations"),
        ("data.valid=null training.averaging=checkpoints", "training.averaging=checkpoints goes by validations"),
        ("data.valid=null training.schedule.name=plateau", "training.schedule.name=plateau goes by validations"),
        ("attention.score.sharpness=3", "attention.score.sharpness"),
        ("device=cuda", "device=cuda"),
        ("training.max_length=1", "no training pair"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_no_run(
    override: str, sentence: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if override == "device=cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    prefix = "+" if "sharpness" in override else ""
    assert main(command(corpus, tmp_path / "run", *(prefix + override).split())) == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_corpus_without_test_or_validation(corpus: Path, tmp_path: Path) -> None:
    assert main(command(corpus, tmp_path / "run", "data.valid=null", "data.test=null", "training.max_steps=3")) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "test" not in metrics and "valid" not in metrics


@pytest.mark.parametrize(("tokenizer", "separator"), [("word", "<sep>"), ("bpe", "<sep>"), ("char", "<p>")])
def test_sentences_of_a_line_are_found_by_their_separator(corpus, tmp_path, tokenizer, separator):
    for split in ("train", "valid", "test"):
        lines = (corpus / f"{split}.en").read_text().splitlines()
        (tmp_path / f"{split}.en").write_text("".join(f"a dog {separator} {line}\n" for line in lines))
        shutil.copy(corpus / f"{split}.de", tmp_path)
    size = "tokenizer.vocabulary_size=" + ("310" if tokenizer == "bpe" else "400")
    given = (f"data.root={tmp_path}", "attention=hierarchical", f"tokenizer={tokenizer}", size)
    overrides = [each for each in TINY if not each.startswith("tokenizer")]
    assert main([*overrides, *given, "training.max_steps=1", f"run_dir={tmp_path / 'run'}"]) == 0
    run = open_run(tmp_path / "run")
    attention, source = run.model.decoder.attention, run.tokenizers.source
    if separator == "<sep>":
        assert source.pieces([attention.separator])[0].strip("\u2581") == separator
    else:
        assert attention.separator is None
    lines = (tmp_path / "test.en").read_text().splitlines()
    assert source.decode(source.encode(lines)) == lines
