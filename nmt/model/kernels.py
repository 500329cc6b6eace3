"""The elementwise parts of a recurrent step, each in one pass over memory: in C, on a GPU in Triton, else by torch.

Between its matrix products a recurrent step is a dozen small operations, each of which reads and writes memory, wakes
the threads and passes through Python. ``kernels.c`` has each part as one function. It is compiled when the package is
installed, if there is a C compiler; ``gpu_kernels.py`` has what a GPU needs of them. Torch's operations, which stand
below beside them, compute the same up to rounding, and serve all other types and devices.

State is float32 there; ``low`` is what products take and give, bfloat16 or float32, one of them in a call. What is
computed has its equations where it is used: attention and readout in recurrence.py, the loss in cross_entropy.py;
cells have functions of their own, in gating.py.
"""

import ctypes
import logging
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from nmt.model.library import Several, library

log = logging.getLogger(__name__)

_LOW = (torch.float32, torch.bfloat16)
_GPUS = ("cuda",)
# The first tanh of a process, if it is shared out among threads, is now and then wrong by 1e-4 in one thread's part:
# MKL looks for what suits the processor, and a second thread does not wait until that is found. Here it looks in peace.
torch.tanh(torch.zeros(1))


@cache
def gpu_kernels(device: torch.device) -> ModuleType | None:
    """Return the functions for a GPU; None where there is no Triton, or it cannot compile for that."""
    try:
        found = import_module("nmt.model.gpu_kernels")
        found.try_out(device)
    except Exception as error:  # whatever is missing: a compiler, a driver that fits, a GPU that is not too old
        log.info("torch does on this GPU what Triton would, at less speed: %s: %s", type(error).__name__, error)
        return None
    return found


def written_in(device: torch.device) -> Literal["compiled", "triton", "torch"]:
    """Return whose functions serve float32 on a device: C's, Triton's or torch's."""
    if device.type == "cpu":
        return "torch" if library() is None else "compiled"
    # with its number, as tensors have it
    place = torch.empty(0, device=device).device
    return "triton" if device.type in _GPUS and gpu_kernels(place) is not None else "torch"


def serves(state: Tensor) -> bool:
    """Say whether there is a library for the state's type and device."""
    return state.dtype == torch.float32 and state.device.type == "cpu" and library() is not None


def usable(state: Tensor, *whole: Tensor | None, rows: Sequence[Tensor | None] = ()) -> Any | None:
    """Return the library where it serves the state, and can read what it is given.

    Args:
        state: float32.
        whole: what must be contiguous, as the state.
        rows: what it reads row by row, float32 or bfloat16; the elements of a row must lie side by side.
    """
    if state.device.type != "cpu" or not _readable(state, whole, rows):
        return None
    return library()


def on_gpu(state: Tensor, *whole: Tensor | None, rows: Sequence[Tensor | None] = ()) -> Any | None:
    """Return the functions for GPUs where they serve the state, and can read what they are given; as above."""
    if state.device.type not in _GPUS or not state.numel() or not _readable(state, whole, rows):
        return None
    # Triton starts its kernels on the current one
    if state.is_cuda and state.device.index != torch.cuda.current_device():
        return None
    return gpu_kernels(state.device)


def _readable(state: Tensor, whole: Sequence[Tensor | None], rows: Sequence[Tensor | None]) -> bool:
    if state.dtype != torch.float32 or not state.is_contiguous():
        return False
    # in loops, since this is asked hundreds of times an update
    for each in whole:
        if each is not None and not each.is_contiguous():
            return False
    for each in rows:
        if each is not None and (each.stride(-1) != 1 or each.dtype not in _LOW):
            return False
    return True


