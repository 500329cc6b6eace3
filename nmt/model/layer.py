"""All steps of a layer of cells in buffers, forwards and backwards: the stuff of recurrences derived by hand."""

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nmt.model.gating import Gating
from nmt.model.kernels import flipped
from nmt.model.library import compiled
from nmt.model.products import Factor, Rounding, Stack, outers, rounded, rounded_rows, times_transposed
from nmt.model.steps import LayerSteps, describe, describe_factor, describe_words

ByStep = Sequence[tuple[Tensor, ...]]
"""Of each step a gradient, or nothing for 0."""


class Part(ABC):
    """A part of the step: its forward and backward steps are methods of its subclasses.

    Attributes:
        tensors: what it differentiates by.
    """

    tensors: tuple[Tensor, ...]

    def begin(self) -> None:  # noqa: B027
        """Make the buffers, before the first step."""

    @abstractmethod
    def gradients(self) -> tuple[Tensor | None, ...]:
        """Return the gradients by ``tensors``, after the last backward step."""


class Layer(Part):
    """One layer of cells; see :mod:`nmt.model.gating` for what it computes.

    Args:
        gating: the cells' kind; weights have the rows of its P blocks of pre-activations.
        state: h_0, c_0 [B, H]; of cells that carry their output h_0 twice, to which both gradients then add up.
        recurrent: U [P * H, H].
        bias: b [P * H].
        fed: [P * H, D], the weight of what is fed at each step; None: nothing is.
        words: [T, B, E] known beforehand, and their weight [P * H, E]; None: all input is fed.
        steps: T.
        rounding: of factors; float64 stays as it is.
    """

    def __init__(
        self,
        gating: Gating,
        state: Sequence[Tensor],
        recurrent: Tensor,
        bias: Tensor,
        *,
        fed: Tensor | None,
        words: tuple[Tensor, Tensor] | None,
        steps: int,
        rounding: Rounding,
    ) -> None:
        self.gating = gating
        self.tensors = (*state, recurrent, bias, *(() if fed is None else (fed,)), *(words or ()))
        self.steps, self.fed_size, self._reads = steps, 0 if fed is None else fed.shape[1], words is not None
        self.rounding = rounding if state[0].dtype == torch.float32 else Rounding.none

    def begin(self) -> None:
        """Make the buffers."""
        hidden, cell, recurrent, bias, *others = self.tensors
        (batch, size), width = hidden.shape, len(bias)
        fed = [rounded(others[0], self.rounding)] if self.fed_size else []
        self.factor = Factor(*fed, rounded(recurrent, self.rounding), rounding=self.rounding)
        self._type = torch.bfloat16 if self.rounding is Rounding.bf16 else hidden.dtype
        self.inputs = Stack.empty(hidden, self.steps, batch, self.fed_size + size, self._type)
        self.fed_inputs, self.states = self.inputs.steps.tensor_split([self.fed_size], 2)
        self.states[0].copy_(hidden)
        self.projected = self._word_factor = None
        if self._reads:
            words, weight = others[-2:]
            self.words, self.word_matrix = rounded_rows(words, self.rounding), rounded(weight, self.rounding)
            if self.rounding.kinds is not None:
                self._word_factor = Factor(self.word_matrix, rounding=self.rounding)
                projected = self._word_factor.times_transposed(self.words)
            else:
                projected = times_transposed(self.words, self.word_matrix)[: self.steps * batch]
            self.projected = projected.view(self.steps, batch, width)
        self.bias = bias.contiguous()
        self.gates, self.hiddens = (hidden.new_empty(self.steps, batch, each) for each in (width, size))
        self.squashed = torch.empty_like(self.hiddens) if self.gating.squashes else None
        self.cells = hidden.new_empty(self.steps + 1, batch, size)
        self.cells[0] = cell
        self.described = describe_factor(LayerSteps(), self.factor)
        if self.described is not None:
            self._products = hidden.new_empty(batch, width)
            sizes = {"kind": self.gating.kind, "batch": batch, "size": size, "fed": self.fed_size}
            kept = {"gates": self.gates, "hiddens": self.hiddens, "cells": self.cells, "squashed": self.squashed}
            given = {"inputs": self.inputs.steps, "projected": self.projected, "bias": self.bias}
            describe(self.described, **sizes, **given, **kept, products=self._products)

    # views of all steps at once: a tensor's own indexing takes as long as a small kernel

    @cached_property
    def _given(self) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        """Of each step the rows, of which the state is the last part, and what the words give."""
        projected = [None] * self.steps if self.projected is None else self.projected.unbind(0)
        return list(zip(self.inputs.steps.unbind(0), self.states.unbind(0), projected, strict=True))

    @cached_property
    def _fed(self) -> tuple[Tensor, ...]:
        return self.fed_inputs.unbind(0)

    @cached_property
    def _cells(self) -> tuple[Tensor, ...]:
        return self.cells.unbind(0)

    @cached_property
    def _kept(self) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        """Of each step the gates, h and tanh(c)."""
        squashed = [None] * self.steps if self.squashed is None else self.squashed.unbind(0)
        return list(zip(self.gates.unbind(0), self.hiddens.unbind(0), squashed, strict=True))

    def step(self, t: int, low: Tensor | None = None) -> Tensor:
        """Make h_t [B, H] of what was fed; write it to ``low`` [B, H], of the products' type, too."""
        (rows, _, projected), (gates, hidden, squashed) = self._given[t], self._kept[t]
        lows = [] if low is None else [low]
        if t + 1 < self.steps:
            lows.append(self._given[t + 1][1])
        self.gating.forward(
            self.factor.times_transposed(rows),
            self._cells[t],
            hidden,
            self._cells[t + 1],
            inputs=projected,
            bias=self.bias,
            gates=gates,
            squashed=squashed,
            lows=lows,
        )
        return hidden

    def fed(self, t: int) -> Tensor | None:
        """Return where what step t is fed is to be written, [B, D] of the products' type; None after the last step."""
        return self._fed[t] if t < self.steps else None

    def final(self) -> tuple[Tensor, Tensor]:
        """Return h_T, c_T."""
        return self.hiddens[-1], self.cells[-1]

    def begin_back(
        self,
        of_hidden: Tensor | None,
        of_cell: Tensor | None,
        of_hiddens: Tensor | None = None,
        ends: Tensor | None = None,
    ) -> None:
        """Make the buffers of the gradients, given those of the last state and of all h [T, B, H].

        Only calls of the library for all steps read those of all, and ``ends`` [B], after how many steps a row's last
        state is.
        """
        steps, batch, width = self.gates.shape
        self.factors = Stack.empty(self.gates, steps, batch, width, self._type)
        self._factors = self.factors.steps.unbind(0)
        self._of_words: Tensor | None = None
        self.of_words: Tensor | None = None
        zeros = torch.zeros_like(self.hiddens[0])
        self.of_recurrent: Tensor = zeros if of_hidden is None else of_hidden
        begin = zeros if of_cell is None or ends is not None else of_cell
        self.of_cell = begin.clone(memory_format=torch.contiguous_format)
        if self.described is not None:
            self._of_inputs = self.of_cell.new_empty(self.inputs.steps.shape[1:])
            self._of_given = of_hiddens, in_rows(of_hidden), in_rows(of_cell), ends
            found = {"of_gates": self.factors.steps, "of_cell": self.of_cell, "of_inputs": self._of_inputs}
            last, last_cell = (None if each is None else each.unsqueeze(0) for each in self._of_given[1:3])
            given = {"of_hiddens": of_hiddens, "of_last": last, "of_last_cell": last_cell, "ends": ends}
            describe(self.described, **given, **found)
            if self._word_factor is not None and self._word_factor.laid_out is not None:
                self._of_words = self.of_cell.new_empty(steps, batch, self.words.shape[1])
                describe_words(self.described, self._word_factor, self._of_words)

    def end_back(self) -> Tensor:
        """Note what all backward steps have left; return the gradient of what was fed at the first [B, D]."""
        of_fed, self.of_recurrent = self._of_inputs.tensor_split([self.fed_size], 1)
        self.of_words = self._of_words
        return of_fed

    def back(self, t: int, of_hidden: Sequence[Tensor]) -> Tensor:
        """Return the gradient of what was fed [B, D], given what adds up to that of h_t by all that is above."""
        given, (gates, _, squashed) = [*of_hidden, self.of_recurrent], self._kept[t]
        self.gating.back(gates, self._cells[t], squashed, given, self.of_cell, self._factors[t])
        of_inputs = self.factor.times(self._factors[t])
        of_fed, self.of_recurrent = of_inputs.tensor_split([self.fed_size], 1)
        return of_fed

    def gradients(self) -> tuple[Tensor | None, ...]:
        """Return the gradients."""
        dtype, factors, rows = self.gates.dtype, self.factors.rows, self.inputs.rows
        # of whole numbers what is fed and the state apart, so that nothing is copied; elsewhere one product beats two
        apart = self.rounding.kinds is not None and self.fed_size > 0
        rights = [*(rows.tensor_split([self.fed_size], 1) if apart else [rows]), *([self.words] if self._reads else [])]
        found, of_bias = outers(flipped(factors), rights, self.rounding)
        totals = [each.to(dtype) for each in found]
        of_fed, of_recurrent = totals[:2] if apart else totals[0].tensor_split([self.fed_size], 1)
        found = self.of_recurrent.to(dtype), self.of_cell, of_recurrent, of_bias.to(dtype)
        if self.fed_size:
            found += (of_fed,)
        if self._reads:
            words, of_words = self.tensors[-2], self.of_words
            if of_words is None:
                of_words = times_transposed(factors, self.word_matrix.t(), rounding=self.rounding, of_gradients=True)
                of_words = of_words[: words.shape[:2].numel()].to(dtype).view(words.shape)
            found += (of_words, totals[-1])
        return found


