r"""A decoder's recurrence over a whole target, its derivative written by hand.

Autograd writes down every operation of every step, allocates for each, and adds gradients one by one. Here one node
does all steps, in buffers that hold all steps, [T, B, ..]. Of Luong's wiring with input feeding (arXiv:1508.04025v5)
and LSTMs, for t = 1 .. T, with f_t the fed readout, masks m of dropout, and the words' part W e_t + b made for all
steps at once::

    a_t = W e_t + b + [U_f U_h] [f_{t-1}; h_{t-1}]         (i, f, o, g) = squashed a_t
    c_t = f c_{t-1} + i g,   h_t = o tanh(c_t)
    alpha_t = softmax(score(h_t, K)),   v_t = sum_j alpha_tj V_j
    r_t = tanh(W_c [v_t; h_t]),   f_t = m_t r_t

and backwards, for t = T .. 1, with d. the gradients (d. f_t has the part of the loss and that of step t + 1)::

    d(W_c [..]) = d f_t m_t (1 - r_t^2);   [d v_t; d h_t] = W_c^T d(W_c [..])
    d alpha_tj = V_j . d v_t;   d score_tj = alpha_tj (d alpha_tj - sum_k alpha_tk d alpha_tk)
    d h_t += sum_j d score_tj K_j, or as the score has it
    d a_t from d h_t and d c_t (gating.py);   [d f_{t-1}; d h_{t-1}] = [U_f U_h]^T d a_t

Nothing else is needed to go on. All gradients of what the steps share (U, W, W_c, K, V, the score's parameters) are
left for the end, where each is one product over all steps: d U = sum_t d a_t [f_{t-1}; h_{t-1}]^T. Bahdanau's wiring
(arXiv:1409.0473v7) has the same parts in another order: v_t = attention(h_{t-1}) is what is fed, and no readout is
inside. Layers above the first are fed the output of the layer below.

Only what is asked for most has such parts: cells without layer normalisation (gating.py); scores that define
``by_hand``; the softmax, over a window too, given or predicted; several heads of these; the mean of the values; the
readout tanh(W_c [v; h]). A decoder with anything else goes step by step.
"""

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nmt.model.kernels import (
    additive,
    additive_back,
    attend,
    attend_back,
    average,
    compare,
    flipped,
    serves,
    squash,
    squash_back,
)
from nmt.model.layer import ByStep, Layer, Part, by_step, in_rows
from nmt.model.library import compiled
from nmt.model.products import Factor, Rounding, Stack, outer, rounded, rounded_rows, times_transposed
from nmt.model.steps import AttentionSteps, ReadoutSteps, as_steps, describe, describe_factor

Mask = Tensor | None
"""Dropout's factors [T or 1, B, D]; None: none."""


