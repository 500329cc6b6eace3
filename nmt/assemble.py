"""The one place that turns a configuration, or a run folder, into objects."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from nmt.component import build
from nmt.config import Config, DecoderConfig, Device, Precision, SearchConfig, SearchWeights, Tie
from nmt.config import read as read_config
from nmt.data.tokenizer import TokenizerPair
from nmt.data.vocabulary import EOS, UNK
from nmt.errors import ConfigError
from nmt.model import Layouts, arithmetic
from nmt.model.attention import (
    Alignment,
    Annotations,
    Attention,
    AttentionParts,
    Context,
    Coverage,
    NoCoverage,
    Score,
)
from nmt.model.decoder import Bridge, CausalSelfAttention, Decoder, Readout
from nmt.model.embedding import Embedding, NoOutputLayer, OutputLayer
from nmt.model.encoder import Encoder
from nmt.model.library import multiplies_integers
from nmt.model.prediction import Prediction
from nmt.model.products import Rounding, is_intel
from nmt.model.translation_model import TranslationModel
from nmt.run_folder import RunFolder, read_json
from nmt.search import SearchOptions
from nmt.training.checkpoint import load_best

T = TypeVar("T")
_ATTENTION_PARTS = (
    *("form", "annotations", "score", "alignment", "context", "wiring", "readout", "bridge", "prediction"),
    *("coverage", "coverage_loss", "coverage_loss_after"),
)
_WHOLE = {Precision.int16, Precision.int8}
_CELL_PARTS = {"rnn": 1, "gru": 1, "lstm": 2}


def set_threads(number: int | None) -> None:
    """Set how many threads compute (None: as many as torch sees fit), and that to them what is next to nothing is 0.

    Numbers too small for float32's full precision (subnormal ones) slow a processor down a hundredfold, and training
    has many: Adam's mean gradients of words that were not met for a thousand updates, attention far from its maximum.
    Threads take this over where they start, so that this comes before anything is computed.
    """
    # NumPy looks at its types when first asked about them; afterwards it would warn that they have no such numbers
    for kind in (np.float32, np.float64):
        np.finfo(kind)
    torch.set_flush_denormal(True)
    if number is not None:
        torch.set_num_threads(number)


def resolve_device(device: Device) -> torch.device:
    """Return the device to use; ``auto`` is CUDA where there is one.

    Raises:
        ConfigError: ``cuda`` is asked for and there is none.
    """
    if device is Device.cuda and not torch.cuda.is_available():
        raise ConfigError("device=cuda, but this torch sees no CUDA device; accepted here: auto, cpu")
    if device is Device.cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda")


@dataclass(frozen=True)
class ProductPrecision:
    """What products are made in, as it was decided.

    Attributes:
        rounding: of the factors.
        search_int8: search keeps large weights in 8 bits.
    """

    rounding: Rounding
    search_int8: bool

    def arithmetic(self, *, fast: bool = True, prepared: Layouts | None = None) -> AbstractContextManager[None]:
        """Return the context in which a model computes so; arguments as in :class:`nmt.model.products.Arithmetic`."""
        return arithmetic(rounding=self.rounding, fast=fast, search_int8=self.search_int8, prepared=prepared)


def resolve_precision(config: Config, device: torch.device) -> ProductPrecision:
    """Decide what products are made in; ``auto`` asks the processor's or GPU's capability flags, never the clock.

    Raises:
        ConfigError: training is to multiply whole numbers, or search to keep its weights in 8 bits, where nothing does.
    """
    automatic, weights = config.precision is Precision.auto, config.search.weights
    able = device.type == "cpu" and multiplies_integers()
    here = f"device={device.type}" if device.type != "cpu" else "this processor, or the functions in C are not compiled"
    name = config.precision.value
    if config.precision in _WHOLE and not able:
        raise ConfigError(
            f"precision={name} is for CPUs with AVX-512 VNNI, not for {here}; accepted here: auto, fp32, bf16"
        )
    rounding = _fastest(device) if automatic else Rounding(name)
    if rounding.kinds is not None and not config.training.fast:
        if not automatic:
            raise ConfigError(
                f"precision={name} has no plain arithmetic, training.fast=false; accepted with it: auto, fp32, bf16"
            )
        rounding = Rounding.none
    if weights is SearchWeights.float or (weights is SearchWeights.auto and not automatic):
        return ProductPrecision(rounding, search_int8=False)
    if weights is SearchWeights.int8 and not able:
        raise ConfigError(
            f"search.weights=int8 (--weights) is for CPUs with AVX-512 VNNI, not for {here}; accepted here: auto, float"
        )
    return ProductPrecision(rounding, search_int8=able)


def _fastest(device: torch.device) -> Rounding:
    """Return in what products are fastest.

    Intel's processors multiply whole numbers of 8 bits fastest, with AMX or without, as virtual machines may hide it;
    without, their instructions for bf16 have half of the rate of those for float32.
    """
    if device.type == "cuda":
        return Rounding.bf16 if torch.cuda.get_device_capability(device) >= (8, 0) else Rounding.none
    if is_intel() and multiplies_integers():
        return Rounding.int8
    amx, bf16 = torch.cpu._is_amx_tile_supported(), torch.cpu._is_avx512_bf16_supported()
    if torch.backends.mkldnn.is_available() and (amx or (bf16 and not is_intel())):
        return Rounding.bf16
    return Rounding.int8 if multiplies_integers() else Rounding.none


def build_model(
    config: Config, *, source_size: int, target_size: int, joint: bool, separator: int | None = None
) -> TranslationModel:
    """Construct the model with fresh parameters.

    Args:
        config: the run's configuration.
        source_size: source vocabulary size.
        target_size: target vocabulary size.
        joint: whether both sides have one vocabulary.
        separator: id of the source token between the sentences of a line; None where there is none.

    Raises:
        ConfigError: parts that do not go together.
    """
    source_embedding, target_embedding = _build_embeddings(config, source_size, target_size, joint=joint)
    encoder = build(config.encoder, Encoder, "encoder", embedding_size=config.embedding.size)
    decoder = _build_decoder(config, encoder, separator)
    prediction = build(
        config.attention["prediction"],
        Prediction,
        "attention.prediction",
        hidden_size=config.decoder.hidden_size,
        embedding_size=config.embedding.size,
        context_size=decoder.attention.size,
        target_size=target_size,
        unknown=UNK,
    )
    prediction.check(decoder)
    return TranslationModel(
        source_embedding=source_embedding,
        target_embedding=target_embedding,
        encoder=encoder,
        decoder=decoder,
        prediction=prediction,
        output=_build_output(config, decoder, target_embedding, target_size, generates=prediction.generates),
    )


def build_model_for(config: Config, tokenizers: TokenizerPair) -> TranslationModel:
    """Construct the model that these tokenizers need; see :func:`build_model`."""
    separator = config.data.get("sentence_separator")
    return build_model(
        config,
        source_size=tokenizers.source.size,
        target_size=tokenizers.target.size,
        joint=tokenizers.joint,
        separator=None if separator is None else tokenizers.source.token(separator),
    )


def _build_embeddings(
    config: Config, source_size: int, target_size: int, *, joint: bool
) -> tuple[Embedding, Embedding]:
    if config.embedding.tie is Tie.three_way and not joint:
        raise ConfigError("embedding.tie=three_way needs one vocabulary for both sides; set tokenizer.joint=true")
    source, target = (
        Embedding(
            size,
            config.embedding.size,
            dropout=config.embedding.dropout,
            variational_dropout=config.embedding.variational_dropout,
            word_dropout=config.embedding.word_dropout,
            unknown=UNK,
            special=EOS,
        )
        for size in (source_size, target_size)
    )
    if config.embedding.tie is Tie.three_way:
        source.weight = target.weight
    return source, target


def _build_attention(config: Config, encoder: Encoder, separator: int | None) -> Attention:
    parts = config.attention
    for name in parts:
        if name not in _ATTENTION_PARTS:
            raise ConfigError(f"attention.{name} is not an option; accepted: {', '.join(_ATTENTION_PARTS)}")
    missing = [name for name in _ATTENTION_PARTS if name not in parts]
    if missing:
        raise ConfigError(f"attention lacks {', '.join(missing)}")

    def part(name: str, base: type[T], **sizes: int) -> T:
        return build(parts[name], base, f"attention.{name}", **sizes)

    made = AttentionParts(
        annotations=lambda source_size: part("annotations", Annotations, source_size=source_size),
        score=lambda query_size, key_size: part("score", Score, query_size=query_size, key_size=key_size),
        coverage=_coverage(parts),
        alignment=lambda query_size: part("alignment", Alignment, query_size=query_size),
        context=lambda value_size, source_size: part(
            "context", Context, value_size=value_size, source_size=source_size
        ),
    )
    sizes = {"query_size": config.decoder.hidden_size, "source_size": encoder.size}
    return build(parts["form"], Attention, "attention.form", parts=made, separator=separator, **sizes)


def _coverage(parts: Mapping[str, Any]) -> Callable[[Score, int], NoCoverage]:
    given, loss, after = (parts[name] for name in ("coverage", "coverage_loss", "coverage_loss_after"))
    if not isinstance(given, bool):
        raise ConfigError(f"attention.coverage={given!r} is not accepted; it must be true or false")
    if isinstance(loss, bool) or not isinstance(loss, int | float) or not 0 <= loss < math.inf:
        raise ConfigError(f"attention.coverage_loss={loss!r} is not accepted; it must be at least 0")
    if isinstance(after, bool) or not isinstance(after, int) or after < 0:
        raise ConfigError(f"attention.coverage_loss_after={after!r} is not accepted; it must be a number of updates")
    if not given:
        return lambda score, query_size: NoCoverage()
    return lambda score, query_size: Coverage(score.shift_size(query_size), float(loss), after)


def _build_decoder(config: Config, encoder: Encoder, separator: int | None) -> Decoder:
    options, embedding = config.decoder, config.embedding
    attention = _build_attention(config, encoder, separator)
    readout = build(
        config.attention["readout"],
        Readout,
        "attention.readout",
        hidden_size=options.hidden_size,
        embedding_size=embedding.size,
        context_size=attention.size,
        default_size=options.hidden_size if embedding.tie is Tie.none else embedding.size,
    )
    bridge = build(
        config.attention["bridge"],
        Bridge,
        "attention.bridge",
        source_size=encoder.size,
        source_parts=encoder.final_parts,
        backward_size=encoder.backward_size,
        hidden_size=options.hidden_size,
        layers=options.layers,
        parts=_CELL_PARTS[options.cell.value],
    )
    return build(
        config.attention["wiring"],
        Decoder,
        "attention.wiring",
        embedding_size=embedding.size,
        attention=attention,
        readout=readout,
        bridge=bridge,
        self_attention=_build_self_attention(options),
        cell=options.cell.value,
        hidden_size=options.hidden_size,
        layers=options.layers,
        residual=options.residual,
        layer_norm=options.layer_norm,
        dropout=options.dropout,
        variational_dropout=options.variational_dropout,
    )


def _build_self_attention(options: DecoderConfig) -> CausalSelfAttention | None:
    if not options.self_attention:
        return None
    return CausalSelfAttention(
        options.hidden_size,
        options.self_attention_heads,
        dropout=options.dropout,
        variational_dropout=options.variational_dropout,
    )


def _build_output(
    config: Config, decoder: Decoder, target_embedding: Embedding, target_size: int, *, generates: bool
) -> OutputLayer:
    tied = config.embedding.tie is not Tie.none
    if not generates:
        if config.embedding.tie is Tie.two_way:
            raise ConfigError("embedding.tie=two_way ties the output layer, but this attention/prediction has none")
        return NoOutputLayer(decoder.readout.size)
    if tied and decoder.readout.size != config.embedding.size:
        raise ConfigError(
            f"embedding.tie={config.embedding.tie.value} needs attention.readout.size={config.embedding.size} "
            f"(embedding.size), but it is {decoder.readout.size}"
        )
    return OutputLayer(decoder.readout.size, target_size, tied=target_embedding.weight if tied else None)


@dataclass(frozen=True)
class OpenRun:
    """A finished or interrupted run, ready to translate with its best weights.

    Attributes:
        folder: its folder.
        config: its configuration.
        model: the model on its device, in evaluation mode.
        tokenizers: its tokenizers.
        corpus: ``corpus.json``: name, synthetic, source_language, target_language, ...
        device: where the model is.
        precision: what products are made in.
        prepared: what was laid out of the model's parameters for search.
    """

    folder: RunFolder
    config: Config
    model: TranslationModel
    tokenizers: TokenizerPair
    corpus: dict[str, Any]
    device: torch.device
    precision: ProductPrecision
    prepared: Layouts = field(default_factory=dict)

    def arithmetic(self) -> AbstractContextManager[None]:
        """Return the context in which the model computes as this run does."""
        return self.precision.arithmetic(prepared=self.prepared)

    @property
    def alignment_shift(self) -> int:
        """The shift chosen on validation links where there were any, else 0."""
        if not self.folder.finished:
            return 0
        return int(self.folder.read_metrics().get("valid", {}).get("aer_shift") or 0)


def open_run(path: Path, *, device: Device | None = None, weights: SearchWeights | None = None) -> OpenRun:
    """Open a run folder: the one way to get a trained model back.

    Args:
        path: the run folder.
        device: where to put the model; None as the run's configuration says.
        weights: how search keeps large weights; None as the run's configuration says.

    Raises:
        RunError: the folder is not a run, or its training has not reached a checkpoint yet.
    """
    folder = RunFolder(path)
    config = read_config(folder.config)
    set_threads(config.threads)
    if weights is not None:
        config = replace(config, search=replace(config.search, weights=weights))
    tokenizers = TokenizerPair.load(path)
    model = build_model_for(config, tokenizers)
    load_best(folder.checkpoints, model)
    place = resolve_device(config.device if device is None else device)
    # whole numbers are for training alone: what was trained with them is opened on any processor, or GPU
    of_training = config.precision in _WHOLE
    opened = replace(config, precision=Precision.fp32) if of_training else config
    return OpenRun(
        folder=folder,
        config=config,
        model=model.to(place).eval(),
        tokenizers=tokenizers,
        corpus=read_json(folder.corpus),
        device=place,
        precision=resolve_precision(opened, place),
    )


def search_options(search: SearchConfig, **overrides: Any) -> SearchOptions:
    """Return the options of a search from its configuration; ``overrides`` that are not None replace values."""
    names = {field.name for field in fields(SearchOptions)}
    values = {field.name: getattr(search, field.name) for field in fields(search) if field.name in names}
    return SearchOptions(**{**values, **{name: value for name, value in overrides.items() if value is not None}})