def squash(products: Tensor, mask: Tensor | None, plain: Tensor, output: Tensor, low: Tensor | None) -> None:
    """Write tanh(products) [B, F], and that times a mask.

    Args:
        products: [B, F], low.
        mask: [B, F] or [1, F]; None: of ones.
        plain: tanh(products) [B, F] is written there.
        output: with the mask; the same tensor as ``plain`` where there is none.
        low: the output again, rows of a low buffer; None: not wanted.
    """
    native = usable(plain, products, output, rows=(mask, low))
    if native is None:
        fused = on_gpu(plain, products, output, rows=(mask, low))
        if fused is not None:
            fused.squash(products, mask, plain, output, low)
            return
        tanh_(plain.copy_(products))
        if mask is not None:
            torch.mul(plain, mask, out=output)
        if low is not None:
            low.copy_(output)
        return
    function = native.squash_float if products.dtype == torch.float32 else native.squash_bfloat16
    places = *_repeated(mask, len(plain)), *plain.shape, plain.data_ptr(), output.data_ptr(), *rows_of(low)
    function(products.data_ptr(), *places)


def squash_back(of_output: Sequence[Tensor], mask: Tensor | None, plain: Tensor, of_products: Tensor) -> None:
    """Write the gradient of the products [B, F], low, given what adds up to that of the output; see :func:`squash`."""
    native = usable(plain, of_products, rows=(mask, *of_output))
    if native is None:
        fused = on_gpu(plain, of_products, rows=(mask, *of_output))
        if fused is not None:
            fused.squash_back(of_output, mask, plain, of_products)
            return
        total = added(of_output, plain)
        total = total if mask is None else total * mask
        of_products.copy_(torch.addcmul(total, total, plain.square(), value=-1))
        return
    function = native.squash_back_float if of_products.dtype == torch.float32 else native.squash_back_bfloat16
    function(as_sum(of_output), *_repeated(mask, len(plain)), plain.data_ptr(), *plain.shape, of_products.data_ptr())


def attend(
    scores: Tensor,
    padding: Tensor,
    factors: Tensor,
    values: Tensor,
    weights: Tensor,
    contexts: Tensor,
    low: Tensor | None = None,
) -> None:
    """Write weights [B, S] = softmax(scores + padding) * factors, and contexts [B, M] = weights . values [B, S, M].

    Args:
        scores: [B, S].
        padding: [B, S], 0 or the lowest number.
        factors: [B, S], 1 or 0.
        values: [B, S, M].
        weights: is written.
        contexts: is written.
        low: the contexts again, rows of a low buffer; None: not wanted.
    """
    native = usable(values, scores, padding, factors, weights, contexts, rows=(low,))
    if native is None:
        fused = on_gpu(values, scores, padding, factors, weights, contexts, rows=(low,))
        if fused is not None:
            fused.attend(scores, padding, factors, values, weights, contexts, low)
            return
        torch.softmax(scores + padding, 1, out=weights).mul_(factors)
        torch.bmm(weights.unsqueeze(1), values, out=contexts.unsqueeze(1))
        if low is not None:
            low.copy_(contexts)
        return
    function = native.attend_bfloat16 if low is not None and low.dtype == torch.bfloat16 else native.attend_float
    given = (each.data_ptr() for each in (scores, padding, factors, values))
    function(*given, *values.shape, weights.data_ptr(), contexts.data_ptr(), *rows_of(low))


def attend_back(
    of_context: Sequence[Tensor],
    of_weights: Tensor | None,
    weights: Tensor,
    values: Tensor,
    of_contexts: Tensor,
    of_scores: Tensor,
) -> None:
    """Write the gradients of contexts [B, M] and scores [B, S].

    Args:
        of_context: what adds up to the gradient of the contexts, up to four of [B, M], float32 or, all the same, bf16.
        of_weights: [B, S], the gradient of the weights from elsewhere; None: 0.
        weights: [B, S].
        values: [B, S, M].
        of_contexts: the sum is written there.
        of_scores: is written.
    """
    native = usable(values, weights, of_contexts, of_scores, rows=(of_weights, *of_context))
    if native is None:
        fused = on_gpu(values, weights, of_contexts, of_scores, rows=(of_weights, *of_context))
        if fused is not None:
            fused.attend_back(of_context, of_weights, weights, values, of_contexts, of_scores)
            return
        of_contexts.copy_(added(of_context, of_contexts))
        # a row times a matrix, not a matrix times a column, which takes a CPU ten times as long
        given = torch.bmm(of_contexts.unsqueeze(1), values.transpose(1, 2)).squeeze(1)
        weighted = weights * (given if of_weights is None else given + of_weights)
        torch.addcmul(weighted, weights, weighted.sum(1, keepdim=True), value=-1, out=of_scores)
        return
    low = any(each.dtype == torch.bfloat16 for each in of_context)
    function = native.attend_back_bfloat16 if low else native.attend_back_float
    given = as_sum(of_context), *rows_of(of_weights), weights.data_ptr(), values.data_ptr(), *values.shape
    function(*given, of_contexts.data_ptr(), of_scores.data_ptr())


