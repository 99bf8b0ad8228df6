"""Invariants that hold between any two passes; a broken one is shown among its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

from ..errors import VerifyError, closest
from ..formats import I32, UINT2, UINT8, Format
from ..types import BlockScale, Scale, TensorType
from .loop_rules import broken
from .ops import OPS
from .ops.definition import OpDef
from .ops.shapes import ShapeMismatch, bind
from .program import REGIONS, Op, Program, Region, Value, show_attr
from .text import NAME, RETURN, no_name, parse_lines


def _float(t: TensorType) -> bool:
    return t.format.is_carrier and t.scale is Scale.NONE


def _index(t: TensorType) -> bool:
    return t.format.is_index and t.scale is Scale.NONE


def _scaled(t: TensorType) -> bool:
    scaled = t.scale in (Scale.POW2, Scale.TENSOR, Scale.CHANNEL) or _in_blocks(t)
    return t.format.is_carrier and scaled


def _in_blocks(t: TensorType) -> bool:
    if not isinstance(t.scale, BlockScale):
        return False
    return all(len(b) == len(t.shape) for b in (t.scale.block, t.scale.outer) if b)


def _unsigned(f: Format) -> bool:
    return f.is_integer and not f.signed and not f.midrise


def _stored(t: TensorType) -> bool:
    scaled = _in_blocks(t) if isinstance(t.scale, BlockScale) else t.scale is not Scale.NONE
    return t.format.is_coded and scaled


def _code(t: TensorType) -> bool:
    return _stored(t) and t.format.is_element


def _bare(t: TensorType) -> bool:
    return t.format.is_coded and t.scale is Scale.NONE


CLASSES: dict[str, Callable[[TensorType], bool]] = {
    "float": _float,
    "scaled": _scaled,
    "code": _code,
    "stored": _stored,
    "coded": lambda t: _stored(t) or _bare(t),
    "nested": lambda t: _code(t) and isinstance(t.scale, BlockScale) and t.scale.outer == (),
    "blocks": lambda t: t.format.name == "f32" and _in_blocks(t),
    "gemm": lambda t: _float(t) or _scaled(t) or _code(t),
    "f32": lambda t: _float(t) and t.format.name == "f32",
    "integer": lambda t: _code(t) and t.format.is_integer,
    "unsigned": lambda t: _code(t) and _unsigned(t.format),
    "fp": lambda t: _code(t) and t.format.exp > 0,
    "log": lambda t: _code(t) and t.format.is_log,
    "number": _float,
    "int": _index,
    "plain": lambda t: _float(t) or _index(t),
    "uint2": lambda t: t.format is UINT2 and t.scale is Scale.NONE,
    "where": lambda t: t.format in (UINT8, I32) and t.scale is Scale.NONE,
    "mask": lambda t: _float(t) or (t.format is UINT2 and t.scale is Scale.NONE),
    "any": lambda t: True,
}


def read_program(text: str) -> Program:
    """The verified program that ``text`` spells; ParseError or VerifyError with the line."""
    program, lines = parse_lines(text)
    try:
        return verify(program)
    except VerifyError as e:
        raise VerifyError(f"{_line(lines, e.at)}{e}", e.at) from None


def _line(lines: Mapping[Hashable, int], at: Hashable) -> str:
    return f"line {lines[at]}: " if at in lines else ""


def verify(program: Program) -> Program:
    """Return ``program`` unchanged, or raise VerifyError at the first broken invariant."""
    order = [r.name for r in program.regions]
    if order != [name for name in REGIONS if name in order]:
        wrong = next((n for n in order if n not in REGIONS), order[0])
        text = f"regions are {', '.join(order)}; the order is {', '.join(REGIONS)}"
        raise VerifyError(text, wrong)
    seen: dict[Value, str] = dict.fromkeys((*program.inputs, *program.state), "")
    names: set[str] = set()
    for v in seen:
        _define(v, names, "the declarations")
    for region in program.regions:
        for i, op in enumerate(region.ops):
            _check_op(region, i, op, seen, names)
            seen.update(dict.fromkeys(op.results, region.name))
    if wrong_in_loop := broken(program):
        where, op, fact = wrong_in_loop
        raise VerifyError(
            f"{where.name}, layer {op.origin or '-'}: {op.kind}: {fact}\n  > {op}", op
        )
    _check_ends(program, seen)
    return program


def _define(value: Value, names: set[str], place: str) -> None:
    if not NAME.fullmatch(value.name):
        raise VerifyError(f"{place}: {no_name(value.name)}", value)
    if value.name in names:
        text = f"{place}: {value.name} is defined twice; give one another name"
        raise VerifyError(text, value)
    names.add(value.name)


def _check_op(region: Region, i: int, op: Op, seen: dict[Value, str], names: set[str]) -> None:
    fact = _use(op, region, seen) or _signature(op) or _shapes(op) or _names(op, names)
    if fact:
        lines = [
            f"  {'>' if j == i else ' '} {o}"
            for j, o in enumerate(region.ops[max(0, i - 3) : i + 4], max(0, i - 3))
        ]
        where = f"{region.name}, layer {op.origin or '-'}"
        raise VerifyError(f"{where}: {fact}\n" + "\n".join(lines), op)
    names.update(r.name for r in op.results)


def _use(op: Op, region: Region, seen: dict[Value, str]) -> str:
    for v in op.inputs:
        if v not in seen:
            return f"{v.name} is read before it is defined"
        if seen[v] == "update" and region.name != "update":
            return f"{v.name} is made in update and cannot feed {region.name}"
    return ""


def _signature(op: Op) -> str:
    if op.kind not in OPS:
        return f"no op is called {op.kind!r}; {closest(op.kind, OPS)}"
    definition = OPS[op.kind]
    fact = _arity(op, definition) or _classes(op, definition) or _attributes(op, definition)
    return f"{fact}; the signature is {definition}" if fact else ""


def _shapes(op: Op) -> str:
    definition = OPS[op.kind]
    try:
        extents = bind(definition, op)
    except ShapeMismatch as e:
        return str(e)
    fact = definition.check(op, extents) if definition.check else ""
    return f"{op.kind}: {fact}" if fact else ""


def _names(op: Op, names: set[str]) -> str:
    made: set[str] = set()
    for r in op.results:
        if not NAME.fullmatch(r.name):
            return no_name(r.name)
        if r.name in names or r.name in made:
            return f"{r.name} is defined twice"
        made.add(r.name)
    if op.origin != op.origin.strip() or len(op.origin.splitlines()) > 1:
        return f"the layer {op.origin!r} is not one line"
    return ""


def _arity(op: Op, definition: OpDef) -> str:
    n, want = len(op.inputs), len(definition.operands)
    if n < want or (n > want and not definition.repeats):
        return f"{op.kind} has {n} operands"
    if len(op.results) != len(definition.results):
        return f"{op.kind} has {len(op.results)} results"
    return ""


def _classes(op: Op, definition: OpDef) -> str:
    read = ((definition.operand(i), v) for i, v in enumerate(op.inputs))
    made = zip(definition.results, op.results, strict=True)
    for operand, v in (*read, *made):
        if not CLASSES[operand.format_class](v.type):
            return f"{v.name} : {v.type} is not of class {operand.format_class} ({operand.name})"
    return ""


def _attributes(op: Op, definition: OpDef) -> str:
    if not definition.required <= op.attrs.keys() <= definition.attrs.keys():
        return f"{op.kind} has attributes {sorted(op.attrs)}"
    values = [*zip(definition.operands, op.inputs, strict=False)]
    values += zip(definition.results, op.results, strict=True)
    ranks = {operand.name: len(v.type.shape) for operand, v in values}
    for name, value in op.attrs.items():
        attribute = definition.attrs[name]
        if not attribute.admits(value, ranks.get(attribute.of, 0)):
            wanted = ", ".join(attribute.words)
            kind = f"none of {wanted}" if wanted else f"not of type {attribute.range}"
            return f"attribute {name}={show_attr(value)} is {kind}"
    return ""


def _check_ends(program: Program, seen: dict[Value, str]) -> None:
    if not program.outputs:
        raise VerifyError("the program returns nothing; name its outputs: return NAMES", RETURN)
    for v in program.outputs:
        if v not in seen:
            raise VerifyError(f"{v.name} is returned but never defined", RETURN)
    _check_next(program, seen)
    for name in program.initial:
        if name not in {s.name for s in program.state}:
            raise VerifyError(f"{name} has an initial value but is no state")
    _check_update(program)


def _check_next(program: Program, seen: dict[Value, str]) -> None:
    made = program.producers()
    bound: set[Value] = set()
    for pair in program.next:
        s, v = pair
        if s not in program.state:
            raise VerifyError(f"next {s.name}: there is no such state; declare it", pair)
        if v not in seen:
            raise VerifyError(f"next {s.name} = {v.name}: {v.name} is never defined", pair)
        if v not in made or v in bound:
            fact = f"next {s.name} = {v.name}: bind a value of its own, made by an op"
            raise VerifyError(fact, pair)
        if s in bound:
            raise VerifyError(f"next {s.name} stands twice; a state has one next value", pair)
        bound |= {s, v}
        if v.type != s.type:
            raise VerifyError(f"next {s.name} is {v.type}, the state is {s.type}", pair)


def _check_update(program: Program) -> None:
    """What the update makes serves something, or the text has lost a line."""
    used = {*program.outputs, *(v for _, v in program.next)}
    used.update(v for _, op in program.ops() for v in op.inputs)
    for op in program.region("update").ops:
        for v in op.results:
            if v not in used:
                fact = f"nothing reads {v.name} and no state takes it"
                where = f"update, layer {op.origin or '-'}"
                raise VerifyError(f"{where}: {fact}; add 'next STATE = {v.name}'", op)
