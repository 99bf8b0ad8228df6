"""The text form: programs parse back to the same text; damage is refused with its line."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.compiler import parse, show
from quatrain.compiler.errors import ParseError
from quatrain.compiler.formats import FORMATS
from quatrain.compiler.ir import Op, Program, Region, Value
from quatrain.compiler.ir.ops import OPS
from quatrain.compiler.ir.program import show_attr
from quatrain.compiler.ir.text import parse_attr, parse_type
from quatrain.compiler.types import Scale, TensorType

STEP = """\
program tiny
after canonicalize, sawb_weights
input x : f32[2x3x5x5]
state conv.weight : f32[4x3x3x3]
state conv.clip : f32[] = 8.0

forward:
  # conv
  conv.q = quantize(x, conv.clip) : int4*t[2x3x5x5]
  conv.wclip = sawb_clip(conv.weight) {c1=12.035, c2=12.03} : f32[]
  conv.wq = quantize(conv.weight, conv.wclip) : int4*t[4x3x3x3]
  y = conv2d(conv.q, conv.wq) {stride=[1,1], padding=[1,1], dilation=[1,1], groups=1} : bf16[2x4x5x5]

backward:

update:

return y
"""

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,6}(\.[a-z0-9_]{1,4}){0,2}(#[2-9])?", fullmatch=True)
SHAPES = st.lists(st.integers(0, 40), max_size=4).map(tuple)
TYPES = st.builds(
    TensorType, SHAPES, st.sampled_from(list(FORMATS.values())), st.sampled_from(list(Scale))
)
WORDS = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda w: w not in ("true", "false", "inf", "nan", "infinity")
)
ATTRS = st.one_of(
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False),
    WORDS,
    st.lists(st.integers(-9, 9), max_size=4).map(tuple),
)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Well-formed programs of any types; their meaning is the verifier's business."""
    names = draw(st.lists(NAMES, min_size=3, max_size=12, unique=True))
    types = draw(st.lists(TYPES, min_size=len(names), max_size=len(names)))
    values = [Value(n, t) for n, t in zip(names, types, strict=True)]
    x, s, *rest = values
    seen, ops = [x, s], []
    for v in rest:
        inputs = tuple(draw(st.lists(st.sampled_from(seen), max_size=3)))
        attrs = MappingProxyType(draw(st.dictionaries(WORDS, ATTRS, max_size=3)))
        kind = draw(st.sampled_from(sorted(OPS)))
        ops.append(Op(kind, inputs, (v,), attrs, draw(st.sampled_from(["", "a", "a.b.0"]))))
        seen.append(v)
    cut = draw(st.integers(0, len(ops)))
    regions = (Region("forward", tuple(ops[:cut])), Region("backward", tuple(ops[cut:])))
    initial = MappingProxyType({s.name: draw(st.floats(allow_nan=False))})
    return Program("p", (x,), (s,), regions, (seen[-1],), ((s, seen[-1]),), initial, ("a", "b"))


def test_text_of_a_program_parses_back() -> None:
    assert show(parse(STEP)) == STEP


@given(programs())
def test_any_program_parses_back(program: Program) -> None:
    text = show(program)
    again = parse(text)
    assert show(again) == text
    assert again.initial == program.initial
    assert [op.origin for _, op in again.ops()] == [op.origin for _, op in program.ops()]
    assert [op.attrs for _, op in again.ops()] == [op.attrs for _, op in program.ops()]


@given(TYPES)
def test_types_parse_back(type_: TensorType) -> None:
    assert parse_type(str(type_)) == type_


@given(ATTRS)
def test_attributes_parse_back_with_their_type(value: object) -> None:
    again = parse_attr(show_attr(value))  # type: ignore[arg-type]
    assert again == value
    assert type(again) is type(value)


REFUSALS = {
    "x = relu(z) : f32[1]": "no value is called 'z'; known: a",
    "x = relu(late) : f32[1]": "late is read before it is defined, in line 5",
    "x = relu(a : f32[1]": "a '(' has no ')'; an op reads NAMES = KIND(NAMES)",
    "x = relu a) : f32[1]": "a ')' has no '('",
    "x = relu(a) {k=[1} : f32[1]": "'[1' is no attribute value",
    "x = relu(a)": "the op has no ' : TYPE' at its end",
    "x = relu(a) k=1 : f32[1]": "not an op; one reads NAMES = KIND(NAMES)",
    "x = relv(a) : f32[1]": "no op is called 'relv'; did you mean 'relu'?",
    "x = relu(a) : f23[1]": "no format is called 'f23'; did you mean 'f32'?",
    "x = relu(a) : f32(1)": "'f32(1)' is no type; a type reads like int4*t[128x64x3x3]",
    "a = relu(a) : f32[1]": "a is defined twice",
    "x, y = relu(a) : f32[1]": "2 results but 1 types",
    "x = relu(a) {k=[1;2]} : f32[1]": "'1;2' is no number",
    "x = relu(a) {k=1-2} : f32[1]": "'1-2' is no attribute value",
    "x! = relu(a) : f32[1]": "'x!' is no name",
    "x relu(a)": "not a declaration, a region, an op, return or next",
    "x = relu(a) : f32[999999999999x999999999999]": "larger than any tensor",
}


@pytest.mark.parametrize("line", REFUSALS, ids=list(REFUSALS.values()))
def test_refusals_name_the_line(line: str) -> None:
    with pytest.raises(ParseError) as e:
        parse(f"program p\ninput a : f32[1]\nforward:\n  {line}\n  late = relu(a) : f32[1]\n")
    assert REFUSALS[line] in str(e.value)
    assert str(e.value).startswith("line 4: ")


def test_an_op_outside_of_a_region_is_refused() -> None:
    with pytest.raises(ParseError, match="put 'forward:' ahead of it"):
        parse("program p\ninput a : f32[1]\nx = relu(a) : f32[1]\n")


def test_text_that_was_cut_short_is_refused() -> None:
    lines = STEP.splitlines()
    for count in range(1, len(lines)):
        with pytest.raises(ParseError, match="no line 'return NAMES'; it is cut short"):
            parse("\n".join(lines[:count]))
    with pytest.raises(ParseError, match="line 19: a second return; the first is line 18"):
        parse(f"{STEP}return y\n")


def test_an_unknown_name_among_many_is_answered_with_the_nearest() -> None:
    many = "".join(f"input layer{i}.weight : f32[1]\n" for i in range(27))
    with pytest.raises(ParseError) as e:
        parse(f"program p\n{many}forward:\n  x = relu(layer7.wieght) : f32[1]\n")
    first = str(e.value).splitlines()[0]
    assert "no value is called 'layer7.wieght'; did you mean 'layer7.weight'? known: " in first
    assert first.endswith(" and 22 more") and first.count("layer") == 7


def test_text_without_a_program_is_refused() -> None:
    with pytest.raises(ParseError, match="no line 'program NAME'"):
        parse("input a : f32[1]\n")
