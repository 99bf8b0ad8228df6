"""Rows of the studies: passes left out, options swapped, ranges, sweeps, layers one at a time."""

from pathlib import Path

import pytest

from quatrain.compiler.errors import RecipeError, UsageError
from quatrain.passes.recipe import load_recipe
from quatrain.tools.study.ablate import ablated
from quatrain.tools.study.change_tables import differences
from quatrain.tools.study.entry import Entry, entries, entry
from quatrain.tools.study.groups import drawn, numeric_key
from quatrain.tools.study.plan import Script
from quatrain.tools.study.plot import pareto
from quatrain.tools.study.ranges import ranged, read_range
from quatrain.tools.study.results import RecipeRow
from quatrain.tools.study.sensitivity import How, StudiedLayer, frame_rows, layer_rows
from quatrain.tools.study.sweep import read_sweep

SCRIPT = Script("mlp", "digits", 8, 4, 2, 0.1, "constant", "cpu")


def labels(rows: tuple[Entry, ...] | list[Entry]) -> list[str]:
    return [row.label for row in rows]


def test_each_pass_that_changes_numbers_is_left_out() -> None:
    rows = ablated("luq4", ["smp=2"], [], [])
    assert labels(rows) == [
        "fp32", "luq4 smp=2", "without sawb_weights", "without sawb_activations",
        "without luq_gradients", "without carrier",
    ]  # fmt: skip
    left = load_recipe("luq4").with_options({"smp": "2"}).without("luq_gradients")
    assert rows[4].digest == left.digest and "luq_gradients" not in left.labels
    assert rows[4].options == {"smp": "2"}  # an option of the pass that is not there any more
    assert entries(["luq4:smp=2,without=luq_gradients"])[0].digest == left.digest