def additive(products: Tensor, keys: Tensor, vector: Tensor) -> Tensor:
    """Return scores [N, S], v . tanh(W q + K_j), of products W q [N, A], low, keys K [B, S, A] and v [A].

    Each sentence's keys are asked for by N / B rows, one after the other.
    """
    native, asked = usable(keys, products, vector), len(products) // max(len(keys), 1)
    if native is None:
        fused = on_gpu(keys, products, vector)
        if fused is not None:
            return fused.additive(products, keys, vector)
        if not asked:
            return keys.new_empty(0, keys.shape[1])
        hidden = tanh_(products.unflatten(0, (-1, asked)).unsqueeze(2) + keys.unsqueeze(1))
        return (hidden @ vector).view(len(products), keys.shape[1])
    function = native.additive_float if products.dtype == torch.float32 else native.additive_bfloat16
    scores = keys.new_empty(len(products), keys.shape[1])
    given = (each.data_ptr() for each in (products, keys, vector))
    function(*given, len(products), asked, *keys.shape[1:], scores.data_ptr())
    return scores


def compare(queries: Tensor, keys: Tensor, places: Tensor | None = None) -> Tensor:
    """Return the products [B, Q, S] of each sentence's queries [B, Q, H] with each of its keys [B, S, H], low.

    ``places`` [B] are int64 where the sentences' keys are among more, [N, S, H].
    """
    assert queries.shape[2] == keys.shape[2] and len(queries) == len(keys if places is None else places)
    native = usable(queries, rows=(keys,)) if keys.is_contiguous() else None
    if native is None:
        keys = keys if places is None else keys.index_select(0, places)
        return torch.bmm(queries, keys.to(queries.dtype).transpose(1, 2))
    scores = queries.new_empty(*queries.shape[:2], keys.shape[1])
    function = native.compare_float if keys.dtype == torch.float32 else native.compare_bfloat16
    given = queries.data_ptr(), keys.data_ptr(), None if places is None else places.data_ptr()
    function(*given, *queries.shape[:2], *keys.shape[1:], scores.data_ptr())
    return scores


def average(weights: Tensor, values: Tensor, places: Tensor | None = None) -> Tensor:
    """Return the sums [B, Q, M] of each sentence's values [B, S, M], low, times weights [B, Q, S].

    Weights below 1e-30 may count as 0. ``places`` are as in :func:`compare`.
    """
    assert weights.shape[2] == values.shape[1] and len(weights) == len(values if places is None else places)
    native = usable(weights, rows=(values,)) if values.is_contiguous() else None
    if native is None:
        values = values if places is None else values.index_select(0, places)
        return torch.bmm(weights, values.to(weights.dtype))
    means = weights.new_empty(*weights.shape[:2], values.shape[2])
    function = native.average_float if values.dtype == torch.float32 else native.average_bfloat16
    given = weights.data_ptr(), values.data_ptr(), None if places is None else places.data_ptr()
    function(*given, *weights.shape[:2], *values.shape[1:], means.data_ptr())
    return means


