"""Compiles what gpu_kernels.py starts, for an H200, where there is no GPU; prints the names of the kernels.

Of what a GPU executes Triton's interpreter shows everything but whether it compiles: it reads Python. A program of its
own, since Triton decides once a process which of the two it does.
"""

import sys

import torch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from triton.runtime.jit import JITFunction

from nmt.model import gpu_kernels as fused
from nmt.model.gating import GRU, LSTM, RNN

H200 = GPUTarget("cuda", 90, 32)
TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int64: "*i64", torch.bool: "*i1"}
B, H, S, V = 4, 300, 9, 4501


def type_of(value):
    if isinstance(value, torch.Tensor):
        return TYPES[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def compiled(self, *args, grid, warmup, **options):
    """In the place of what starts a kernel on a GPU."""
    given = dict(zip(self.arg_names, args, strict=False)) | {
        key: options.pop(key) for key in set(options) & set(self.arg_names)
    }
    assert given.keys() == set(self.arg_names), "not all arguments of a kernel are given"
    constants = {each.name: given[each.name] for each in self.params if each.is_constexpr}
    signature = {name: "constexpr" if name in constants else type_of(value) for name, value in given.items()}
    found = compile(ASTSource(fn=self, signature=signature, constexprs=constants), target=H200, options=options)
    assert found.asm["cubin"], self.__name__
    sys.stdout.write(f"{self.__name__}\n")


def main():
    JITFunction.run = compiled
    rows, scores, values = torch.zeros(B, H), torch.zeros(B, S), torch.zeros(B, S, H)
    for low_type in (torch.float32, torch.bfloat16):
        low = torch.zeros(B, H, dtype=low_type)
        for gating in (LSTM, GRU, RNN):
            products, gates = torch.zeros(B, gating.blocks * H, dtype=low_type), torch.zeros(B, gating.blocks * H)
            squashed = rows if gating.squashes else None
            for kept in (None, gates):
                given = {"inputs": products, "bias": gates[0], "gates": kept, "squashed": squashed, "lows": [low, low]}
                fused.cell_forward(gating.kind, products, rows, rows, rows, **given)
            fused.cell_back(gating.kind, gates, rows, squashed, [rows, low, rows, rows], rows, products)
        fused.cell_forward(RNN.kind, low, rows, rows, rows, inputs=None, bias=None, gates=None, squashed=None, lows=[])
        for mask in (None, rows):
            fused.squash(low, mask, rows, rows, low)
            fused.squash_back([rows, low], mask, rows, low)
        fused.attend(scores, scores, scores, values, scores, rows, low)
        for of_weights in (None, scores):
            fused.attend_back([rows, low], of_weights, scores, values, rows, scores)
        fused.additive(low, values, rows[0])
        fused.additive_back(low, values, rows[0], scores, values, low, rows[0])
        logits, targets = torch.zeros(B, V, dtype=low_type), torch.zeros(B, dtype=torch.long)
        for real in (None, targets == 0):
            for differentiate in (False, True):
                given = {"differentiate": differentiate}
                fused.cross_entropy(logits, logits[0].float(), targets, real, 0.1, rows[:, 0], torch.zeros(V), **given)
        fused.choose(logits, logits[0].float(), 5, targets)


if __name__ == "__main__":
    sys.exit(main())
