"""A training program opened: the optimizer is the user's, and all state comes from outside.

parameters     inputs; their gradients are outputs, and their updates are gone
other state    inputs, and outputs for what becomes of it
at forward     what becomes of state without a gradient: running statistics, counters
at backward    the rest: learned clips, scales of gradients; made of the state of that moment,
               which other backwards may have changed since the forward
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...compiler.errors import RecipeError
from ...compiler.ir import STEP, Op, Program, Region, Value, unused
from ...compiler.ir.analysis import without_dead
from ...compiler.ir.ops import Trait, has
from ...compiler.ir.verify import verify
from ...passes.parts.optimized import gradient
from ...passes.skip_nonfinite import reacting, skip_counter

StatePairs = tuple[tuple[Value, Value], ...]


@dataclass(frozen=True, slots=True)
class OpenProgram:
    """The program without state, and by the name of the state what its values are.

    ``results`` are the outputs that it had. ``gradients`` are those of parameters, ``written`` what
    becomes of other state; ``now`` are inputs for the state as it is at backward. ``count`` is the
    state that counts backwards to be left out, but for the states that are ``reacting``.
    """

    program: Program
    results: tuple[Value, ...]
    gradients: Mapping[str, Value]
    written: Mapping[str, Value]
    now: Mapping[str, Value]
    count: str = ""
    reacting: frozenset[str] = frozenset()


def opened(program: Program, parameters: frozenset[str], outside: frozenset[Value]) -> OpenProgram:
    """``program`` with the states called ``parameters`` left to the user's optimizer.

    ``outside`` are the inputs that come at backward. RecipeError for a recipe that makes the
    weights itself.
    """
    counter = skip_counter(program)
    react = frozenset(s.name for s in reacting(program))
    results = program.outputs
    gradients, pairs = _handed_over(program, parameters)
    made = tuple(dict.fromkeys((*results, *gradients.values())))
    program = without_dead(replace(program, outputs=made, next=pairs))
    program = _without_unread(program)
    late = _after(program, outside)
    program = _early(program, late)
    program, now = _at_backward(program, late)
    written = {s.name: v for s, v in program.next}
    return OpenProgram(
        verify(_without_state(program, now)),
        results,
        gradients,
        written,
        {s.name: n for s, n in now.items()},
        counter.name if counter else "",
        react & written.keys(),
    )


def _handed_over(
    program: Program, parameters: frozenset[str]
) -> tuple[dict[str, Value], StatePairs]:
    """The gradient of each parameter, and the pairs of state that are left."""
    makers, gradients, gone = program.producers(), dict[str, Value](), set[Op]()
    for s, v in program.next:
        if s.name not in parameters:
            continue
        op = makers[v]
        if not has(op, Trait.UPDATE) or op.inputs[0] is not s:
            raise RecipeError(
                f"the recipe makes the weights of layer {op.origin!r} itself, by {op.kind}, and "
                "under torch.compile your optimizer does; take another recipe, or quatrain.compile"
            )
        gradients[s.name] = gradient(op)
        gone.add(op)
    return gradients, tuple(pair for pair in program.next if makers[pair[1]] not in gone)


def _without_unread(program: Program) -> Program:
    """Without the count of steps where nothing reads it."""
    makers = program.producers()
    for s, v in program.next:
        readers = program.readers().get(s, [])
        if s.name == STEP and readers == [makers[v]]:
            rest = tuple(pair for pair in program.next if pair[0] is not s)
            state = tuple(other for other in program.state if other is not s)
            return without_dead(replace(program, next=rest, state=state))
    return program


def _after(program: Program, sources: frozenset[Value]) -> set[Value]:
    """What depends on ``sources``."""
    found = set(sources)
    for _, op in program.ops():
        if not found.isdisjoint(op.inputs):
            found.update(op.results)
    return found


def _early(program: Program, late: set[Value]) -> Program:
    """With all that makes state without a gradient in the forward."""
    needed = {v for _, v in program.next if v not in late}
    moved = set[Op]()
    for region, op in reversed(list(program.ops())):
        if not needed.isdisjoint(op.results):
            needed.update(op.inputs)
            if region.name != "forward":
                moved.add(op)
    ahead = tuple(op for _, op in program.ops() if op in moved)
    regions = []
    for region in program.regions:
        kept = tuple(op for op in region.ops if op not in moved)
        regions.append(Region(region.name, (*kept, *ahead) if region.name == "forward" else kept))
    return replace(program, regions=tuple(r for r in regions if r.ops or r.name == "forward"))


def _at_backward(program: Program, late: set[Value]) -> tuple[Program, dict[Value, Value]]:
    """Inputs for state that backward changes, as it is then; its update reads them.

    So does all of backward where the forward does not read the state.
    """
    taken, now = program.names(), dict[Value, Value]()
    forward = {v for op in program.region("forward").ops for v in op.inputs}
    for s, v in program.next:
        if v in late:
            now[s] = Value(unused(f"{s.name}.now", taken), s.type)

    def current(region: str, v: Value) -> Value:
        if region == "forward" or (region == "backward" and v in forward):
            return v
        return now.get(v, v)

    regions = tuple(
        Region(
            r.name,
            tuple(replace(op, inputs=tuple(current(r.name, v) for v in op.inputs)) for op in r.ops),
        )
        for r in program.regions
    )
    return replace(program, regions=regions), now


def _without_state(program: Program, now: Mapping[Value, Value]) -> Program:
    """All state as inputs, what becomes of it as outputs; inputs that nothing reads are gone."""
    outputs = tuple(dict.fromkeys((*program.outputs, *(v for _, v in program.next))))
    read = {*outputs, *(v for _, op in program.ops() for v in op.inputs)}
    every = (*program.inputs, *program.state, *now.values())
    return replace(
        program,
        inputs=tuple(v for v in every if v in read),
        state=(),
        next=(),
        initial={},
        outputs=outputs,
    )
