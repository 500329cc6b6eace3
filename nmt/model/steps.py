"""All steps of a recurrence with one call of the library, where its matrices are laid out for products.

Step by step in Python, a step of 80 sentences is half a dozen calls of a fifth of a millisecond each, before each of
which all but one thread wait for Python: a twentieth of an update. ``steps.c`` makes the same calls in the same order;
what they compute stands in layer.py and recurrence.py, whose parts describe themselves by the structures below. Where
one of them cannot (another type or device, products in bf16, small matrices), all goes step by step there.
"""

import ctypes
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from nmt.model.library import Matrix
from nmt.model.products import Factor

_Kind = TypeVar("_Kind", bound=ctypes.Structure)


class _Steps(ctypes.Structure):
    _fields_ = [("values", ctypes.c_void_p), ("step", ctypes.c_int64), ("row", ctypes.c_int64)]


def _named(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class LayerSteps(ctypes.Structure):
    """A layer of cells; as in steps.c."""

    _fields_ = [
        *_named(Matrix, "forward back words"),
        *_named(ctypes.c_int64, "kind batch size fed"),
        *_named(ctypes.c_void_p, "bias"),
        *_named(_Steps, "inputs projected gates hiddens cells squashed of_gates of_hiddens of_last of_last_cell"),
        *_named(_Steps, "of_words"),
        *_named(ctypes.c_void_p, "of_cell products of_inputs ends"),
    ]


class AttentionSteps(ctypes.Structure):
    """Attention with an additive or a bilinear score; as in steps.c."""

    _fields_ = [
        *_named(Matrix, "forward back"),
        *_named(ctypes.c_int64, "batch positions size key_size"),
        *_named(ctypes.c_double, "scale"),
        *_named(ctypes.c_void_p, "keys values vector"),
        *_named(_Steps, "padding factors weights contexts products of_contexts of_scores of_products"),
        *_named(_Steps, "given_contexts given_weights"),
        *_named(ctypes.c_void_p, "scores of_query of_keys of_vector key_halves value_halves"),
    ]


class ReadoutSteps(ctypes.Structure):
    """The readout; as in steps.c."""

    _fields_ = [
        *_named(Matrix, "forward back"),
        *_named(ctypes.c_int64, "batch size"),
        *_named(_Steps, "inputs mask plain outputs of_sums of_outputs"),
        *_named(ctypes.c_void_p, "products of_inputs"),
    ]


def as_steps(tensor: Tensor) -> Any:
    """Return what the library takes as the steps [T, B, D] of a buffer."""
    return ctypes.byref(_steps(tensor))


@cache
def _kinds(structure: type[ctypes.Structure]) -> dict[str, Any]:
    return {name: kind for name, kind, *_ in structure._fields_}


_OTHERS = {"key_halves": torch.float16, "value_halves": torch.float16, "ends": torch.int64}


def describe(structure: _Kind, **fields: Tensor | float | None) -> _Kind:
    """Write fields of a structure: where tensors are, which the caller keeps; return it.

    Args:
        structure: one of the above.
        fields: numbers; contiguous tensors; of what has steps, [T or 1, B or 1, D], whose rows have their elements side
            by side; None for what there is not. All float32 but for :data:`_OTHERS`, on a CPU.
    """
    kinds = _kinds(type(structure))
    for name, value in fields.items():
        if not isinstance(value, Tensor):
            # what was there before is not any more
            setattr(structure, name, _Steps() if kinds[name] is _Steps else value)
            continue
        assert value.dtype == _OTHERS.get(name, torch.float32)
        assert value.device.type == "cpu"
        if kinds[name] is _Steps:
            setattr(structure, name, _steps(value))
        else:
            assert value.is_contiguous()
            setattr(structure, name, value.data_ptr())
    return structure


def _steps(tensor: Tensor) -> _Steps:
    assert tensor.dim() == 3 and tensor.stride(2) == 1
    step, row = (tensor.stride(axis) if tensor.shape[axis] > 1 else 0 for axis in (0, 1))
    return _Steps(tensor.data_ptr(), step, row)


def describe_words(structure: LayerSteps, factor: Factor, of_words: Tensor) -> None:
    """Write where words' weight is laid out, in whole numbers, and where the words' gradients go, [T, B, E]."""
    assert factor.laid_out is not None
    structure.words = factor.laid_out[1].place
    describe(structure, of_words=of_words)


def describe_factor(structure: _Kind, factor: Factor) -> _Kind | None:
    """Write where a factor is laid out for products from either side; None where it is not."""
    if factor.laid_out is None:
        return None
    structure.forward, structure.back = (each.place for each in factor.laid_out)  # pyright: ignore
    return structure
