"""Every op from its definition: what is well formed is accepted, each single fault is refused.

A changed size or rank must be refused wherever the signature says the size twice. Elsewhere it may
make another well-formed op; then the reference, which knows nothing of signatures, must compute
results of the shapes that the op declares.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from quatrain.compiler import parse, show, verify
from quatrain.compiler.errors import VerifyError
from quatrain.compiler.formats import F32, FORMATS, I64, UINT2
from quatrain.compiler.ir import Attr, Op, Program, Region, Value
from quatrain.compiler.ir.ops import FAMILIES, GEMMS, OPS, PRODUCTS, Trait, having
from quatrain.compiler.ir.ops.definition import Attribute, OpDef
from quatrain.compiler.ir.verify import read_program
from quatrain.compiler.types import Scale, Shape, TensorType
from quatrain.targets.numbers.tensor import Tensor, dtype_of
from quatrain.targets.reference.evaluate import run_op

from ..cases.op_examples import CODES, MADE, example

EVERY_OP = pytest.mark.parametrize("kind", sorted(OPS))


def alone(op: Op) -> Program:
    """A program of one op."""
    inputs = tuple(dict.fromkeys(op.inputs))
    return Program("p", inputs, (), (Region("forward", (op,)),), op.results)


def refusal(op: Op) -> str:
    """What the verifier says against ``op``; empty where it accepts it."""
    try:
        verify(alone(op))
    except VerifyError as e:
        return str(e).splitlines()[0]
    return ""


def with_shape(op: Op, place: int, shape: Shape) -> Op:
    """``op`` with another shape of one operand or, counted on, result."""
    values = [*op.inputs, *op.results]
    values[place] = Value(values[place].name, replace(values[place].type, shape=shape))
    n = len(op.inputs)
    return replace(op, inputs=tuple(values[:n]), results=tuple(values[n:]))


def shapes_changed(op: Op) -> Iterator[tuple[int, int | None, Op]]:
    """Each value with one dimension longer (its number), or one dimension more or fewer (None)."""
    for place, v in enumerate((*op.inputs, *op.results)):
        shape = v.type.shape
        for d in range(len(shape)):
            yield place, d, with_shape(op, place, (*shape[:d], shape[d] + 1, *shape[d + 1 :]))
        yield place, None, with_shape(op, place, (*shape, 1))
        if shape:
            yield place, None, with_shape(op, place, shape[:-1])


def computed(op: Op) -> list[Shape]:
    """The shapes that the reference computes for operands of small numbers."""
    tensors = [_numbers(v.type) for v in op.inputs]
    return [t.data.shape for t in run_op(op, tensors)]


def _numbers(t: TensorType) -> Tensor:
    if t.format.is_index or t.format is UINT2:
        return Tensor(t, np.zeros(t.shape, dtype_of(t.format)), None)
    return Tensor.from_numbers(t, np.ones(t.shape, np.float32))


def said_twice(definition: OpDef, place: int, dim: int) -> bool:
    """Whether the signature has the symbol of a dimension at another place too, and only so."""
    every = [*definition.operands, *definition.results]
    patterns = [o.patterns for o in every]
    if any(len(p) > 1 for p in patterns):
        return False
    symbols = Counter(s for (p,) in patterns for s in p)
    (own,) = patterns[min(place, len(patterns) - 1)]
    if own == ("?",) or definition.repeats:
        return False
    before = own.index(next((s for s in own if s.startswith("*")), own[-1])) if own else 0
    symbol = own[dim] if dim < before or len(own) == dim + 1 else own[before]
    return symbols[symbol] > 1


@EVERY_OP
def test_the_example_is_accepted_and_computed(kind: str) -> None:
    op = example(kind)
    assert refusal(op) == ""
    assert computed(op) == [r.type.shape for r in op.results]
    assert show(parse(show(alone(op)))) == show(alone(op))


@EVERY_OP
def test_a_wrong_shape_is_refused(kind: str) -> None:
    definition = OPS[kind]
    for place, dim, changed in shapes_changed(example(kind)):
        said = refusal(changed)
        if dim is not None and said_twice(definition, place, dim):
            assert said, changed
        if not said:
            assert computed(changed) == [r.type.shape for r in changed.results], changed


@pytest.mark.parametrize("kind", sorted(PRODUCTS))
def test_a_product_of_nothing_is_refused(kind: str) -> None:
    definition = OPS[kind]
    symbols = {s for o in definition.operands for p in o.patterns for s in p}
    for symbol in sorted(symbols):
        assert "nothing to multiply" in refusal(example(kind, {symbol: (0,)})), symbol
    if "R" in symbols:  # more taps than there are rows
        assert "nothing to multiply" in refusal(example(kind, {"R": (6,), "P": (0,)}))
        assert "nothing to multiply" in refusal(example(kind, {"R": (7,), "P": (-1,)}))


@EVERY_OP
def test_a_wrong_count_is_refused(kind: str) -> None:
    op, definition = example(kind), OPS[kind]
    fewer = op.inputs[: len(definition.operands) - 1]
    if definition.operands:
        assert "operands" in refusal(replace(op, inputs=fewer))
    if not definition.repeats:
        more = Value("more", TensorType((), F32))
        assert "operands" in refusal(replace(op, inputs=(*op.inputs, more)))
    more = Value("more", TensorType((), F32))
    assert "results" in refusal(replace(op, results=(*op.results, more)))
    assert "results" in refusal(replace(op, results=op.results[1:])) or len(op.results) == 1


@EVERY_OP
def test_a_wrong_format_is_refused(kind: str) -> None:
    op, definition = example(kind), OPS[kind]
    for place, v in enumerate((*op.inputs, *op.results)):
        n = len(op.inputs)
        operand = definition.operand(place) if place < n else definition.results[place - n]
        if operand.format_class == "any":
            continue
        wrong = F32 if operand.format_class in ("int", "uint2", "where", "scaled", *CODES) else I64
        wrong = UINT2 if operand.format_class == "plain" else wrong
        values = [*op.inputs, *op.results]
        values[place] = Value(v.name, TensorType(v.type.shape, wrong, Scale.NONE))
        changed = replace(op, inputs=tuple(values[:n]), results=tuple(values[n:]))
        assert f"is not of class {operand.format_class}" in refusal(changed)


@pytest.mark.parametrize("kind", sorted(MADE))
def test_a_quantizer_makes_its_formats_and_no_others(kind: str) -> None:
    op = example(kind)
    (made,) = op.results
    for f in FORMATS.values():
        cast = TensorType(made.type.shape, f, Scale.POW2 if f.is_coded else Scale.NONE)
        changed = Value(made.name, cast if kind == "cast" else replace(made.type, format=f))
        known = f in MADE[kind] or (kind == "cast" and f.is_carrier)
        assert (not refusal(replace(op, results=(changed,)))) == known, f


@pytest.mark.parametrize("scale", Scale)
@pytest.mark.parametrize("kind", ["cast", "round_log", "round_stochastic", "round_flag"])
def test_a_rounding_keeps_the_scale(kind: str, scale: Scale) -> None:
    op = example(kind)
    x, *rest = op.inputs
    given = Value(x.name, replace(x.type, scale=Scale.POW2))
    made = Value(op.result.name, TensorType(x.type.shape, MADE[kind][-1], scale))
    changed = replace(op, inputs=(given, *rest), results=(made,))
    assert (not refusal(changed)) == (scale is Scale.POW2)


def test_a_counter_has_no_scale() -> None:
    op = example("increment")
    for scale in set(Scale) - {Scale.NONE}:
        made = Value(op.result.name, replace(op.result.type, scale=scale))
        assert "is not of class int" in refusal(replace(op, results=(made,)))


def faults(attribute: Attribute, value: Attr, rank: int) -> Iterator[Attr]:
    """Values that an attribute must not have."""
    yield "nonsense"
    if attribute.type != "flag":
        yield True
    if isinstance(value, tuple):
        yield from _faults_of_lists(attribute, value, rank)
    elif attribute.type in ("int", "float", "dim"):
        yield 1.0 if attribute.type != "float" else 1
        yield from _out_of_range(attribute, rank)


def _out_of_range(attribute: Attribute, rank: int) -> Iterator[float]:
    """Numbers on both sides of what is admitted, where there are any."""
    number = float if attribute.type.startswith("float") else int
    if attribute.type.startswith("dim"):
        yield from (-1, rank)
    if attribute.low > -math.inf:
        yield number(attribute.low if attribute.above else attribute.low - 1)
    if attribute.low > -math.inf and number is float:
        yield from (math.nan, math.inf)
    if attribute.high < math.inf:
        yield number(attribute.high + 1)


def _faults_of_lists(attribute: Attribute, value: tuple[float, ...], rank: int) -> Iterator[Attr]:
    yield 1
    yield tuple(map(int, value)) if attribute.type == "floats" else tuple(map(float, value))
    if attribute.type == "dims":
        yield (0, 0)
    if attribute.count is not None:
        yield from (value[:-1], (*value, value[0]))
    for number in _out_of_range(attribute, rank):
        yield (number, *value[1:])


@EVERY_OP
def test_a_wrong_attribute_is_refused(kind: str) -> None:
    op, definition = example(kind), OPS[kind]
    names = [o.name for o in (*definition.operands, *definition.results)]
    values = dict(zip(names, (*op.inputs[: len(definition.operands)], *op.results), strict=True))
    for name, value in op.attrs.items():
        attribute = definition.attrs[name]
        rank = len(values[attribute.of].type.shape) if attribute.of else 0
        without = {k: v for k, v in op.attrs.items() if k != name}
        assert "has attributes" in refusal(replace(op, attrs=MappingProxyType(without)))
        for wrong in faults(attribute, value, rank):
            changed = replace(op, attrs=MappingProxyType({**op.attrs, name: wrong}))
            assert f"attribute {name}=" in refusal(changed), (name, wrong)
    unknown = MappingProxyType({**op.attrs, "unheard_of": 1})
    assert "has attributes" in refusal(replace(op, attrs=unknown))


def test_one_value_as_every_operand_of_its_type() -> None:
    for kind in OPS:
        op = example(kind)
        if len(op.inputs) < 2 or len({v.type for v in op.inputs}) > 1:
            continue
        assert refusal(replace(op, inputs=op.inputs[:1] * len(op.inputs))) == "", kind


HEAD = """\
program p
input x : f32[2x3x4x4]
input a : f32[4x9]
input b : f32[7]
input c : f32[9]
input i : i64[9]

