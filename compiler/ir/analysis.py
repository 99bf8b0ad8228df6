"""Facts about programs: what is saved for backward, MACs by format, the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import networkx as nx

from ..types import BLOCK_SCALES, Scale, TensorType
from .loops import COUNTER, loops
from .ops import BETWEEN_ACTIVATIONS, OPS, PRODUCTS, TRANSPOSED
from .program import Op, Program, Region, Value


def is_training(program: Program) -> bool:
    """Whether the program computes gradients; one that evaluates has a forward region alone."""
    return any(r.name == "backward" for r in program.regions)


def saved(program: Program) -> tuple[Value, ...]:
    """What crosses from forward to later regions: a set difference, in order of definition.

    Parameters and other state are left out; program inputs are not: a batch that backward reads
    stays in memory too. Which loop a value is of is no number.
    """
    ops = (op for op in program.region("forward").ops if op.kind != COUNTER)
    made = [*program.inputs, *(r for op in ops for r in op.results)]
    later = [op for name in ("backward", "update") for op in program.region(name).ops]
    used = {v for op in later for v in op.inputs}
    return tuple(v for v in made if v in used)


def without_dead(program: Program) -> Program:
    """The program without ops that neither an output nor a next state needs; itself if all are.

    What is carried from step to step of a loop needs what feeds it.
    """
    made, feeds = program.producers(), loops(program).feeds
    live: set[Op] = set()
    todo = [*program.outputs, *(v for _, v in program.next)]
    while todo:
        v = todo.pop()
        op = made.get(v)
        if op is None or op in live:
            continue
        live.add(op)
        todo += op.inputs
        todo += [r for x in op.results if x in feeds for r in feeds[x].results]
    if all(op in live for _, op in program.ops()):
        return program
    regions = (Region(r.name, tuple(op for op in r.ops if op in live)) for r in program.regions)
    return replace(program, regions=tuple(regions))


def graph(program: Program) -> nx.DiGraph[Op]:
    """Ops as nodes; an edge from the maker of a value to each of its readers."""
    made = program.producers()
    g: nx.DiGraph[Op] = nx.DiGraph()
    for _, op in program.ops():
        g.add_node(op)
        g.add_edges_from((made[v], op) for v in op.inputs if v in made)
    return g


@dataclass(frozen=True, slots=True)
class Gemm:
    """One GEMM of the program: multiply-accumulates, its two operands as stored, direction.

    Of one in a loop ``macs`` are those of all steps.

    An operand that ``dequantize`` makes of numbers that have no product is stored as those.
    """

    op: Op
    region: str
    direction: str
    macs: int
    operands: tuple[TensorType, TensorType]

    @property
    def formats(self) -> tuple[str, str]:
        """Format names of both operands, in the order of the signature."""
        a, b = (t.format.name for t in self.operands)
        return a, b

    @property
    def bits(self) -> int:
        """Bits of the wider operand."""
        return max(t.format.bits for t in self.operands)

    @property
    def quantized(self) -> bool:
        """Whether both operands are codes."""
        return all(t.format.is_coded and t.scale is not Scale.NONE for t in self.operands)


def gemms(program: Program) -> list[Gemm]:
    """All GEMMs in program order."""
    made, found = program.producers(), loops(program)

    def stored(v: Value) -> TensorType:
        op = made.get(v)
        if op and op.kind == "dequantize" and not op.inputs[0].type.scale.is_factor:
            return op.inputs[0].type
        return _of_blocks(op, made) or v.type

    return [
        Gemm(
            *(op, region.name, direction(op.kind)),
            macs(op) * found.times(op),
            (stored(a), stored(b)),
        )
        for region, op in program.ops()
        if op.kind in PRODUCTS
        for a, b in [op.inputs]
    ]


def _of_blocks(op: Op | None, made: Mapping[Value, Op]) -> TensorType | None:
    """The codes of numbers that are multiplied by the scales of their blocks; see blocks_apart."""
    if op is None or op.kind != "mul":
        return None
    code, scale = (made.get(v) for v in op.inputs)
    passed = set()
    while scale and scale.kind in ("broadcast", "view", "slice"):
        passed.add(scale.kind)
        scale = made.get(scale.inputs[0])
    if code and scale and scale.kind == "clamp_min":  # f32 of larger blocks
        return _of_blocks(code, made)
    if not (code and scale and code.kind == "dequantize"):
        return None
    if scale.kind == "fit_scale":  # f32, which is read as it is
        return code.inputs[0].type
    if scale.kind != "dequantize" or "broadcast" not in passed:
        return None
    return code.inputs[0].type if scale.inputs[0].type.format in BLOCK_SCALES else None


def direction(kind: str) -> str:
    """``forward``, ``dX`` or ``dW``; ``product`` for one that belongs to no layer."""
    found = OPS[kind].direction
    return found.value if found else "product"


def macs(op: Op) -> int:
    """Multiply-accumulates of a GEMM: places of the output times the length of each dot product,
    and for transposed convolutions places of the input times what each is multiplied by.

    Products with the zero border count, as everybody counts them.
    """
    role = direction(op.kind)
    first, second, made = (v.type.shape for v in (*op.inputs, op.result))
    if op.kind == "matmul" or op.kind in BETWEEN_ACTIVATIONS:
        return prod(first) * (second[1] if role == "dX" else second[2])
    small = made if role == "forward" else first
    if op.kind in TRANSPOSED:
        small = {"forward": first, "dX": made, "dW": second}[role]
    weight = made if role == "dW" else second
    return prod(small) * prod(weight[1:])
