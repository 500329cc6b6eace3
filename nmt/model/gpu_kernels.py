"""What ``kernels.c`` does on a CPU, for a GPU: the parts of a recurrent step between its products, a kernel each.

Torch would start five to fifteen kernels for each of these parts, every one of which takes longer to start than to run.
They are written in Triton, which torch brings along where it is built for CUDA; each is compiled when it is first met.

Arguments are those of the functions of the same names in :mod:`nmt.model.kernels`, which asks here: state is float32
and contiguous, what products take and give is float32 or bfloat16, and rows may lie apart from each other. Nothing
depends on the order in which programs run, so that results repeat.

The equations stand where each is used: cells in gating.py, attention, readout and
additive score with their derivatives (Luong et al. 2015, Bahdanau et al. 2015) in recurrence.py, the smoothed loss in
cross_entropy.py. A softmax over more than a program holds at a time keeps the largest number so far and the sum of
exponentials below it (Milakov & Gimelshein 2018, arXiv:1805.02867, algorithm 3).
"""

# a kernel takes all that it is given by position
# ruff: noqa: PLR0917
# and its types are not those of the function that it was made of
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false, reportAttributeAccessIssue=false

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# columns of a row that one program works on
_COLUMNS = 256
# of a sentence's annotations: positions, and elements of each, at a time
_POSITIONS, _ELEMENTS = tl.constexpr(16), tl.constexpr(128)
# logits at a time
_LOGITS = tl.constexpr(4096)
# most pieces of a vocabulary whose logits a program holds in registers, to choose among them
MOST_PIECES = 2**15
# kinds of cells, as in kernels.h; what is neither is a GRU
_LSTM, _RNN = tl.constexpr(0), tl.constexpr(2)
# sizes that change from batch to batch, for which nothing is to be compiled anew
_CHANGING = ["positions", "asked"]


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _tanh(x):
    return 2.0 / (1.0 + tl.exp(-2.0 * x)) - 1.0


@triton.jit
def _sum_of(count: tl.constexpr, a, b, c, d, a_row, b_row, c_row, d_row, row, columns, mask):
    """Sum up to four rows."""
    total = tl.load(a + row * a_row + columns, mask=mask, other=0.0).to(tl.float32)
    if count > 1:
        total += tl.load(b + row * b_row + columns, mask=mask, other=0.0).to(tl.float32)
    if count > 2:
        total += tl.load(c + row * c_row + columns, mask=mask, other=0.0).to(tl.float32)
    if count > 3:
        total += tl.load(d + row * d_row + columns, mask=mask, other=0.0).to(tl.float32)
    return total


@triton.jit
def _gate(
    products, inputs, bias, inputs_row, row, columns, mask, size,
    has_inputs: tl.constexpr, has_bias: tl.constexpr, blocks: tl.constexpr, gate: tl.constexpr,
):  # fmt: skip
    """One block of pre-activations."""
    places = gate * size + columns
    total = tl.load(products + row * blocks * size + places, mask=mask, other=0.0).to(tl.float32)
    if has_inputs:
        total += tl.load(inputs + row * inputs_row + places, mask=mask, other=0.0).to(tl.float32)
    if has_bias:
        total += tl.load(bias + places, mask=mask, other=0.0)
    return total