def soften(scores: Tensor, allowed: Tensor) -> Tensor | None:
    """Return the softmax [B, Q, S] of scores where it is allowed, [B, Q or 1, S], and 0 elsewhere, without a gradient.

    Weights below 1e-30 are 0. None where the library does not serve what is given.
    """
    given = scores.dim() == allowed.dim() == 3 and scores.numel() and allowed.dtype == torch.bool
    if not given or allowed.shape not in (scores.shape, (scores.shape[0], 1, scores.shape[2])):
        return None
    native = usable(scores, allowed)
    if native is None:
        return None
    weights, (sentences, asked, positions) = torch.empty_like(scores), scores.shape
    alike = asked // allowed.shape[1]
    native.soften(scores.data_ptr(), allowed.data_ptr(), sentences * asked, alike, positions, weights.data_ptr())
    return weights


def additive_back(
    products: Tensor,
    keys: Tensor,
    vector: Tensor,
    of_scores: Tensor,
    of_keys: Tensor,
    of_products: Tensor,
    of_vector: Tensor,
) -> None:
    """Write the gradients of :func:`additive`; tanh is computed once more, which costs less than to keep it.

    Args:
        products: [B, A].
        keys: [B, S, A].
        vector: [A].
        of_scores: [B, S].
        of_keys: [B, S, A], added to.
        of_products: [B, A], low; written.
        of_vector: [A], added to.
    """
    native = usable(keys, products, vector, of_scores, of_keys, of_products, of_vector)
    if native is None:
        fused = on_gpu(keys, products, vector, of_scores, of_keys, of_products, of_vector)
        if fused is not None:
            fused.additive_back(products, keys, vector, of_scores, of_keys, of_products, of_vector)
            return
        hidden = tanh_(products.unsqueeze(1) + keys)
        of_vector += hidden.flatten(0, 1).t() @ of_scores.flatten()
        of_sum = torch.addcmul(vector, hidden.square(), vector, value=-1).mul_(of_scores.unsqueeze(2))
        of_keys += of_sum
        of_products.copy_(of_sum.sum(1))
        return
    function = native.additive_back_float if products.dtype == torch.float32 else native.additive_back_bfloat16
    given = (each.data_ptr() for each in (products, keys, vector, of_scores))
    function(*given, *keys.shape, *(each.data_ptr() for each in (of_keys, of_products, of_vector)))


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
    """Write each row's nll, and in the place of its logits the gradient of the smoothed loss; see cross_entropy.py.

    Args:
        logits: [n, V], low, without the bias; without ``differentiate`` they may change to anything.
        bias: [V].
        targets: [n] ids, int64; the nll of one outside the vocabulary is not a number.
        real: [n], False on rows that count for nothing; None where all count.
        smoothing: e.
        nll: [n].
        of_bias: [V], to which the sum of the rows is added, on a CPU before they are rounded.
        differentiate: whether gradients are wanted.
    """
    native = usable(nll, logits, bias, targets, real, of_bias)
    if native is not None:
        function = native.cross_entropy_float if logits.dtype == torch.float32 else native.cross_entropy_bfloat16
        wanted = None if real is None else real.data_ptr()
        given = *logits.shape, smoothing, differentiate, nll.data_ptr(), of_bias.data_ptr()
        function(logits.data_ptr(), bias.data_ptr(), targets.data_ptr(), wanted, *given)
        return
    fused = on_gpu(nll, logits, bias, targets, real, of_bias)
    if fused is not None:
        given = logits, bias, targets, real, smoothing, nll, of_bias
        fused.cross_entropy(*given, differentiate=differentiate)
        return
    exact, targets = logits + bias, targets.unsqueeze(1)
    probs = torch.softmax(exact, dim=-1)
    # log sum_v exp z_v is z - log p of the likeliest, whose p is no rounded 0: logsumexp takes several times as long
    found = exact.amax(-1) - probs.amax(-1).log() - exact.gather(1, targets).squeeze(1)
    nll.copy_(found if real is None else torch.where(real, found, 0.0))
    if not differentiate:
        return
    if smoothing:
        probs -= smoothing / probs.shape[1]
    probs.scatter_add_(1, targets, probs.new_full(targets.shape, smoothing - 1))
    if real is not None:
        probs *= real.unsqueeze(1)
    of_bias += probs.sum(0)
    logits.copy_(probs)


