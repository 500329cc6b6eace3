"""The typed schema of the configuration; YAML in ``configs/`` holds the values.

Groups whose members are classes of this package (attention parts, encoder, corpus, tokenizer) are components: they name
their class by ``_target_`` and are checked by :mod:`nmt.component`; everything else is a dataclass here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nmt.errors import ConfigError, RunError


class Cell(Enum):
    """Recurrent cells."""

    rnn = "rnn"
    gru = "gru"
    lstm = "lstm"


class Tie(Enum):
    """Which embedding matrices are one: none; target input and output; source too (needs a joint vocabulary)."""

    none = "none"
    two_way = "two_way"
    three_way = "three_way"


class OptimizerName(Enum):
    """Torch's own optimisers."""

    adam = "adam"
    adamw = "adamw"
    sgd = "sgd"
    adadelta = "adadelta"


class ScheduleName(Enum):
    """Learning-rate schedules, all after a linear warm-up of ``warmup_steps``."""

    constant = "constant"
    inverse_sqrt = "inverse_sqrt"
    cosine = "cosine"
    plateau = "plateau"
    halving = "halving"


class Averaging(Enum):
    """Which weights are validated and saved as best: the raw ones, their moving average, the mean of checkpoints."""

    none = "none"
    ema = "ema"
    checkpoints = "checkpoints"


class Selection(Enum):
    """What chooses the best checkpoint and stops early: validation BLEU or validation loss."""

    bleu = "bleu"
    loss = "loss"


class Device(Enum):
    """Where tensors live; ``auto`` takes CUDA where there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(Enum):
    """Precision of the factors of matrix products; ``auto`` takes what the processor or GPU is fastest in."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    int16 = "int16"
    int8 = "int8"


class SearchWeights(Enum):
    """How search keeps large weights: as ``precision`` says (``float``), or in 8 bits (``int8``).

    ``auto`` takes 8 bits where ``precision=auto`` and the processor multiplies them.
    """

    auto = "auto"
    float = "float"
    int8 = "int8"


@dataclass
class EmbeddingConfig:
    """Embeddings of both sides; ``dropout`` on vectors, ``word_dropout`` replaces whole tokens by ``<unk>``."""

    size: int = 256
    tie: Tie = Tie.none
    dropout: float = 0.2
    variational_dropout: bool = False
    word_dropout: float = 0.0


@dataclass
class DecoderConfig:
    """The decoder's recurrent stack; where attention sits in it is ``attention.wiring``.

    With ``self_attention`` the top states look back at those before them.
    """

    cell: Cell = Cell.lstm
    hidden_size: int = 512
    layers: int = 1
    residual: bool = False
    layer_norm: bool = False
    dropout: float = 0.2
    variational_dropout: bool = False
    self_attention: bool = False
    self_attention_heads: int = 1


@dataclass
class OptimizerConfig:
    """Options of the optimiser; one that the method does not have must keep its default."""

    name: OptimizerName = OptimizerName.adam
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    rho: float = 0.95
    momentum: float = 0.0
    weight_decay: float = 0.0


@dataclass
class ScheduleConfig:
    """Learning-rate schedule; epochs are real-valued progress through the training data."""

    name: ScheduleName = ScheduleName.constant
    warmup_steps: int = 0
    # cosine: epochs until the minimum is reached, a fraction of the peak (also the floor of plateau and halving)
    horizon_epochs: float = 10.0
    minimum: float = 0.0
    # plateau: multiply by `factor` after `patience` validations without improvement
    factor: float = 0.5
    patience: int = 2
    # halving: multiply by `factor` every `every_epochs` from the end of epoch `start_epoch` on (Luong 2015: 5 and 1)
    start_epoch: float = 5.0
    every_epochs: float = 1.0


@dataclass
class GuidedAlignmentConfig:
    """Supervised attention (Chen et al. 2016): ``weight`` of its loss (0: off), and where its word links come from."""

    weight: float = 0.0
    # a Pharaoh file with a line for each training pair, source word first; null: the corpus' own gold links
    links: str | None = None


@dataclass
class TrainingConfig:
    """The training loop: limits, batches, objective, validation, logging."""

    max_epochs: float = 10.0
    max_steps: int | None = None
    max_minutes: float | None = None
    resume: bool = True
    # a batch has at most `batch_tokens` positions a side, padding included, and `batch_sentences` sentences
    batch_tokens: int = 2000
    batch_sentences: int | None = None
    pool_batches: int = 1000
    accumulate: int = 1
    # training pairs are dropped above `max_length` pieces on a side (EOS apart) or `max_ratio` between the sides
    max_length: int = 100
    max_ratio: float = 4.0
    label_smoothing: float = 0.1
    guided_alignment: GuidedAlignmentConfig = field(default_factory=GuidedAlignmentConfig)
    clip_norm: float | None = 1.0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    averaging: Averaging = Averaging.none
    ema_decay: float = 0.998
    average_last: int = 5
    # validation every so many steps, or (null) at the end of every epoch; greedy BLEU on `validate_sentences` of them
    validate_every: int | None = None
    validate_sentences: int | None = 1000
    select: Selection = Selection.bleu
    patience: int | None = None
    log_every: int = 50
    # extra checkpoints between validations, in minutes
    checkpoint_minutes: float = 10.0
    # derivatives written by hand (nmt.model.recurrence, products); false: plain autograd, the same model but slower
    fast: bool = True
    # on CUDA: forward and backward passes as CUDA graphs, one for each shape of a batch, of which padding leaves few
    cuda_graphs: bool = True