@triton.jit
def _cell_forward(
    products, inputs, bias, cell, hidden, new, gates, squashed, first, second, inputs_row, first_row, second_row, size,
    kind: tl.constexpr, blocks: tl.constexpr, has_inputs: tl.constexpr, has_bias: tl.constexpr, keeps: tl.constexpr,
    lows: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Write h' and c' of one row, some units; see gating.py."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    mask = columns < size
    place = row * size + columns
    start = gates + row * blocks * size + columns
    before = tl.load(cell + place, mask=mask, other=0.0)
    a = _gate(products, inputs, bias, inputs_row, row, columns, mask, size, has_inputs, has_bias, blocks, 0)
    if kind == _RNN:
        output = _tanh(a)
        after = output
        if keeps:
            tl.store(start, output, mask=mask)
    else:
        b = _sigmoid(
            _gate(products, inputs, bias, inputs_row, row, columns, mask, size, has_inputs, has_bias, blocks, 1)
        )
        c = _gate(products, inputs, bias, inputs_row, row, columns, mask, size, has_inputs, has_bias, blocks, 2)
        d = _gate(products, inputs, bias, inputs_row, row, columns, mask, size, has_inputs, has_bias, blocks, 3)
        a = _sigmoid(a)
        if kind == _LSTM:
            c = _sigmoid(c)
            d = _tanh(d)
            after = b * before + a * d
            tanh = _tanh(after)
            output = c * tanh
            if keeps:
                tl.store(squashed + place, tanh, mask=mask)
        else:
            c = _tanh(c + a * d)
            output = c + b * (before - c)
            after = output
        if keeps:
            tl.store(start, a, mask=mask)
            tl.store(start + size, b, mask=mask)
            tl.store(start + 2 * size, c, mask=mask)
            tl.store(start + 3 * size, d, mask=mask)
    tl.store(new + place, after, mask=mask)
    tl.store(hidden + place, output, mask=mask)
    if lows > 0:
        tl.store(first + row * first_row + columns, output.to(first.dtype.element_ty), mask=mask)
    if lows > 1:
        tl.store(second + row * second_row + columns, output.to(second.dtype.element_ty), mask=mask)


@triton.jit
def _cell_back(
    gates, cell, squashed, of_cell, of_gates, a, b, c, d, a_row, b_row, c_row, d_row, size,
    kind: tl.constexpr, blocks: tl.constexpr, count: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Write the gradients of the pre-activations and of c of one row, some units; see gating.py."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    mask = columns < size
    of_hidden = _sum_of(count, a, b, c, d, a_row, b_row, c_row, d_row, row, columns, mask)
    start, into = gates + row * blocks * size + columns, of_gates + row * blocks * size + columns
    low = of_gates.dtype.element_ty
    place = row * size + columns
    of_new = tl.load(of_cell + place, mask=mask, other=0.0)
    first = tl.load(start, mask=mask, other=0.0)
    if kind == _RNN:
        tl.store(of_cell + place, tl.zeros_like(of_new), mask=mask)
        tl.store(into, ((of_new + of_hidden) * (1.0 - first * first)).to(low), mask=mask)
    else:
        before = tl.load(cell + place, mask=mask, other=0.0)
        second, third = tl.load(start + size, mask=mask, other=0.0), tl.load(start + 2 * size, mask=mask, other=0.0)
        fourth = tl.load(start + 3 * size, mask=mask, other=0.0)
        if kind == _LSTM:
            tanh = tl.load(squashed + place, mask=mask, other=0.0)
            of_new += of_hidden * third * (1.0 - tanh * tanh)
            of_first = of_new * fourth * first * (1.0 - first)
            of_second = of_new * before * second * (1.0 - second)
            of_third = of_hidden * tanh * third * (1.0 - third)
            of_fourth = of_new * first * (1.0 - fourth * fourth)
        else:
            of_new += of_hidden
            of_third = of_new * (1.0 - second) * (1.0 - third * third)
            of_first = of_third * fourth * first * (1.0 - first)
            of_second = of_new * (before - third) * second * (1.0 - second)
            of_fourth = of_third * first
        tl.store(of_cell + place, of_new * second, mask=mask)
        tl.store(into, of_first.to(low), mask=mask)
        tl.store(into + size, of_second.to(low), mask=mask)
        tl.store(into + 2 * size, of_third.to(low), mask=mask)
        tl.store(into + 3 * size, of_fourth.to(low), mask=mask)


@triton.jit
def _squash(
    products, mask_of, plain, output, low, mask_row, low_row, size,
    masked: tl.constexpr, has_low: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Write tanh, and that under dropout, of one row, some elements."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    mask = columns < size
    place = row * size + columns
    found = _tanh(tl.load(products + place, mask=mask, other=0.0).to(tl.float32))
    tl.store(plain + place, found, mask=mask)
    if masked:
        found *= tl.load(mask_of + row * mask_row + columns, mask=mask, other=0.0).to(tl.float32)
        tl.store(output + place, found, mask=mask)
    if has_low:
        tl.store(low + row * low_row + columns, found.to(low.dtype.element_ty), mask=mask)


@triton.jit
def _squash_back(
    plain, mask_of, of_products, a, b, c, d, mask_row, a_row, b_row, c_row, d_row, size,
    masked: tl.constexpr, count: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Write d (1 - r^2) m of one row, some elements."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    mask = columns < size
    place = row * size + columns
    total = _sum_of(count, a, b, c, d, a_row, b_row, c_row, d_row, row, columns, mask)
    if masked:
        total *= tl.load(mask_of + row * mask_row + columns, mask=mask, other=0.0).to(tl.float32)
    found = tl.load(plain + place, mask=mask, other=0.0)
    tl.store(of_products + place, (total * (1.0 - found * found)).to(of_products.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=_CHANGING)
def _attend(
    scores, padding, factors, values, weights, contexts, low, low_row, positions, size,
    has_low: tl.constexpr,
):  # fmt: skip
    """Write alpha = softmax(scores) where allowed, and v = sum_j alpha_j V_j: one row, some elements of v."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * _ELEMENTS + tl.arange(0, _ELEMENTS)
    mask = columns < size
    start = row * positions
    # largest score, and the sum of the exponentials below it
    largest, total = float("-inf"), 0.0
    for first in range(0, positions, _POSITIONS):
        places = first + tl.arange(0, _POSITIONS)
        real = places < positions
        given = tl.load(scores + start + places, mask=real, other=0.0)
        given += tl.load(padding + start + places, mask=real, other=0.0)
        given = tl.where(real, given, float("-inf"))
        now = tl.maximum(largest, tl.max(given, 0))
        # nothing may have a chance yet
        base = tl.where(now == float("-inf"), 0.0, now)
        total = total * tl.exp(largest - base) + tl.sum(tl.exp(given - base), 0)
        largest = now
    base = tl.where(largest == float("-inf"), 0.0, largest)
    total = tl.where(total == 0.0, 1.0, total)
    context = tl.zeros((_ELEMENTS,), tl.float32)
    for first in range(0, positions, _POSITIONS):
        places = first + tl.arange(0, _POSITIONS)
        real = places < positions
        given = tl.load(scores + start + places, mask=real, other=float("-inf"))
        given += tl.load(padding + start + places, mask=real, other=0.0)
        weight = tl.exp(given - base) / total * tl.load(factors + start + places, mask=real, other=0.0)
        if tl.program_id(1) == 0:
            tl.store(weights + start + places, weight, mask=real)
        grid = (start + places)[:, None] * size + columns[None, :]
        read = tl.load(values + grid, mask=real[:, None] & mask[None, :], other=0.0)
        context += tl.sum(weight[:, None] * read, 0)
    tl.store(contexts + row * size + columns, context, mask=mask)
    if has_low:
        tl.store(low + row * low_row + columns, context.to(low.dtype.element_ty), mask=mask)


@triton.jit
def _of_weight(
    values, contexts, of_weights, row, of_weights_row, places, real, positions, size, has_weights: tl.constexpr
):  # fmt: skip
    """Return d alpha_j = V_j . d v of some positions j, and what comes from elsewhere."""
    found = tl.zeros((_POSITIONS,), tl.float32)
    for first in range(0, size, _ELEMENTS):
        columns = first + tl.arange(0, _ELEMENTS)
        mask = columns < size
        grid = (row * positions + places)[:, None] * size + columns[None, :]
        read = tl.load(values + grid, mask=real[:, None] & mask[None, :], other=0.0)
        found += tl.sum(read * tl.load(contexts + row * size + columns, mask=mask, other=0.0)[None, :], 1)
    if has_weights:
        found += tl.load(of_weights + row * of_weights_row + places, mask=real, other=0.0).to(tl.float32)
    return found


@triton.jit(do_not_specialize=_CHANGING)
def _attend_back(
    of_weights, weights, values, of_contexts, of_scores, a, b, c, d, of_weights_row, a_row, b_row, c_row, d_row,
    positions, size, has_weights: tl.constexpr, count: tl.constexpr,
):  # fmt: skip
    """Write d score_j = alpha_j (d alpha_j - sum_k alpha_k d alpha_k) of one row."""
    row = tl.program_id(0).to(tl.int64)
    for first in range(0, size, _ELEMENTS):
        columns = first + tl.arange(0, _ELEMENTS)
        mask = columns < size
        total = _sum_of(count, a, b, c, d, a_row, b_row, c_row, d_row, row, columns, mask)
        tl.store(of_contexts + row * size + columns, total, mask=mask)
    # other threads have written what is read now
    tl.debug_barrier()
    # what all weights' gradients come to, weighted; they are made twice rather than kept
    mean = 0.0
    for first in range(0, positions, _POSITIONS):
        places = first + tl.arange(0, _POSITIONS)
        real = places < positions
        of_weight = _of_weight(
            values, of_contexts, of_weights, row, of_weights_row, places, real, positions, size, has_weights
        )
        weight = tl.load(weights + row * positions + places, mask=real, other=0.0)
        mean += tl.sum(weight * of_weight, 0)
    for first in range(0, positions, _POSITIONS):
        places = first + tl.arange(0, _POSITIONS)
        real = places < positions
        of_weight = _of_weight(
            values, of_contexts, of_weights, row, of_weights_row, places, real, positions, size, has_weights
        )
        weight = tl.load(weights + row * positions + places, mask=real, other=0.0)
        tl.store(of_scores + row * positions + places, weight * (of_weight - mean), mask=real)


@triton.jit(do_not_specialize=_CHANGING)
def _additive(products, keys, vector, scores, asked, positions, size):
    """Write v . tanh(W q + K_j) of one row, some positions j."""
    row = tl.program_id(0).to(tl.int64)
    sentence = row // asked
    places = tl.program_id(1) * _POSITIONS + tl.arange(0, _POSITIONS)
    real = places < positions
    found = tl.zeros((_POSITIONS,), tl.float32)
    for first in range(0, size, _ELEMENTS):
        columns = first + tl.arange(0, _ELEMENTS)
        mask = columns < size
        query = tl.load(products + row * size + columns, mask=mask, other=0.0).to(tl.float32)
        grid = (sentence * positions + places)[:, None] * size + columns[None, :]
        key = tl.load(keys + grid, mask=real[:, None] & mask[None, :], other=0.0)
        found += tl.sum(_tanh(query[None, :] + key) * tl.load(vector + columns, mask=mask, other=0.0)[None, :], 1)
    tl.store(scores + row * positions + places, found, mask=real)


@triton.jit(do_not_specialize=_CHANGING)
def _additive_back(products, keys, vector, of_scores, of_keys, of_products, of_vectors, positions, size):
    """Add d score_j v (1 - u_j^2) to d K_j; write their sum, and sum_j d score_j u_j: one row, some elements."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * _ELEMENTS + tl.arange(0, _ELEMENTS)
    mask = columns < size
    query = tl.load(products + row * size + columns, mask=mask, other=0.0).to(tl.float32)
    factor = tl.load(vector + columns, mask=mask, other=0.0)
    of_query, of_vector = tl.zeros((_ELEMENTS,), tl.float32), tl.zeros((_ELEMENTS,), tl.float32)
    for first in range(0, positions, _POSITIONS):
        places = first + tl.arange(0, _POSITIONS)
        real = places < positions
        grid = (row * positions + places)[:, None] * size + columns[None, :]
        both = real[:, None] & mask[None, :]
        hidden = _tanh(query[None, :] + tl.load(keys + grid, mask=both, other=0.0))
        of_score = tl.load(of_scores + row * positions + places, mask=real, other=0.0)[:, None]
        of_vector += tl.sum(of_score * hidden, 0)
        of_sum = of_score * factor[None, :] * (1.0 - hidden * hidden)
        tl.store(of_keys + grid, tl.load(of_keys + grid, mask=both, other=0.0) + of_sum, mask=both)
        of_query += tl.sum(of_sum, 0)
    tl.store(of_products + row * size + columns, of_query.to(of_products.dtype.element_ty), mask=mask)
    tl.store(of_vectors + row * size + columns, of_vector, mask=mask)


@triton.jit
def _cross_entropy(
    logits, bias, targets, real, nll, smoothing, size, has_real: tl.constexpr, differentiate: tl.constexpr,
):  # fmt: skip
    """Write Z - z_y of one row, and in the place of z its gradient p - (1 - e) [v = y] - e / V."""
    row = tl.program_id(0).to(tl.int64)
    start = logits + row * size
    largest, total = float("-inf"), 0.0
    for first in range(0, size, _LOGITS):
        columns = first + tl.arange(0, _LOGITS)
        mask = columns < size
        given = tl.load(start + columns, mask=mask, other=float("-inf")).to(tl.float32)
        given += tl.load(bias + columns, mask=mask, other=0.0)
        now = tl.maximum(largest, tl.max(given, 0))
        base = tl.where(now == float("-inf"), 0.0, now)
        total = total * tl.exp(largest - base) + tl.sum(tl.exp(given - base), 0)
        largest = now
    target = tl.load(targets + row)
    known = (target >= 0) & (target < size)
    of_target = tl.load(start + target, mask=known, other=float("nan")).to(tl.float32)
    of_target += tl.load(bias + target, mask=known, other=float("nan"))
    counts = 1.0
    found = largest + tl.log(total) - of_target
    if has_real:
        is_real = tl.load(real + row) != 0
        counts = tl.where(is_real, 1.0, 0.0)
        found = tl.where(is_real, found, 0.0)
    tl.store(nll + row, found)
    if differentiate:
        # what was read must be read by all threads before it is overwritten
        tl.debug_barrier()
        for first in range(0, size, _LOGITS):
            columns = first + tl.arange(0, _LOGITS)
            mask = columns < size
            given = tl.load(start + columns, mask=mask, other=float("-inf")).to(tl.float32)
            given += tl.load(bias + columns, mask=mask, other=0.0)
            gradient = tl.exp(given - largest) / total - smoothing / size
            gradient = tl.where(columns == target, gradient + (smoothing - 1.0), gradient) * counts
            tl.store(start + columns, gradient.to(logits.dtype.element_ty), mask=mask)


@triton.jit
def _choose(logits, bias, never, best, pieces, size, count, excluded, block: tl.constexpr):
    """Write the best of one row's log-softmax, one after the other."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    mask = columns < size
    given = tl.load(logits + row * size + columns, mask=mask, other=float("-inf")).to(tl.float32)
    given += tl.load(bias + columns, mask=mask, other=0.0)
    largest = tl.max(given, 0)
    log_total = largest + tl.log(tl.sum(tl.exp(given - largest), 0))
    # what is not a number is never larger than another
    order = tl.where(given == given, given, float("-inf"))  # noqa: PLR0124
    for place in range(excluded):
        order = tl.where(columns == tl.load(never + place), float("-inf"), order)
    free = mask
    for place in range(count):
        top = tl.max(order, 0)
        piece = tl.min(tl.where(free & (order == top), columns, block), 0)
        tl.store(best + row * count + place, top - log_total)
        tl.store(pieces + row * count + place, piece.to(tl.int64))
        free = free & (columns != piece)
        order = tl.where(free, order, float("-inf"))


def try_out(device: torch.device) -> None:
    """Compile and run a function of each sort: with rounding, with sums and barriers, with many numbers in registers.

    Raises:
        Exception: of many kinds, where one does not work.
    """
    row, low = torch.zeros(1, 8, device=device), torch.zeros(1, 8, device=device, dtype=torch.bfloat16)
    squash(row, None, torch.empty_like(row), torch.empty_like(row), low)
    values, found = torch.zeros(1, 8, 8, device=device), [torch.empty_like(row) for _ in range(3)]
    attend(row, row, row, values, *found[:2], low)
    attend_back([low], None, found[0], values, *found[1:])
    choose(row, row[0], 1, torch.zeros(1, dtype=torch.long, device=device))


def cell_forward(
    kind: int,
    products: Tensor,
    cell: Tensor,
    hidden: Tensor,
    new: Tensor,
    *,
    inputs: Tensor | None,
    bias: Tensor | None,
    gates: Tensor | None,
    squashed: Tensor | None,
    lows: Sequence[Tensor],
) -> None:
    """Write h', c' of a cell's pre-activations, whose kind is as in kernels.h."""
    rows, size = cell.shape
    first, second = (lows[place] if len(lows) > place else hidden for place in range(2))
    _cell_forward[rows, triton.cdiv(size, _COLUMNS)](
        products, _or(inputs, cell), _or(bias, cell), cell, hidden, new, _or(gates, cell), _or(squashed, cell),
        first, second, _row(inputs), _row(first), _row(second), size, kind=kind, blocks=products.shape[1] // size,
        has_inputs=inputs is not None, has_bias=bias is not None, keeps=gates is not None, lows=len(lows),
        block=_COLUMNS,
    )  # fmt: skip


def cell_back(
    kind: int,
    gates: Tensor,
    cell: Tensor,
    squashed: Tensor | None,
    of_hidden: Sequence[Tensor],
    of_cell: Tensor,
    of_gates: Tensor,
) -> None:
    """Write the gradients of a cell's pre-activations and of c."""
    rows, size = cell.shape
    tensors, distances = _several(of_hidden)
    _cell_back[rows, triton.cdiv(size, _COLUMNS)](
        gates, cell, _or(squashed, cell), of_cell, of_gates, *tensors, *distances, size,
        kind=kind, blocks=gates.shape[1] // size, count=len(of_hidden), block=_COLUMNS,
    )  # fmt: skip


def squash(products: Tensor, mask: Tensor | None, plain: Tensor, output: Tensor, low: Tensor | None) -> None:
    """Write tanh(products), and that times a mask."""
    rows, size = plain.shape
    _squash[rows, triton.cdiv(size, _COLUMNS)](
        products, _or(mask, plain), plain, output, _or(low, plain), _repeated(mask, rows), _row(low), size,
        masked=mask is not None, has_low=low is not None, block=_COLUMNS,
    )  # fmt: skip


def squash_back(of_output: Sequence[Tensor], mask: Tensor | None, plain: Tensor, of_products: Tensor) -> None:
    """Write the gradient of :func:`squash`'s products."""
    rows, size = plain.shape
    tensors, distances = _several(of_output)
    _squash_back[rows, triton.cdiv(size, _COLUMNS)](
        plain, _or(mask, plain), of_products, *tensors, _repeated(mask, rows), *distances, size,
        masked=mask is not None, count=len(of_output), block=_COLUMNS,
    )  # fmt: skip


def attend(
    scores: Tensor,
    padding: Tensor,
    factors: Tensor,
    values: Tensor,
    weights: Tensor,
    contexts: Tensor,
    low: Tensor | None,
) -> None:
    """Write weights and contexts."""
    rows, positions, size = values.shape
    _attend[rows, triton.cdiv(size, _ELEMENTS.value)](
        scores, padding, factors, values, weights, contexts, _or(low, contexts), _row(low), positions, size,
        has_low=low is not None,
    )  # fmt: skip


def attend_back(
    of_context: Sequence[Tensor],
    of_weights: Tensor | None,
    weights: Tensor,
    values: Tensor,
    of_contexts: Tensor,
    of_scores: Tensor,
) -> None:
    """Write the gradients of contexts and scores."""
    rows, positions, size = values.shape
    tensors, distances = _several(of_context)
    _attend_back[rows,](
        _or(of_weights, weights), weights, values, of_contexts, of_scores, *tensors, _row(of_weights), *distances,
        positions, size, has_weights=of_weights is not None, count=len(of_context),
    )  # fmt: skip


def additive(products: Tensor, keys: Tensor, vector: Tensor) -> Tensor:
    """Return scores [N, S]."""
    (sentences, positions, size), rows = keys.shape, len(products)
    scores = keys.new_empty(rows, positions)
    if scores.numel():
        grid = rows, triton.cdiv(positions, _POSITIONS.value)
        _additive[grid](products, keys, vector, scores, rows // sentences, positions, size)
    return scores


def additive_back(
    products: Tensor,
    keys: Tensor,
    vector: Tensor,
    of_scores: Tensor,
    of_keys: Tensor,
    of_products: Tensor,
    of_vector: Tensor,
) -> None:
    """Write the gradients of :func:`additive`."""
    rows, positions, size = keys.shape
    of_vectors = torch.empty_like(products, dtype=torch.float32)
    _additive_back[rows, triton.cdiv(size, _ELEMENTS.value)](
        products, keys, vector, of_scores, of_keys, of_products, of_vectors, positions, size
    )
    of_vector += of_vectors.sum(0)


def cross_entropy(
    logits: Tensor,
    bias: Tensor,
    targets: Tensor,
    real: Tensor | None,
    smoothing: float,
    nll: Tensor,
    of_bias: Tensor,
    *,
    differentiate: bool,
) -> None:
    """Write each row's nll, and in the place of its logits the gradient; that of the bias is the sum of these."""
    rows, size = logits.shape
    if not rows:
        return
    _cross_entropy[rows,](
        logits, bias, targets, _or(real, targets), nll, smoothing, size,
        has_real=real is not None, differentiate=differentiate,
    )  # fmt: skip
    if differentiate:
        of_bias += logits.sum(0, dtype=torch.float32)


def choose(logits: Tensor, bias: Tensor, count: int, never: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest log-probabilities of each row and their pieces."""
    rows, size = logits.shape
    assert size <= MOST_PIECES
    best, pieces = bias.new_empty(rows, count), never.new_empty(rows, count)
    if rows:
        block = triton.next_power_of_2(size)
        given = size, count, len(never)
        _choose[rows,](logits, bias, never, best, pieces, *given, block=block, num_warps=max(4, min(32, block // 1024)))
    return best, pieces


def _or(tensor: Tensor | None, other: Tensor) -> Tensor:
    """Return what a kernel is given for a tensor that it does not look at where there is none."""
    return other if tensor is None else tensor


def _row(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.stride(0)


def _repeated(mask: Tensor | None, rows: int) -> int:
    """Return the distance of a mask's rows, 0 where there is one for all."""
    return 0 if mask is None or len(mask) != rows else mask.stride(0)


def _several(terms: Sequence[Tensor]) -> tuple[list[Any], list[int]]:
    """Return four tensors, of which so many count, and the distances of their rows."""
    assert len(terms) <= 4
    given = [*terms, *[terms[0]] * (4 - len(terms))]
    return given, [each.stride(0) for each in given]
