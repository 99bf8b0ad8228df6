"""Every op of a program in numbers: what it multiplies, computes, converts, reads and writes.

Bytes are those of the op by itself, every operand read and every result written once; kernels fuse
ops and move less. Views and slices, of which PyTorch makes no copy, constants, and scales that the
first step alone takes from a tensor, move nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...compiler.ir import Op, Program, Value
from ...compiler.ir.analysis import direction, macs
from ...compiler.ir.loops import loops
from ...compiler.ir.nest import nest
from ...compiler.ir.ops import PRODUCTS, Trait, has
from ...targets.plan.layout import Order, orders
from .operations import Operations, moves_nothing, operations
from .stored_bytes import stored_bytes


@dataclass(frozen=True, slots=True)
class ProductCount:
    """A GEMM as ``groups`` products of matrices M x K by K x N, and the layer's geometry."""

    direction: str
    macs: int
    groups: int
    m: int
    n: int
    k: int
    images: int
    inputs: int
    outputs: int
    plane: tuple[int, int]
    places: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


@dataclass(frozen=True, slots=True)
class OpCount:
    """One op: what it reads and makes, bytes, elements it converts, arithmetic beside products.

    ``times`` it runs in a step, and all other numbers are of one run.
    """

    region: str
    layer: str
    op: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    times: int
    bytes_read: int
    bytes_written: int
    converted: int
    operations: Operations
    product: ProductCount | None


def op_counts(program: Program) -> tuple[OpCount, ...]:
    """All ops in program order."""
    lie, steps = orders(program), loops(program)
    return tuple(_count(region.name, op, steps.times(op), lie) for region, op in program.ops())


def _count(region: str, op: Op, times: int, lie: Mapping[Value, Order]) -> OpCount:
    still = moves_nothing(op)
    read, written = (
        0 if still else sum(stored_bytes(v, lie[v]) for v in dict.fromkeys(values))
        for values in (op.inputs, op.results)
    )
    return OpCount(
        region,
        op.origin,
        op.kind,
        tuple(str(v.type) for v in op.inputs),
        tuple(str(v.type) for v in op.results),
        times,
        read,
        written,
        op.result.type.elements if has(op, Trait.CONVERTS) else 0,
        operations(op),
        _product(op) if op.kind in PRODUCTS else None,
    )


def _product(op: Op) -> ProductCount:
    found = nest(op)
    geometry = (found.plane, found.places, found.kernel)
    steps = (found.stride, found.padding, found.dilation)
    sizes = (found.images, found.inputs, found.outputs)
    counts = (macs(op), found.groups, *found.matrices)
    return ProductCount(direction(op.kind), *counts, *sizes, *geometry, *steps)