def join_targets(
    targets: Tensor,
    real: Tensor | None,
    share: float,
    *,
    weight: Tensor,
    readouts: Tensor,
    of_readouts: Tensor,
    of_weight: Tensor,
) -> None:
    """Add to gradients of readouts and weight the targets' own part, which whole numbers leave apart: cross_entropy.py.

    Args:
        targets: [n] ids.
        real: [n], False on rows that count for nothing; None where all count.
        share: 1 - e.
        weight: [V, F].
        readouts: [n, F].
        of_readouts: [n, F]; loses share * W_y.
        of_weight: [V, F]; row y loses share * h.
    """
    native = usable(of_readouts, targets, real, weight, of_weight, rows=(readouts,))
    if native is not None and readouts.dtype == torch.float32:
        places = targets.data_ptr(), None if real is None else real.data_ptr(), *of_readouts.shape, len(weight)
        given = weight.data_ptr(), *rows_of(readouts), of_readouts.data_ptr(), of_weight.data_ptr()
        native.join_targets(*places, share, *given)
        return
    shares = torch.full_like(targets, share, dtype=weight.dtype) if real is None else real.to(weight.dtype) * share
    of_readouts.addcmul_(weight.index_select(0, targets), shares.unsqueeze(1), value=-1)
    of_weight.index_add_(0, targets, readouts * shares.unsqueeze(1), alpha=-1)


def chooses(bias: Tensor) -> bool:
    """Say whether :func:`choose` can be asked, given the vocabulary's biases [V]."""
    if bias.device.type not in _GPUS or bias.dtype != torch.float32:
        return serves(bias)
    fused = gpu_kernels(bias.device)
    return fused is not None and len(bias) <= fused.MOST_PIECES


