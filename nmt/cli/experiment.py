"""One training run from configuration to results: prepare or resume the folder, load data, train, evaluate."""

import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer

from nmt.assemble import build_model, resolve_device, resolve_precision, search_options
from nmt.cli.environment import describe_environment, git_revision
from nmt.cli.logs import to_file
from nmt.cli.results import evaluate_and_write, summary
from nmt.component import build
from nmt.config import Averaging as AveragingName
from nmt.config import Config, ScheduleName, changed_keys, flatten, to_plain, to_yaml
from nmt.config import read as read_config
from nmt.data import (
    Batch,
    Corpus,
    CorpusSource,
    EncodedPairs,
    ParallelText,
    TokenBatches,
    TokenizerPair,
    TokenizerTrainer,
    filter_pairs,
)
from nmt.errors import ConfigError, DataError, RunError
from nmt.evaluation import check_tokenizer, corpus_bleu, corpus_perplexity, translate_lines, translation_alignments
from nmt.model import TranslationModel, arithmetic
from nmt.report import Heatmap, heatmap_image
from nmt.run_folder import RunFolder, read_json, write_json, write_text
from nmt.training import (
    Averaging,
    BatchLoss,
    FitResult,
    Limits,
    MetricsLog,
    ProgressLog,
    Schedule,
    TensorBoardLog,
    batch_loss,
    build_averaging,
    build_optimizer,
    build_schedule,
    fit,
)

log = logging.getLogger(__name__)

_SAMPLES = 3


@dataclass(frozen=True)
class Learning:
    """How the weights change: optimiser, learning-rate schedule, averaging."""

    optimizer: Optimizer
    schedule: Schedule
    averaging: Averaging


@dataclass(frozen=True)
class Setting:
    """What a run works with once everything is loaded; ``kept`` are the numbers of the training lines in ``pairs``."""

    config: Config
    folder: RunFolder
    corpus: Corpus
    tokenizers: TokenizerPair
    pairs: EncodedPairs
    kept: np.ndarray
    model: TranslationModel
    learning: Learning
    device: torch.device
    bf16: bool


def run_experiment(config: Config, folder: RunFolder) -> None:
    """Train and evaluate ``config`` in ``folder``, going on from where an earlier start of the same run stopped.

    Raises:
        NmtError: bad configuration or data, or the folder holds a run of another configuration.
    """
    device = resolve_device(config.device)
    bf16 = resolve_precision(config.precision, device)
    with ExitStack() as stack:
        stack.enter_context(folder.locked())
        if folder.started and not config.training.resume:
            log.info("%s is renamed to %s", folder.path, folder.set_aside())
            stack.enter_context(folder.locked())
        if not _goes_on(config, folder):
            log.info("%s is finished; training.resume=false starts anew", folder.path)
            log.info("%s", summary(folder.read_metrics()))
            return
        stack.enter_context(to_file(folder.path / "train.log"))
        # the next job of a sweep may ask for no number of its own
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        _run(config, folder, device=device, bf16=bf16)


def _run(config: Config, folder: RunFolder, *, device: torch.device, bf16: bool) -> None:
    """Train to the end and evaluate."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    setting = _prepare(config, folder, device=device, bf16=bf16)
    result = _train(setting)
    evaluate_and_write(
        folder,
        setting.corpus,
        training=_training_summary(result),
        parameters=count_parameters(setting.model),
        environment=describe_environment(device, bf16=bf16),
        git=git_revision(),
    )


def count_parameters(model: TranslationModel) -> int:
    """Return the number of parameters, shared ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _goes_on(config: Config, folder: RunFolder) -> bool:
    """Make sure that ``folder`` is free, or of this run; return whether there is something left to do.

    A finished run whose limits have been raised goes on.

    Raises:
        RunError: another configuration, or one that is lost, has been run there; nothing is touched.
    """
    if not folder.started:
        if folder.checkpoints.exists():
            raise RunError(f"{folder.path} has checkpoints but no {folder.config.name}; take another run_dir")
        return True
    former = read_config(folder.config)
    changed = changed_keys(former, config)
    if changed:
        listed = "; ".join(f"{key} was {old!r} and is now {new!r}" for key, old, new in changed)
        raise RunError(
            f"{folder.path} holds a run of another configuration: {listed}; only limits, logging, search and device "
            "may differ on resuming (another run_dir, or training.resume=false, starts anew)"
        )
    return not folder.finished or _limits(former) != _limits(config)


def _limits(config: Config) -> Limits:
    return Limits(
        max_epochs=config.training.max_epochs,
        max_steps=config.training.max_steps,
        max_minutes=config.training.max_minutes,
        patience=config.training.patience,
    )


