"""Run folders as training leaves them, with a small model of random weights."""

import torch
from composed import composed

from nmt.assemble import build_model_for
from nmt.config import to_yaml
from nmt.data import WordTrainer
from nmt.run_folder import RunFolder, write_json, write_lines, write_text
from nmt.training import model_tensors, save_checkpoint

SOURCES = ["the dog sees a cat", "a cat sleeps", "the old dog runs home today", "", "the cat (sees) the dog ."]
REFERENCES = ["der Hund sieht eine Katze", "eine Katze schläft", "der alte Hund läuft heute heim", "", "die Katze ."]
GOLD = ["0-0 1-1 2-2 3-3 4-4", "0-0 1-1 2?2 2-2", "0-0 1?1 2-2 3-3 5-4 4-5", "", "0-0 1-1 5-2"]


def build_run(path, attention, *overrides, seed=3):
    """Write an unfinished run: all but the results."""
    small = ["embedding.size=7", "encoder.hidden_size=5", "decoder.hidden_size=11", "tokenizer.minimum_count=1"]
    config = composed(*small, "device=cpu", "precision=fp32", "data=files", f"attention={attention}", *overrides)
    config.choices["attention"] = attention
    trainer = WordTrainer(vocabulary_size=100, joint=False, minimum_count=1, split_punctuation=True)
    tokenizers = trainer.train(SOURCES, REFERENCES, cache=None)
    torch.manual_seed(seed)
    model = build_model_for(config, tokenizers)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    folder = RunFolder(path)
    path.mkdir(parents=True)
    tokenizers.save(path)
    save_checkpoint(folder.checkpoints, "best", model_tensors(model), {"step": 0})
    corpus = {"name": "animals", "synthetic": True, "source_language": "en", "target_language": "de"}
    write_json(folder.corpus, corpus)
    write_text(folder.config, to_yaml(config))
    return folder


def finish_run(folder, hypotheses, *, references=REFERENCES, bleu=12.5, **test):
    """Write the results that `nmt compare` reads, as training does."""
    signature = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
    bins = [{"low": 0, "high": 10, "sentences": 5, "bleu": bleu}]
    write_lines(folder.sources(), SOURCES)
    write_lines(folder.references(), references)
    write_lines(folder.gold(), GOLD)
    write_lines(folder.hypotheses(), hypotheses)
    metrics = {
        "test": {"bleu": bleu, "signature": signature, "bleu_by_length": bins, **test},
        "valid": {"bleu": 11.0, **({"aer_shift": test["aer_shift"]} if "aer_shift" in test else {})},
        "train": {"epochs": 2.5, "steps": 10, "target_tokens_per_second": 1234.5, "wall_seconds": 3723.4},
        "model": {"parameters": 4321},
    }
    write_json(folder.metrics, metrics)
    return folder
