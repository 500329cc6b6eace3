r"""Matrix products: in a chosen precision, and with gradients that leave the recurrence.

A recurrent decoder multiplies by the same matrix W at every step t::

    y_t = x_t W^T,     dL/dx_t = dL/dy_t W,     dL/dW = sum_t (dL/dy_t)^T x_t

Only dL/dx_t is needed to go on backwards through time. Plain autograd nevertheless computes and adds (dL/dy_t)^T x_t, a
matrix as large as W, at each step: that is most of the memory traffic of training. Here the steps only note (x_t,
dL/dy_t), and when the last of them has been visited (autograd calls the node of W after all its users) the sum is one
product over all steps, ``concat_t(dL/dy_t)^T concat_t(x_t)``. The same holds for what is the same at all steps of one
sentence, the keys K and values V of attention, whose products are batched: scores q_t K^T, contexts a_t V, and

    dL/dK = sum_t (dL/ds_t)^T q_t,     dL/dV = sum_t a_t^T dL/dc_t.

:class:`Operand` is such a matrix; :func:`arithmetic` chooses precision and whether gradients are deferred; without
deferral everything is plain autograd, and the tests hold one against the other. Products in bf16 round both factors and
the result (accumulation inside is in fp32), those of whole numbers the factors alone (``integers.py``); parameters,
sums, softmax and everything elementwise stay in fp32.
"""

import copy
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nmt.model import eight_bit, integers, kernels, panels
from nmt.model.eight_bit import ByteMatrix
from nmt.model.gating import Gating, side_by_side
from nmt.model.integers import IntegerMatrix, Kind
from nmt.model.kernels import average, compare, flipped
from nmt.model.panels import Panels
from nmt.sizes import rounded_up

Layouts = dict[tuple[Any, ...], tuple[Sequence[Tensor], list[tuple[int, int, torch.dtype]], "_Fixed"]]
"""What was laid out of a model's parameters for products without gradients; empty to begin with."""


class Rounding(Enum):
    """What the factors of a product are rounded to, where they are float32 and the product is large enough."""

    none = "fp32"
    bf16 = "bf16"
    int16 = "int16"
    int8 = "int8"

    @property
    def fine(self) -> "Rounding":
        """What is rounded to where 8 bits would be too few."""
        return Rounding.int16 if self is Rounding.int8 else self

    @property
    def kinds(self) -> tuple[Kind, Kind] | None:
        """Of whole numbers, where the left factor is no gradient and where it is one; None of other roundings."""
        return _KINDS.get(self)


_KINDS = {Rounding.int16: (Kind.shorts, Kind.shorts), Rounding.int8: (Kind.bytes, Kind.bytes_of_gradients)}


@dataclass(frozen=True)
class Arithmetic:
    """How products are computed.

    Attributes:
        rounding: what factors in float32 are rounded to; to whole numbers only where gradients are wanted.
        fast: with deferred gradients.
        search_int8: search takes weights of 8 bits where the processor multiplies them.
        int8: that is so here, since this is a search.
        prepared: keeps what is laid out of parameters until they change, or move (writing to their ``data`` in place is
            not seen); None: nothing is kept.
    """

    rounding: Rounding = Rounding.none
    fast: bool = True
    search_int8: bool = False
    int8: bool = False
    prepared: Layouts | None = None

    @cached_property
    def without_gradients(self) -> "Arithmetic":
        """This arithmetic where no gradients are wanted, in which products of whole numbers are in float32."""
        return self if self.rounding.kinds is None else replace(self, rounding=Rounding.none)


# logits that exist at a time, where the best are chosen: on a CPU 8 MiB of float32, which are read again from the cache
_LOGITS, _DEVICE_LOGITS = 2**21, 2**27
_LONG = 4096
_DEFAULT = Arithmetic()
_ARITHMETIC: ContextVar[Arithmetic] = ContextVar("arithmetic", default=_DEFAULT)


@contextmanager
def arithmetic(
    *, rounding: Rounding = Rounding.none, fast: bool = True, search_int8: bool = False, prepared: Layouts | None = None
) -> Iterator[None]:
    """Compute the products inside the ``with`` block as :class:`Arithmetic` says."""
    with _in_force(Arithmetic(rounding=rounding, fast=fast, search_int8=search_int8, prepared=prepared)):
        yield


