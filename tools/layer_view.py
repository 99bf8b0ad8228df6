"""The ops of one layer, or of a pattern of layers, with the types of all operands."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from ..compiler.errors import UsageError, closest
from ..compiler.ir import Op, Program, Value
from ..compiler.ir.analysis import saved


def matches(origin: str, layer: str) -> bool:
    """Whether ``origin`` is ``layer``, a further call of it, a layer inside it, or fits a pattern.

    ``layer1`` covers ``layer1.0.conv``; a pattern has ``*``, ``?`` and ``[...]``.
    """
    inside = origin == layer or origin.startswith((f"{layer}.", f"{layer}#"))
    return inside or fnmatchcase(origin, layer)


def layer_text(program: Program, layer: str) -> str:
    """The ops of ``layer`` (see ``matches``) by region.

    Below each line stand the types of its operands, and which results are kept for backward.
    """
    kept = set(saved(program))
    lines = []
    for region in program.regions:
        ops = [op for op in region.ops if matches(op.origin, layer)]
        lines += [f"{region.name}:", *_lines(ops, kept), ""] if ops else []
    if not lines:
        raise _unknown(program, layer)
    return "\n".join(lines[:-1]) + "\n"


def _unknown(program: Program, layer: str) -> UsageError:
    known = dict.fromkeys(op.origin for _, op in program.ops() if op.origin)
    return UsageError(f"no op belongs to a layer {layer!r}; {closest(layer, known)}")


def layers_named(program: Program, layer: str) -> set[str]:
    """The layers that ``layer`` stands for (see ``matches``)."""
    found = {op.origin for _, op in program.ops() if matches(op.origin, layer)}
    if not found:
        raise _unknown(program, layer)
    return found


def layer_diff(old: tuple[str, Program], new: tuple[str, Program], layer: str) -> list[str]:
    """The unified diff of two stages (name and program), of the lines of ``layer`` alone."""
    before, after = (layer_text(program, layer).splitlines() for _, program in (old, new))
    return list(difflib.unified_diff(before, after, old[0], new[0], lineterm=""))


def _lines(ops: Sequence[Op], kept: Collection[Value]) -> list[str]:
    lines, origin = [], ""
    for op in ops:
        lines += [f"  # {op.origin}"] if op.origin != origin else []
        origin = op.origin
        reads = ", ".join(f"{v.name} : {v.type}" for v in dict.fromkeys(op.inputs))
        lines += [f"  {op}", *([f"      reads {reads}"] if reads else [])]
        held = ", ".join(v.name for v in op.results if v in kept)
        lines += [f"      kept for backward: {held}"] if held else []
    return lines