class StepScore(Part):
    """A score whose derivative is written by hand.

    Attributes:
        of_query: where steps.c leaves the gradient of the query that it last went back through, [B, H].
    """

    of_query: Tensor

    @abstractmethod
    def step(self, t: int, query: Tensor) -> Tensor:
        """Return the scores [B, S] of the query [B, H]; a new tensor."""

    def begin_back(self) -> None:  # noqa: B027
        """Make the buffers of the gradients."""

    @abstractmethod
    def back(self, t: int, of_scores: Tensor) -> Tensor | None:
        """Return the gradient of the query [B, H], given that of the scores [B, S]; None where it does not ask."""

    def gradients(self) -> tuple[Tensor | None, ...]:
        """Return nothing: :meth:`totals` does."""
        return ()

    def describe(self, structure: AttentionSteps) -> bool:
        """Write what steps.c must know of the score, and say whether it computes it."""
        return False

    def describe_halves(self, structure: AttentionSteps) -> bool:
        """Write where keys are in float16 too, and say whether there are any, with which steps.c reads values so."""
        return False

    def describe_back(self, structure: AttentionSteps) -> None:  # noqa: B027
        """Write where the gradients' buffers are."""

    @abstractmethod
    def totals(self, queries: Tensor, of_scores: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients by ``tensors``, given all queries [T, B, H] and all gradients of scores [T, B, S]."""


class BilinearSteps(StepScore):
    """score_j = s K_j . q, with q scaled by ``scale``.

    Args:
        keys: K [B, S, H].
        scale: s.
    """

    def __init__(self, keys: Tensor, scale: float = 1.0) -> None:
        self.tensors, self.scale = (keys,), scale

    def begin(self) -> None:
        """Have the keys side by side."""
        self.keys = self.tensors[0].contiguous()

    def describe(self, structure: AttentionSteps) -> bool:
        """Say so: it does."""
        batch, _, size = self.keys.shape
        self.of_query = self.keys.new_empty(batch, size)
        describe(structure, keys=self.keys, key_size=size, scale=self.scale, of_query=self.of_query)
        return True

    def describe_halves(self, structure: AttentionSteps) -> bool:
        """Write where they are."""
        self._halves = self.keys.half()
        describe(structure, key_halves=self._halves)
        return True

    def step(self, t: int, query: Tensor) -> Tensor:
        """Return scores [B, S]."""
        scores = compare(query.unsqueeze(1), self.keys).squeeze(1)
        return scores if self.scale == 1.0 else scores.mul_(self.scale)

    def back(self, t: int, of_scores: Tensor) -> Tensor:
        """Return the query's gradient."""
        of_query = average(of_scores.unsqueeze(1), self.keys).squeeze(1)
        return of_query if self.scale == 1.0 else of_query.mul_(self.scale)

    def totals(self, queries: Tensor, of_scores: Tensor) -> tuple[Tensor]:
        """Return the keys' gradient, sum_t s d score_t q_t^T."""
        of_keys = over_steps(of_scores, queries)
        return (of_keys if self.scale == 1.0 else of_keys.mul_(self.scale),)


class AdditiveSteps(StepScore):
    """score_j = v . u_j with u_j = tanh(W q + K_j): d K_j = d score_j v (1 - u_j^2) and d W q = sum_j d K_j.

    Args:
        keys: K [B, S, A].
        weight: W [A, H].
        vector: v [A].
        steps: T.
        rounding: of the factors.
    """

    def __init__(self, keys: Tensor, weight: Tensor, vector: Tensor, steps: int, *, rounding: Rounding) -> None:
        self.tensors, self.steps, self.rounding = (keys, weight, vector), steps, rounding

    def begin(self) -> None:
        """Make the buffers."""
        keys, weight, self.vector = self.tensors
        self.keys, self.matrix = keys.contiguous(), rounded(weight, self.rounding)
        self.factor = Factor(self.matrix, rounding=self.rounding)
        self.products = self.matrix.new_empty(self.steps, len(keys), len(weight))

    def describe(self, structure: AttentionSteps) -> bool:
        """Write what steps.c must know; say whether there are products for it."""
        if describe_factor(structure, self.factor) is None:
            return False
        (batch, _, size), self._vector = self.keys.shape, self.vector.contiguous()
        self.of_query = self.keys.new_empty(batch, self.matrix.shape[1])
        given = {"keys": self.keys, "key_size": size, "vector": self._vector}
        describe(structure, **given, products=self.products, of_query=self.of_query)
        return True

    def describe_back(self, structure: AttentionSteps) -> None:
        """Write where the gradients' buffers are."""
        found = {"of_keys": self.of_keys, "of_vector": self.of_vector}
        describe(structure, of_products=self.of_products.steps, **found)

    def begin_back(self) -> None:
        """Make the buffers of the gradients."""
        batch, _, size = self.keys.shape
        self.of_products = Stack.empty(self.matrix, self.steps, batch, size)
        self.of_keys, self.of_vector = torch.zeros_like(self.keys), torch.zeros_like(self.vector)

    def step(self, t: int, query: Tensor) -> Tensor:
        """Return scores [B, S]."""
        self.factor.write(self.products[t], rounded(query, self.rounding))
        return additive(self.products[t], self.keys, self.vector)

    def back(self, t: int, of_scores: Tensor) -> Tensor:
        """Return the query's gradient."""
        of_products = self.of_products.steps[t]
        found = self.of_keys, of_products, self.of_vector
        additive_back(self.products[t], self.keys, self.vector, of_scores, *found)
        return self.factor.times(of_products)

    def totals(self, queries: Tensor, of_scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of K, W, v."""
        of_weight = outer(flipped(self.of_products.rows), rounded_rows(queries, self.rounding), self.rounding).to(
            queries.dtype
        )
        return self.of_keys, of_weight, self.of_vector


class LocationSteps(StepScore):
    """score_j = W_j . q for the first rows of W, minus infinity beyond them.

    Args:
        weight: W [L, H].
        positions: S.
        rounding: of the factors.
    """

    def __init__(self, weight: Tensor, positions: int, *, rounding: Rounding) -> None:
        self.tensors, self.positions, self.rounding = (weight,), positions, rounding

    def begin(self) -> None:
        """Round the rows that are used."""
        self.matrix = rounded(self.tensors[0][: self.positions], self.rounding)

    def step(self, t: int, query: Tensor) -> Tensor:
        """Return scores [B, S]."""
        scores = query.new_full((len(query), self.positions), float("-inf"))
        scores[:, : len(self.matrix)] = times_transposed(rounded(query, self.rounding), self.matrix)
        return scores

    def back(self, t: int, of_scores: Tensor) -> Tensor:
        """Return the query's gradient."""
        known = rounded(of_scores[:, : len(self.matrix)], self.rounding)
        return times_transposed(known, self.matrix.t()).to(of_scores.dtype)

    def totals(self, queries: Tensor, of_scores: Tensor) -> tuple[Tensor]:
        """Return the gradient of W."""
        known = of_scores[..., : len(self.matrix)]
        of_rows = outer(
            flipped(rounded_rows(known, self.rounding)), rounded_rows(queries, self.rounding), self.rounding
        )
        of_weight = torch.zeros_like(self.tensors[0])
        of_weight[: len(of_rows)] = of_rows
        return (of_weight,)


class AttendSteps(Part):
    """What attention does in all steps.

    Attributes:
        steps: T.
        contexts: [T, B, M].
        weights: [T, B, S].
        described: what steps.c knows of it; None where it does not go through these steps.
        of_query: where it does, the gradient of the query that it last went back through, [B, H].
    """

    steps: int
    contexts: Tensor
    weights: Tensor
    of_query: Tensor
    described: AttentionSteps | None = None

    @abstractmethod
    def step(self, t: int, query: Tensor, low: Tensor | None = None) -> Tensor:
        """Return the context [B, M] of the query [B, H]; write it to ``low`` [B, M], of the products' type, too."""

    @abstractmethod
    def begin_back(self, of_contexts: Tensor | None, of_weights: Tensor | None) -> None:
        """Make the buffers of the gradients; calls for all steps read those given, [T, B, M] and [T, B, S]."""

    @abstractmethod
    def back(self, t: int, of_context: Sequence[Tensor], of_weights: Tensor | None = None) -> Tensor | None:
        """Return the query's gradient [B, H], given what adds up to the context's, and the weights' from elsewhere."""

    @abstractmethod
    def finish(self, queries: Tensor) -> None:
        """Note the queries [T, B, H] of all steps."""

    def describe_halves(self) -> None:  # noqa: B027
        """Have keys and values in float16 too, where calls for all steps read those: for them a step mostly waits."""


class Attend(AttendSteps):
    """alpha = softmax of scores over some positions; context = sum_j alpha_j V_j.

    Args:
        score: the score.
        allowed: [T or 1, B, S], True on the positions that may have weight; where there are none, or only such as the
            score forbids, all weights are 0.
        values: V [B, S, M].
        steps: T.
        rounding: of the factors; with whole numbers a bilinear score's keys, and then the values, are read in float16.
    """

    def __init__(self, score: StepScore, allowed: Tensor, values: Tensor, steps: int, *, rounding: Rounding) -> None:
        self.score, self.allowed, self.steps, self.rounding = score, allowed, steps, rounding
        self.tensors = (*score.tensors, values)

    def begin(self) -> None:
        """Make the buffers."""
        self.score.begin()
        self.values = self.tensors[len(self.score.tensors)].contiguous()
        batch, positions, size = self.values.shape
        self.weights = self.values.new_empty(self.steps, batch, positions)
        self.contexts = self.values.new_empty(self.steps, batch, size)
        # the lowest number: what is added to it vanishes in rounding
        lowest = torch.finfo(self.values.dtype).min
        self.factors = self.allowed.to(self.values.dtype).contiguous()
        self.padding = torch.zeros_like(self.factors).masked_fill_(~self.allowed, lowest)
        self.described = self._describe()

    def _describe(self) -> AttentionSteps | None:
        """Return what steps.c must know; None where it does not go through these steps."""
        structure = AttentionSteps()
        if not serves(self.values) or not self.score.describe(structure):
            return None
        self.of_query = self.score.of_query
        batch, positions, size = self.values.shape
        self._scores = self.values.new_empty(batch, positions)
        sizes = {"batch": batch, "positions": positions, "size": size}
        masks = {"padding": self.padding, "factors": self.factors, "scores": self._scores}
        found = {"weights": self.weights, "contexts": self.contexts}
        return describe(structure, **sizes, values=self.values, **masks, **found)

    def describe_halves(self) -> None:
        """Have them; see the base."""
        assert self.described is not None
        if self.rounding.kinds is not None and self.score.describe_halves(self.described):
            self._halves = self.values.half()
            describe(self.described, value_halves=self._halves)

    @cached_property
    def _masks(self) -> list[tuple[Tensor, Tensor]]:
        masks = list(zip(self.padding.unbind(0), self.factors.unbind(0), strict=True))
        return masks if len(masks) == self.steps else masks * self.steps

    @cached_property
    def _found(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.weights.unbind(0), self.contexts.unbind(0), strict=True))

    def step(self, t: int, query: Tensor, low: Tensor | None = None) -> Tensor:
        """Return the context; see the base."""
        attend(self.score.step(t, query), *self._masks[t], self.values, *self._found[t], low)
        return self._found[t][1]

    def begin_back(self, of_contexts: Tensor | None, of_weights: Tensor | None) -> None:
        """Make the buffers of the gradients; see the base."""
        self.score.begin_back()
        self.of_contexts, self.of_scores = torch.empty_like(self.contexts), torch.empty_like(self.weights)
        if self.described is not None:
            self.score.describe_back(self.described)
            self._given = of_contexts, of_weights
            found = {"of_contexts": self.of_contexts, "of_scores": self.of_scores}
            describe(self.described, **found, given_contexts=of_contexts, given_weights=of_weights)
        self._of_found = list(zip(self.of_contexts.unbind(0), self.of_scores.unbind(0), strict=True))

    def back(self, t: int, of_context: Sequence[Tensor], of_weights: Tensor | None = None) -> Tensor | None:
        """Return the query's gradient; see the base."""
        attend_back(of_context, of_weights, self._found[t][0], self.values, *self._of_found[t])
        return self.score.back(t, self._of_found[t][1])

    def finish(self, queries: Tensor) -> None:
        """Note the queries [T, B, H] of all steps."""
        self._queries = queries

    def gradients(self) -> tuple[Tensor | None, ...]:
        """Return the gradients of the score, and of the values: sum_t alpha_t d v_t^T."""
        return *self.score.totals(self._queries, self.of_scores), over_steps(self.weights, self.of_contexts)


class Read(Part):
    """r = m tanh(W_c [v; h]), with m the mask of dropout.

    Args:
        weight: W_c [F, M + H].
        first: the readout before the first, [B, F].
        mask: of dropout.
        steps: T.
        rounding: of the factors.
    """

    def __init__(self, weight: Tensor, first: Tensor, mask: Mask, steps: int, *, rounding: Rounding) -> None:
        self.tensors, self.mask, self.steps, self.rounding = (weight, first), mask, steps, rounding

    def begin(self) -> None:
        """Make the buffers."""
        weight, first = self.tensors
        self.matrix = rounded(weight, self.rounding)
        self.factor = Factor(self.matrix, rounding=self.rounding)
        self.inputs = Stack.empty(self.matrix, self.steps, len(first), weight.shape[1])
        self.plain = first.new_empty(self.steps, *first.shape)
        self.readouts = self.plain if self.mask is None else torch.empty_like(self.plain)
        self.described = describe_factor(ReadoutSteps(), self.factor)
        if self.described is not None:
            self._products, (batch, size) = torch.empty_like(self.plain[0]), first.shape
            given = {"batch": batch, "size": size, "inputs": self.inputs.steps, "mask": self.mask}
            describe(self.described, **given, plain=self.plain, outputs=self.readouts, products=self._products)

    @cached_property
    def _rows(self) -> tuple[Tensor, ...]:
        return self.inputs.steps.unbind(0)

    @cached_property
    def _found(self) -> list[tuple[Tensor, Tensor]]:
        """Of each step the readout without and with the mask."""
        return list(zip(self.plain.unbind(0), self.readouts.unbind(0), strict=True))

    @cached_property
    def _masks(self) -> list[Tensor | None]:
        return masks_by_step(self.mask, self.steps)

    def step(self, t: int, low: Tensor | None) -> Tensor:
        """Return the readout [B, F] of what ``inputs`` has, [v; h]; write it to ``low``, of the products' type, too."""
        products = self.factor.times_transposed(self._rows[t])
        squash(products, self._masks[t], *self._found[t], low)
        return self._found[t][1]

    def begin_back(self, of_readouts: Tensor | None) -> None:
        """Make the buffer of the gradients; calls for all steps read that given, [T, B, F]."""
        steps, batch, size = self.plain.shape
        self.of_sums = Stack.empty(self.matrix, steps, batch, size)
        if self.described is not None:
            self._given, self._of_inputs = of_readouts, self.plain.new_empty(batch, self.matrix.shape[1])
            describe(self.described, of_sums=self.of_sums.steps, of_outputs=of_readouts, of_inputs=self._of_inputs)
        self._of_sums = self.of_sums.steps.unbind(0)

    def back(self, t: int, of_readout: Sequence[Tensor]) -> Tensor:
        """Return the gradient of [v; h], given what adds up to that of the readout."""
        squash_back(of_readout, self._masks[t], self._found[t][0], self._of_sums[t])
        return self.factor.times(self._of_sums[t])

    def finish(self, of_first: Tensor) -> None:
        """Note the gradient of the readout before the first."""
        self._of_first = of_first

    def gradients(self) -> tuple[Tensor, Tensor]:
        """Return the gradients of W_c and of the readout before the first."""
        dtype = self.plain.dtype
        return outer(flipped(self.of_sums.rows), self.inputs.rows, self.rounding).to(dtype), self._of_first.to(dtype)


class Unrolled(ABC):
    """All steps of a stack of layers with attention.

    Args:
        layers: lowest first.
        masks: of dropout on what layers above the first are fed.
        residual: add what a layer above the first is fed to its output.
        attend: the attention.
    """

    def __init__(self, layers: Sequence[Layer], masks: Sequence[Mask], *, residual: bool, attend: AttendSteps) -> None:
        self.layers, self.residual, self.attend, self.steps = layers, residual, attend, attend.steps
        self.masks = [masks_by_step(mask, self.steps) for mask in masks]
        self.parts: tuple[Part, ...] = (*layers, attend)

    @abstractmethod
    def forward(self) -> tuple[Tensor, ...]:
        """Go through all steps; return the outputs [T, B, ..]."""

    @abstractmethod
    def backward(self, *gradients: Tensor | None) -> None:
        """Go back through all steps, given the gradients of the outputs, None for 0, and of the last states."""

    def finals(self) -> tuple[Tensor, ...]:
        """Return the last states of all layers."""
        return tuple(part for layer in self.layers for part in layer.final())

    def _update(self, t: int, low: Tensor | None = None) -> Tensor:
        """Advance all layers; return the top's output [B, H], written to ``low``, of the products' type, too."""
        alone = len(self.layers) == 1
        output = self.layers[0].step(t, low if alone else None)
        for layer, masks in zip(self.layers[1:], self.masks, strict=True):
            mask = masks[t]
            below = output if mask is None else output * mask
            into = layer.fed(t)
            assert into is not None
            into.copy_(below)
            output = layer.step(t) + below if self.residual else layer.step(t)
        if low is not None and not alone:
            low.copy_(output)
        return output

    def _update_back(self, t: int, of_output: list[Tensor]) -> Tensor:
        """Return the gradient of what the first layer was fed, given what adds up to that of the top's output."""
        for layer, masks in zip(self.layers[:0:-1], self.masks[::-1], strict=True):
            of_below, mask = layer.back(t, of_output), masks[t]
            if mask is None and not self.residual:
                of_output = [of_below]
                continue
            total = of_below.to(layer.hiddens.dtype, copy=True)
            for each in of_output if self.residual else ():
                total += each
            of_output = [total if mask is None else total.mul_(mask)]
        return self.layers[0].back(t, of_output)

    def _described(self) -> list[Any] | None:
        """Return what steps.c takes of layer and attention; None where it does not go through their steps."""
        layer, attend = self.layers[0].described, self.attend.described
        if len(self.layers) > 1 or layer is None or attend is None:
            return None
        return [ctypes.byref(layer), ctypes.byref(attend)]

    def _begin_back(self, of_finals: Sequence[Tensor | None], of_states: Tensor | None) -> None:
        """Make the layers' buffers, given the gradients of their last states and of the top's [T, B, H]."""
        last = len(self.layers) - 1
        for n, (layer, of_hidden, of_cell) in enumerate(zip(self.layers, of_finals[::2], of_finals[1::2], strict=True)):
            layer.begin_back(of_hidden, of_cell, of_states if n == last else None)


class FedReadouts(Unrolled):
    """Luong's wiring: update with the last readout, attend with the new state, read.

    Outputs: readouts, states, contexts, weights.

    Args:
        read: the readout.
    """

    def __init__(self, *args: Any, read: Read, **options: Any) -> None:
        super().__init__(*args, **options)
        self.read = read
        self.parts += (read,)

    def forward(self) -> tuple[Tensor, ...]:
        """Go through all steps."""
        size = self.attend.contexts.shape[2]
        self.layers[0].fed_inputs[0].copy_(self.read.tensors[1])
        self.outputs = self.layers[0].hiddens if len(self.layers) == 1 else torch.empty_like(self.layers[-1].hiddens)
        described = self._described()
        if described is not None:
            self.attend.describe_halves()
            compiled().fed_readouts_forward(*described, self.steps)
        else:
            contexts, states = (part.unbind(0) for part in self.read.inputs.steps.tensor_split([size], 2))
            for t in range(self.steps):
                output = self._update(t, states[t])
                if len(self.layers) > 1:
                    self.outputs[t] = output
                self.attend.step(t, output, contexts[t])
                self.read.step(t, self.layers[0].fed(t + 1))
        return self.read.readouts, self.outputs, self.attend.contexts, self.attend.weights

    def _described(self) -> list[Any] | None:
        found = super()._described()
        return None if found is None or self.read.described is None else [*found, ctypes.byref(self.read.described)]

    def backward(self, *gradients: Tensor | None) -> None:
        """Go back through all steps."""
        self.read.begin_back(gradients[0])
        self.attend.begin_back(*gradients[2:4])
        self._begin_back(gradients[4:], gradients[1])
        described = self._described()
        if described is not None:
            compiled().fed_readouts_back(*described, self.steps)
            of_fed = self.layers[0].end_back()
        else:
            of_fed = self._back_by_step(*(by_step(each, self.steps) for each in gradients[:4]))
        self.attend.finish(self.outputs)
        self.read.finish(of_fed)

    def _back_by_step(self, of_readouts: ByStep, of_states: ByStep, of_contexts: ByStep, of_weights: ByStep) -> Tensor:
        """Return the gradient of the readout before the first."""
        size, of_fed = self.attend.contexts.shape[2], torch.zeros_like(self.read.plain[0])
        for t in reversed(range(self.steps)):
            of_context, of_output = self.read.back(t, [of_fed, *of_readouts[t]]).tensor_split([size], 1)
            of_query = self.attend.back(t, [of_context, *of_contexts[t]], *of_weights[t])
            given = [of_output, *of_states[t], *(() if of_query is None else (of_query,))]
            of_fed = self._update_back(t, given)
        return of_fed


class FirstQuery(Part):
    """What asks before the first update.

    Args:
        query: [B, H].
    """

    def __init__(self, query: Tensor) -> None:
        self.tensors = (query,)

    def finish(self, of_query: Tensor) -> None:
        """Note its gradient."""
        self._of_query = of_query

    def gradients(self) -> tuple[Tensor]:
        """Return its gradient."""
        return (self._of_query,)


class FedContexts(Unrolled):
    """Bahdanau's wiring: attend with the old state, update with what was read.

    Outputs: states from the one before the first step on [T + 1, B, H], contexts, weights.

    Args:
        first: the state before the first step.
    """

    def __init__(self, *args: Any, first: FirstQuery, **options: Any) -> None:
        super().__init__(*args, **options)
        self.first = first
        self.parts += (first,)

    def forward(self) -> tuple[Tensor, ...]:
        """Go through all steps."""
        query = self.first.tensors[0]
        self.states = query.new_empty(self.steps + 1, *query.shape)
        self.states[0] = query
        described = self._described()
        if described is not None:
            self.attend.describe_halves()
            compiled().fed_contexts_forward(*described, as_steps(self.states), self.steps)
        else:
            for t in range(self.steps):
                self.attend.step(t, self.states[t], self.layers[0].fed(t))
                self.states[t + 1] = self._update(t)
        return self.states, self.attend.contexts, self.attend.weights

    def backward(self, *gradients: Tensor | None) -> None:
        """Go back through all steps."""
        self.attend.begin_back(*gradients[1:3])
        self._begin_back(gradients[3:], None if gradients[0] is None else gradients[0][1:])
        described = self._described()
        if described is not None:
            compiled().fed_contexts_back(*described, self.steps)
            self.layers[0].end_back()
            of_query = self.attend.of_query
        else:
            given = by_step(gradients[0], self.steps + 1)
            of_query = self._back_by_step(given, *(by_step(each, self.steps) for each in gradients[1:3]))
        self.first.finish(of_query if gradients[0] is None else gradients[0][0] + of_query.to(self.states.dtype))
        self.attend.finish(self.states[:-1])

    def _back_by_step(self, of_states: ByStep, of_contexts: ByStep, of_weights: ByStep) -> Tensor:
        """Return what the first step's query adds to the gradient of the state before it."""
        of_output = torch.zeros_like(self.states[0])
        for t in reversed(range(self.steps)):
            of_context = [self._update_back(t, [of_output, *of_states[t + 1]]), *of_contexts[t]]
            of_query = self.attend.back(t, of_context, *of_weights[t])
            of_output = torch.zeros_like(self.states[0]) if of_query is None else of_query
        return of_output


class _Whole(torch.autograd.Function):
    """One node for a :class:`Unrolled`; its tensors are given once more for autograd to see."""

    @staticmethod
    def forward(ctx: Any, recurrence: Unrolled, *tensors: Tensor) -> tuple[Tensor, ...]:
        for part in recurrence.parts:
            part.begin()
        outputs = recurrence.forward()
        ctx.recurrence = recurrence
        # the recurrence has them too; autograd sees by these whether they have changed, and whether it went back before
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        # as new tensors: the recurrence would own what owns it
        return tuple(output.view_as(output) for output in (*outputs, *recurrence.finals()))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        recurrence: Unrolled = ctx.recurrence
        _ = ctx.saved_tensors
        recurrence.backward(*(in_rows(each) for each in gradients))
        return None, *(gradient for part in recurrence.parts for gradient in part.gradients())


def run(recurrence: Unrolled) -> tuple[Tensor, ...]:
    """Go through all steps; return the recurrence's outputs, and h_T, c_T [B, H] of each layer."""
    return _Whole.apply(recurrence, *(tensor for part in recurrence.parts for tensor in part.tensors))


def over_steps(left: Tensor, right: Tensor) -> Tensor:
    """Return sum_t left_t right_t^T of each sentence: [T, B, m], [T, B, k] -> [B, m, k]."""
    return torch.bmm(left.permute(1, 2, 0), right.transpose(0, 1))


def masks_by_step(mask: Mask, steps: int) -> list[Tensor | None]:
    """Return each step's part of a mask."""
    if mask is None:
        return [None] * steps
    return list(mask.unbind(0)) if len(mask) > 1 else [mask[0]] * steps
