"""Over steps: what a step of a network's time loop makes, for what stands outside of the loop.

A recipe sees the products of a recurrent layer as those of one time step. What it adds may read
values of each step from outside: clips and scales of the update, statistics. Here they get what
such a value means over all steps, which its op says:

    a gradient                     the sum over the steps
    a largest magnitude            the largest one
    ends of a range, statistics    their mean
    any other number               that of the last step

    first scale of a gradient      from the gradient that enters the loop, as the rest of it is not
                                   known ahead of the loop
    draws of a stochastic op       each step draws numbers of its own
    dW, where the scales of its    one product behind the loop, over the rows of all steps, as the
    operands are those of all      sum of the steps' products would be; "Ultra-Low Precision 4-bit
    steps                          Training" (Sun et al., NeurIPS 2020) has one scale for a layer

It ends a recipe; a program without loops stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..compiler.formats import I64
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.ir.analysis import without_dead
from ..compiler.ir.loops import CARRIED, FEED, Loop, ProgramLoops, loops
from ..compiler.ir.ops import OPS, WEIGHT_GRADS, Trait, has
from ..compiler.types import BlockScale, Scale, TensorType
from .parts.order import placed


@placed(after=("recompute", "canonicalize", "skip_nonfinite"))
def over_steps(program: Program) -> Program:
    """Give what is outside of the loops over time steps numbers that are of all steps."""
    if not loops(program).of:
        return program.done("over_steps")
    out = _first_scales(program)
    out = _Products(out).run()
    out = _Draws(out).run()
    return without_dead(_Joins(out).run()).done("over_steps")


def _appended(program: Program, ops: dict[str, list[Op]]) -> Program:
    for region, more in ops.items():
        program = program.append(region, tuple(more)) if more else program
    return program


def _first_scales(program: Program) -> Program:
    """Scales that the first step starts read the gradient that enters the loop."""
    found, made = loops(program), program.producers()

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        loop = found.around(op)
        starts = has(op, Trait.STARTS_SCALE) and not op.attrs.get("always", False)
        if loop is None or not starts or region.name != "backward":
            return None
        state, g = op.inputs
        return (replace(op, inputs=(state, _entering(g, loop, found, made) or g)),)

    return program.rewrite(rule)


def _entering(g: Value, loop: Loop, found: ProgramLoops, made: dict[Value, Op]) -> Value | None:
    """The rows, or else the last step's own gradient, that a gradient of a step is made of."""
    todo, seen = [g], {g}
    carried: list[Value] = []
    for v in todo:
        op = made.get(v)
        if op is None or found.of.get(v) is not loop:
            continue
        if op.kind == "rows_of_step":
            return op.inputs[0]
        if op.kind == CARRIED:
            carried.append(op.inputs[0])
            continue
        todo += [i for i in op.inputs if i not in seen]
        seen.update(op.inputs)
    return next(iter(carried), None)


class _Products:
    """dW of all steps as one product, where their operands have one scale."""

    def __init__(self, program: Program) -> None:
        self.program, self.taken = program, program.names()
        self.found, self.made = loops(program), program.producers()

    def run(self) -> Program:
        """The program without dW in its loops."""
        products = {op.result: self._product(op) for _, op in self.program.ops() if op.kind == FEED}

        def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
            product = products.get(op.result) if op.kind == FEED else None
            return self._once(product, op) if product else None

        return self.program.rewrite(rule)

    def _product(self, feed: Op) -> Op | None:
        """The dW that is added up to the last of ``feed``, if it can stand behind the loop."""
        so_far, after = feed.inputs
        added, first = self.made.get(after), self.made.get(self.made[so_far].inputs[0])
        sums = added is not None and added.kind == "add" and added.inputs[0] is so_far
        zeros = first is not None and first.attrs.get("value") == 0.0
        if added is None or not (sums and zeros):
            return None
        op = self.made.get(added.inputs[1])
        # The rows of all steps are one sum only where a product sums over its rows.
        if op is None or op.kind not in WEIGHT_GRADS or OPS[op.kind].summed != {0, 1}:
            return None
        return op if all(v in self.found.of and self.one_scale(v) for v in op.inputs) else None

    def one_scale(self, v: Value) -> bool:
        """Whether the numbers of all steps have one scale."""
        op = self.made.get(v)
        if v.type.scale is Scale.NONE or op is None or self.found.around(op) is None:
            return True
        if isinstance(v.type.scale, BlockScale):
            return False
        return all(self._of_all_steps(i, v) for i in op.inputs)

    def _of_all_steps(self, operand: Value, made: Value) -> bool:
        """Whether an operand of a quantizer is one of all steps, or data of one scale."""
        if operand not in self.found.of or operand.type.format.is_index:
            return True
        return operand.type.shape == made.type.shape and self.one_scale(operand)

    def _once(self, product: Op, feed: Op) -> tuple[Op, ...]:
        ahead = tuple(self._rows(v, product.origin) for v in product.inputs)
        results = (Value(feed.result.name, feed.result.type),)
        return (*ahead, replace(product, inputs=tuple(op.result for op in ahead), results=results))

    def _rows(self, v: Value, origin: str) -> Op:
        loop = self.found.of[v]
        type_ = replace(v.type, shape=(v.type.shape[0] * loop.count, *v.type.shape[1:]))
        made = Value(unused(f"{v.name}.steps", self.taken), type_)
        return Op("all_steps", (v, loop.counter), (made,), origin=origin)


