"""The text form of programs; ``show`` and ``parse`` are inverse to each other.

    program = "program" NAME ["after" NAMES] {decl} {region} "return" NAMES {"next" NAME "=" NAME}
    decl    = "input" NAME ":" TYPE | "state" NAME ":" TYPE ["=" NUMBER]
    region  = NAME ":" { ["#" ORIGIN] NAMES "=" KIND "(" NAMES ")" ["{" ATTRS "}"] ":" TYPES }
    TYPE    = FORMAT ["*" SCALE] "[" DIMS "]"
    ATTR    = KEY "=" ( true | false | INT | FLOAT | WORD | "[" INTS "]" | "[" FLOATS "]" )

Nothing is aligned across lines, so that a pass that changes one op changes one line.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from types import MappingProxyType

from ..errors import ParseError, closest
from ..formats import FORMATS
from ..spelled import named
from ..types import BLOCK_SCALES, BlockScale, Scale, TensorType
from .ops import OPS
from .program import NO_ATTRS, Attr, Op, Program, Region, Value

MAX_RANK, MAX_ELEMENTS = 8, 1 << 40
INTEGER = re.compile(r"-?\d{1,18}")


def show(program: Program) -> str:
    """The text of ``program``."""
    return str(program)


def parse(text: str) -> Program:
    """Read a program back from its text; ParseError names the line."""
    return parse_lines(text)[0]


def parse_lines(text: str) -> tuple[Program, Mapping[Hashable, int]]:
    """A program, and the line of each of its parts: see ``VerifyError.at``."""
    reader = _TextReader(text)
    for number, raw in enumerate(text.splitlines(), 1):
        reader.number = number
        try:
            reader.line(raw.strip())
        except ParseError as e:
            raise ParseError(f"line {number}: {e}\n  {number:3} | {raw.strip()[:200]}") from None
    return reader.program(), reader.lines


RETURN = "return"
NAME = re.compile(r"\w[\w.#']*")  # '0.weight' too: nn.Sequential
OP = re.compile(
    r"(?P<names>[^=(]+) = (?P<kind>\w+)\((?P<args>[^)]*)\)"
    r"(?: \{(?P<attrs>[^}]*)\})? : (?P<types>.+)"
)
DEFINED = re.compile(r"^\s*(?:(?:input|state) )?([^=(:\n]+?) (?:= \w+\(|: )", re.MULTILINE)


def no_name(name: str) -> str:
    """What is wrong with a name that the text cannot spell."""
    return f"{name!r} is no name; names are letters, digits, '_', '.' and '#'"


class _TextReader:
    def __init__(self, text: str) -> None:
        self.text, self.number = text, 0
        self.lines: dict[Hashable, int] = {}
        self.name = self.origin = ""
        self.env: dict[str, Value] = {}
        self.inputs: list[Value] = []
        self.state: list[Value] = []
        self.initial: dict[str, float] = {}
        self.regions: list[tuple[str, list[Op]]] = []
        self.outputs: tuple[Value, ...] = ()
        self.next: list[tuple[Value, Value]] = []
        self.history: tuple[str, ...] = ()

    def line(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        match word:
            case "":
                pass
            case "#":
                self.origin = rest
            case "program":
                self.name = rest
            case "after":
                self.history = tuple(_split(rest))
            case "input" | "state":
                self.declare(word, rest)
            case "return":
                if RETURN in self.lines:
                    raise ParseError(f"a second return; the first is line {self.lines[RETURN]}")
                self.outputs = self.uses(rest)
                self.lines[RETURN] = self.number
            case "next":
                self.next.append(self.pair(rest))
                self.lines[self.next[-1]] = self.number
            case _ if line.endswith(":"):
                self.regions.append((line[:-1], []))
                self.lines[line[:-1]] = self.number
                self.origin = ""
            case _:
                self.op(line)

    def declare(self, word: str, rest: str) -> None:
        name, _, tail = rest.partition(" : ")
        type_, _, start = tail.partition(" = ")
        value = self.define(name, type_)
        (self.inputs if word == "input" else self.state).append(value)
        if start:
            self.initial[name] = _number(start)

    def op(self, line: str) -> None:
        m = OP.fullmatch(line)
        if not m:
            raise ParseError(_malformed(line))
        if not self.regions:
            raise ParseError("an op stands outside of a region; put 'forward:' ahead of it")
        if m["kind"] not in OPS:
            raise ParseError(f"no op is called {m['kind']!r}; {closest(m['kind'], OPS)}")
        inputs = self.uses(m["args"])
        names, types = _split(m["names"]), _split(m["types"])
        if len(names) != len(types):
            raise ParseError(f"{len(names)} results but {len(types)} types")
        results = tuple(map(self.define, names, types))
        pairs = dict(map(_attr, _split(m["attrs"] or "")))
        attrs = MappingProxyType(pairs) if pairs else NO_ATTRS
        op = Op(m["kind"], inputs, results, attrs, self.origin)
        self.regions[-1][1].append(op)
        self.lines[op] = self.number

    def define(self, name: str, type_: str) -> Value:
        if not NAME.fullmatch(name):
            raise ParseError(no_name(name))
        if name in self.env:
            raise ParseError(f"{name} is defined twice")
        value = self.env[name] = Value(name, parse_type(type_))
        self.lines[value] = self.number
        return value

    def uses(self, names: str) -> tuple[Value, ...]:
        try:
            return tuple(self.env[n] for n in _split(names))
        except KeyError as e:
            raise ParseError(self.unknown(e.args[0])) from None

    def unknown(self, name: str) -> str:
        """What is wrong with a name that no line so far defines."""
        for m in DEFINED.finditer(self.text):
            if name in _split(m[1]):
                line = self.text.count("\n", 0, m.start(1)) + 1
                return f"{name} is read before it is defined, in line {line}"
        return f"no value is called {name!r}; {closest(name, self.env)}"

    def pair(self, rest: str) -> tuple[Value, Value]:
        pair = self.uses(rest.replace(" = ", ", ", 1))
        if len(pair) != 2:
            raise ParseError("next binds one state to one value: next STATE = VALUE")
        return pair

    def program(self) -> Program:
        if not self.name:
            raise ParseError("the text has no line 'program NAME'; it is no IR or cut short")
        if RETURN not in self.lines:
            raise ParseError("the text has no line 'return NAMES'; it is cut short")
        regions = tuple(Region(name, tuple(ops)) for name, ops in self.regions)
        return Program(
            self.name,
            tuple(self.inputs),
            tuple(self.state),
            regions,
            self.outputs,
            tuple(self.next),
            MappingProxyType(self.initial),
            self.history,
        )


SCALES = "|".join(s.value for s in Scale if s.value)
DIMS = r"\d{1,12}(?:x\d{1,12})*"
BLOCKS = re.compile(rf"b({DIMS}):([\w.]+)(:t|:b{DIMS})?")
TYPE = re.compile(rf"([\w.]+?)(?:\*({SCALES}|{BLOCKS.pattern}))?\[((?:{DIMS})?)\]")


def parse_type(text: str) -> TensorType:
    """Read ``FORMAT[*SCALE][DIMS]``: ``int4*t[128x64x3x3]``, ``fp4.121*b1x32:e8m0[7x64]``."""
    m = TYPE.fullmatch(text)
    if not m:
        raise ParseError(f"{text!r} is no type; a type reads like int4*t[128x64x3x3]")
    stored = named(m[1])
    if stored is None:
        raise ParseError(f"no format is called {m[1]!r}; {closest(m[1], FORMATS)}")
    shape = tuple(int(d) for d in m[6].split("x") if d)
    type_ = TensorType(shape, stored, _scale(m[2] or "", len(shape)))
    if len(shape) > MAX_RANK or type_.elements > MAX_ELEMENTS:
        raise ParseError(f"{text!r} is larger than any tensor this program can have")
    return type_


def _scale(text: str, rank: int) -> Scale | BlockScale:
    m = BLOCKS.fullmatch(text)
    if not m:
        return Scale(text)
    outer = None if m[3] is None else _sizes(m[3][2:])
    block = _sizes(m[1])
    if m[2] not in FORMATS or FORMATS[m[2]] not in BLOCK_SCALES:
        known = " or ".join(map(str, BLOCK_SCALES))
        raise ParseError(f"the scales of blocks are stored in {known}, not in {m[2]!r}")
    for sizes in (block, outer or block):
        if len(sizes) != rank or 0 in sizes:
            said = "x".join(map(str, sizes))
            raise ParseError(f"a block of {said} is none of a tensor of {rank} dimensions")
    if outer and any(n % b for n, b in zip(outer, block, strict=True)):
        raise ParseError(f"larger blocks of {m[3][2:]} hold no whole blocks of {m[1]}")
    return BlockScale(block, FORMATS[m[2]], outer)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("x"))) if text else ()


def parse_attr(text: str) -> Attr:
    """Read one attribute value."""
    if text in ("true", "false"):
        return text == "true"
    if text.startswith("[") and text.endswith("]"):
        listed = [d for d in text[1:-1].split(",") if d]
        if all(INTEGER.fullmatch(d) for d in listed):
            return tuple(map(int, listed))
        return tuple(map(_number, listed))
    if INTEGER.fullmatch(text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        if re.fullmatch(r"[A-Za-z_][\w.]*", text):
            return text
        raise ParseError(f"{text!r} is no attribute value") from None


def _malformed(line: str) -> str:
    """What is wrong with a line that is nothing known."""
    for opening, closing in ("()", "[]", "{}"):
        more = line.count(opening) - line.count(closing)
        if more:
            lost, kept = (closing, opening) if more > 0 else (opening, closing)
            return f"a {kept!r} has no {lost!r}; an op reads NAMES = KIND(NAMES) {{ATTRS}} : TYPES"
    if " = " not in line or "(" not in line:
        return "not a declaration, a region, an op, return or next"
    if " : " not in line:
        return "the op has no ' : TYPE' at its end; an op reads NAMES = KIND(NAMES) : TYPES"
    return "not an op; one reads NAMES = KIND(NAMES) {KEY=VALUE, ...} : TYPES"


def _split(text: str) -> list[str]:
    return [t for t in text.strip().split(", ") if t]


def _attr(text: str) -> tuple[str, Attr]:
    key, _, raw = text.partition("=")
    return key, parse_attr(raw)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ParseError(f"{text!r} is no number") from None
