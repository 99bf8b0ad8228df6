"""quatrain compare: where two programs part, how far each value is off, and the pass that did it."""

import json
from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.formats import F32, I64, INT4
from quatrain.compiler.ir.text import parse, show
from quatrain.compiler.types import Scale, TensorType
from quatrain.passes.recipe import load_recipe
from quatrain.runtime.bundle import Bundle, write
from quatrain.targets.numbers.tensor import Tensor
from quatrain.tools.compare.distance import Gap, distance

from ..cases.bill_programs import CAPTURED
from ..cases.commands import Quatrain

# Weights two times as large behind the cast: everything from the convolution on is off.
WRONG = CAPTURED.replace(
    "  a = conv2d(x, conv.w)", "  wide = scale(conv.w) {factor=2.0} : f32[13x5x3x3]\n  a = conv2d(x, wide)"
)  # fmt: skip
TWICE = """
from dataclasses import replace

def twice(program, *, factor: float = 2.0):
    def rule(region, op):
        if op.kind != "scale":
            return None
        return (replace(op, attrs={"factor": op.attrs["factor"] * factor}),)
    return program.rewrite(rule)
"""
VECTOR = TensorType((4,), F32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to work in: a text, the same with a mistake, a network, a pass of one's own."""
    (tmp_path / "right.qt").write_text(CAPTURED)
    (tmp_path / "wrong.qt").write_text(WRONG)
    (tmp_path / "mine.py").write_text(TWICE)
    program = parse(CAPTURED)
    state = {
        v.name: np.full(v.type.shape, 0.5, np.float32 if v.type.format is F32 else np.int64)
        for v in program.state
    }
    manifest = {"target": "cpu", "seed": 0, "allow": [], "hyper": {"lr": 0.5}}
    write(Bundle(program, program, load_recipe("fp32"), manifest, state), tmp_path / "net.qtn")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def vector(*numbers: float) -> Tensor:
    return Tensor.from_numbers(VECTOR, np.array(numbers))


def test_how_far_tensors_are_apart() -> None:
    made = distance(vector(3, 0, 0, -4), vector(3, 0, 1, -4))
    assert (made.equal, made.largest, made.relative, made.codes) == (False, 1.0, 0.25, None)
    assert made.sqnr == pytest.approx(10 * np.log10(25))
    assert made.cosine == pytest.approx(25 / (5 * 26**0.5))
    assert made.within(0.25) and not made.within(0.2) and not made.within(0)


def test_zeros_of_both_signs_and_equal_nans_are_no_difference() -> None:
    made = distance(vector(0.0, np.nan, np.inf, 1), vector(-0.0, np.nan, np.inf, 1))
    assert made.equal and made.within(0) and made.largest == 0


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_finite_on_one_side_alone_parts_at_any_tolerance(number: float) -> None:
    for a, b in ((1.0, number), (number, 1.0)):
        made = distance(vector(1, 2, 3, a), vector(1, 2, 3, b))
        assert not made.within(1e9) and made.relative is None and made.sqnr is None


def test_a_difference_from_zeros_has_no_relative_error() -> None:
    made = distance(vector(0, 0, 0, 0), vector(0, 0, 0, 1))
    assert made == Gap(False, 1.0, None, None, None, None) and not made.within(1e9)


def test_codes_are_compared_bit_for_bit_and_with_their_scales() -> None:
    type_ = TensorType((4,), INT4, Scale.TENSOR)
    one, other = (Tensor.from_numbers(type_, [1, 2, 3, x], 0.5) for x in (4, 5))
    made = distance(one, other)
    assert (made.codes, made.largest) == (0.25, 0.5)
    scaled = distance(one, Tensor.from_numbers(type_, [1, 2, 3, 4], 1.0))
    assert (scaled.equal, scaled.codes, scaled.largest) == (False, 0.0, 2.0)
    plain = distance(one, vector(0.5, 1, 1.5, 2))
    assert plain.equal and plain.codes is None, "real numbers decide between formats"


def test_integers_are_compared_to_the_last_bit() -> None:
    type_ = TensorType((), I64)
    big = [Tensor(type_, np.asarray(x, np.int64)) for x in (2**53, 2**53 + 1)]
    assert not distance(*big).equal and distance(*big).codes == 1.0


def test_the_first_op_that_parts_is_named_with_its_operands(
    folder: Path, quatrain: Quatrain
) -> None:
    text = quatrain("compare", "right.qt", "wrong.qt", status=1)
    assert "first to part: a (forward, layer conv)" in text
    assert "  A a = conv2d(x, conv.w)" in text and "  B a = conv2d(x, wide)" in text
    assert "reads x (equal), conv.w (equal), wide (only in B)" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["wide", "f32", "only", "in", "B"] in rows
    mark = next(words for words in rows if words[:2] == [">", "a"])
    assert mark[2:] == ["f32", mark[3], mark[4], "0.0", "1.0000", "-"], "the error is the number"


def test_rows_are_data(folder: Path, quatrain: Quatrain) -> None:
    made = json.loads(quatrain("compare", "right.qt", "wrong.qt", "--json", status=1))
    assert made["first"]["name"] == "a" and made["first"]["op_b"]["reads"] == ["x", "wide"]
    names = [row["name"] for row in made["rows"] if not row["again"]]
    program = parse(CAPTURED)
    known = [v.name for v in (*program.inputs, *program.state)]
    known += [v.name for _, op in program.ops() for v in op.results]
    assert [n for n in names if n != "wide"] == known and names.index("wide") + 1 == names.index(
        "a"
    )
    row = {r["name"]: r for r in made["rows"]}
    assert row["a"]["distance"]["sqnr"] == pytest.approx(0.0) and row["x"]["distance"]["equal"]
    assert row["wide"]["where"] == "only in B" and row["wide"]["distance"] is None


def test_a_program_agrees_with_itself(folder: Path, quatrain: Quatrain) -> None:
    (folder / "again.qt").write_text(CAPTURED)
    text = quatrain("compare", "right.qt", "again.qt")
    assert "nothing that both have parts" in text and "0 values part, 42 agree" in text


def test_a_tolerance_is_of_the_largest_number(folder: Path, quatrain: Quatrain) -> None:
    words = ("compare", "net.qtn", "--recipe-b", "bf16")
    assert "first to part: a " in quatrain(*words, status=1)
    assert "nothing that both have parts within 0.1" in quatrain(*words, "--tolerance", 0.1)


def test_ends_are_compared_by_the_state_that_takes_them(folder: Path, quatrain: Quatrain) -> None:
    (folder / "other.qt").write_text(CAPTURED.replace("gamma1", "gamma.next"))
    made = json.loads(quatrain("compare", "right.qt", "other.qt", "--json"))
    row = {r["name"]: r for r in made["rows"]}
    assert row["gamma1"]["where"] == "only in A" and row["gamma.next"]["where"] == "only in B"
    assert row["next gamma"]["distance"]["equal"] and not row["next gamma"]["again"]


def test_bisect_finds_the_pass(folder: Path, quatrain: Quatrain) -> None:
    idle, guilty = "mine.py:twice:factor=1", "mine.py:twice:factor=4"
    words = ("compare", "wrong.qt", "--pass", "canonicalize", "--pass", idle, "--pass", guilty)
    text = quatrain(*words, "--bisect", status=1)
    assert "results first differ after twice#2" in text
    lines = [line.split() for line in text.splitlines()]
    assert [w[:1] for w in lines[-4:]] == [["lower"], ["canonicalize"], ["twice"], [">"]]
    assert text.count("no change") == 2 and lines[-1][-1] == "wide"
    made = json.loads(quatrain(*words, "--bisect", "--json", status=1))
    assert made["found"] == "twice#2" and [r["idle"] for r in made["rows"]] == [
        False,
        True,
        True,
        False,
    ]
    assert quatrain(*words[:-2], "--bisect").count("agree") == 1


def test_bisect_holds_each_pass_against_the_same_of_the_other_side(
    folder: Path, quatrain: Quatrain
) -> None:
    words = ("compare", "net.qtn", "--recipe", "ultra_low_4bit", "--set", "exempt=none")
    made = json.loads(quatrain(*words, "--set-b", "carrier=f32", "--bisect", "--json", status=1))
    assert made["found"] == "carrier"
    assert all(r["against"] == r["stage"] for r in made["rows"]), "both have the same passes"


def test_stages_are_sides(folder: Path, quatrain: Quatrain) -> None:
    words = ("compare", "net.qtn", "--recipe", "int4", "--set", "exempt=none")
    text = quatrain(*words, "--after-a", "lower", "--after-b", "sawb_weights", status=1)
    assert "A: net.qtn, int4 exempt=none after lower, on reference" in text and "conv.wq" in text
    assert "conv.xq" not in text


def test_what_is_given_outranks_what_is_drawn(folder: Path, quatrain: Quatrain) -> None:
    quatrain("run-ir", "right.qt", "-o", "first.safetensors")
    words = ("compare", "right.qt", "wrong.qt", "--json")
    drawn = json.loads(quatrain(*words, status=1))
    given = json.loads(quatrain(*words, "--state", "first.safetensors", status=1))
    assert drawn["rows"][3]["name"] == "conv.w" and drawn != given


def test_what_passes_added_starts_as_in_the_first_network(folder: Path, quatrain: Quatrain) -> None:
    """Clips that two trainings have moved apart: both run with those of A."""
    program = parse(CAPTURED)
    recipe = load_recipe("int4").with_options({"exempt": "none"})
    added = recipe.apply(program)[-1][1].state
    for name, clip in (("one.qtn", 2.0), ("other.qtn", 3.0)):
        state = {
            v.name: np.full(v.type.shape, clip, np.float32 if v.type.format is F32 else np.int64)
            for v in added
        }
        write(Bundle(program, program, recipe, {"hyper": {}}, state), folder / name)
    assert "0 values part" in quatrain("compare", "one.qtn", "other.qtn")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("right.qt",), "A and B are the same; name another B, or what differs"),
        (("right.qt", "right.qt"), "A and B are the same"),
        (("right.txt", "wrong.qt"), "no NET.qtn, no FILE.py:FACTORY and no PROGRAM.qt"),
        (("gone.qt", "wrong.qt"), "cannot read gone.qt"),
        (("gone.qtn", "wrong.qt"), "gone.qtn does not exist"),
        (("gone.py:f", "wrong.qt"), "there is no file gone.py"),
        (("net.qtn", "--recipe-b", "fp23"), "did you mean 'fp32'?"),
        (("net.qtn", "--set-b", "carier=f32"), "has no option 'carier'"),
        (("right.qt", "wrong.qt", "--set", "a=1"), "--set changes a recipe, and right.qt has none"),
        (("net.qtn", "--recipe", "int4", "--pass-b", "carrier"), "leave --recipe and --set out"),
        (("net.qtn", "--pass-b", "carier"), "did you mean 'carrier'?"),
        (("net.qtn", "--after-b", "lowr"), "did you mean 'lower'?"),
        (("net.qtn", "--target-b", "cpo"), "did you mean 'cpu'?"),
        (("right.qt", "wrong.qt", "--eval"), "--eval is for networks"),
        (("right.qt", "wrong.qt", "--data", "digits"), "--data is for networks"),
        (("right.qt", "wrong.qt", "--state", "no.safetensors"), "there is no file no.safetensors"),
        (("right.qt", "wrong.qt", "--state", "mine.py"), "no whole safetensors file"),
        (("right.qt", "wrong.qt", "--tolerance", "-1"), "--tolerance"),
        (("right.qt", "--bisect"), "right.qt, on reference, has no passes to try"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, quatrain: Quatrain, words: tuple[str, ...], hint: str
) -> None:
    assert hint in quatrain("compare", *words, status=2)


def test_texts_after_passes_are_the_same_programs(folder: Path, quatrain: Quatrain) -> None:
    """What was dumped is what ran: a dump holds against the network's own stage."""
    after = load_recipe("ultra_low_4bit").with_options({"exempt": "none"}).apply(parse(CAPTURED))
    (folder / "dump.qt").write_text(show(dict(after)["grad_scale"]))
    words = ("--recipe-a", "ultra_low_4bit", "--set-a", "exempt=none", "--after-a", "grad_scale")
    assert "0 values part" in quatrain("compare", "net.qtn", "dump.qt", *words)
