"""What of a program can be watched: operands and results of products, before and behind quantizers.

    role            of a layer
    x, w            data and weight (a, b of a product of activations)
    y               its result
    dy              the gradient of its result, as dX and dW read it
    dx, dw          what these make (da, db)
    mean, var       the statistics of a norm over the batch
    dgamma, dbeta   the gradient's sums there

A tensor that the products of a layer read in two ways, such as a gradient rounded once for dX and
once for dW, is two points: ``LAYER.dy.dx`` and ``LAYER.dy.dw``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from ...compiler.errors import InputError, closest
from ...compiler.ir import Op, Program, Value
from ...compiler.ir.loops import FEED
from ...compiler.ir.ops import (
    BETWEEN_ACTIVATIONS,
    FORWARD_GEMMS,
    GEMMS,
    INPUT_GRADS,
    WEIGHT_GRADS,
    Trait,
    has,
)
from ...compiler.types import Scale
from .data import roles_of
from .names import part
from .select import terms_of

ROLES = (
    *("x", "w", "y", "dy", "dx", "dw", "a", "b", "da", "db"),
    *("mean", "var", "dgamma", "dbeta"),
)
# What is looked at where nobody says: what quantizers read, and what becomes of weights.
USUAL = ("x", "w", "a", "b", "dy", "dw")
STATISTICS = {"batch_stats": ("mean", "var"), "batch_norm_grad_stats": ("dgamma", "dbeta")}
DECODING = ("dequantize", "block_numbers")
# What stands between a product and the gradient of the data that the quantizer read.
CUTTING = ("pact_grad", "pact_plus_grad")


@dataclass(frozen=True, slots=True)
class WatchPoint:
    """One tensor: as it was (``before``), and what became of it, where it was quantized.

    ``of`` is the product that reads it so, where others do not. ``clip`` is the number that the
    quantizer cut at, ``scale`` the one that the tensor was multiplied by ahead of it.
    """

    layer: str
    role: str
    of: str
    before: Value
    after: Value | None = None
    clip: Value | None = None
    scale: Value | None = None

    @property
    def name(self) -> str:
        """``LAYER.ROLE``, or ``LAYER.ROLE.PRODUCT``."""
        return f"{part(self.layer, self.role)}{f'.{self.of}' if self.of else ''}"

    def fits(self, pattern: str) -> bool:
        """Whether a pattern means it by role or by name."""
        names = (self.role, self.name, part(self.layer, self.role))
        return any(fnmatchcase(name, pattern) for name in names)

    def holds(self, pattern: str) -> bool:
        """Whether a pattern means one of its values by name."""
        return any(fnmatchcase(v.name, pattern) for v in (self.before, self.after) if v)


def watch_points(program: Program) -> tuple[WatchPoint, ...]:
    """All points of a program, in the order in which they are read or made."""
    made, readers = program.producers(), program.readers()
    found: dict[tuple[str, str], list[WatchPoint]] = {}
    for _, op in program.ops():
        for point in (*_of_product(op, made, readers), *_of_norm(op)):
            known = found.setdefault((point.layer, point.role), [])
            if all(_spelled(point) != _spelled(other) for other in known):
                known.append(point)
    return tuple(p for alike in found.values() for p in _told_apart(alike))


def chosen_points(program: Program, patterns: str) -> tuple[WatchPoint, ...]:
    """The points that a list of patterns means, and other values of the program by name.

    Raises InputError for a pattern that means nothing.
    """
    points, terms = watch_points(program), terms_of(patterns)
    if not terms:
        raise InputError(f"nothing to watch is named; give patterns, such as '*.dy' or {ROLES[0]}")
    chosen: dict[str, WatchPoint] = {}
    for term in terms:
        fitting = [p for p in points if p.fits(term)]
        fitting = fitting or [
            *(p for p in points if p.holds(term)),
            *_values(program, points, term),
        ]
        if not fitting:
            known = {p.name for p in points} | {p.role for p in points}
            raise InputError(
                f"watch: no tensor of the step is called {term!r}; {_hint(term, known)}"
            )
        chosen |= {p.name: p for p in fitting}
    order = {p.name: i for i, p in enumerate(points)}
    return tuple(sorted(chosen.values(), key=lambda p: order.get(p.name, len(order))))


def usual_words(program: Program) -> str:
    """The roles of ``USUAL`` that a program has, or all that it has."""
    roles = {p.role for p in watch_points(program)}
    return ",".join(role for role in USUAL if role in roles) or "*"


def _hint(term: str, known: set[str]) -> str:
    """The nearest names, and the roles, which are few."""
    roles = known & set(ROLES)
    near = closest(term.replace("*", ""), known - roles)
    return f"{near}; by role: {', '.join(r for r in ROLES if r in roles)}"


def _values(program: Program, points: Sequence[WatchPoint], term: str) -> Iterator[WatchPoint]:
    """Floats and codes that no point has."""
    made, known = program.producers(), {v for p in points for v in (p.before, p.after)}
    for region, op in program.ops():
        for v in op.results:
            fits = region.name != "update" and fnmatchcase(v.name, term) and v.type.shape
            if fits and v not in known and (_is_plain(v) or has(op, Trait.QUANTIZER)):
                yield WatchPoint(v.name, "value", "", *_found(v, made))


def _of_product(
    op: Op, made: Mapping[Value, Op], readers: Mapping[Value, Sequence[Op]]
) -> Iterator[WatchPoint]:
    """Operands and result of a product of a layer."""
    if op.kind not in GEMMS:
        return
    product = "" if op.kind in FORWARD_GEMMS else _gradient(op)
    for role, v in zip(roles_of(op), op.inputs, strict=False):
        if _is_plain((found := _found(v, made))[0]):
            yield WatchPoint(op.origin, role, product, *found)
    yield WatchPoint(op.origin, product or "y", "", _settled(op, readers))


def _settled(op: Op, readers: Mapping[Value, Sequence[Op]]) -> Value:
    """The result of a product as others have it: behind a clip, and added up over a loop."""
    for reader in readers.get(op.result, ()):
        if reader.kind in CUTTING:
            return reader.result
        feeds = [r for r in readers.get(reader.result, ()) if r.kind == FEED]
        if op.kind in WEIGHT_GRADS and reader.kind == "add" and feeds:
            return feeds[0].result
    return op.result


def _is_plain(v: Value) -> bool:
    """Whether a value is numbers as they are."""
    return v.type.format.is_carrier and v.type.scale is Scale.NONE


def _gradient(op: Op) -> str:
    """What a product of the backward makes the gradient of."""
    first, second = ("da", "db") if op.kind in BETWEEN_ACTIVATIONS else ("dx", "dw")
    return first if op.kind in INPUT_GRADS else second


def _of_norm(op: Op) -> Iterator[WatchPoint]:
    for role, v in zip(STATISTICS.get(op.kind, ()), op.results, strict=False):
        yield WatchPoint(op.origin, role, "", v)


def _found(
    v: Value, made: Mapping[Value, Op]
) -> tuple[Value, Value | None, Value | None, Value | None]:
    """Before and behind the quantizer whose codes an operand is, its clip, and a scale."""
    op = made.get(v)
    while op is not None and len(op.inputs) > 0 and not _quantizes(op):
        kept = has(op, Trait.MOVES) or has(op, Trait.KEEPS_CODES) or op.kind in DECODING
        several = sum(not v.type.format.is_index for v in op.inputs) > 1
        op = made.get(op.inputs[0]) if kept and not (several and has(op, Trait.MOVES)) else None
    if op is None or not op.inputs:
        return _of_a_step(v, made), None, None, None
    source, scale = op.inputs[0], None
    clip = op.inputs[1] if op.kind.startswith("quantize") and "affine" not in op.kind else None
    while source.type.scale is not Scale.NONE and source in made:
        ahead = made[source]
        scale = ahead.inputs[1] if ahead.kind == "grad_scale" else scale
        source = ahead.inputs[0]
    if source.type.scale is not Scale.NONE:
        return v, None, None, None
    return source, op.result, clip, scale


def _of_a_step(v: Value, made: Mapping[Value, Op]) -> Value:
    """What a loop makes in each step, of the values of all steps."""
    op = made.get(v)
    return op.inputs[0] if op is not None and op.kind == "all_steps" else v


def _quantizes(op: Op) -> bool:
    """Whether an op leaves fewer bits: codes, or a narrower float."""
    if has(op, Trait.QUANTIZER):
        return True
    if op.kind != "cast":
        return False
    return op.result.type.format.bits < op.inputs[0].type.format.bits


def _spelled(point: WatchPoint) -> tuple[str, ...]:
    """The names of a point's values, of whose copies in the backward the first one counts."""
    pair = (point.before, point.after)
    return tuple(re.sub(r"(\.again(#\d+)?)+$", "", v.name) if v else "" for v in pair)


def _told_apart(alike: Sequence[WatchPoint]) -> Iterator[WatchPoint]:
    """Points of one layer and role, with the product that reads each where they are several."""
    single = len(alike) == 1
    taken: set[str] = set()
    for point in alike:
        named = replace(point, of="") if single else point
        if named.name not in taken:
            taken.add(named.name)
            yield named
