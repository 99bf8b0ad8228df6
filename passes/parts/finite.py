"""What there is to look at in a step to know whether all its gradients are finite.

    the loss; of a program whose loss is outside of it the largest number of its first output
    what each update reads: its gradient, or max |dY| where that gradient is a product of codes
    the running statistics to come

Codes saturate, so that a gradient made of them is finite whatever was rounded to them: there max
|dY|, which GradScale knows anyway, tells, and dW is not read again. Sums in a 16-bit accumulator
may overflow all the same: there dW is looked at as well.
"""

from __future__ import annotations

from ...compiler.formats import F16
from ...compiler.ir import Op, Program, Value, unused
from ...compiler.ir.accumulation import accumulation
from ...compiler.ir.ops import WEIGHT_GRADS, Trait, has
from ...compiler.types import SCALAR, Scale
from .optimized import gradient, updates

# Larger tensors are reduced by kernels of their own, which all threads share.
FEW = 4096


def watched(program: Program, *, statistics: bool = True) -> tuple[Program, tuple[Value, ...]]:
    """Numbers that are all finite exactly if the step may be applied, and the program with the
    reductions that they take. A program that another pass has asked for them has them already.

    The loss is the first of them; without ``statistics`` the others are of gradients alone.
    """
    looked = _Looking(program)
    trained = updates(program, clips=True)
    kept = looked.statistics() if statistics else []
    loss = next(v for v in program.outputs if v.type.format.is_carrier)
    numbers = dict.fromkeys((*looked.gradients(trained), *kept))
    first = looked.largest(loss) if loss.type.shape else loss
    seen = dict.fromkeys((first, *map(looked.small, numbers)))
    for region, ops in looked.ops.items():
        program = program.append(region, tuple(ops))
    return program, tuple(seen)


class _Looking:
    """What there is to look at, and the reductions that this takes, by region."""

    def __init__(self, program: Program) -> None:
        self.program, self.taken = program, program.names()
        self.makers, self.readers = program.producers(), program.readers()
        self.region = {v: r.name for r, op in program.ops() for v in op.results}
        self.ops: dict[str, list[Op]] = {"backward": [], "update": []}

    def gradients(self, trained: tuple[Op, ...]) -> list[Value]:
        """Of each update what tells whether its gradient is finite."""
        given, waiting = set[Value](), [gradient(op) for op in trained]
        found = list[Value]()
        for v in waiting:
            if v in given or v in self.program.state:
                continue
            given.add(v)
            if self.region.get(v) == "update":
                waiting += self.makers[v].inputs
            else:
                found += [self.telling(v), *self.sums(v)]
        return found

    def sums(self, v: Value) -> tuple[Value, ...]:
        """The gradient ``v`` itself where the sums behind it may overflow."""
        op = self.product(v)
        return () if op is None or accumulation(op) is None else (v,)

    def telling(self, v: Value) -> Value:
        """A value that is finite exactly if the gradient ``v`` is one of finite numbers."""
        op = self.product(v)
        if op is None or op.kind not in WEIGHT_GRADS or not all(map(_is_code, op.inputs)):
            return v
        g = op.inputs[0]
        while g.type.format.is_coded and g in self.makers:
            g = self.makers[g].inputs[0]
        known = [r.result for r in self.readers.get(g, ()) if r.kind == "amax"]
        # In f16 a scaled gradient overflows where the gradient itself does not.
        if known and g.type.format is not F16:
            return known[0]
        while g.type.scale is not Scale.NONE and g in self.makers:
            g = self.makers[g].inputs[0]
        return g

    def product(self, v: Value) -> Op | None:
        """What made ``v``, behind the scales of rows and the mask of clipped weights, if any."""
        op = self.makers.get(v)
        while op is not None and (op.kind == "pact_grad" or self._scales_rows(op)):
            op = self.makers.get(op.inputs[0])
        return op

    def _scales_rows(self, op: Op) -> bool:
        rows = self.makers.get(op.inputs[1]) if op.kind == "mul" else None
        scales = self.makers.get(rows.inputs[0]) if rows and rows.inputs else None
        return scales is not None and scales.kind == "channel_scales"

    def statistics(self) -> list[Value]:
        """What becomes of running statistics."""
        return [v for _, v in self.program.next if has(self.makers[v], Trait.RUNNING)]

    def small(self, v: Value) -> Value:
        """The value itself, or of a larger one its largest magnitude."""
        few = v.type.elements <= FEW and len(v.type.shape) <= 2
        return v if few else self.largest(v)

    def largest(self, v: Value) -> Value:
        """The largest magnitude of a value."""
        known = [r.result for r in self.readers.get(v, ()) if r.kind == "amax"]
        if known:
            return known[0]
        largest = Value(unused(f"{v.name}.amax", self.taken), SCALAR)
        origin = self.makers[v].origin if v in self.makers else "optimizer"
        region = "backward" if self.region.get(v) == "backward" else "update"
        self.ops[region].append(Op("amax", (v,), (largest,), origin=origin))
        return largest


def _is_code(v: Value) -> bool:
    return v.type.format.is_coded and v.type.scale is not Scale.NONE
