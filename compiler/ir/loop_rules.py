"""What must hold of the loops of a program, beyond what each op says of itself."""

from __future__ import annotations

from .loops import CARRIED, COUNTER, FEED, ProgramLoops, loops
from .ops import Trait, has
from .program import Op, Program, Region


def broken(program: Program) -> tuple[Region, Op, str] | None:
    """The first op that breaks a rule, its region and what is wrong; None where all hold."""
    found = loops(program)
    if not found.of:
        return None
    rules = _Rules(program, found)
    facts = ((region, op, rules.fact(region, op)) for region, op in program.ops())
    return next(((region, op, fact) for region, op, fact in facts if fact), None)


def unready(program: Program) -> str:
    """Why a target cannot run the loops of a program that is well formed; empty where it can."""
    of = loops(program).of
    border = (op for _, op in program.ops() if has(op, Trait.ENTERS_LOOP))
    if alone := next((op for op in border if op.result not in of), None):
        return f"{alone.result.name} of layer {alone.origin or '-'} belongs to no loop"
    update = (v for op in program.region("update").ops for v in op.inputs)
    read = (*update, *(v for _, v in program.next), *program.outputs)
    name = next((v.name for v in read if v in of), "")
    return (
        name and f"{name} is a value of each step of a loop; the pass over_steps makes one of all"
    )


class _Rules:
    """The rules, with what they ask of the whole program."""

    def __init__(self, program: Program, found: ProgramLoops) -> None:
        self.found, self.made = found, program.producers()
        self.fed = [op.inputs[0] for _, op in program.ops() if op.kind == FEED]
        self.given = [op.inputs[1] for _, op in program.ops() if op.kind == FEED]

    def fact(self, region: Region, op: Op) -> str:
        """What is wrong with an op; empty where nothing is."""
        if op.kind == COUNTER and region.name == "update":
            return "the update has no loops"
        if op.kind == FEED:
            return self._feed(region, op)
        if has(op, Trait.ENTERS_LOOP) or has(op, Trait.LEAVES_LOOP):
            return self._border(region, op)
        return self._body(region, op)

    def _feed(self, region: Region, op: Op) -> str:
        x, after = op.inputs
        maker, loop = self.made.get(x), self.found.of.get(x)
        if maker is None or loop is None or maker.kind != CARRIED:
            return f"{x.name} is no value that a loop carries"
        if self.fed.count(x) > 1:
            return f"{x.name} is fed twice"
        inside = self.made.get(after)
        if inside is None or self.found.body.get(inside) is not loop:
            return f"{after.name} is not made in the loop that carries {x.name}"
        if self.given.count(after) > 1:
            return f"{after.name} feeds two values; give each one of its own"
        return "" if region.name == loop.region else f"the loop is in {loop.region}"

    def _border(self, region: Region, op: Op) -> str:
        x, t = op.inputs
        loop, counter = self.found.of.get(t), self.made.get(t)
        if loop is None or counter is None or counter.kind != COUNTER:
            return f"{t.name} counts no steps; it is made by {COUNTER}"
        if op.kind == "all_steps" and self.found.of.get(x) is not loop:
            return f"{x.name} is no value of each step of this loop"
        if has(op, Trait.ENTERS_LOOP) and (region.name != loop.region or x in self.found.of):
            return f"{x.name} is not made outside of loops, in {loop.region}"
        if op.kind == CARRIED:
            return "" if op.result in self.fed else f"nothing feeds {op.result.name}"
        whole, one = sorted((x.type.shape[0], op.result.type.shape[0]), reverse=True)
        if whole != one * loop.count:
            return f"{whole} rows are not {one} in each of {loop.count} steps"
        return ""

    def _body(self, region: Region, op: Op) -> str:
        read = {self.found.of[v] for v in op.inputs if v in self.found.of}
        if not read or region.name == "update":
            return ""
        if op not in self.found.body:
            names = ", ".join(sorted(v.name for v in op.inputs if v in self.found.of))
            return f"no loop of {region.name} reads what it makes of {names}"
        counts = sorted({loop.count for loop in (*read, self.found.body[op])})
        if len(counts) == 1:
            return ""
        return f"it reads values of loops of {counts[0]} and of {counts[1]} steps"