def choose(logits: Tensor, bias: Tensor, count: int, never: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ``count`` largest log-probabilities of each row, best first, and their pieces; see :func:`chooses`.

    Args:
        logits: [n, V], low, without the bias.
        bias: [V].
        count: at most V.
        never: [m] ids of pieces that are not chosen; as the last they may be, at minus infinity.

    Returns:
        Log-probabilities [n, count] float32, and ids.
    """
    native = usable(bias, logits, never)
    if native is None:
        fused = on_gpu(bias, logits, never)
        assert fused is not None, "asked for without chooses()"
        return fused.choose(logits, bias, count, never)
    function = native.choose_float if logits.dtype == torch.float32 else native.choose_bfloat16
    rows, size = logits.shape
    best, pieces = bias.new_empty(rows, count), never.new_empty(rows, count)
    sizes = never.data_ptr(), len(never), rows, size, count
    function(logits.data_ptr(), bias.data_ptr(), *sizes, best.data_ptr(), pieces.data_ptr())
    return best, pieces


def random_words(seed: int, count: int) -> Tensor:
    """Return 64 random bits, ``count`` times: SplitMix64 (Steele, Lea & Flood 2014, fig. 17) from a state on.

    Its i-th number depends on i and the state alone, so that all can be made at a time; without the library by torch,
    the same.

    Args:
        seed: the state, a whole number of 64 bits with a sign.
        count: of words.
    """
    native, words = library(), torch.empty(count, dtype=torch.int64)
    if native is not None:
        native.random_words(seed, count, words.data_ptr())
        return words
    words = torch.arange(1, count + 1).mul_(_signed(0x9E3779B97F4A7C15)).add_(seed)
    words = _mixed(words, 30).mul_(_signed(0xBF58476D1CE4E5B9))
    words = _mixed(words, 27).mul_(_signed(0x94D049BB133111EB))
    return _mixed(words, 31)


def _signed(bits: int) -> int:
    """Return the number that the 64 bits are with a sign."""
    return bits - 2**64 if bits >= 2**63 else bits


def _mixed(words: Tensor, places: int) -> Tensor:
    """Return each word but for the bits that differ from those so many places higher; these come in as 0."""
    return words ^ ((words >> places) & ((1 << (64 - places)) - 1))


def drop(values: Tensor | None, bits: Tensor, threshold: int, scale: float) -> Tensor:
    """Return the values times a scale where their random bits, an int16, are at least the threshold; elsewhere 0.

    Where there are no values they are 1, in float32.
    """
    result = torch.empty(bits.shape) if values is None else torch.empty_like(values)
    native = usable(result, values, bits)
    if native is None:
        return torch.mul(1.0 if values is None else values, bits >= threshold).mul_(scale)
    given = None if values is None else values.data_ptr(), bits.data_ptr()
    native.drop(*given, threshold, scale, result.numel(), result.data_ptr())
    return result


def add_by_token(tokens: Tensor, values: Tensor, vocabulary: int) -> Tensor:
    """Return the sum of the rows [n, D] of each token, [n] ids: [V, D]."""
    result = values.new_empty(vocabulary, values.shape[1])
    native = usable(result, tokens, rows=(values,))
    if native is None or values.dtype != torch.float32:
        return result.zero_().index_add_(0, tokens, values)
    native.add_by_token(tokens.data_ptr(), *rows_of(values), *values.shape, vocabulary, result.data_ptr())
    return result


def sum_of_squares(tensors: Sequence[Tensor]) -> float | None:
    """Return the sum of the squares of all elements; None where the library does not serve one of them."""
    native = library()
    if native is None or not all(serves(each) and each.is_contiguous() for each in tensors):
        return None
    places = (ctypes.c_void_p * len(tensors))(*(each.data_ptr() for each in tensors))
    sizes = (ctypes.c_int64 * len(tensors))(*(each.numel() for each in tensors))
    return native.squares(places, sizes, len(tensors))


def flips(rows: Tensor) -> bool:
    """Say whether products with the transpose of rows are faster where it has memory of its own than by a view.

    That is so in bf16 on a CPU, more so than the copy costs.
    """
    return rows.dtype == torch.bfloat16 and rows.device.type == "cpu"


def flip(rows: Tensor, into: Tensor) -> Tensor:
    """Write the transpose of bf16 rows [n, m] into columns [m, n] of a wider buffer; return these."""
    native = library() if rows.is_contiguous() and into.stride(1) == 1 else None
    if native is None:
        return into.copy_(rows.t())
    native.transpose(rows.data_ptr(), *rows.shape, into.data_ptr(), into.stride(0))
    return into


def flipped(rows: Tensor) -> Tensor:
    """Return the transpose [m, n] of rows [n, m], in memory of its own where :func:`flips` says so."""
    return flip(rows, rows.new_empty(rows.shape[::-1])) if flips(rows) else rows.t()


def added(terms: Sequence[Tensor], like: Tensor) -> Tensor:
    """Return the sum of tensors of any type in that of ``like``, as a new one."""
    total = terms[0].to(like.dtype, copy=True)
    for term in terms[1:]:
        total += term
    return total


def as_sum(terms: Sequence[Tensor]) -> Any:
    """Return what the library knows as a sum."""
    numbers = [len(terms)]
    for term in terms:
        numbers += term.data_ptr(), term.stride(0), term.dtype == torch.float32
    return Several(*numbers)


def rows_of(tensor: Tensor | None) -> tuple[int | None, int]:
    """Return where a tensor's rows are, and their distance."""
    return (None, 0) if tensor is None else (tensor.data_ptr(), tensor.stride(0))


def _repeated(tensor: Tensor | None, rows: int) -> tuple[int | None, int]:
    """Return where a tensor's rows are, and their distance, 0 where there is one for all."""
    return (None, 0) if tensor is None else (tensor.data_ptr(), tensor.stride(0) if len(tensor) == rows else 0)


def tanh_(values: Tensor) -> Tensor:
    """Squash in place; on CPUs tanh(x) = 2 sigmoid(2 x) - 1 is several times faster than torch's tanh."""
    return values.mul_(2).sigmoid_().mul_(2).sub_(1) if values.device.type == "cpu" else values.tanh_()