def _prepare(config: Config, folder: RunFolder, *, device: torch.device, bf16: bool) -> Setting:
    """Load the corpus, make the tokenizers and the model, and write what makes the folder this run's."""
    search_options(config.search)  # refuses what decoding would refuse only after the training
    corpus = build(config.data, CorpusSource, "data").load()
    check_tokenizer(corpus.target_language)
    _check_validation(config, corpus)
    log.info(
        "corpus %s%s, %s→%s: %s",
        corpus.name,
        " (synthetic: generated by the program)" if corpus.synthetic else "",
        corpus.source_language,
        corpus.target_language,
        ", ".join(f"{name} {len(text)}" for name, text in _splits(corpus).items()),
    )
    description = _describe(corpus)
    _check_same_corpus(folder, description)
    tokenizers = _tokenizers(config, folder, corpus)
    pairs, kept = _training_pairs(config, corpus, tokenizers)
    torch.manual_seed(config.seed)
    model = build_model(
        config, source_size=tokenizers.source.size, target_size=tokenizers.target.size, joint=tokenizers.joint
    ).to(device)
    learning = _learning(config, model)
    log.info(
        "model: %s parameters; vocabularies %d and %d; %s, %s, %d threads",
        f"{count_parameters(model):,}",
        tokenizers.source.size,
        tokenizers.target.size,
        device.type,
        "bf16" if bf16 else "fp32",
        torch.get_num_threads(),
    )
    _write_beginning(config, folder, tokenizers, description)
    return Setting(config, folder, corpus, tokenizers, pairs, kept, model, learning, device, bf16)


def _write_beginning(
    config: Config, folder: RunFolder, tokenizers: TokenizerPair, description: Mapping[str, Any]
) -> None:
    """Make the folder this run's: the configuration comes last, so that where it is, all the rest is too."""
    if not folder.started:
        tokenizers.save(folder.path)
    write_json(folder.corpus, description)
    # a finished run that goes on has no results until it ends again; with the old ones it would pass for finished
    folder.metrics.unlink(missing_ok=True)
    write_text(folder.config, to_yaml(config))


def _learning(config: Config, model: TranslationModel) -> Learning:
    options = config.training
    optimizer = {**asdict(options.optimizer), "name": options.optimizer.name.value}
    schedule = {**asdict(options.schedule), "name": options.schedule.name.value}
    return Learning(
        build_optimizer(model.parameters(), **optimizer),
        build_schedule(**schedule),
        build_averaging(options.averaging.value, model, decay=options.ema_decay, last=options.average_last),
    )


def _check_validation(config: Config, corpus: Corpus) -> None:
    """Refuse options that would do nothing in a run without validation.

    Raises:
        ConfigError: there is one.
    """
    if corpus.valid is not None:
        return
    options = config.training
    idle = {
        "training.averaging=checkpoints": options.averaging is AveragingName.checkpoints,
        "training.schedule.name=plateau": options.schedule.name is ScheduleName.plateau,
        f"training.patience={options.patience}": options.patience is not None,
    }
    for option, given in idle.items():
        if given:
            raise ConfigError(f"{option} goes by validations, but the corpus {corpus.name} has no validation split")


def _splits(corpus: Corpus) -> dict[str, ParallelText]:
    named = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test, **corpus.extra}
    return {name: text for name, text in named.items() if text is not None}


def _describe(corpus: Corpus) -> dict[str, Any]:
    return {
        "name": corpus.name,
        "synthetic": corpus.synthetic,
        "source_language": corpus.source_language,
        "target_language": corpus.target_language,
        "fingerprint": corpus.fingerprint,
        "pairs": {name: len(text) for name, text in _splits(corpus).items()},
    }


def _check_same_corpus(folder: RunFolder, description: Mapping[str, Any]) -> None:
    """Refuse to go on with a corpus whose text has changed under a started run."""
    if folder.started and folder.corpus.exists():
        former = read_json(folder.corpus)
        if former.get("fingerprint") != description["fingerprint"]:
            raise RunError(
                f"the text of corpus {description['name']} has changed since the run in {folder.path} began; "
                "take another run_dir, or training.resume=false"
            )


def _tokenizers(config: Config, folder: RunFolder, corpus: Corpus) -> TokenizerPair:
    """Load the run's own tokenizers, or train them on the training split (or take them from the cache)."""
    if folder.started:
        return TokenizerPair.load(folder.path)
    trainer = build(config.tokenizer, TokenizerTrainer, "tokenizer")
    return trainer.train(corpus.train.sources, corpus.train.targets, cache=cache_folder() / "tokenizers")


