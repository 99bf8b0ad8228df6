"""Low-bit states: what an optimizer keeps, as codes of 8 or 4 bits with a scale for each block.

Dettmers et al., "8-bit Optimizers via Block-wise Quantization" (ICLR 2022), and in 4 bits Li, Chen
and Zhu, "Memory Efficient Optimizers with 4-bit States" (NeurIPS 2023), as torchao's
``torchao/optim`` has both; FP8 is its own. Read was that code, and no more of the papers.

    adam_states     averages of gradients    averages of squares    numbers that share a scale
    int8            dyn8                     udyn8                  256
    int4            dyn4                     ulin4                  128
    fp8             fp8.143                  fp8.143                256

    ahead of the update      m = level of the code, times the scale of its block
    behind it                scale = max(largest |m'| of the block, 1e-12) / largest level
                             code = that of the level nearest to m' / scale, in f32

Blocks run over a parameter as it lies in memory. One with fewer than ``least`` elements, or whose
elements are no whole blocks, keeps f32, as does what may not be rounded (``Rounds``). What the
update itself reads is what it made, before that is rounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from ..compiler.formats import DYN4, DYN8, F32, FP8_143, UDYN8, ULIN4, Format
from ..compiler.ir import Op, Program, Region, Value, unused
from ..compiler.ir.ops import Trait, has
from ..compiler.ir.updates import KINDS, Rounds
from ..compiler.types import TensorType
from .parts.appended import Appended
from .parts.options import require
from .parts.order import placed

CODES, SCALES = ".codes", ".scales"  # the ends of the names of what is stored
LEAST_LARGEST = 1e-12


@dataclass(frozen=True, slots=True)
class StoredAs:
    """The formats of averages of either kind, and how many numbers share a scale."""

    signed: Format
    positive: Format
    block: int


STORED = {
    "int8": StoredAs(DYN8, UDYN8, 256),
    "int4": StoredAs(DYN4, ULIN4, 128),
    "fp8": StoredAs(FP8_143, FP8_143, 256),
}


@placed(after=("accumulate_gradients", "clip_gradients"))
def low_bit_states(
    program: Program,
    *,
    adam_states: Literal["f32", "int8", "int4", "fp8"] = "f32",
    least: int = 4096,
) -> Program:
    """Keep averages of gradients and of their squares in ``adam_states`` between steps.

    ``f32`` leaves them as they are. RecipeError where the optimizer keeps none.
    """
    steps = [op for op in program.region("update").ops if has(op, Trait.UPDATE)]
    if adam_states == "f32" or not steps:
        return program.done("low_bit_states")
    averages = [pair for op in steps for pair in kept(op) if pair[1] is not Rounds.NEVER]
    require(
        bool(averages),
        f"adam_states={adam_states} stores averages of gradients in few bits, and "
        f"{steps[0].kind} keeps none that may be rounded; leave adam_states at f32",
    )
    require(
        all(v in program.state for v, _ in averages),
        f"adam_states={adam_states} meets states that a pass before stores in few bits; list "
        "low_bit_states once, or leave adam_states at f32",
    )
    work = _States(program, STORED[adam_states], least)
    for state, rounds in averages:
        work.choose(state, rounds)
    return work.run()


def kept(op: Op) -> list[tuple[Value, Rounds]]:
    """What an update reads of the state beside the parameter."""
    kind = KINDS[op.kind]
    return [(v, k.rounds) for v, k in zip(op.inputs[2:], kind.kept, strict=False)]


@dataclass(frozen=True, slots=True)
class StoredState:
    """A state, the two that stand in its place, and what the optimizer makes of it.

    Where that becomes the next state in some steps alone, ``kept`` is what does in all, and
    ``turn`` the number that tells them.
    """

    real: Value
    codes: Value
    scales: Value
    made: Value
    kept: Value | None = None
    turn: Value | None = None


class _States:
    """The pass over one program, with the states that it has chosen."""

    def __init__(self, program: Program, stored: StoredAs, least: int) -> None:
        self.program, self.stored, self.least = program, stored, least
        self.after, self.taken = dict(program.next), program.names()
        self.makers, self.readers = program.producers(), program.readers()
        self.chosen: dict[Value, StoredState] = {}
        self.coded: dict[Value, tuple[Value, Value]] = {}  # of each state, its next ones
        self.ready: set[Value] = set()
        self.unread: set[Value] = set()

    def choose(self, state: Value, rounds: Rounds) -> None:
        """Store a state in codes, if it is large enough and whole blocks."""
        size, block = state.type.elements, self.stored.block
        fits = size >= self.least and size % block == 0
        maker = self.makers.get(self.after.get(state, state))
        if not fits or maker is None:
            return
        count, positive = size // block, rounds is Rounds.POSITIVE
        f = self.stored.positive if positive else self.stored.signed
        codes = Value(unused(f"{state.name}{CODES}", self.taken), TensorType((count, block), f))
        scales = Value(unused(f"{state.name}{SCALES}", self.taken), TensorType((count,), F32))
        found = StoredState(state, codes, scales, self.after[state])
        turn = self.turn(maker, state)
        if turn is not None:
            self.unread |= {maker.inputs[0], maker.result}
            found = replace(found, made=maker.inputs[1], kept=maker.result, turn=turn)
        self.chosen[state] = found

    def turn(self, maker: Op, state: Value) -> Value | None:
        """What tells whether a state changes in this step; None where it does in each."""
        if maker.kind != "where" or maker.inputs[2] != state:
            return None
        wide = self.makers.get(maker.inputs[0])
        if wide is None or wide.kind != "broadcast" or wide.inputs[0].type.shape:
            return None
        return wide.inputs[0] if self.readers[wide.result] == [maker] else None

    def run(self) -> Program:
        """The program with codes and scales as state."""
        program = self.program.rewrite(self.rule, by="low_bit_states")
        state, pairs = list[Value](), list[tuple[Value, Value]]()
        for v in program.state:
            s = self.chosen.get(v)
            state += [v] if s is None else [s.codes, s.scales]
        for v, after in program.next:
            s = self.chosen.get(v)
            both = (
                [(v, after)] if s is None else zip((s.codes, s.scales), self.coded[v], strict=True)
            )
            pairs += both
        zeros = {v.name: 0.0 for s in self.chosen.values() for v in (s.codes, s.scales)}
        initial = MappingProxyType({**program.initial, **zeros})
        return replace(program, state=tuple(state), next=tuple(pairs), initial=initial)

    def rule(self, region: Region, op: Op) -> tuple[Op, ...] | None:
        """What is read is decoded ahead of its first reader, what is made encoded behind it."""
        if self.unread.intersection(op.results):
            return ()
        ahead, behind = list[Op](), list[Op]()
        for v in op.inputs:
            if v in self.chosen and v not in self.ready:
                self.ready.add(v)
                ahead += self.decoded(self.chosen[v], op.origin)
        for s in self.chosen.values():
            if s.made in op.results:
                behind += [*self.encoded(s, op.origin), *self.in_turn(s, op.origin)]
        return (*ahead, op, *behind) if ahead or behind else None

    def decoded(self, s: StoredState, origin: str) -> list[Op]:
        """What the codes stand for, under the name that the state had."""
        new, name = Appended(self.taken, origin), s.real.name
        blocks = s.codes.type.shape
        level = new("dequantize", f"{name}.levels", blocks, s.codes)
        wide = new("broadcast", f"{name}.wide", blocks, s.scales, dims=(1,))
        real = new("mul", f"{name}.blocks", blocks, level, wide)
        new.ops.append(Op("view", (real,), (s.real,), origin=origin))
        return new.ops

    def encoded(self, s: StoredState, origin: str) -> list[Op]:
        """Scales of the blocks, and codes."""
        new, name = Appended(self.taken, origin), s.made.name
        blocks, f = s.codes.type.shape, s.codes.type.format
        real = new("view", f"{name}.blocks", blocks, s.made)
        size = new("abs", f"{name}.size", blocks, real)
        most = new("max", f"{name}.largest", blocks[:1], size, dims=(1,), keepdim=False)
        most = new("clamp_min", f"{name}.least", blocks[:1], most, low=LEAST_LARGEST)
        scales = new("fit_scale", f"{name}.scales", blocks[:1], most, to=f.name)
        wide = new("broadcast", f"{name}.wide", blocks, scales, dims=(1,))
        unit = new("div", f"{name}.unit", blocks, real, wide)
        codes = new("cast", f"{name}.codes", blocks, unit, f=f)
        self.coded[s.real] = (codes, scales)
        return new.ops

    def in_turn(self, s: StoredState, origin: str) -> list[Op]:
        """Codes and scales of this step or of before; a level that is cast again is itself."""
        if s.kept is None or s.turn is None:
            return []
        new, name = Appended(self.taken, origin), s.kept.name
        blocks, f = s.codes.type.shape, s.codes.type.format
        made, scales = self.coded[s.real]
        levels = [new("dequantize", f"{name}.levels", blocks, v) for v in (made, s.codes)]
        wide = new("broadcast", f"{name}.wide", blocks, s.turn, dims=(0, 1))
        level = new("where", f"{name}.chosen", blocks, wide, *levels)
        codes = new("cast", f"{name}.codes", blocks, level, f=f)
        turns = new("broadcast", f"{name}.turns", blocks[:1], s.turn, dims=(0,))
        scales = new("where", f"{name}.scales", blocks[:1], turns, scales, s.scales)
        self.coded[s.real] = (codes, scales)
        return new.ops
