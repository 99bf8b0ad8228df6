"""The state of a precision range test: how many bits the first cycle found to be the least."""

from __future__ import annotations

from dataclasses import replace

from ...compiler.errors import RecipeError
from ...compiler.formats import F32
from ...compiler.ir import Attr, Op, Program, Value, attrs, unused
from ...compiler.types import SCALAR, TensorType
from .schedules import SCHEDULE, step_counter

LOW = f"{SCHEDULE}.low"
TEST = f"{SCHEDULE}.test"


def with_range_test(
    program: Program, fallback: int, high: int, iters: int, threshold: float
) -> tuple[Program, Value]:
    """``program`` with the test, and the state that holds the bits found, 0 until then.

    The training accuracy is that of the first cross entropy: the share of the batch whose target
    has the largest number. RecipeError where the loss is none.
    """
    step, taken = step_counter(program, "range_test"), program.names()
    losses = [op for op in program.region("forward").ops if op.kind == "nll_loss"]
    if not losses or not any(r.name == "update" for r in program.regions):
        raise RecipeError(
            "range_test=true measures the training accuracy of each number of bits, and this loss "
            "is no cross entropy; set low instead"
        )
    ops: list[Op] = []
    right = _right(losses[0], ops, taken)
    state = tuple(Value(name, SCALAR) for name in (LOW, f"{TEST}.hits", f"{TEST}.before"))
    after = tuple(Value(unused(f"{v.name}.next", taken), SCALAR) for v in state)
    how = attrs(
        high=high,
        iters=iters,
        batch=losses[0].inputs[1].type.elements,
        threshold=float(threshold),
        fallback=fallback,
    )
    ops.append(Op("range_test", (step, right, *state), after, how, SCHEDULE))
    out = program.with_state(dict.fromkeys(state, 0.0)).append("update", tuple(ops))
    return replace(out, next=(*out.next, *zip(state, after, strict=True))), state[0]


def _right(loss: Op, ops: list[Op], taken: set[str]) -> Value:
    """How many targets of a batch have the largest number of their row; ignored ones have not."""
    y, target = loss.inputs
    rows = TensorType(y.type.shape[:1], F32)

    def new(kind: str, name: str, type_: TensorType, *inputs: Value, **more: Attr) -> Value:
        made = Value(unused(f"{TEST}.{name}", taken), type_)
        ops.append(Op(kind, inputs, (made,), attrs(**more), SCHEDULE))
        return made

    ignored = loss.int_attr("ignore_index")
    there = new("one_hot", "target", TensorType(y.type.shape, F32), target, ignore_index=ignored)
    zero = new("constant", "zero", there.type, value=0.0)
    picked = new("where", "picked", there.type, there, y, zero)
    score = new("sum", "score", rows, picked, dims=(1,), keepdim=False)
    best = new("max", "best", rows, y, dims=(1,), keepdim=False)
    equal = new("compare", "equal", rows, score, best, relation="ge")
    counted = new("sum", "counted", rows, there, dims=(1,), keepdim=False)
    hits = new("mul", "right", rows, equal, counted)
    return new("sum", "hits.now", SCALAR, hits, dims=(0,), keepdim=False)