forward:
"""
MALFORMED = {
    "r = add_bias(x, b) : f32[2x3x4x4]": "b of add_bias is [C] with C = 3",
    "r = batch_norm(x, c, c, c, c) {eps=1e-05} : f32[2x3x4x4]": "mean of batch_norm is [C]",
    "r, s = nll_loss(a, i) {reduction=mean, ignore_index=-1} : f32[], f32[]": "[N] with N = 4",
    "r = sum(x) {dims=[7], keepdim=false} : f32[2x3x4]": "dims=[7] is not of type dims of x",
    "r = permute(x) {dims=[0,0,1,2]} : f32[2x2x3x4]": "dims=[0,0,1,2] is not of type dims of x",
    "r = cat(b, c, a) {dim=0} : f32[16]": "do not make (16,)",
    "r = cat(a, a) {dim=0} : f32[9x9]": "do not make (9, 9)",
    "r = slice(c) {dim=0, start=7, step=2} : f32[2]": "is no slice of (9,)",
    "r = slice(c) {dim=1, start=0, step=1} : f32[9]": "dim=1 is not of type dim of x",
    "r = pad(b) {before=[1], value=0.0} : f32[7]": "does not lie in (7,)",
    "r = pad(b) {before=[1,1], value=0.0} : f32[9]": "does not lie in (9,)",
    "r = view(a) : f32[4x8]": "(4, 9) has 36 elements, (4, 8) has 32",
    "r = broadcast(b) {dims=[0]} : f32[3x8]": "does not repeat to (3, 8)",
    "r = broadcast(b) {dims=[1]} : f32[3x7]": "does not repeat to (3, 7)",
}


@pytest.mark.parametrize("line", MALFORMED)
def test_programs_that_were_accepted_once_are_refused(line: str) -> None:
    with pytest.raises(VerifyError) as e:
        verify(parse(f"{HEAD}  {line}\n\nreturn r\n"))
    assert MALFORMED[line] in str(e.value)


def test_every_name_of_the_table_in_the_docs_is_an_op_and_the_other_way_round() -> None:
    page = (Path(__file__).parents[2] / "docs" / "ir.md").read_text(encoding="utf-8")
    table = page[page.index("| group | ops |") :].split("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()[2:]]
    wanted = {family: " ".join(d.kind for d in ops) for family, ops in FAMILIES.items()}
    assert {name: ops.replace("`", "") for name, ops in rows} == wanted


def test_traits_that_exclude_or_imply_each_other() -> None:
    pointwise, tails = having(Trait.POINTWISE), having(Trait.TAIL)
    assert not pointwise & tails and not GEMMS & (pointwise | tails)
    assert not having(Trait.MAKES_CARRIER) & having(Trait.KEEPS_CARRIER)
    assert having(Trait.FUNCTION) <= having(Trait.ARITHMETIC) >= having(Trait.REDUCTION)
    assert having(Trait.WINDOW) <= having(Trait.MOVES)
    for kind in having(Trait.QUANTIZER):
        assert OPS[kind].results[0].format_class in CODES
    for kind in having(Trait.KEEPS_CARRIER) | having(Trait.MAKES_CARRIER):
        assert OPS[kind].results[0].format_class in ("float", "scaled", "plain", "any"), kind


def test_an_op_may_have_thousands_of_operands() -> None:
    numbers = [f"g{i}" for i in range(3000)]
    inputs = "\n".join(f"input {name} : f32[{i % 7 + 1}]" for i, name in enumerate(numbers))
    line = f"n1 = tally(n, {', '.join(numbers)}) : i64[]"
    text = f"program p\ninput n : i64[]\n{inputs}\n\nforward:\n  {line}\n\nreturn n1\n"
    program = read_program(text)
    assert len(program.region("forward").ops[0].inputs) == 3001