@contextmanager
def searching() -> Iterator[None]:
    """Take weights of 8 bits inside the ``with`` block, which is a search, if the arithmetic in force says so."""
    with _in_force(replace(current(), int8=current().search_int8)):
        yield


@contextmanager
def _in_force(settings: Arithmetic) -> Iterator[None]:
    token = _ARITHMETIC.set(settings)
    try:
        yield
    finally:
        _ARITHMETIC.reset(token)


def current() -> Arithmetic:
    """Return the arithmetic in force; not to be asked inside autograd functions, where gradients seem not wanted."""
    found = _ARITHMETIC.get()
    return found if torch.is_grad_enabled() else found.without_gradients


def _has_onednn_linear() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def is_intel() -> bool:
    """Say whether this is a processor of Intel's."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "GenuineIntel" in platform.processor()


# oneDNN's float32 product is more than twice as fast as MKL's on AMD processors, where MKL does without AVX-512;
# on Intel's MKL's is as fast, and twice that where a factor is transposed. The operator is private, hence the test
# for it, and has no derivative, hence only inside our own autograd functions.
_ONEDNN = _has_onednn_linear()
_ONEDNN_FLOAT32 = _ONEDNN and not is_intel()


def _has_blocks(dtype: torch.dtype) -> bool:
    """Whether oneDNN can lay out a matrix of that type for its products here; private to torch too."""
    if not _ONEDNN or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def rounded(tensor: Tensor, rounding: Rounding) -> Tensor:
    """Return a float32 tensor in bf16 where asked to; others as they are: products make whole numbers themselves."""
    return tensor.to(torch.bfloat16) if rounding is Rounding.bf16 and tensor.dtype == torch.float32 else tensor


def times_transposed(
    left: Tensor,
    right: Tensor,
    bias: Tensor | None = None,
    *,
    rounding: Rounding = Rounding.none,
    of_gradients: bool = False,
) -> Tensor:
    """Compute ``left @ right^T + bias`` ([n, k], [m, k], [m] -> [n, m]) without autograd, by the fastest product.

    With ``rounding`` to whole numbers in those, where it matters whether what is left are gradients; what is in bf16
    has been rounded before.
    """
    if rounding.kinds is not None and integers.serves(right):
        result = IntegerMatrix(right, rounding.kinds[of_gradients]).product(left)
        return result if bias is None else result.add_(bias)
    if _ONEDNN_FLOAT32 and left.dtype == torch.float32 and left.device.type == "cpu" and left.numel() > 0:
        return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return functional.linear(left, right, bias)


def write_product(into: Tensor, left: Tensor, right: Tensor) -> None:
    """Write ``left @ right^T``, as :func:`times_transposed` computes it."""
    if _ONEDNN_FLOAT32 and left.dtype == torch.float32 and left.device.type == "cpu":
        into.copy_(times_transposed(left, right))
    else:
        torch.mm(left, right.t(), out=into)


class Factor:
    """A matrix [m, k] that rows meet a few at a time, from either side; laid out once for each where that is faster.

    Without autograd; the matrix must not change.

    Args:
        parts: in the type that products are made in: the matrix, or what stands side by side in it.
        rounding: what the products round to.
    """

    def __init__(self, *parts: Tensor, rounding: Rounding) -> None:
        whole = rounding.kinds is not None
        kept = len(parts) == 1 or (whole and all(map(integers.serves, parts)))
        self._parts = list(parts) if kept else [torch.cat(parts, 1)]
        self._rounding = rounding
        self._kind: type[Panels] | type[IntegerMatrix] | None = None
        if whole and integers.serves(self._parts[0]):
            self._kind = IntegerMatrix
        elif not _ONEDNN_FLOAT32 and panels.serves(self._parts[0]):
            self._kind = Panels

    @cached_property
    def _of_integers(self) -> tuple[IntegerMatrix, IntegerMatrix] | None:
        kinds = self._rounding.kinds
        return (
            None if kinds is None or self._kind is not IntegerMatrix else IntegerMatrix.both(*self._parts, kinds=kinds)
        )

    @cached_property
    def _forward(self) -> Panels | IntegerMatrix | None:
        if self._of_integers is not None:
            return self._of_integers[0]
        return None if self._kind is None else Panels(self._parts[0])

    @cached_property
    def _back(self) -> Panels | IntegerMatrix | None:
        if self._of_integers is not None:
            return self._of_integers[1]
        # sums as long as a vocabulary are as fast by MKL, which wants no layout
        return None if self._kind is None or len(self._parts[0]) > _LONG else Panels(self._parts[0].t())

    @property
    def laid_out(self) -> tuple[Panels | IntegerMatrix, Panels | IntegerMatrix] | None:
        """What :meth:`times_transposed` and :meth:`times` multiply by; None where one of them lays out nothing."""
        return None if self._forward is None or self._back is None else (self._forward, self._back)

    def times_transposed(self, rows: Tensor) -> Tensor:
        """Return ``rows @ matrix^T``, [n, k] -> [n, m]."""
        return times_transposed(rows, self._parts[0]) if self._forward is None else self._forward.product(rows)

    def write(self, into: Tensor, rows: Tensor) -> None:
        """Write ``rows @ matrix^T`` to a contiguous [n, m]."""
        if self._forward is None:
            write_product(into, rows, self._parts[0])
        else:
            self._forward.product(rows, into)

    def times(self, rows: Tensor) -> Tensor:
        """Return ``rows @ matrix``, [n, m] -> [n, k]."""
        return times_transposed(rows, self._parts[0].t()) if self._back is None else self._back.product(rows)


def _flat(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1])


@dataclass(frozen=True)
class Stack:
    """A buffer for the rows of all steps.

    Attributes:
        rows: [n, D]; those beyond the last step's are zeros, so that products of all rows meet few sizes: to prepare
            one for a new size takes a CPU longer than many a product.
        steps: [T, B, D], the same memory.
    """

    rows: Tensor
    steps: Tensor

    @classmethod
    def empty(cls, like: Tensor, steps: int, batch: int, size: int, dtype: torch.dtype | None = None) -> "Stack":
        """Return a stack of the device of ``like``, and of its type unless ``dtype`` says otherwise."""
        rows = empty_rows(like, steps * batch, size, dtype)
        return cls(rows, rows[: steps * batch].view(steps, batch, size))


def empty_rows(like: Tensor, count: int, size: int, dtype: torch.dtype | None = None, digits: int = 4) -> Tensor:
    """Return at least ``count`` rows, on a CPU of few numbers; those beyond are zeros. See :class:`Stack`.

    The numbers have so many significant binary ``digits``: 4 add up to 12 % of rows, 6 % on average, 3 twice that.
    """
    whole = rounded_up(count, digits) if like.device.type == "cpu" and count else count
    rows = like.new_empty(whole, size, dtype=dtype)
    rows[count:].zero_()
    return rows


def rounded_rows(inputs: Tensor, rounding: Rounding) -> Tensor:
    """Return [.., k] as rows, in bf16 where asked to; what is rounded is followed by rows of zeros as in a stack."""
    if rounding is not Rounding.bf16 or inputs.dtype != torch.float32:
        return _flat(inputs)
    count = inputs.numel() // inputs.shape[-1]
    rows = empty_rows(inputs, count, inputs.shape[-1], torch.bfloat16)
    rows[:count].view(inputs.shape).copy_(inputs)
    return rows


def outer(left: Tensor, right: Tensor, rounding: Rounding) -> Tensor:
    """Return sum_i left_i right_i^T, the left, gradients, as its transpose ([m, n], [n', k] -> [m, k]).

    Where one has more rows than the other, they are zeros. See :func:`nmt.model.kernels.flipped` for the transpose.
    """
    count = min(left.shape[1], len(right))
    return times_transposed(left[:, :count], right[:count].t(), rounding=rounding, of_gradients=True)


def outers(left: Tensor, rights: Sequence[Tensor], rounding: Rounding) -> tuple[list[Tensor], Tensor]:
    """Return :func:`outer` of one left with several rights, and the sum [m] of the left's columns.

    Of whole numbers the left is read and rounded once for all of it.
    """
    if rounding.kinds is None or not all(integers.serves(right.t()) for right in rights):
        return [outer(left, right, rounding) for right in rights], sum_columns(left)
    count = min(left.shape[1], *map(len, rights))
    return integers.products(left[:, :count], [IntegerMatrix(right[:count].t(), rounding.kinds[1]) for right in rights])


def add_outer(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add :func:`outer`, not of whole numbers, to a contiguous total of float32 or float64, as it is made if it can."""
    count = min(left.shape[1], len(right))
    if left.dtype == total.dtype and not _ONEDNN_FLOAT32:
        total.addmm_(left[:, :count], right[:count])
    else:
        total += times_transposed(left[:, :count], right[:count].t())


def sum_columns(left: Tensor) -> Tensor:
    """Return the sum [m] of columns [m, n], as a product: in bf16 a CPU adds up ten times as slowly."""
    return times_transposed(left.new_ones(1, left.shape[1]), left).squeeze(0)


class _Product(torch.autograd.Function):
    """``inputs @ weight^T + bias``: [.., k], [m, k], [m] or None -> [.., m]."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, rounding: Rounding) -> Tensor:
        left, right = rounded_rows(inputs, rounding), rounded(weight, rounding)
        ctx.save_for_backward(left, right)
        ctx.rounding = rounding
        ctx.shape = inputs.shape
        result = times_transposed(left, right, rounding=rounding)[: inputs.numel() // inputs.shape[-1]]
        result = result.to(inputs.dtype) if bias is None else torch.add(result, bias)
        return result.view(*inputs.shape[:-1], weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        left, right = ctx.saved_tensors
        dtype, gradient = gradients[0].dtype, rounded_rows(gradients[0], ctx.rounding)
        of_inputs = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_inputs = times_transposed(gradient, right.t(), rounding=ctx.rounding, of_gradients=True)
            of_inputs = of_inputs[: ctx.shape[:-1].numel()].to(dtype).view(ctx.shape)
        if ctx.needs_input_grad[1]:
            if ctx.needs_input_grad[2]:
                (of_weight,), of_bias = outers(flipped(gradient), [left], ctx.rounding)
            else:
                of_weight = outer(flipped(gradient), left, ctx.rounding)
            of_weight = of_weight.to(dtype)
        elif ctx.needs_input_grad[2]:
            of_bias = sum_columns(flipped(gradient))
        return of_inputs, of_weight, None if of_bias is None else of_bias.to(dtype), None


def product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None, *, fine: bool = False) -> Tensor:
    """Compute ``inputs @ weight^T + bias`` ([.., k], [m, k], [m] -> [.., m]) in the arithmetic in force.

    With ``fine`` in 16 bits where that is of 8.
    """
    settings = current()
    if settings.int8 and settings.prepared is not None and not torch.is_grad_enabled():
        return Operand(weight, bias)(inputs)
    if settings.fast:
        return _Product.apply(inputs, weight, bias, settings.rounding.fine if fine else settings.rounding)
    if settings.rounding is Rounding.bf16:
        result = functional.linear(inputs.bfloat16(), weight.bfloat16()).to(inputs.dtype)
    else:
        result = functional.linear(inputs, weight)
    return result if bias is None else result + bias


class _Ledger:
    """What the steps of one recurrence note about one matrix: the rows that met it and the gradients they received."""

    def __init__(self, matrix: Tensor, *, rounding: Rounding, transposed: bool) -> None:
        self.matrix = rounded(matrix.detach(), rounding)
        # what gradients meet is its back, whichever way the matrix is multiplied by
        self.factor = Factor(self.matrix if transposed else self.matrix.mT, rounding=rounding)
        self.rounding = rounding
        self.transposed = transposed
        self.inputs: list[Tensor] = []
        self.gradients: list[Tensor] = []

    def apply(self, rows: Tensor, *, back: bool) -> Tensor:
        """Multiply rows, or gradients of what that gave, batched where the matrix has three axes."""
        if self.matrix.dim() == 3:
            return torch.bmm(rows, self.matrix if self.transposed == back else self.matrix.mT)
        return self.factor.times(rows) if back else self.factor.times_transposed(rows)

    def total(self) -> Tensor | None:
        """Sum the outer products of all steps as one product, and forget them."""
        if not self.inputs:
            return None
        axis = self.matrix.dim() - 2
        inputs, gradients = torch.cat(self.inputs, axis), torch.cat(self.gradients, axis)
        self.inputs, self.gradients = [], []
        if self.matrix.dim() == 3:
            left, right = (gradients, inputs) if self.transposed else (inputs, gradients)
            return torch.bmm(left.mT, right)
        total = outer(gradients.t(), inputs, self.rounding)
        return total if self.transposed else total.t()


class _Anchor(torch.autograd.Function):
    """The node of a shared matrix: autograd reaches it after all steps, and it returns the summed gradient."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, ledger: _Ledger) -> Tensor:
        ctx.ledger = ledger
        ctx.set_materialize_grads(False)
        return matrix.view_as(matrix)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        total = ctx.ledger.total()
        return (total.float() if total is not None and ctx.ledger.rounding is Rounding.bf16 else total), None


class _Step(torch.autograd.Function):
    """One step's product with a shared matrix; notes what the matrix's own gradient needs."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, anchor: Tensor, ledger: _Ledger) -> Tensor:
        batched = ledger.matrix.dim() == 3
        rows = rounded(inputs if batched else _flat(inputs), ledger.rounding)
        ctx.ledger, ctx.shape = ledger, inputs.shape
        ctx.save_for_backward(rows)
        result = ledger.apply(rows, back=False).to(inputs.dtype)
        return result if batched else result.view(*inputs.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        ledger: _Ledger = ctx.ledger
        given = gradients[0] if ledger.matrix.dim() == 3 else _flat(gradients[0])
        gradient = rounded(given, ledger.rounding)
        ledger.inputs.append(ctx.saved_tensors[0])
        ledger.gradients.append(gradient)
        of_inputs = None
        if ctx.needs_input_grad[0]:
            of_inputs = ledger.apply(gradient, back=True).to(given.dtype).view(ctx.shape)
        return of_inputs, None, None


class _Fixed:
    """``rows @ matrix^T`` for many rows, without a derivative.

    The matrix, [m, k], is rounded and laid out once: to bytes where the arithmetic says so and the processor multiplies
    them; otherwise, on a CPU, in the blocks in which oneDNN reads it, which saves more than half of the time of a
    product with few rows.
    """

    def __init__(self, matrix: Tensor, bias: Tensor | None, settings: Arithmetic, gating: Gating | None) -> None:
        self._gating = gating
        matrix, self.bias = matrix.detach(), None if bias is None else bias.detach()
        self.bytes = None
        if settings.int8 and eight_bit.serves(matrix):
            self.bytes = ByteMatrix(matrix, self.bias, gating)
            return
        self.rows, self.columns = matrix.shape
        self.matrix = rounded(matrix, settings.rounding)
        self.in_blocks = matrix.device.type == "cpu" and matrix.numel() > 0 and _has_blocks(self.matrix.dtype)
        if self.in_blocks:
            self.matrix = torch.ops.mkldnn._reorder_linear_weight(self.matrix.contiguous(), None)

    def __call__(self, parts: Sequence[Tensor], *, with_bias: bool = False) -> Tensor:
        """Return [n, m] in the type products are made in, for rows [n, k] given as parts that stand side by side."""
        bias = self.bias if with_bias else None
        if self.bytes is not None:
            result = self.bytes.product(parts)
            return result if bias is None else result.add_(bias)
        count, size = len(parts[0]), self.columns
        bias, rows = None if bias is None else bias.to(self.matrix.dtype), parts[0]
        if len(parts) > 1 or rows.dtype != self.matrix.dtype:
            # in search the number of rows changes from step to step
            rows = empty_rows(rows, count, size, self.matrix.dtype, digits=3)
            for part, into in zip(parts, rows[:count].split([part.shape[1] for part in parts], 1), strict=True):
                into.copy_(part)
        if not self.in_blocks:
            return functional.linear(rows, self.matrix, bias)[:count]
        if not count:
            return rows.new_empty(0, self.rows)
        return torch.ops.mkldnn._linear_pointwise(rows, self.matrix, bias, "none", [], "")[:count]

    def advance(self, parts: Sequence[Tensor], cell: Tensor, hidden: Tensor, new: Tensor) -> None:
        """Write h', c' [n, H] of a cell whose pre-activations are the product of rows, plus the bias; and c."""
        assert self._gating is not None
        if self.bytes is not None and self.bytes.advances:
            self.bytes.advance(parts, cell, hidden, new)
        else:
            self._gating.forward(self(parts), cell, hidden, new, bias=self.bias)

    def choose(self, rows: Tensor, count: int, never: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best of the softmax of the product plus the bias; see :func:`nmt.model.kernels.choose`."""
        if self.bytes is not None:
            return self.bytes.choose(rows, count, never)
        assert self.bias is not None
        best, pieces = [], []
        at_once = _LOGITS if rows.device.type == "cpu" else _DEVICE_LOGITS
        for part in rows.split(max(1, at_once // max(1, len(self.bias)))):
            found = kernels.choose(self([part]), self.bias, count, never)
            best.append(found[0])
            pieces.append(found[1])
        return (torch.cat(best), torch.cat(pieces)) if len(best) > 1 else (best[0], pieces[0])


class Operand:
    """A matrix that many steps multiply by: prepared once, its gradient computed once.

    Calling it with ``rows`` gives ``rows @ matrix^T`` where ``transposed`` ([.., k], [m, k] -> [.., m]), else ``rows @
    matrix`` ([.., m] -> [.., k]). A matrix of three axes [B, m, k] belongs to the sentences of a batch, row by row, and
    stays in its own type: such products are small, and their results go through a softmax. Only in a search that takes
    weights of 8 bits it is in bf16.

    Made where no gradients are wanted (search), a matrix of two axes is rounded and laid out for its products once, or
    found among what the arithmetic in force has prepared.

    Args:
        matrix: [m, k], or [B, m, k] with one matrix a sentence; or matrices [m, ..] that stand side by side.
        bias: [m], added to the result, or parts of it; for two axes only.
        transposed: which of the two products a call computes.
        gating: the matrix gives the pre-activations of such a cell; weights of what is fed and of the state, which
            stand side by side, and parts of the bias, one after the other, are as the cell has them.
    """

    def __init__(
        self,
        matrix: Tensor | Sequence[Tensor],
        bias: Tensor | Sequence[Tensor] | None = None,
        *,
        transposed: bool = True,
        gating: Gating | None = None,
    ) -> None:
        settings, parts = current(), [matrix] if isinstance(matrix, Tensor) else list(matrix)
        biases = [] if bias is None else [bias] if isinstance(bias, Tensor) else list(bias)
        self.bias = after_each_other(biases)
        self.transposed, self._gating = transposed, gating
        self._rounding = settings.rounding if parts[0].dim() == 2 else Rounding.none
        self._ledger = self._fixed = self._places = None
        without = settings.fast and not torch.is_grad_enabled()
        of_sentences = without and parts[0].dim() == 3
        # those of some sentences of a batch are so already
        served = parts[0].dtype == torch.bfloat16 or kernels.serves(parts[0])
        self._in_bf16 = of_sentences and settings.int8 and served
        if self._in_bf16:
            # read again at every step: half of it to bring from memory
            parts = [rounded(parts[0], Rounding.bf16).contiguous()]
        elif without and not of_sentences:
            self._fixed = _prepared(parts, biases, settings, transposed=transposed, gating=gating)
        self._parts = parts
        if settings.fast and torch.is_grad_enabled():
            self._ledger = _Ledger(self.matrix, rounding=self._rounding, transposed=transposed)
            self._anchor = _Anchor.apply(self.matrix, self._ledger)

    @cached_property
    def matrix(self) -> Tensor:
        """The matrix, whole."""
        matrix = _side_by_side(self._parts, self._gating)
        return matrix if self._places is None else matrix.index_select(0, self._places)

    def __call__(self, rows: Tensor) -> Tensor:
        """Multiply ``rows``; see the class."""
        if self._fixed is not None and not torch.is_grad_enabled():
            result = self._fixed([_flat(rows)], with_bias=True).to(rows.dtype)
            return result.view(*rows.shape[:-1], result.shape[1])
        result = self._plain(rows) if self._ledger is None else _Step.apply(rows, self._anchor, self._ledger)
        return result if self.bias is None else result + self.bias

    def low(self, *parts: Tensor) -> Tensor | None:
        """Return the product of rows [n, k], given as parts side by side, in the type it is made in, without bias.

        None where gradients are wanted, or plain arithmetic.
        """
        return None if self._fixed is None or torch.is_grad_enabled() else self._fixed(parts)

    def advance(self, parts: Sequence[Tensor], cell: Tensor, hidden: Tensor, new: Tensor) -> None:
        """Write h', c' [n, H] of a cell whose pre-activations are the product of rows [n, k], given as parts, and c.

        Only where no gradients are wanted.
        """
        assert self._fixed is not None and self.bias is not None and not torch.is_grad_enabled()
        self._fixed.advance(parts, cell, hidden, new)

    def choose(self, rows: Tensor, count: int, never: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the best of the softmax of each row's [n, k] product; see :func:`nmt.model.kernels.choose`.

        None where gradients are wanted, or plain arithmetic, and where there is nothing to do it with.
        """
        if self._fixed is None or torch.is_grad_enabled() or self.bias is None or not kernels.chooses(self.bias):
            return None
        return self._fixed.choose(rows, min(count, len(self.bias)), never)

    def _plain(self, rows: Tensor) -> Tensor:
        if self._in_bf16:
            return (compare if self.transposed else average)(rows, self._parts[0], self._places)
        matrix = self.matrix.transpose(-1, -2) if self.transposed else self.matrix
        if self._rounding is Rounding.bf16:
            return (rows.bfloat16() @ matrix.bfloat16()).to(rows.dtype)
        return rows @ matrix

    def select(self, sentences: Tensor) -> "Operand":
        """Return the operand of some of the batch's sentences ([B'] indices); for three axes only.

        In bf16 the others stay where they are: sentences leave a search all the time, and what is kept of those that
        stay is many times what a step reads and writes.
        """
        if not self._in_bf16:
            return Operand(self.matrix.index_select(0, sentences), transposed=self.transposed)
        found = copy.copy(self)
        # that of all sentences, if it was asked for
        vars(found).pop("matrix", None)
        found._places = sentences if self._places is None else self._places.index_select(0, sentences)
        return found


def _side_by_side(parts: Sequence[Tensor], gating: Gating | None) -> Tensor:
    """Return matrices [m, ..] side by side, or what the weights of a cell give so."""
    if gating is not None:
        return gating.side_by_side(parts)
    return side_by_side(parts)


def after_each_other(biases: Sequence[Tensor]) -> Tensor | None:
    """Return a bias [m] of its parts, new if there are several; None of none."""
    if not biases:
        return None
    return biases[0] if len(biases) == 1 else torch.cat(list(biases))


def _prepared(
    parts: Sequence[Tensor],
    biases: Sequence[Tensor],
    settings: Arithmetic,
    *,
    transposed: bool,
    gating: Gating | None,
) -> _Fixed:
    """Return matrices [m, ..] side by side as laid out for products, of before where that is kept."""
    given = [*parts, *biases]
    kept = settings.prepared
    if not all(isinstance(each, nn.Parameter) and not each.is_inference() for each in given):
        kept = None
    key = (*(id(each) for each in given), len(parts), settings.rounding, settings.int8, transposed, gating)
    states = [] if kept is None else [(each._version, each.data_ptr(), each.dtype) for each in given]
    if kept is not None and key in kept and kept[key][1] == states:
        return kept[key][2]
    matrix = _side_by_side(parts, gating)
    made = _Fixed(matrix if transposed else matrix.t(), after_each_other(biases), settings, gating)
    if kept is not None:
        # the parameters too: while they are held nothing else has their place
        kept[key] = given, states, made
    return made


class Linear(nn.Module):
    """``inputs @ weight^T + bias`` in the arithmetic in force.

    ``forward`` is for sequences met whole; ``prepare`` returns the operand to use inside a recurrence.

    Args:
        in_features: k.
        out_features: m.
        bias: whether something is added.
        of_keys: it makes keys of states. Attention sees only how those of a sentence differ (a softmax stays the same
            whatever is added to all scores), and states have more in common than they differ by: what 8 bits lose of
            the states would be a tenth of the weight's gradient, so ``forward`` takes 16.
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, of_keys: bool = False) -> None:
        super().__init__()
        self.of_keys = of_keys
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        nn.init.xavier_uniform_(self.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map [.., in] to [.., out]."""
        return product(inputs, self.weight, self.bias, fine=self.of_keys)

    def prepare(self) -> Operand:
        """Return the operand that maps [.., in] to [.., out] at many steps."""
        return Operand(self.weight, self.bias)
