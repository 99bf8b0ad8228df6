"""Whether a program treats each sample of its batch alone, so that batches may be cut and joined.

Where a value depends on the batch, the sample that an element belongs to is
``element // stride % samples``, elements counted in row-major order: views keep that, and ops that
work along other dimensions move it. What meets along the samples has no stride, nor has what no
rule below knows. Values without a part of the batch have the dimensions along which they are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

from ..types import BlockScale
from .loops import CARRIED, FEED
from .ops import OPS, Trait, has
from .program import Op, Program, Value


@dataclass(frozen=True, slots=True)
class PerSample:
    """Elements of a sample: ``stride`` elements stand side by side in the order of the value."""

    stride: int


@dataclass(frozen=True, slots=True)
class Shared:
    """No part of the batch; all numbers along dimensions of ``alike`` are the same."""

    alike: frozenset[int] = frozenset()


Flowing = PerSample | Shared | None  # None: samples have met


def samples_apart(program: Program, samples: int) -> bool:
    """Whether row i of each output is of sample i alone, for a batch of more than one sample."""
    return _flow_apart(program, samples) is not None


def sample_axes(program: Program, samples: int) -> Mapping[Value, int] | None:
    """The dimension that grows with the number of samples, of each value that has a part of them.

    None where samples are not apart, or where a value has no such dimension.
    """
    flow = _flow_apart(program, samples)
    if flow is None:
        return None
    found = {v: flow.axis(v) for v, kind in flow.kinds.items() if isinstance(kind, PerSample)}
    axes = {v: axis for v, axis in found.items() if axis is not None}
    met = any(kind is None for kind in flow.kinds.values())
    return None if met or len(axes) < len(found) else axes


def _flow_apart(program: Program, samples: int) -> _Flow | None:
    if any(v.type.shape[:1] != (samples,) for v in program.inputs):
        return None
    flow = _flow_along(program, samples, 0)
    apart = flow is not None and all(
        v.type.shape[:1] == (samples,) and flow.of(v) == PerSample(v.type.elements // samples)
        for v in program.outputs
    )
    return flow if apart else None


def apart_along(program: Program, axis: int) -> bool:
    """Whether no two samples meet where they lie along dimension ``axis`` of all inputs.

    Where outputs have them is left open: they may be flattened.
    """
    sizes = {v.type.shape[axis : axis + 1] for v in program.inputs}
    if len(sizes) != 1 or sizes == {()}:
        return False
    ((samples,),) = sizes
    flow = _flow_along(program, samples, axis)
    return flow is not None and all(isinstance(flow.of(v), PerSample) for v in program.outputs)


def _flow_along(program: Program, samples: int, axis: int) -> _Flow | None:
    """The kinds of all values, samples along a dimension of the inputs.

    None for a single one, and where loops do not keep them apart.
    """
    if samples < 2:
        return None
    flow = _Flow(samples)
    for v in program.inputs:
        flow.kinds[v] = PerSample(prod(v.type.shape[axis + 1 :]))
    for _, op in program.ops():
        flow.follow(op)
    return flow if flow.loops_apart else None


class _Flow:
    """The kinds of all values so far; state is shared."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.kinds: dict[Value, Flowing] = {}
        # Whether all that loops carry is what was taken for it ahead of their ends.
        self.loops_apart = True

    def of(self, v: Value) -> Flowing:
        return self.kinds.get(v, Shared())

    def follow(self, op: Op) -> None:
        """The kinds of the results of ``op``."""
        kinds = [self.of(v) for v in op.inputs]
        made: list[Flowing]
        if has(op, Trait.ENTERS_LOOP) or has(op, Trait.LEAVES_LOOP):
            made = [self._bordering(op)]
        elif None in kinds:
            made = [None for _ in op.results]
        elif all(isinstance(k, Shared) for k in kinds):
            made = [Shared(self._alike(op, r)) for r in op.results]
        else:
            made = [self._moved(op, r) for r in op.results]
        self.kinds.update(zip(op.results, made, strict=True))

    def _bordering(self, op: Op) -> Flowing:
        """The kind of the result of an op at the border of a loop over time steps."""
        kind, shape = self.of(op.inputs[0]), op.inputs[0].type.shape
        if op.kind == CARRIED:
            own = PerSample(op.result.type.elements // self.samples)
            alike = kind == own or (isinstance(kind, Shared) and 0 in kind.alike)
            return own if alike and shape[:1] == (self.samples,) else None
        if op.kind == FEED:
            self.loops_apart &= kind is not None and kind == self.of(op.inputs[1])
            return kind
        one = min(op.inputs[0].type.elements, op.result.type.elements)
        if isinstance(kind, PerSample):
            return kind if kind.stride * self.samples == one else None
        return Shared() if kind else None

    def axis(self, v: Value) -> int | None:
        """The dimension that tells samples apart; None where that takes several."""
        kind, shape = self.of(v), v.type.shape
        assert isinstance(kind, PerSample)
        for d, size in enumerate(shape):
            inner = prod(shape[d + 1 :])
            span = kind.stride * self.samples
            if kind.stride % inner == 0 and inner * size % span == 0:
                return d
        return None

    def _alike(self, op: Op, made: Value) -> frozenset[int]:
        """The dimensions along which a result of shared operands is the same."""
        every = frozenset(range(len(made.type.shape)))
        if not op.inputs:
            return every if op.kind == "constant" else frozenset()
        pairs = [(k, v) for v in op.inputs if isinstance(k := self.of(v), Shared)]
        kinds = [k for k, _ in pairs]
        shape, first = op.inputs[0].type.shape, kinds[0].alike
        if op.kind == "broadcast":
            kept = _kept(op)
            return frozenset(op.ints_attr("dims")) | {kept[d] for d in first}
        if op.kind == "view":
            outer = {(prod(shape[:d]), shape[d]) for d in first}
            new = made.type.shape
            whole = len(first) == len(shape)
            return (
                every if whole else every & {d for d in every if (prod(new[:d]), new[d]) in outer}
            )
        if op.kind in REPEATING:
            return frozenset(d for d in every if all(_same(k, v, made, d) for k, v in pairs))
        if op.kind == "take" and isinstance(index := self.of(op.inputs[1]), Shared):
            return frozenset(d + 1 for d in index.alike)
        if has(op, Trait.POINTWISE) and all(v.type.shape == made.type.shape for v in op.inputs):
            return frozenset.intersection(*(k.alike for k in kinds))
        leading = [v for v in op.inputs if _named(self, op, v, 0) == 0]
        alike = all(isinstance(k := self.of(v), Shared) and 0 in k.alike for v in leading)
        return frozenset({0}) if leading and alike else frozenset()

    def _moved(self, op: Op, made: Value) -> Flowing:
        """The kind of a result of an op with a part of the batch among its operands."""
        if op.kind == "view":
            return self.of(op.inputs[0])
        parts = {v: self.axis(v) for v in self._parts(op)}
        rule = RULES.get(op.kind, _named)
        axes = {None if axis is None else rule(self, op, v, axis) for v, axis in parts.items()}
        (axis, *others) = axes
        if axis is None or others or not self._others_alike(op, made, axis):
            return None
        strides = {self._stride(v, made, axis) for v in parts}
        (stride, *more) = strides
        return None if more or stride is None else PerSample(stride)

    def _parts(self, op: Op) -> Iterator[Value]:
        return (v for v in op.inputs if isinstance(self.of(v), PerSample))

    def _stride(self, v: Value, made: Value, to: int) -> int | None:
        """The stride where the dimension that tells samples apart has gone to ``to``."""
        kind, axis = self.of(v), self.axis(v)
        assert isinstance(kind, PerSample) and axis is not None
        if v.type.shape[axis] != made.type.shape[to]:
            return None
        return kind.stride // prod(v.type.shape[axis + 1 :]) * prod(made.type.shape[to + 1 :])

    def _others_alike(self, op: Op, made: Value, axis: int) -> bool:
        """Whether operands of the result's shape that are shared are alike along the samples."""
        return all(
            axis in kind.alike
            for v in op.inputs
            if isinstance(kind := self.of(v), Shared)
            and (v.type.shape == made.type.shape or op.kind == "cat")
            and v.type.shape
        )


AxisRule = Callable[[_Flow, Op, Value, int], int | None]


def _named(flow: _Flow, op: Op, v: Value, axis: int) -> int | None:
    """By the signature: pointwise along any dimension but channels, else along the first one."""
    definition = OPS[op.kind]
    patterns = definition.operand(op.inputs.index(v)).patterns[0]
    made = definition.results[0].patterns[0]
    if not patterns or not made or patterns[0] != made[0]:
        return None
    if has(op, Trait.POINTWISE) and patterns == made:
        return axis if patterns == ("*S",) or axis != 1 else None
    return axis if axis == 0 or patterns[0] == "*S" else None


def _permuted(flow: _Flow, op: Op, v: Value, axis: int) -> int | None:
    return op.ints_attr("dims").index(axis)


def _kept(op: Op) -> list[int]:
    """Where the dimensions of the operand of a broadcast are in its result."""
    rank, dims = len(op.result.type.shape), op.ints_attr("dims")
    every = range(rank)
    return [*every] if len(op.inputs[0].type.shape) == rank else [d for d in every if d not in dims]


def _broadcast(flow: _Flow, op: Op, v: Value, axis: int) -> int | None:
    return _kept(op)[axis]


def _reduced(flow: _Flow, op: Op, v: Value, axis: int) -> int | None:
    dims = op.ints_attr("dims")
    if axis in dims:
        return None
    return axis if op.bool_attr("keepdim") else axis - sum(d < axis for d in dims)


def _along(flow: _Flow, op: Op, v: Value, axis: int) -> int | None:
    return None if op.int_attr("dim") == axis else axis


def _padded(flow: _Flow, op: Op, v: Value, axis: int) -> int | None:
    return axis if v.type.shape[axis] == op.result.type.shape[axis] else None


def _product(flow: _Flow, op: Op, v: Value, axis: int) -> int | None:
    """Batches of matrices, rows of the first ones, columns of the second ones."""
    a, b = op.inputs
    alone = a != b and len([*flow._parts(op)]) == 1
    if axis == 0:
        return None if alone else 0
    return axis if alone and axis == (1 if v == a else 2) else None


def _aligned(v: Value, made: Value, d: int) -> int:
    """The dimension of an operand that repeats to a result along the result's dimension ``d``."""
    return d - (len(made.type.shape) - len(v.type.shape))


def _same(kind: Shared, v: Value, made: Value, d: int) -> bool:
    """Whether an operand that repeats to a result is the same along the result's dimension."""
    own = _aligned(v, made, d)
    return own < 0 or v.type.shape[own] == 1 or own in kind.alike


def _repeated(flow: _Flow, op: Op, v: Value, axis: int) -> int | None:
    to = axis + len(op.result.type.shape) - len(v.type.shape)
    shared = ((k, o) for o in op.inputs if isinstance(k := flow.of(o), Shared))
    return to if all(_same(k, o, op.result, to) for k, o in shared) else None


def _taken(flow: _Flow, op: Op, v: Value, axis: int) -> int | None:
    """Along the rows' own dimensions, or those of an index into rows that all samples share."""
    rank = len(op.result.type.shape)
    if op.inputs.index(v) == 0:
        whole = isinstance(flow.of(op.inputs[1]), Shared)
        return {0: 0, 2: rank - 1}.get(axis) if whole else None
    return axis + 1 if isinstance(flow.of(op.inputs[0]), Shared) else None


def _gathered(flow: _Flow, op: Op, v: Value, axis: int) -> int | None:
    """Along a dimension that all operands have, where none is shared and differs there."""
    shared = (k for o in op.inputs if isinstance(k := flow.of(o), Shared))
    return axis if axis != 1 and all(axis in k.alike for k in shared) else None


def _blocked(flow: _Flow, op: Op, v: Value, axis: int) -> int | None:
    """Along dimensions that blocks do not reach along."""
    scale = op.result.type.scale
    alone = isinstance(scale, BlockScale) and (scale.outer or scale.block)[axis] == 1
    return axis if alone else None


REPEATING = ("whole", "whole_compare", "whole_where")
RULES: Mapping[str, AxisRule] = {
    **dict.fromkeys(REPEATING, _repeated),
    **dict.fromkeys(("gather", "scatter", "cumsum"), _gathered),
    "take": _taken,
    **dict.fromkeys(("scale_blocks", "fit_blocks", "scale_blocks_nested"), _blocked),
    "permute": _permuted,
    "broadcast": _broadcast,
    **dict.fromkeys(("sum", "mean", "max"), _reduced),
    **dict.fromkeys(("slice", "cat", "resample"), _along),
    "pad": _padded,
    **dict.fromkeys(("matmul", "product"), _product),
}
