import io
import json
import logging
import re
import subprocess
import sys

import numpy as np

from nmt.training import MetricsLog, ProgressLog, TensorBoardLog

TIMING = {"tokens_per_second": 1234.0, "wall_seconds": 10.0, "done": 0.25, "seconds_left": 3725.0}
TRAIN = {
    "step": 50,
    "epoch": 1.25,
    "kind": "train",
    "loss": 2.0,
    "smoothed_loss": 3.0,
    "perplexity": 7.39,
    "grad_norm": 0.5,
    "learning_rate": 0.001,
    "timing": TIMING,
}
VALID = {
    "step": 60,
    "epoch": 1.5,
    "kind": "valid",
    "loss": 1.5,
    "bleu": 20.25,
    "best": True,
    "timing": {"seconds": 1.0},
}


def steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_metrics_are_cut_where_the_state_was_taken(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.write({"step": 1, "note": "é"})
    state = json.loads(json.dumps(log.state()))
    log.write({"step": 2})
    path.write_text(path.read_text() + '{"step": 3, "ha')
    resumed = MetricsLog(path)
    resumed.restore(state, step=1)
    resumed.write({"step": 2})
    assert steps(path) == [1, 2]


def test_metrics_of_an_abandoned_start_go(tmp_path):
    path = tmp_path / "metrics.jsonl"
    MetricsLog(path).write({"step": 1})
    MetricsLog(path).restore({}, step=0)
    assert path.read_text() == ""


def test_metrics_shorter_than_remembered_stay(tmp_path):
    path = tmp_path / "metrics.jsonl"
    MetricsLog(path).restore({"bytes": 99}, step=1)
    assert not path.exists()
    MetricsLog(path).write({"step": 1})
    size = path.stat().st_size
    MetricsLog(path).restore({"bytes": size + 50}, step=1)
    assert path.stat().st_size == size


def read_events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_tensorboard(tmp_path):
    with TensorBoardLog(tmp_path) as log:
        log.write(TRAIN)
        log.write(VALID)
        log.text("samples", "ein Haus", 60)
        log.image("alignment", np.zeros((4, 6, 3), np.uint8), 60)
        log.hparams({"attention": "dot", "size": 3}, {"test/bleu": 30.5})
    events = read_events(tmp_path)
    scalars = {tag: (events.Scalars(tag)[0].step, events.Scalars(tag)[0].value) for tag in events.Tags()["scalars"]}
    assert scalars["train/loss"] == (50, 2.0)
    assert scalars["train/smoothed_loss"] == (50, 3.0)
    assert scalars["tokens_per_second"] == (50, 1234.0)
    assert scalars["valid/bleu"] == (60, 20.25)
    assert scalars["test/bleu"] == (0, 30.5)
    assert scalars.keys() == {
        *("train/loss", "train/smoothed_loss", "train/perplexity", "learning_rate", "grad_norm", "tokens_per_second"),
        *("valid/loss", "valid/bleu", "test/bleu"),
    }
    assert events.Images("alignment")[0].width == 6
    assert "samples/text_summary" in events.Tags()["tensors"]
    assert [path.is_file() for path in tmp_path.iterdir()] == [True]


def test_tensorboard_hides_what_came_after_the_restored_step(tmp_path):
    for start, value in ((0, 1.0), (2, 5.0)):
        with TensorBoardLog(tmp_path) as log:
            log.restore({}, step=start)
            for step in range(start + 1, 5):
                log.write({**TRAIN, "step": step, "loss": value})
    points = [(point.step, point.value) for point in read_events(tmp_path).Scalars("train/loss")]
    assert points == [(1, 1.0), (2, 1.0), (3, 5.0), (4, 5.0)]


def test_tensorboard_opens_nothing_before_the_first_record(tmp_path):
    TensorBoardLog(tmp_path / "new").close()
    assert not (tmp_path / "new").exists()


def test_plain_lines_without_a_terminal(caplog):
    caplog.set_level(logging.INFO)
    with ProgressLog(terminal=False) as log:
        log.advance(0.25)
        log.write(TRAIN)
        log.write(VALID)
    train, valid = (record.getMessage() for record in caplog.records)
    assert train == "  25%  step 50  epoch 1.25  loss 2.000  ppl 7.39  1234 tokens/s  1:02:05 left"
    assert valid == "validation  step 60  epoch 1.50  loss 1.5  bleu 20.25  (best)"


def test_bar_on_a_terminal(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with ProgressLog(terminal=True) as log:
        log.write(TRAIN)
        log.advance(0.25)
        log.advance(1.0)
    shown = stream.getvalue()
    assert re.search(r"100%\|.*step 50  epoch 1.25  loss 2.000 .* 1234 tokens/s  1:02:05 left", shown)
    assert caplog.records == []


def test_import_is_light():
    heavy = ("tensorboard", "matplotlib", "sacrebleu", "hydra")
    code = f"import sys, nmt.training; sys.exit(' '.join(name for name in {heavy} if name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).stderr == b"\n"