def test_options_are_swapped() -> None:
    assert labels(ablated("luq4", [], [], ["smp=2"])) == ["fp32", "luq4", "smp=2"]
    words = labels(ablated("ultra_low_4bit", [], [], ["all"]))
    assert "sr=true" in words and "carrier=f32" in words and "gradscale=none" not in words[:2]
    assert len(words) == len({*words}) and not any(w.startswith("recompute=") for w in words)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (("luq4", [], ["luq_gradient"], []), RecipeError, "did you mean 'luq_gradients'?"),
        (("luq4", [], [], ["spm=2"]), RecipeError, "no option 'spm'"),
        (("luq4", [], [], ["smp"]), UsageError, "no key=value"),
        (("fp32", [], [], []), UsageError, "no pass that changes numbers"),
        (("fp32", [], ["canonicalize"], []), RecipeError, "no pass left"),
    ],
)
def test_ablations_that_do_not_read(
    given: tuple[str, list[str], list[str], list[str]], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ablated(*given)


@pytest.mark.parametrize(
    ("word", "points", "values"),
    [
        ("lr=0.01..1", 3, ("0.01", "0.1", "1")),
        ("lr=0..0.4", 3, ("0", "0.2", "0.4")),
        ("low=2..5", None, ("2", "3", "4", "5")),
        ("cycles=1..100", None, ("1", "26", "51", "75", "100")),
        ("low=2,4,2", None, ("2", "4")),
        ("sr=true,false", None, ("true", "false")),
    ],
)
def test_ranges(word: str, points: int | None, values: tuple[str, ...]) -> None:
    assert read_range(word, points).values == values


@pytest.mark.parametrize(
    ("word", "points", "message"),
    [
        ("lr", None, "no range; one reads like lr=0.01..0.4"),
        ("lr=", None, "no range"),
        ("lr=0.4..0.01", None, "goes up between two numbers"),
        ("lr=a..b", None, "goes up"),
        ("lr=1..inf", None, "goes up"),
        ("lr=0.1", None, "has one value"),
        ("lr=0.1,0.2", 3, "lists its values"),
    ],
)
def test_ranges_that_do_not_read(word: str, points: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_range(word, points)


def test_a_range_over_recipes() -> None:
    rows = ranged(["fp32,luq4:smp=2"], read_range("lr=0.1,0.2", None))
    assert labels(rows)[::3] == ["fp32 lr=0.1", "luq4 smp=2 lr=0.2"]
    assert labels(ranged(["luq4"], read_range("smp=1,2", None))) == ["smp=1", "smp=2"]
    with pytest.raises(UsageError, match="say it once"):
        ranged(["luq4:smp=2"], read_range("smp=1,2", None))


SWEEP = """
data = "digits"
steps = 20
recipes = ["fp32", "luq4"]
schedules = ["cosine", "constant"]
[options]
lr = [0.1, 0.2]
smp = [1, 2]
"""


def test_a_sweep_is_a_product(tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(SWEEP)
    found = read_sweep(file)
    assert found.script == {"data": "digits", "steps": 20}
    assert len(found.rows) == 4 + 8  # fp32 has no option smp
    assert labels(found.rows[-1:]) == ["luq4 smp=2 lr=0.2 schedule=constant"]
    script = found.rows[-1].script(SCRIPT)
    assert (script.lr, script.schedule, script.steps) == (0.2, "constant", SCRIPT.steps)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = ", "is no TOML"),
        ('recipe = ["fp32"]', "'recipe' is no key of a sweep; did you mean 'recipes'?"),
        ("steps = 3", "names no recipes"),
        ('recipes = "fp32"', "must be a list of values"),
        ("recipes = []", "must be a list of values"),
        ('recipes = ["fp23"]', "did you mean 'fp32'?"),
        ('recipes = ["fp32"]\nsteps = "3"', "steps = '3' must be an integer"),
        ('recipes = ["fp32"]\nsteps = true', "must be an integer"),
        ('recipes = ["fp32"]\nsteps = 0', "must be at least 1"),
        ('recipes = ["fp32"]\nlr = nan', "must be at least 0"),
        ('recipes = ["fp32"]\noptions = 3', "is a table of lists"),
        ('recipes = ["luq4"]\n[options]\nspm = [1]', "has an option 'spm'; did you mean 'smp'?"),
        ('recipes = ["luq4:smp=2"]\n[options]\nsmp = [1]', "say it once"),
        ('recipes = ["luq4"]\nschedules = ["cosin"]', "did you mean 'cosine'?"),
    ],
)
def test_sweeps_that_do_not_read(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(text)
    with pytest.raises((UsageError, RecipeError)) as caught:
        read_sweep(file)
    assert message in str(caught.value)


LAYERS = [StudiedLayer("conv1", "conv2d", 0.5, True), StudiedLayer("a[1]", "conv2d", 0.5, False)]


def test_a_layer_at_a_time() -> None:
    alone = layer_rows("luq4", {"smp": "2", "exempt": "first"}, LAYERS, How.ALONE)
    assert labels(alone) == ["only conv1", "only a[1]"]
    assert alone[0].options == {"smp": "2", "exempt": "*,!conv1"}
    assert alone[1].options["exempt"] == "*,!a[[]1]"
    turned = layer_rows("luq4", {}, LAYERS, How.EXEMPT)
    assert labels(turned) == ["conv1 quantized", "a[1] exempt"]
    assert turned[0].options["exempt"] == "first,last,!conv1"
    assert turned[1].options["exempt"] == "first,last,a[[]1]"
    (free,) = layer_rows("sbm8", {}, LAYERS[1:], How.EXEMPT)
    assert free.options["exempt"] == "a[[]1]"
    assert labels(frame_rows("luq4", {}, How.ALONE)) == ["fp32", "no layer", "luq4"]
    with pytest.raises(UsageError, match="recipe bf16 has no option to exempt layers"):
        frame_rows("bf16", {}, How.ONE_SHOT)


def trained(row: Entry, *reached: float | None) -> RecipeRow:
    bill = {"bit_operations": {"giga_per_step": 1.0}}
    parts = [
        {"part": f"seed{i}", "error": "why"}
        if x is None
        else {"part": f"seed{i}", "accuracy": x, "loss": 1.0, "bill": bill}
        for i, x in enumerate(reached)
    ]
    return RecipeRow(row, tuple(parts))


def test_changes_are_those_of_the_same_seed() -> None:
    base = trained(entry("fp32", {}), 0.5, 0.25, 0.75)
    other = trained(entry("luq4", {}), 0.75, None, 0.5)
    assert differences(base, other, SCRIPT) == [25.0, -25.0]


def test_rows_have_colours_by_group() -> None:
    rows = [trained(r, 0.5) for r in entries(["fp32,cpt:low=2,cpt:low=4,cpt:low=5"])]
    found = drawn(rows)
    assert [d.colour for d in found] == ["C0", "C1", "C1", "C1"]
    assert [d.name for d in found] == ["fp32", "low=2", "low=4", "low=5"]
    assert numeric_key(rows) == "low" and numeric_key(rows[:3]) is None
    assert drawn(rows, "low")[0].group == "low not set"
    with pytest.raises(UsageError, match="did you mean 'low'"):
        drawn(rows, "lwo")


def test_the_front_has_what_nothing_beats() -> None:
    points = [(2.0, 5.0), (1.0, 3.0), (1.0, 4.0), (3.0, 5.0), (4.0, 6.0)]
    assert pareto(points, less=False) == [(1.0, 4.0), (2.0, 5.0), (4.0, 6.0)]
    assert pareto(points, less=True) == [(1.0, 3.0)]
