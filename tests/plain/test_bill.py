"""The bill: shares of the MACs, bytes kept for backward, conversions, and how it prints."""

import json

import pytest

from quatrain.compiler.ir import Program
from quatrain.compiler.ir.analysis import gemms
from quatrain.compiler.ir.text import parse
from quatrain.compiler.ir.verify import verify
from quatrain.compiler.saved import Kept
from quatrain.passes.recipe import load_recipe
from quatrain.runtime.report import bill_tables, tables
from quatrain.runtime.report.bill import Bill, bill_of
from quatrain.runtime.report.costs import Making
from quatrain.targets.gemm.lowering import lower

from ..cases.bill_programs import CAPTURED, QUANTIZED

KEPT = (Kept("conv", "conv2d", (3, 13, 7, 7), 7644), Kept("fc", "linear", (3, 13), 156))
CONV_MACS = 2 * 13 * 7 * 7 * (3 * 3 * 3)
LAST_MACS = 2 * 1 * 7 * 7 * 13


@pytest.fixture
def captured() -> Program:
    return verify(parse(CAPTURED))


@pytest.fixture
def low() -> Bill:
    making = Making("mine", (("bits", "4"),), "0123456789abcdef", "cpu", ("by_hand",), ("fc*",))
    program = verify(parse(QUANTIZED))
    units = {op: "int8 dot" for _, op in program.ops() if op.kind == "conv2d"}
    return bill_of(program, making=making, units=units)


def test_every_gemm_has_a_line(low: Bill) -> None:
    found = [(g.layer, g.direction, g.formats, g.unit, g.macs, g.exempt) for g in low.gemms]
    assert found == [
        ("body.conv", "forward", "uint4 x int4", "int8 dot", CONV_MACS, False),
        ("last", "forward", "bf16 x bf16", "int8 dot", LAST_MACS, True),
        ("body.conv", "dX", "fp4.even x int4", "-", CONV_MACS, False),
        ("body.conv", "dW", "fp4.odd x uint4", "-", CONV_MACS, False),
    ]


def test_shares_are_of_the_whole_step(low: Bill) -> None:
    total = 3 * CONV_MACS + LAST_MACS
    assert low.macs == total
    assert low.four_bit_share == 3 * CONV_MACS / total
    assert low.exempt_share == LAST_MACS / total
    assert sum(c.macs for c in low.classes) == total
    # Four quotients are added in another order: a few roundings of double precision.
    assert sum(c.share for c in low.classes) == pytest.approx(1, abs=1e-12)


def test_the_three_lines_to_read_first(captured: Program) -> None:
    program = verify(parse(QUANTIZED))
    units = {op: "int8 dot" for _, op in program.ops() if op.kind == "conv2d"}
    (on, bits, kept) = bill_tables.telling(bill_of(program, KEPT, units=units))
    assert on[0] == "on 4 bits" and on[1].endswith("MACs, multiplied in int8 dot")
    assert bits[1].endswith(" % of those in f32")
    assert kept[0] == "kept for backward" and "PyTorch in f32 keeps" in kept[1]
    assert "multiplied" not in bill_tables.telling(bill_of(captured))[0][1]


def test_named_exemptions_replace_the_guess() -> None:
    program = verify(parse(QUANTIZED))
    bill = bill_of(program, exempt=frozenset())
    assert bill.exempt_share == 0
    named = bill_of(program, exempt=frozenset({"body.conv", "last"}))
    assert [g.layer for g in named.gemms if g.exempt] == ["last"]  # the other one is quantized


def test_five_bits_are_not_four() -> None:
    text = QUANTIZED.replace("int4*t[13x3", "int5*t[13x3")
    bill = bill_of(verify(parse(text)))
    total = 3 * CONV_MACS + LAST_MACS
    assert bill.four_bit_share == pytest.approx(CONV_MACS / total)
    assert bill.eight_bit_share == pytest.approx(2 * CONV_MACS / total)
    assert "of them (fp4.even, int5, uint4)" in " ".join(str(bill).split())


def test_the_shares_of_the_summary_are_all(low: Bill, captured: Program) -> None:
    for bill in (low, bill_of(captured), bill_of(verify(parse(QUANTIZED)), exempt=frozenset())):
        # Four quotients are added in another order: a few roundings of double precision.
        assert sum(v for _, v, _ in bill_tables._shares(bill)) == pytest.approx(1, abs=1e-12)
    assert "on 8 bits" not in str(low)


