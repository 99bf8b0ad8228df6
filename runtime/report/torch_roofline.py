"""What PyTorch moves and multiplies in the same step, compiled in bf16: the bytes of a roofline.

The kernels are those of ``torch.compile`` under autocast to bf16, channels last, counted on the
captured f32 program by these rules:

1. Tensors of the batch and their gradients take two bytes a number. Parameters, their gradients,
   what the optimizer keeps, and vectors (statistics, biases) take four.
2. A GEMM, with its bias, is a kernel: it reads its operands and writes its result. A parameter it
   reads in bf16; before that one kernel reads all these in f32 and writes them in bf16, once.
3. Pointwise ops over one shape fuse with each other, and with the reductions that end in them:
   a kernel reads once what is made outside of it, and writes what is read outside. So batch norm
   reads the result of its convolution for the statistics, and again with all that follows up to
   the next convolution; its gradient reads it, and the gradient, twice as well. Forward, backward
   and update do not fuse with each other.
4. Every other op is a kernel by itself. A view, a slice or another order of dimensions costs
   nothing.

Each byte counts once at the bandwidth of memory and each product once at the peak of the unit: no
launches, no caches, no conversions between layouts. PyTorch cannot be faster by these rules, but
for what keeps fitting in the second-level cache, and attention, which it fuses and these do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from ...compiler.formats import F32
from ...compiler.ir import Program, Value
from ...compiler.ir.analysis import macs, saved, without_dead
from ...compiler.ir.loops import loops
from ...compiler.ir.ops import DATA_GRADS, GRADIENT_PRODUCTS, PRODUCTS, Trait, has
from ...targets.plan.fuse import Group, fuse

BF16_BYTES, F32_BYTES = 2, 4


@dataclass(frozen=True, slots=True)
class TorchKernel:
    """One kernel: the ops it covers, the bytes that it reads and writes, its multiply-adds."""

    region: str
    layer: str
    ops: tuple[str, ...]
    bytes: int
    products: int

    def seconds(self, bandwidth: float, peak: float) -> float:
        """The longer of both, at bytes and at multiply-adds a second."""
        return max(self.bytes / bandwidth, self.products / peak)


@dataclass(frozen=True, slots=True)
class TorchRoofline:
    """All kernels of a step, and what is kept for backward; the batch and parameters are not."""

    kernels: tuple[TorchKernel, ...]
    saved_bytes: int

    def seconds(self, bandwidth: float, peak: float) -> float:
        """One kernel after the other."""
        return sum(k.seconds(bandwidth, peak) for k in self.kernels)


def torch_roofline(program: Program) -> TorchRoofline:
    """The kernels of PyTorch's bf16 step for a captured program, before any pass."""
    program = without_dead(program)
    wide = _wide(program)
    steps = loops(program)
    held = (v for v in saved(program) if v not in program.inputs)
    kept = sum(_bytes(v, wide) * steps.kept(v) for v in held)
    return TorchRoofline(tuple(_kernels(program, wide)), kept)


def _wide(program: Program) -> set[Value]:
    """What PyTorch keeps in f32."""
    found = set(program.state)
    for region, op in program.ops():
        if region.name == "update" or op.kind in GRADIENT_PRODUCTS - DATA_GRADS:
            found.update(op.results)
    return found


def _bytes(v: Value, wide: set[Value]) -> int:
    if v.type.format is not F32:
        return v.type.elements * max(1, v.type.format.storage_bits // 8)
    vector = len(v.type.shape) <= 1
    return v.type.elements * (F32_BYTES if vector or v in wide else BF16_BYTES)


def _kernels(program: Program, wide: set[Value]) -> Iterator[TorchKernel]:
    weights: dict[Value, None] = {}
    made: list[TorchKernel] = []
    for group in fuse(program):
        first = group.ops[0]
        if all(has(op, Trait.WINDOW) or op.kind == "constant" for op in group.ops):
            continue
        if first.kind in PRODUCTS:
            read = [v for v in first.inputs if v in wide and len(v.type.shape) > 1]
            weights.update(dict.fromkeys(read))
            made.append(_kernel(group, wide.difference(read)))
        else:
            made.append(_kernel(group, wide))
    if weights:
        moved = sum(prod(v.type.shape) for v in weights) * (F32_BYTES + BF16_BYTES)
        yield TorchKernel("forward", "", ("cast",), moved, 0)
    yield from made


def _kernel(group: Group, wide: set[Value]) -> TorchKernel:
    inside = {r for op in group.ops for r in op.results}
    read = dict.fromkeys(v for op in group.ops for v in op.inputs if v not in inside)
    moved = sum(_bytes(v, wide) for v in (*read, *group.outputs))
    layers = dict.fromkeys(op.origin for op in group.ops if op.origin)
    kinds = tuple(op.kind for op in group.ops)
    products = sum(macs(op) for op in group.ops if op.kind in PRODUCTS)
    times = group.loop.count if group.loop else 1
    return TorchKernel(group.region, ", ".join(layers), kinds, times * moved, times * products)
