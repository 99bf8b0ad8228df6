"""Tables on terminals of 80 and 120 columns: no line is wider, no word of a few letters is cut."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from quatrain.passes.recipe import load_recipe, recipe_names
from quatrain.tools import terminal
from quatrain.tools.bench.machine import Machine
from quatrain.tools.bench.plan import FOUR_BIT, contenders, workload
from quatrain.tools.bench.results import ContenderRow, WorkloadResult
from quatrain.tools.bench.tables import machine_lines, result_tables
from quatrain.tools.cli import main
from quatrain.tools.commands.targets import ASKED
from quatrain.tools.study.change_tables import change_tables
from quatrain.tools.study.entry import entries
from quatrain.tools.study.plan import WIDTHS, Script
from quatrain.tools.study.results import RecipeRow
from quatrain.tools.study.sensitivity import How, Shot, Start, StudiedLayer, layer_rows
from quatrain.tools.study.sensitivity_tables import shot_tables
from quatrain.tools.study.tables import study_tables
from quatrain.tools.units_by_recipe import units_by_recipe

COLUMNS = (80, 120)
ENDLESS = 1000
WORD = 12  # letters that stay together
COLOUR = re.compile(r"\x1b\[[\d;]*m")

# What a person sees on a terminal of so many columns.
Screen = Callable[[int, Callable[[], object]], str]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Screen:
    """Shows something on a terminal with colours."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def show(columns: int, print_it: Callable[[], object]) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        print_it()
        return COLOUR.sub("", capsys.readouterr().out)

    return show


def check(screen: Screen, print_it: Callable[[], object]) -> None:
    whole = {w for w in screen(ENDLESS, print_it).split() if len(w) <= WORD}
    assert whole
    for columns in COLUMNS:
        text = screen(columns, print_it)
        assert max(map(len, text.splitlines())) <= columns
        assert whole - {*text.split()} == set()


@pytest.mark.parametrize(
    "words",
    [
        ("recipes",),
        ("opt", "--list"),
        ("study", "cpt"),
        *(("recipes", name) for name in recipe_names()),
    ],
    ids=" ".join,
)
def test_commands(screen: Screen, words: tuple[str, ...]) -> None:
    check(screen, lambda: main(words))


@pytest.mark.tvm
def test_targets(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("fp32", FOUR_BIT, "dorefa")
    found = {n: units_by_recipe(load_recipe(n), (*ASKED, "reference")) for n in names}
    monkeypatch.setattr("quatrain.tools.commands.targets.recipe_names", lambda: names)
    check(screen, lambda: main(["targets"]))
    check(screen, lambda: main(["targets", "cpu"]))
    assert {u for p in found["fp32"] for u in p.units} == {"f32", "NumPy"}
    forward, dx, dw = found[FOUR_BIT]
    assert (dx.direction, dx.operands) == ("dX", "fp4.even x int4")
    assert forward.units[0].startswith("int8") and dw.units[1:] == ("int8 mma", "NumPy")


@pytest.mark.parametrize("colours", ["NO_COLOR", "TTY_COMPATIBLE"])
def test_colours_say_nothing_of_their_own(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, colours: str
) -> None:
    coloured = screen(COLUMNS[0], lambda: main(["recipes", FOUR_BIT]))
    monkeypatch.setenv(colours, "1" if colours == "NO_COLOR" else "0")
    plain = screen(COLUMNS[0], lambda: main(["recipes", FOUR_BIT]))
    said = [sorted(w for w in text.split() if w.strip("─")) for text in (plain, coloured)]
    assert said[0] == said[1]


MACHINE = Machine(
    cpu="AMD EPYC", mcpu="znver4", units=("int8 dot", "f32"), cpus=2, threads=2,
    omp_wait_policy="passive", load=3.0, versions={"torch": "2.13.0+cpu", "numpy": "2.4.6"},
    peaks={"int8 dot": 400.0, "f32": 100.0, "memory": 20.0},
)  # fmt: skip


def test_a_benchmark(screen: Screen) -> None:
    rows = [
        ContenderRow(
            who, rounds=(0.5 + i, 2.0 + i), cold=20.0, warm=3.25, peak_bytes=1 << 31,
            saved_bytes=1 << 27, operations=10**10,
        )
        for i, who in enumerate(contenders("resnet20", [], {}))
    ]  # fmt: skip
    rows[-1] = replace(rows[-1], error="RuntimeError: a sentence that says at length what it is")
    result = WorkloadResult(workload("resnet20", None), tuple(rows))

    def both() -> None:
        width = min(terminal.out().width, COLUMNS[0])  # for more columns the table has more of them
        terminal.show(machine_lines(MACHINE))
        terminal.show(result_tables(result, MACHINE, width))

    check(screen, both)


CLASSES = ("uint4 x int4", "fp4.even x int4", "fp4.odd x uint4", "fp8.152 x int4")
BILL = {
    "macs": 8, "exempt_share": 0.0, "saved_bytes": 123456789, "planned_bytes": None,
    "bit_operations": {"giga_per_step": 1234.5, "share_of_f32": 0.0625},
    "classes": [{"formats": c, "unit": "-", "gemms": 1, "macs": 2, "share": 0.25} for c in CLASSES],
    "widths": {str(width): 0.25 for width in WIDTHS},
}  # fmt: skip


def test_a_study(screen: Screen) -> None:
    budget = Script("digits_cnn", "digits", 1442, 64, 10000, 0.05, "onecycle", "cpu")
    names = ("fp32", "deepseek_fp8", "ultra_low_4bit:two_phase_rounding.sr=true,exempt=first,last")
    seeds = [
        {"part": f"seed{i}", "accuracy": 0.5 + i / 8, "loss": 1.0, "bill": BILL} for i in (0, 1)
    ]
    time = {"part": "time", "rounds": [0.125, 0.25], "baseline_rounds": [0.5, 0.5], "load": 9.0}
    rows = [RecipeRow(entry, tuple(seeds), time) for entry in entries(names)]
    why = {"part": "seed0", "error": "RecipeError: a sentence that says at length what it is"}
    rows += [RecipeRow(entry, (why,)) for entry in entries(["wageubn"])]
    check(screen, lambda: terminal.show(study_tables(rows, budget, 2)))
    changes = change_tables(rows, budget, 2, "Changes of fp32", rows[0].entry)
    check(screen, lambda: terminal.show(changes))


def test_one_step_of_each_layer(screen: Screen) -> None:
    budget = Script("resnet20", "cifar10", 50000, 128, 10, 0.05, "onecycle", "cpu")
    gap = {"equal": False, "sqnr": -12.3, "cosine": 0.1234}
    names = ("stem.0", "stages.1.0.shortcut.0", "fc")
    means = {"loss": [2.0, 3.0], "outputs": gap, "gradients": gap, "error": None}
    result = {**means, "layers": {n: {"y": gap, "dw": gap} for n in names}}
    layers = [StudiedLayer(n, "conv2d", 0.25, n != "fc") for n in names]
    rows = layer_rows(FOUR_BIT, {}, layers, How.ONE_SHOT)
    shots = [Shot(row, layer, result) for row, layer in zip(rows, layers, strict=True)]
    why = {"error": "RecipeError: a sentence that says at length what it is"}
    shots.append(Shot(rows[0], layers[0], why))
    shown = shot_tables(shots, budget, Start(2))
    check(screen, lambda: terminal.show(shown))
