"""Steps that are not applied: a count of those whose loss or gradients are no finite numbers.

Micikevicius et al., "Mixed Precision Training" (ICLR 2018), section 3.2: "skip the update when an
overflow is detected and simply move on to the next iteration".

    skipped' = skipped + 1 where one of these is infinite or NaN, else skipped
        the loss
        what each update reads: its gradient, or max |dY| where that gradient is a product of codes
        the running statistics to come

Codes saturate, so that a gradient made of them is finite whatever was rounded to them: there max
|dY|, which GradScale knows anyway, tells, and dW is not read again. Who runs the program compares
``skipped`` before and after, and where it grew keeps the state of before, but for the count and
for the states that react (``reacting``): GradScale halves the scale of a layer that overflowed.
"""

from __future__ import annotations

from dataclasses import replace

from ..compiler.formats import F16, F32, I64
from ..compiler.ir import Op, Program, Value, unused
from ..compiler.ops import WEIGHT_GRADS
from ..compiler.types import Scale, TensorType
from .optimized import gradient, updates

SKIPPED = "skipped"
# Ops that make state which reacts to an overflow, so that the next step does better.
REACTING = frozenset({"grad_scale_step"})
STATISTICS = frozenset({"running_stats", "running_average"})
# Larger tensors are reduced by kernels of their own, which all threads share.
FEW = 4096
SCALAR = TensorType((), F32)


def skip_nonfinite(program: Program) -> Program:
    """Count, as the state ``skipped``, the steps that must not be applied.

    A program that counts them already, or that trains nothing, stays as it is.
    """
    trained = updates(program, clips=True)
    if not trained or counter(program) is not None:
        return program.done("skip_nonfinite")
    looked = _Looking(program)
    numbers = dict.fromkeys((program.outputs[0], *looked.gradients(trained), *looked.statistics()))
    seen = dict.fromkeys(looked.small(v) for v in numbers)
    before = Value(unused(SKIPPED, looked.taken), TensorType((), I64))
    after = Value(unused(f"{SKIPPED}.next", looked.taken), before.type)
    for region, ops in looked.ops.items():
        program = program.append(region, tuple(ops))
    tally = Op("tally", (before, *seen), (after,), origin="optimizer")
    program = program.with_state({before: 0.0}).append("update", (tally,))
    return replace(program, next=(*program.next, (before, after))).done("skip_nonfinite")


def counter(program: Program) -> Value | None:
    """The state that counts the steps not applied; None where the program has none."""
    makers = program.producers()
    return next((s for s, v in program.next if makers[v].kind == "tally"), None)


def reacting(program: Program) -> tuple[Value, ...]:
    """The states that a step changes even where it is not applied, beside its count."""
    makers = program.producers()
    return tuple(s for s, v in program.next if makers[v].kind in REACTING)


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
                found.append(self.telling(v))
        return found

    def telling(self, v: Value) -> Value:
        """A value that is finite exactly if the gradient ``v`` is one of finite numbers."""
        op = self.product(v)
        if op is None or op.kind not in WEIGHT_GRADS or not all(map(_is_code, op.inputs)):
            return v
        g = op.inputs[0]
        while g.type.format.is_coded and g in self.makers:
            g = self.makers[g].inputs[0]
        known = [r.result for r in self.readers[g] if r.kind == "amax"]
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
        return [v for _, v in self.program.next if self.makers[v].kind in STATISTICS]

    def small(self, v: Value) -> Value:
        """The value itself, or of a larger one its largest magnitude."""
        if v.type.elements <= FEW and len(v.type.shape) <= 2:
            return v
        largest = Value(unused(f"{v.name}.amax", self.taken), SCALAR)
        origin = self.makers[v].origin if v in self.makers else "optimizer"
        region = "backward" if self.region.get(v) == "backward" else "update"
        self.ops[region].append(Op("amax", (v,), (largest,), origin=origin))
        return largest


def _is_code(v: Value) -> bool:
    return v.type.format.is_coded and v.type.scale is not Scale.NONE