def cache_folder() -> Path:
    """Return where work is kept between runs: ``$NMT_CACHE``, else ``nmt`` in the user's cache folder."""
    given = os.environ.get("NMT_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nmt"


def _training_pairs(config: Config, corpus: Corpus, tokenizers: TokenizerPair) -> tuple[EncodedPairs, np.ndarray]:
    """Encode the training split and filter it, saying what was dropped."""
    pairs = tokenizers.encode_pairs(corpus.train.sources, corpus.train.targets)
    kept, dropped = filter_pairs(
        pairs.source, pairs.target, max_length=config.training.max_length, max_ratio=config.training.max_ratio
    )
    log.info(
        "training pairs: %d kept; dropped %d empty, %d longer than %d pieces, %d more unequal than 1:%g",
        len(kept),
        dropped["empty"],
        dropped["long"],
        config.training.max_length,
        dropped["unequal"],
        config.training.max_ratio,
    )
    if len(kept) == 0:
        raise DataError(
            f"no training pair of {corpus.name} is left after filtering; raise training.max_length "
            f"({config.training.max_length}) or training.max_ratio ({config.training.max_ratio:g})"
        )
    return pairs.select(kept), kept


def _batches(setting: Setting) -> TokenBatches:
    options, train = setting.config.training, setting.corpus.train
    resegment = setting.tokenizers.epoch_encoder(
        train.sources, train.targets, seed=setting.config.seed, indices=setting.kept
    )
    return TokenBatches(
        setting.pairs,
        batch_tokens=options.batch_tokens,
        batch_sentences=options.batch_sentences,
        pool_batches=options.pool_batches,
        seed=setting.config.seed,
        encode_epoch=resegment,
    )


def _train(setting: Setting) -> FitResult:
    """Train, or go on training."""
    options, model = setting.config.training, setting.model

    def loss_function(model: TranslationModel, batch: Batch) -> BatchLoss:
        with arithmetic(bf16=setting.bf16, fast=options.fast):
            return batch_loss(model, batch, options.label_smoothing)

    with (
        MetricsLog(setting.folder.path / "metrics.jsonl") as metrics,
        TensorBoardLog(setting.folder.path / "tensorboard") as board,
        ProgressLog() as progress,
    ):
        validation = _Validation(setting, board) if setting.corpus.valid is not None else None
        result = fit(
            model,
            _batches(setting),
            loss_function=loss_function,
            optimizer=setting.learning.optimizer,
            schedule=setting.learning.schedule,
            averaging=setting.learning.averaging,
            limits=_limits(setting.config),
            checkpoints=setting.folder.checkpoints,
            logs=(metrics, board, progress),
            validate=None if validation is None else validation.scores,
            after_validation=() if validation is None else (validation.show,),
            validate_every=options.validate_every,
            select=options.select.value,
            accumulate=options.accumulate,
            clip_norm=options.clip_norm,
            log_every=options.log_every,
            checkpoint_minutes=options.checkpoint_minutes,
        )
        board.hparams(_hyperparameters(setting.config), {f"hparam/valid_{k}": v for k, v in result.best.items()})
    return result


class _Validation:
    """Validates on the loss of gold targets and on greedy BLEU; shows samples as they improve."""

    def __init__(self, setting: Setting, board: TensorBoardLog) -> None:
        assert setting.corpus.valid is not None
        self._setting, self._board = setting, board
        valid, limit = setting.corpus.valid, setting.config.training.validate_sentences
        self._sources, self._targets = list(valid.sources), list(valid.targets)
        self._pairs = setting.tokenizers.encode_pairs(self._sources, self._targets)
        self._decoded = len(self._sources) if limit is None else min(limit, len(self._sources))
        self._options = search_options(setting.config.search, beam=1, n_best=1, sample=False)

    def scores(self, model: TranslationModel) -> dict[str, float]:
        """Return the loss (nats a token, unsmoothed), perplexity and greedy BLEU."""
        setting = self._setting
        batch_tokens = setting.config.search.batch_tokens
        with arithmetic(bf16=setting.bf16):
            found = corpus_perplexity(model, self._pairs, batch_tokens=batch_tokens, device=setting.device)
            self._translations = translate_lines(
                model,
                setting.tokenizers,
                self._sources[: self._decoded],
                self._options,
                batch_tokens=batch_tokens,
                device=setting.device,
            )
        texts = [translation.text for translation in self._translations]
        bleu = corpus_bleu(texts, self._targets[: self._decoded], setting.corpus.target_language)
        return {"loss": found.nll, "perplexity": found.perplexity, "bleu": bleu}

    def show(self, model: TranslationModel, step: int) -> None:
        """Write sample translations and an alignment to TensorBoard."""
        shown = self._translations[:_SAMPLES]
        rows = [
            f"**{translation.source}**\n\n{translation.text}\n\n*{reference}*"
            for translation, reference in zip(shown, self._targets, strict=False)
        ]
        self._board.text("samples", "\n\n---\n\n".join(rows), step)
        if model.has_weights and shown:
            alignment = translation_alignments(shown[0], self._setting.tokenizers, shift=0)[0]
            heatmap = Heatmap(alignment.source_words, alignment.target_words, alignment.weights, title=f"step {step}")
            self._board.image("alignment", heatmap_image(heatmap), step)


def _hyperparameters(config: Config) -> dict[str, bool | int | float | str]:
    """Return the options that distinguish runs, as TensorBoard's table takes them."""
    flat = flatten(to_plain(config))
    left_out = ("_target_", "run_dir")
    plain = (bool, int, float, str)
    return {key: value for key, value in flat.items() if isinstance(value, plain) and not key.endswith(left_out)}


def _training_summary(result: FitResult) -> dict[str, Any]:
    return {
        "epochs": result.epochs,
        "steps": result.steps,
        "best_step": result.best_step,
        "target_tokens_per_second": result.target_tokens_per_second,
        "wall_seconds": result.wall_seconds,
        "stopped": result.reason,
    }
