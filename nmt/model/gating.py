"""What recurrent cells make of their pre-activations in one pass over memory, and its derivative written by hand.

A cell's step has blocks of pre-activations s, [B, H] each: what its products give, plus inputs, plus bias. They become
its output h' and what it carries besides, c', of the c before. A GRU and an RNN carry their output, c = h; what is
asked of the gradient of h' and of c' then adds up. With d. the gradients, all pre-activations' times the derivative of
their own squashing:

LSTM (Hochreiter & Schmidhuber 1997, with Gers et al.'s forget gate), blocks i, f, o, g::

    c' = f c + i g,   h' = o tanh(c');      d c' += d h' o (1 - tanh(c')^2)
    d i = d c' g,   d f = d c' c,   d o = d h' tanh(c'),   d g = d c' i,   d c = d c' f

GRU (Cho et al. 2014, arXiv:1406.1078, eqs. 5-8, as torch has it: see cells.py), blocks r, z, n, u, where r and z are
squashed, n is what inputs give to the candidate, and u = U_n h + b_n what the state gives; with both in one product,
the weights of inputs have rows of zeros for u, and those of the state for n::

    n = tanh(s_n + r u),   h' = (1 - z) n + z h;      d z = d h' (h - n)
    d s_n = d h' (1 - z) (1 - n^2),   d u = d s_n r,   d r = d s_n u,   d h = d h' z

RNN (Elman 1990), one block: h' = tanh(s).

As in kernels.py, ``kernels.c`` does it on a CPU, ``gpu_kernels.py`` on a GPU, and torch's operations everything else.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from nmt.model.kernels import added, as_sum, on_gpu, rows_of, tanh_, usable


def side_by_side(matrices: Sequence[Tensor]) -> Tensor:
    """Return matrices [m, ..] side by side, a new one if there are several."""
    return matrices[0] if len(matrices) == 1 else torch.cat(list(matrices), 1)


class Gating(ABC):
    """What a kind of cell makes of its pre-activations.

    Attributes:
        kind: its number in kernels.h.
        blocks: P, the number of blocks of pre-activations.
        squashes: whether :meth:`back` needs tanh(c').
    """

    kind: int
    blocks: int
    squashes: bool = False

    def rows_of_inputs(self, weight: Tensor) -> Tensor:
        """Return the rows [P * H, k] that a weight of inputs [G * H, k] has in a product of all blocks."""
        return weight

    def rows_of_state(self, weight: Tensor) -> Tensor:
        """Return the rows [P * H, H] that the state's weight [G * H, H] has there."""
        return weight

    def side_by_side(self, weights: Sequence[Tensor]) -> Tensor:
        """Return the rows of weights that meet what stands side by side: inputs of any number, and then the state."""
        *inputs, state = weights
        return side_by_side([*map(self.rows_of_inputs, inputs), self.rows_of_state(state)])

    def forward(
        self,
        products: Tensor,
        cell: Tensor,
        hidden: Tensor,
        new: Tensor,
        *,
        inputs: Tensor | None = None,
        bias: Tensor | None = None,
        gates: Tensor | None = None,
        squashed: Tensor | None = None,
        lows: Sequence[Tensor] = (),
    ) -> None:
        """Write h', c' of pre-activations, products + inputs + bias.

        Args:
            products: [B, P * H], low.
            cell: c [B, H].
            hidden: h' [B, H] is written there.
            new: c' [B, H].
            inputs: [B, P * H], float32 or of the type of the products; None: 0.
            bias: [P * H]; None: 0.
            gates: what :meth:`back` needs of all blocks, [B, P * H]; None: not wanted.
            squashed: tanh(c') [B, H]; wanted where the gates are and the cell ``squashes``.
            lows: h' again, up to two times rows [B, H] of a low buffer.
        """
        native = usable(cell, products, hidden, new, bias, gates, squashed, rows=(inputs, *lows))
        if native is not None:
            rows, size = cell.shape
            function = native.cell_forward_float if products.dtype == torch.float32 else native.cell_forward_bfloat16
            function(
                self.kind,
                products.data_ptr(),
                as_sum(() if inputs is None else (inputs,)),
                None if bias is None else bias.data_ptr(),
                cell.data_ptr(),
                rows,
                size,
                None if gates is None else gates.data_ptr(),
                hidden.data_ptr(),
                new.data_ptr(),
                None if squashed is None else squashed.data_ptr(),
                *rows_of(lows[0] if lows else None),
                *rows_of(lows[1] if len(lows) > 1 else None),
            )
            return
        fused = on_gpu(cell, products, hidden, new, bias, gates, squashed, rows=(inputs, *lows))
        if fused is not None:
            given = {"inputs": inputs, "bias": bias, "gates": gates, "squashed": squashed, "lows": lows}
            fused.cell_forward(self.kind, products, cell, hidden, new, **given)
            return
        total = cell.new_empty(products.shape) if gates is None else gates
        total.copy_(products)
        for each in (inputs, bias):
            if each is not None:
                total += each
        self._forward(total, cell, hidden, new, squashed)
        for low in lows:
            low.copy_(hidden)

    @abstractmethod
    def _forward(self, total: Tensor, cell: Tensor, hidden: Tensor, new: Tensor, squashed: Tensor | None) -> None:
        """The same by torch, given the pre-activations in the place of what is kept of them."""

    def back(
        self,
        gates: Tensor,
        cell: Tensor,
        squashed: Tensor | None,
        of_hidden: Sequence[Tensor],
        of_cell: Tensor,
        of_gates: Tensor,
    ) -> None:
        """Write dL/d(pre-activations), and dL/dc in the place of dL/dc'.

        Args:
            gates: what :meth:`forward` has left there, [B, P * H].
            cell: c [B, H].
            squashed: tanh(c') [B, H], where it was wanted.
            of_hidden: what adds up to dL/dh', up to four of [B, H], float32 or of the type of ``of_gates``.
            of_cell: dL/dc' [B, H], overwritten.
            of_gates: [B, P * H], low; written.
        """
        native = usable(cell, gates, squashed, of_cell, of_gates, rows=of_hidden)
        if native is not None:
            rows, size = cell.shape
            function = native.cell_back_float if of_gates.dtype == torch.float32 else native.cell_back_bfloat16
            function(
                self.kind,
                gates.data_ptr(),
                cell.data_ptr(),
                None if squashed is None else squashed.data_ptr(),
                as_sum(of_hidden),
                rows,
                size,
                of_cell.data_ptr(),
                of_gates.data_ptr(),
            )
            return
        fused = on_gpu(cell, gates, squashed, of_cell, of_gates, rows=of_hidden)
        if fused is not None:
            fused.cell_back(self.kind, gates, cell, squashed, of_hidden, of_cell, of_gates)
            return
        of_gates.copy_(self._back(gates, cell, squashed, added(of_hidden, cell), of_cell))

    @abstractmethod
    def _back(self, gates: Tensor, cell: Tensor, squashed: Tensor | None, total: Tensor, of_cell: Tensor) -> Tensor:
        """The same by torch, given dL/dh' whole; returns the gradients of the pre-activations."""


class _LSTM(Gating):
    kind, blocks, squashes = 0, 4, True

    def _forward(self, total: Tensor, cell: Tensor, hidden: Tensor, new: Tensor, squashed: Tensor | None) -> None:
        squashed = torch.empty_like(cell) if squashed is None else squashed
        size = cell.shape[1]
        # tanh(x) = 2 sigmoid(2 x) - 1: torch vectorises sigmoid several times better on CPUs
        candidate = total[:, 3 * size :]
        candidate.mul_(2)
        total.sigmoid_()
        candidate.mul_(2).sub_(1)
        entering, kept, shown = total[:, : 3 * size].split(size, dim=1)
        torch.mul(kept, cell, out=new).addcmul_(entering, candidate)
        tanh_(squashed.copy_(new))
        torch.mul(shown, squashed, out=hidden)

    def _back(self, gates: Tensor, cell: Tensor, squashed: Tensor | None, total: Tensor, of_cell: Tensor) -> Tensor:
        assert squashed is not None
        size = cell.shape[1]
        entering, kept, shown, candidate = gates.split(size, dim=1)
        through = total * shown
        of_cell.add_(torch.addcmul(through, through, squashed.square(), value=-1))
        found = torch.empty_like(gates)
        of_entering, of_kept, of_shown, of_candidate = found.split(size, dim=1)
        torch.mul(of_cell, candidate, out=of_entering)
        torch.mul(of_cell, cell, out=of_kept)
        torch.mul(total, squashed, out=of_shown)
        torch.mul(of_cell, entering, out=of_candidate)
        sigmoids = gates[:, : 3 * size]
        found[:, : 3 * size] *= torch.addcmul(sigmoids, sigmoids, sigmoids, value=-1)
        of_candidate.addcmul_(of_candidate, candidate.square(), value=-1)
        of_cell.mul_(kept)
        return found


class _GRU(Gating):
    kind, blocks = 1, 4

    def rows_of_inputs(self, weight: Tensor) -> Tensor:
        """Return r, z, n as they are, and zeros for u."""
        return torch.cat([weight, weight.new_zeros(len(weight) // 3, weight.shape[1])])

    def rows_of_state(self, weight: Tensor) -> Tensor:
        """Return r, z as they are, zeros for n, and u."""
        size = len(weight) // 3
        return torch.cat([weight[: 2 * size], torch.zeros_like(weight[:size]), weight[2 * size :]])

    def _forward(self, total: Tensor, cell: Tensor, hidden: Tensor, new: Tensor, squashed: Tensor | None) -> None:
        size = cell.shape[1]
        total[:, : 2 * size].sigmoid_()
        reset, update, candidate, recurrent = total.split(size, dim=1)
        tanh_(candidate.addcmul_(reset, recurrent))
        torch.lerp(candidate, cell, update, out=hidden)
        new.copy_(hidden)

    def _back(self, gates: Tensor, cell: Tensor, squashed: Tensor | None, total: Tensor, of_cell: Tensor) -> Tensor:
        size = cell.shape[1]
        reset, update, candidate, recurrent = gates.split(size, dim=1)
        of_cell += total
        found = torch.empty_like(gates)
        of_reset, of_update, of_candidate, of_recurrent = found.split(size, dim=1)
        torch.mul(of_cell, cell - candidate, out=of_update)
        torch.mul(of_cell, torch.addcmul(of_cell.new_ones(()), candidate, candidate, value=-1), out=of_candidate)
        of_candidate.addcmul_(of_candidate, update, value=-1)
        torch.mul(of_candidate, reset, out=of_recurrent)
        torch.mul(of_candidate, recurrent, out=of_reset)
        sigmoids = gates[:, : 2 * size]
        found[:, : 2 * size] *= torch.addcmul(sigmoids, sigmoids, sigmoids, value=-1)
        of_cell.mul_(update)
        return found


class _RNN(Gating):
    kind, blocks = 2, 1

    def _forward(self, total: Tensor, cell: Tensor, hidden: Tensor, new: Tensor, squashed: Tensor | None) -> None:
        hidden.copy_(tanh_(total))
        new.copy_(hidden)

    def _back(self, gates: Tensor, cell: Tensor, squashed: Tensor | None, total: Tensor, of_cell: Tensor) -> Tensor:
        total += of_cell
        of_cell.zero_()
        return torch.addcmul(total, total, gates.square(), value=-1)


LSTM, GRU, RNN = _LSTM(), _GRU(), _RNN()