def test_saved_values_are_listed_as_stored(low: Bill) -> None:
    found = {s.name: (s.format, s.kind, s.bytes) for s in low.saved}
    # Channels are packed two a byte in rows of their own: 3 channels take 2 bytes. A scale is 4.
    assert found == {
        "dy": ("f32", "batch", 4 * 2 * 13 * 49),
        "s": ("f32", "batch", 4),
        "wq": ("int4*t", "weights", 13 * 9 * 2 + 4),
        "xq": ("uint4*t", "activation", 2 * 49 * 2 + 4),
        "z": ("bf16", "activation", 2 * 2 * 13 * 49),
    }
    assert low.saved_bytes == sum(b for _, kind, b in found.values() if kind != "batch")


def test_conversions_count_elements(low: Bill) -> None:
    found = {(c.op, c.source, c.result): (c.tensors, c.elements) for c in low.conversions}
    assert found == {
        ("quantize", "f32", "int4*t"): (1, 13 * 27),
        ("quantize", "f32", "uint4*t"): (1, 2 * 3 * 49),
        ("round_log", "f32*p", "fp4.even*p"): (1, 2 * 13 * 49),
        ("round_log", "f32*p", "fp4.odd*p"): (1, 2 * 13 * 49),
        ("cast", "f32", "bf16"): (1, 13),
    }


def test_learning_rates_are_not_saved(captured: Program) -> None:
    names = {s.name for s in bill_of(captured).saved}
    assert "lr" not in names
    assert {"x", "y", "a", "c"} <= names


def test_an_f32_step_has_no_four_bit_share(captured: Program) -> None:
    bill = bill_of(captured, KEPT)
    assert bill.four_bit_share == bill.exempt_share == 0
    assert bill.torch_bytes == 7800


def test_a_program_without_gemms() -> None:
    program = parse("program p\ninput x : f32[1]\n\nforward:\n  y = relu(x) : f32[1]\n\nreturn y\n")
    bill = bill_of(program)
    assert bill.macs == 0 and bill.four_bit_share == 0
    assert "p" in str(bill)


def test_to_dict_is_json(low: Bill) -> None:
    data = json.loads(json.dumps(low.to_dict(), allow_nan=False))
    assert data["four_bit_share"] == low.four_bit_share
    assert data["recipe"] == {"name": "mine", "options": {"bits": "4"}, "hash": "0123456789abcdef"}
    assert data["waivers"] == ["fc*"]
    assert len(data["gemms"]) == 4


@pytest.mark.parametrize("width", [33, 60, 80, 92, 200])
def test_prints_at_any_width(low: Bill, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = str(low)
    assert max(map(len, text.splitlines())) <= width
    flat = "".join(text.split())
    # Below 60 columns words break into pieces; nothing runs over the edge.
    for word in ("fp4.even", "body.conv", "forward", "dW", "exempt", "fc*", "0123456789ab"):
        assert width < 60 or word in flat, word


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1 k"),
        (1234567, "1.23 M"),
        (999_600, "1000 k"),
        (10**12, "1 T"),
    ],
)
def test_counts(n: int, text: str) -> None:
    assert tables.count(n) == text


@pytest.mark.parametrize(("n", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB")])
def test_sizes(n: int, text: str) -> None:
    assert tables.size(n) == text


@pytest.mark.parametrize(
    ("recipe", "bits"),
    [
        *(("mxfp8", {8}), ("mxfp4", {4}), ("nvfp4", {4}), ("tetrajet2", {4, 8})),
        *(("quartet2", {4}), ("fp4_all_the_way", {4})),
    ],
)
@pytest.mark.parametrize("stages", [False, True])
def test_numbers_in_blocks_have_the_bits_of_their_elements(
    captured: Program, recipe: str, bits: set[int], stages: bool
) -> None:
    program = load_recipe(recipe).with_options({"exempt": "none"}).apply(captured)[-1][1]
    if stages:
        program = lower("cpu", program, ())[-1][1]
    assert {g.bits for g in gemms(program)} == bits
