"""Which tensor lives when, in which format and where in memory: of a plan, or of the program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from ...compiler.ir import Op, Program, Value
from ...compiler.ir.analysis import saved
from ...compiler.ir.loops import loops
from ...targets.plan.layout import orders
from ...targets.plan.memory import Lifetime, place
from ...targets.plan.plan import Plan
from ..report.stored_bytes import stored_bytes

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class TensorLife:
    """A buffer from step ``first`` to ``last`` of the plan's kernels, or of the program's ops.

    ``kept`` are those that forward makes and a later region reads.
    """

    name: str
    layer: str
    format: str
    type: str
    bytes: int
    offset: int
    first: int
    last: int
    kept: bool


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """The memory between kernels: its size, its buffers, and where each region begins.

    ``planned`` is false where no target was asked: buffers are then placed op by op.
    """

    size: int
    steps: int
    regions: tuple[tuple[str, int], ...]
    lives: tuple[TensorLife, ...]
    planned: bool

    @property
    def peak(self) -> tuple[int, int]:
        """The most bytes that live at one time, and at which step that is."""
        change = [0] * (self.steps + 2)
        for life in self.lives:
            change[life.first] += life.bytes
            change[life.last + 1] -= life.bytes
        now, most, at = 0, 0, 0
        for step, delta in enumerate(change):
            now += delta
            if now > most:
                most, at = now, step
        return most, at


def memory_map(program: Program, plan: Plan | None) -> MemoryMap:
    """The memory of a step; without a plan the program's own, op by op."""
    return _of_program(program) if plan is None else _of_plan(plan)


def _of_plan(plan: Plan) -> MemoryMap:
    makers = plan.program.producers()
    names = [planned.region for planned in plan.kernels]
    kept = {place for _, place in plan.saved()}
    lives = []
    for slot, life in plan.lives.items():
        where, value = plan.places[slot], slot.value
        name = f"scale({value.name})" if slot.scale else value.name
        short = "f32" if slot.scale else value.type.short
        text = f"f32[{life.bytes // 4}]" if slot.scale else str(value.type)
        layer = makers[value].origin if value in makers else ""
        lives.append(
            TensorLife(
                *(name, layer, short, text, life.bytes, where.offset, life.first, life.last),
                kept=where in kept and _crosses(life, names),
            )
        )
    return MemoryMap(
        plan.arena, len(names), _regions(names), (*lives, *_scratches(plan)), planned=True
    )


def _crosses(life: Lifetime, names: list[str]) -> bool:
    """Whether a buffer holds something from a forward kernel to one of a later region."""
    last = names[min(life.last, len(names) - 1)]
    return names[life.first] == "forward" != last


def _scratches(plan: Plan) -> Iterator[TensorLife]:
    for i, planned in enumerate(plan.kernels):
        layer = next((op.origin for op in planned.kernel.ops if op.origin), "")
        for size, offset in zip(planned.kernel.scratch, planned.scratch, strict=True):
            text = f"{size} bytes while kernel {i} runs"
            yield TensorLife(SCRATCH, layer, "", text, size, offset, i, i, kept=False)


def _of_program(program: Program) -> MemoryMap:
    steps = [*program.ops()]
    names = [region.name for region, _ in steps]
    spans = _spans(program, [op for _, op in steps])
    kept = set(map(_sources(program), saved(program)))
    order, makers, found = orders(program), program.producers(), loops(program)
    sized = [
        (v, Lifetime(stored_bytes(v, order[v]) * found.kept(v), *span)) for v, span in spans.items()
    ]
    offsets, size = place([life for _, life in sized])
    lives = (
        TensorLife(
            *(v.name, makers[v].origin, v.type.short, str(v.type)),
            *(life.bytes, offset, life.first, life.last),
            kept=v in kept,
        )
        for (v, life), offset in zip(sized, offsets, strict=True)
    )
    return MemoryMap(size, len(names), _regions(names), tuple(lives), planned=False)


def _spans(program: Program, ops: list[Op]) -> dict[Value, tuple[int, int]]:
    """First and last op of each value that an op makes and another reads; views share their source.

    What becomes the next state is written there, and takes no memory of its own.
    """
    makers, source = program.producers(), _sources(program)
    state = {source(v) for _, v in program.next}
    spans: dict[Value, tuple[int, int]] = {}
    for i, op in enumerate(ops):
        for v in dict.fromkeys(map(source, chain(op.results, op.inputs))):
            if v in makers and v not in state:
                spans[v] = (spans.get(v, (i, i))[0], i)
    for v in map(source, program.outputs):
        if v in spans:
            spans[v] = (spans[v][0], len(ops))
    return spans


def _sources(program: Program) -> Callable[[Value], Value]:
    """What finds the value whose memory a view shares."""
    makers = program.producers()

    def source(v: Value) -> Value:
        while v in makers and makers[v].kind == "view":
            v = makers[v].inputs[0]
        return v

    return source


def _regions(names: list[str]) -> tuple[tuple[str, int], ...]:
    """Each region with the step that it begins at."""
    firsts = {name: i for i, name in reversed([*enumerate(names)])}
    return tuple(sorted(firsts.items(), key=lambda pair: pair[1]))