class _Draws:
    """Stochastic ops of a loop count its steps."""

    def __init__(self, program: Program) -> None:
        self.program, self.found, self.taken = program, loops(program), program.names()
        self.counts: dict[tuple[Value, Loop], Value] = {}

    def run(self) -> Program:
        """The program with a number of its own for each step of each loop."""
        return self.program.rewrite(self._rule)

    def _rule(self, region: Region, op: Op) -> tuple[Op, ...] | None:
        loop, place = self.found.around(op), OPS[op.kind].place("step")
        if loop is None or not OPS[op.kind].random or place is None:
            return None
        ahead: tuple[Op, ...] = ()
        step = op.inputs[place]
        if (step, loop) not in self.counts:
            ahead = self._counted(step, loop, op.origin)
            self.counts[step, loop] = ahead[-1].result
        inputs = [*op.inputs]
        inputs[place] = self.counts[step, loop]
        return (*ahead, replace(op, inputs=tuple(inputs)))

    def _counted(self, step: Value, loop: Loop, origin: str) -> tuple[Op, ...]:
        """step * count + t"""
        integer = TensorType((), I64)
        many, before, now = (
            Value(unused(f"{loop.counter.name}.{part}", self.taken), integer)
            for part in ("count", "before", "now")
        )
        return (
            Op("whole_table", (), (many,), attrs(numbers=(loop.count,)), origin),
            Op("whole", (step, many), (before,), attrs(function="mul"), origin),
            Op("whole", (before, loop.counter), (now,), attrs(function="add"), origin),
        )


class _Joins:
    """What the update, the next state and the outputs read of values of each step."""

    def __init__(self, program: Program) -> None:
        self.program, self.taken = program, program.names()
        self.found, self.made = loops(program), program.producers()
        self.ops: dict[str, list[Op]] = {r.name: [] for r in program.regions}
        self.joined: dict[Value, Value] = {}

    def run(self) -> Program:
        """The program in which they read one number of all steps."""
        out = self.program
        update = [replace(op, inputs=self._all(op.inputs)) for op in out.region("update").ops]
        regions = (Region(r.name, tuple(update)) if r.name == "update" else r for r in out.regions)
        next_ = tuple(zip((s for s, _ in out.next), self._all(v for _, v in out.next), strict=True))
        out = replace(out, regions=tuple(regions), outputs=self._all(out.outputs), next=next_)
        return _appended(out, self.ops)

    def _all(self, values: Iterator[Value] | tuple[Value, ...]) -> tuple[Value, ...]:
        return tuple(self._joined(v) if v in self.found.of else v for v in values)

    def _joined(self, v: Value) -> Value:
        if v not in self.joined:
            self.joined[v] = self._join(v, self.made[v], self.found.of[v])
        return self.joined[v]

    def _join(self, v: Value, op: Op, loop: Loop) -> Value:
        if has(op, Trait.ADDS_UP) or op.kind in WEIGHT_GRADS:
            return self._folded("add", v, loop, op.origin)
        if has(op, Trait.LARGEST):
            return self._folded("maximum", v, loop, op.origin)
        if has(op, Trait.AVERAGES):
            total = self._folded("add", v, loop, op.origin)
            return self._op("scale", (total,), v, "mean", loop, op.origin, factor=1 / loop.count)
        return self._folded("", v, loop, op.origin)

    def _folded(self, kind: str, v: Value, loop: Loop, origin: str) -> Value:
        """The values of all steps, one with the other; without a kind of op the last one."""
        zero = self._op("constant", (), v, "none", loop, origin, value=0.0)
        so_far = self._op(CARRIED, (zero, loop.counter), v, "so_far", loop, origin)
        more = self._op(kind, (so_far, v), v, "with", loop, origin) if kind else v
        return self._op(FEED, (so_far, more), v, "all", loop, origin)

    def _op(
        self,
        kind: str,
        inputs: tuple[Value, ...],
        like: Value,
        part: str,
        loop: Loop,
        origin: str,
        **attributes: float,
    ) -> Value:
        made = Value(unused(f"{like.name}.{part}", self.taken), like.type)
        op = Op(kind, inputs, (made,), attrs(**attributes), origin)
        self.ops[loop.region].append(op)
        return made