@dataclass
class SearchConfig:
    """Decoding: beam search, or sampling where ``sample`` is true; ``beam: 1`` is greedy."""

    beam: int = 5
    n_best: int = 1
    # ranking: log-probability / ((5 + length) / 6) ** length_penalty (GNMT), plus coverage's term (below 0)
    length_penalty: float = 1.0
    coverage_penalty: float = 0.0
    # lengths in target pieces without EOS; the maximum is max_length_ratio * source pieces + max_length_offset
    min_length: int = 0
    max_length_ratio: float = 2.0
    max_length_offset: int = 10
    no_repeat_ngram: int = 0
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    batch_tokens: int = 4000
    weights: SearchWeights = SearchWeights.auto


@dataclass
class Config:
    """A whole run."""

    data: Any = MISSING
    tokenizer: Any = MISSING
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    attention: Any = MISSING
    encoder: Any = MISSING
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    seed: int = 1
    device: Device = Device.auto
    precision: Precision = Precision.auto
    threads: int | None = None
    run_dir: str = MISSING
    # what was chosen of each group, for tables and headings
    choices: dict[str, str] = field(default_factory=dict)


ConfigStore.instance().store(name="schema", node=Config)

# what may differ when a run is resumed: limits, logging, search, device
_FREE = (
    "training.max_epochs",
    "training.max_steps",
    "training.max_minutes",
    "training.patience",
    "training.resume",
    "training.log_every",
    "training.checkpoint_minutes",
    "search",
    "device",
    "threads",
    "run_dir",
    "choices",
)

_NUMBER = (int, float)


def _above(low: float, *, most: float = math.inf, inclusive: bool = True) -> tuple[float, float, bool]:
    return low, most, inclusive


# key -> (lowest, highest, lowest included); highest is included where finite
_RANGES = {
    "embedding.size": _above(1),
    "embedding.dropout": _above(0, most=0.99),
    "embedding.word_dropout": _above(0, most=0.99),
    "decoder.hidden_size": _above(1),
    "decoder.layers": _above(1),
    "decoder.dropout": _above(0, most=0.99),
    "decoder.self_attention_heads": _above(1),
    "training.max_epochs": _above(0, inclusive=False),
    "training.max_steps": _above(1),
    "training.max_minutes": _above(0, inclusive=False),
    "training.batch_tokens": _above(1),
    "training.batch_sentences": _above(1),
    "training.pool_batches": _above(1),
    "training.accumulate": _above(1),
    "training.max_length": _above(1),
    "training.max_ratio": _above(1),
    "training.label_smoothing": _above(0, most=0.99),
    "training.guided_alignment.weight": _above(0),
    "training.clip_norm": _above(0, inclusive=False),
    "training.optimizer.learning_rate": _above(0, inclusive=False),
    "training.validate_every": _above(1),
    "training.validate_sentences": _above(1),
    "training.patience": _above(1),
    "training.log_every": _above(1),
    "training.checkpoint_minutes": _above(0, inclusive=False),
    "search.batch_tokens": _above(1),
    "seed": _above(0, most=2**63 - 1),
    "threads": _above(1),
}


def from_omegaconf(node: DictConfig) -> Config:
    """Return the checked configuration that Hydra composed.

    Raises:
        ConfigError: a value is missing, of the wrong type or out of range; the sentence names the key.
    """
    try:
        # as plain values, since a key that `+key=value` has added to a typed node would be merged without a word
        merged = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.to_container(node, resolve=True))
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        raise ConfigError(f"the configuration cannot be read: {key}{str(error).splitlines()[0]}") from None
    assert isinstance(config, Config)
    _check_ranges(flatten(to_plain(config)))
    return config


def to_plain(config: Config) -> dict[str, Any]:
    """Return the configuration as plain nested dictionaries, enums by name, as ``config.yaml`` holds it."""
    plain = OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def to_yaml(config: Config) -> str:
    """Return the text of ``config.yaml``."""
    return OmegaConf.to_yaml(OmegaConf.create(to_plain(config)))


def read(path: Path) -> Config:
    """Read a ``config.yaml``.

    Raises:
        RunError: it is missing or is not a configuration of this version.
    """
    try:
        node = OmegaConf.load(path)
    except FileNotFoundError:
        raise RunError(f"{path.parent} is no run folder: it has no {path.name}") from None
    except Exception as error:  # the YAML reader's errors have no common class
        raise RunError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(node, DictConfig):
        raise RunError(f"{path} is not a configuration: its top level is not a mapping")
    try:
        return from_omegaconf(node)
    except ConfigError as error:
        raise RunError(f"{path}: {error}") from None


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return ``{"a.b": value}`` for nested mappings."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def changed_keys(old: Config, new: Config) -> list[tuple[str, Any, Any]]:
    """Return (key, old value, new value) of what a resumption may not change but ``new`` does."""
    before, after = flatten(to_plain(old)), flatten(to_plain(new))
    return [
        (key, before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not any(key == free or key.startswith(free + ".") for free in _FREE)
    ]


def _check_ranges(flat: Mapping[str, Any]) -> None:
    for key, (low, high, inclusive) in _RANGES.items():
        value = flat[key]
        if not isinstance(value, _NUMBER):
            continue
        if not (low <= value if inclusive else low < value) or not value <= high:
            lower = f"at least {low:g}" if inclusive else f"above {low:g}"
            upper = "" if high == math.inf else f" and at most {high:g}"
            raise ConfigError(f"{key}={value} is not accepted; it must be {lower}{upper}")
