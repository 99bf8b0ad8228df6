"""Signatures as text: ``linear(x: gemm[N I], w: gemm[O I]) -> y: float[N O]`` and what it defines.

    kind(operand: class[shape], ...) {attribute: type, ...} -> result: class[shape], ...

A shape is a list of symbols, the same for the same size throughout the signature: ``N``; a number;
``*S`` for any number of dimensions; ``?`` alone for any shape; ``[]|[C]`` for one or the other.
``int<C>[N]`` names places of the dimension ``C``. A last operand with ``...`` repeats.

Format classes: ``float`` a carrier (f32, bf16, f16) without scale; ``number`` the same, but that a
16-bit carrier casts none; ``scaled`` a carrier with a scale but no offset; ``code`` a quantized
tensor with a scale, ``integer``, ``unsigned`` (plain binary), ``fp`` and ``log`` those of such a
format; ``gemm`` float, scaled or code; ``f32``, ``int`` (i32, i64), ``uint2``, ``where`` (uint8,
i32) exactly that; ``plain`` = float or int; ``mask`` = float or uint2; ``any`` all.

An attribute is ``flag``, ``format`` (the name of one that has codes), ``int``, ``float``, ``ints``,
``floats``, one of several words ``a|b``, a dimension ``dim of x`` or ``dims of x`` (each once);
numbers may be bounded: ``int >= 1``, ``float > 0``, ``float 0..1``, ``2 ints >= 1``. One with ``?``
may be absent.
"""

from __future__ import annotations

import re

from .definition import Attribute, Check, Direction, OpDef, Operand
from .traits import Trait

SIGNATURE = re.compile(
    r"(?P<kind>\w+)\((?P<operands>.*?)\)(?: \{(?P<attrs>[^}]*)\})? -> (?P<results>.+)"
)
OPERAND = re.compile(r"(\w+): (\w+)(?:<(\w+)>)?(\[[^,]*\])(\.\.\.)?")
NUMBER = r"-?\d+(?:\.\d+)?"
ATTRIBUTE = re.compile(
    rf"(?P<name>\w+)(?P<optional>\?)?: (?:(?P<words>[\w.]+(?:\|[\w.]+)+)|(?:(?P<count>\d+) )?"
    rf"(?P<type>flag|format|int|float|ints|floats|dim|dims)(?: of (?P<of>\w+))?"
    rf"(?: (?P<sign>>=?) (?P<least>{NUMBER})| (?P<low>{NUMBER})\.\.(?P<high>{NUMBER}))?)"
)


def define(
    signature: str,
    meaning: str,
    *traits: Trait,
    check: Check | None = None,
    direction: Direction | None = None,
) -> OpDef:
    """The definition that a signature spells; ``check`` says what more must hold of shapes."""
    m = SIGNATURE.fullmatch(" ".join(signature.split()))
    assert m, f"malformed op signature: {signature}"
    attrs = [_attribute(text) for text in _split(m["attrs"])]
    return OpDef(
        m["kind"],
        tuple(map(_operand, _split(m["operands"]))),
        {a.name: a for a in attrs},
        tuple(map(_operand, _split(m["results"]))),
        meaning,
        frozenset(traits),
        check,
        direction,
    )


def _split(text: str | None) -> list[str]:
    return text.split(", ") if text else []


def _operand(text: str) -> Operand:
    m = OPERAND.fullmatch(text)
    assert m, f"malformed operand: {text}"
    name, class_, names, shapes, dots = m.groups()
    patterns = tuple(tuple(p.strip("[]").split()) for p in shapes.split("|"))
    return Operand(name, class_, patterns, bool(dots), names or "")


def _attribute(text: str) -> Attribute:
    m = ATTRIBUTE.fullmatch(text)
    assert m, f"malformed attribute: {text}"
    least = m["least"] or m["low"]
    return Attribute(
        m["name"],
        m["type"] or "word",
        tuple(m["words"].split("|")) if m["words"] else (),
        float(least) if least else float("-inf"),
        float(m["high"]) if m["high"] else float("inf"),
        m["sign"] == ">",
        int(m["count"]) if m["count"] else None,
        m["of"] or "",
        bool(m["optional"]),
    )