def run_side_by_side(layers: Sequence[Layer], ends: Tensor | None = None) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Go through all steps of layers that are fed nothing.

    Args:
        layers: the layers.
        ends: [B], after how many steps a row ends; None: after all.

    Returns:
        Of each h [T, B, H], and h and c [B, H] at each row's end.
    """
    found = _SideBySide.apply(layers, ends, *(tensor for layer in layers for tensor in layer.tensors))
    return list(zip(found[::3], found[1::3], found[2::3], strict=True))


def at_ends(ends: Tensor | None, *parts: Tensor) -> tuple[Tensor, ...]:
    """Return of each part [T, B, H] what it is at the rows' ends [B], or at the last step: new tensors [B, H]."""
    if ends is None:
        return tuple(part[-1].clone() for part in parts)
    rows = torch.arange(len(ends), device=ends.device)
    return tuple(part[ends - 1, rows] for part in parts)


class _SideBySide(torch.autograd.Function):
    """Layers that do not depend on each other; their tensors are given once more for autograd to see."""

    @staticmethod
    def forward(ctx: Any, layers: Sequence[Layer], ends: Tensor | None, *tensors: Tensor) -> tuple[Tensor, ...]:
        for layer in layers:
            layer.begin()
        described, steps = _described(layers), layers[0].steps
        if described is not None:
            compiled().layers_forward(described, len(layers), steps)
        else:
            for t in range(steps):
                for layer in layers:
                    layer.step(t)
        ctx.layers, ctx.ends = layers, None if ends is None else ends.contiguous()
        # the layers have them too; autograd sees by these whether they have changed, and whether it went back before
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        # as new tensors: the layers would own what owns them
        found = [
            (layer.hiddens.view_as(layer.hiddens), *at_ends(ends, layer.hiddens, layer.cells[1:])) for layer in layers
        ]
        return tuple(each for parts in found for each in parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        _ = ctx.saved_tensors
        layers, ends, given = ctx.layers, ctx.ends, [in_rows(each) for each in gradients]
        described, of_each = _described(layers), list(zip(layers, given[::3], given[1::3], given[2::3], strict=True))
        if described is not None:
            for layer, of_hiddens, of_hidden, of_cell in of_each:
                layer.begin_back(of_hidden, of_cell, of_hiddens, ends)
            compiled().layers_back(described, len(layers), layers[0].steps)
            for layer in layers:
                layer.end_back()
        else:
            _back_by_step(of_each, ends)
        return None, None, *(gradient for layer in layers for gradient in layer.gradients())


def _described(layers: Sequence[Layer]) -> Any | None:
    """Return where the layers' descriptions are; None where one has none."""
    found = [layer.described for layer in layers]
    places = [ctypes.addressof(each) for each in found if each is not None]
    return (ctypes.c_void_p * len(places))(*places) if len(places) == len(found) else None


def _back_by_step(
    of_each: Sequence[tuple[Layer, Tensor | None, Tensor | None, Tensor | None]], ends: Tensor | None
) -> None:
    """Go back through all steps, given of each layer the gradients of all h, and of h and c at the rows' ends."""
    steps, given = of_each[0][0].steps, []
    for layer, of_hiddens, of_hidden, of_cell in of_each:
        if ends is None:
            layer.begin_back(of_hidden, of_cell)
            given.append((layer, by_step(of_hiddens, steps), by_step(None, steps)))
        else:
            layer.begin_back(None, None)
            every = (_with_ends(layer.hiddens, *each, ends) for each in ((of_hiddens, of_hidden), (None, of_cell)))
            given.append((layer, *(by_step(each, steps) for each in every)))
    for t in reversed(range(steps)):
        for layer, of_hiddens, of_cells in given:
            for of_cell in of_cells[t]:
                layer.of_cell += of_cell
            layer.back(t, of_hiddens[t])


def _with_ends(like: Tensor, of_all: Tensor | None, of_last: Tensor | None, ends: Tensor) -> Tensor | None:
    """Return gradients [T, B, H] with those at the rows' ends [B, H] added."""
    if of_last is None:
        return of_all
    total = torch.zeros_like(like) if of_all is None else of_all.clone()
    total[ends - 1, torch.arange(len(ends), device=ends.device)] += of_last
    return total


def by_step(gradient: Tensor | None, steps: int) -> ByStep:
    """Return each step's part of a gradient [T, ..]; nothing for None, which is 0."""
    return [()] * steps if gradient is None else [(each,) for each in gradient.unbind(0)]


def in_rows(gradient: Tensor | None) -> Tensor | None:
    """Return the gradient with the elements of its rows side by side."""
    return gradient if gradient is None or gradient.stride(-1) == 1 else gradient.contiguous()
