"""quatrain run-ir: any dumped text runs, on numbers that a seed draws or a file gives."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from quatrain.compiler.ir.text import parse, show
from quatrain.passes.recipe import load_recipe, recipe_names
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.reference.evaluate import evaluate
from quatrain.tools.compare.start import start

from ..cases.bill_programs import CAPTURED, QUANTIZED
from ..cases.commands import Quatrain
from ..cases.residual import resnet


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.qt").write_text(CAPTURED)
    (tmp_path / "low.qt").write_text(QUANTIZED)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_results_are_those_of_the_reference(folder: Path, quatrain: Quatrain) -> None:
    quatrain("run-ir", "net.qt", "--seed", 3, "-o", "out.safetensors")
    program = parse(CAPTURED)
    values, drawn = start(program, {}, 3)
    wanted = {v.name: t for v, t in evaluate(program, values).items()}
    made = load_file("out.safetensors")
    assert len(drawn) == len(program.inputs) + len(program.state)
    assert made.keys() == {"loss", *(s.name for s, _ in program.next)}
    np.testing.assert_array_equal(made["loss"], wanted["loss"].data)
    for state, value in program.next:
        np.testing.assert_array_equal(made[state.name], wanted[value.name].data)


def test_a_run_goes_on_from_a_file_of_results(folder: Path, quatrain: Quatrain) -> None:
    for _ in range(2):
        state = ("--state", "out.safetensors") if Path("out.safetensors").exists() else ()
        quatrain("run-ir", "net.qt", *state, "-o", "out.safetensors")
    assert load_file("out.safetensors")["step"] == 2


def test_the_seed_decides_and_a_name_draws_the_same_in_any_program(folder: Path) -> None:
    program = parse(CAPTURED)
    one, again, other = (start(program, {}, seed)[0] for seed in (0, 0, 1))
    assert all(np.array_equal(one[k].data, again[k].data) for k in one)
    assert not np.array_equal(one["x"].data, other["x"].data)
    assert set(np.unique(one["y"].data)) <= {0, 1, 2}, "labels are of the classes that there are"
    assert one["m.conv"].data.any() == one["step"].data.any() == False  # noqa: E712
    assert (one["gamma"].data > 0).all()


def test_codes_are_saved_as_the_numbers_they_stand_for(folder: Path, quatrain: Quatrain) -> None:
    words = ("run-ir", "low.qt", "--value", "wq", "--value", "g*", "-o", "out.safetensors")
    text = quatrain(*words)
    assert "int4*t[13x3x3x3]" in text and "fp4.even*p" in text
    made = load_file("out.safetensors")["wq"]
    assert made.dtype == np.float32 and len(np.unique(np.abs(made))) <= 8


def test_results_as_data(folder: Path, quatrain: Quatrain) -> None:
    made = json.loads(quatrain("run-ir", "net.qt", "--json"))
    assert made["drawn"][0] == "x" and made["target"] == "reference"
    first = made["results"][0]
    assert (first["name"], first["what"], first["type"]) == ("loss", "output", "f32[]")
    assert first["least"] == first["largest"] == first["mean"] > 0 and first["bad"] == 0


def test_what_is_not_finite_is_counted(folder: Path, quatrain: Quatrain) -> None:
    x = np.full((3, 5, 7, 7), np.nan, np.float32)
    save_file({"x": x}, "nan.safetensors")
    text = quatrain("run-ir", "net.qt", "--state", "nan.safetensors")
    assert "NaN, inf" in text and "NaN, inf" not in quatrain("run-ir", "net.qt")
    made = json.loads(quatrain("run-ir", "net.qt", "--state", "nan.safetensors", "--json"))
    assert made["results"][0]["bad"] == 1 and made["results"][0]["mean"] is None


@pytest.mark.parametrize("name", recipe_names())
def test_the_text_of_every_recipe_runs(folder: Path, quatrain: Quatrain, name: str) -> None:
    program = load_recipe(name).apply(resnet())[-1][1]
    (folder / "all.qt").write_text(show(program))
    made = json.loads(quatrain("run-ir", "all.qt", "--json"))
    assert made["results"][0]["name"] == "loss" and made["results"][0]["bad"] == 0


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("gone.qt",), "cannot read gone.qt"),
        (("net.qtn",), "its text is what quatrain inspect net.qtn prints"),
        (("net.qt", "--value", "los"), "did you mean 'loss'?"),
        (("net.qt", "--target", "cpo"), "did you mean 'cpu'?"),
        (("net.qt", "-o", "nowhere/x.safetensors"), "make it first"),
        (("net.qt", "--state", "low.qt"), "low.qt is no whole safetensors file"),
        (("net.qt", "--state", "gone.qtn"), "gone.qtn does not exist"),
        (("net.qt", "--state", "odd.safetensors"), "holds no input and no state of tiny"),
        (("net.qt", "--state", "big.safetensors"), "x is given with shape [2]"),
        (("net.qt", "--state", "label.safetensors"), "y holds the label 7; labels are 0 .. 2"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, quatrain: Quatrain, words: tuple[str, ...], hint: str
) -> None:
    save_file({"weight": np.zeros(2, np.float32)}, "odd.safetensors")
    save_file({"x": np.zeros(2, np.float32)}, "big.safetensors")
    save_file({"y": np.full(3, 7)}, "label.safetensors")
    before = set(folder.iterdir())
    assert hint in quatrain("run-ir", *words, status=2)
    assert set(folder.iterdir()) == before


def test_numbers_of_other_floats_are_rounded_as_stored(folder: Path) -> None:
    program = parse(CAPTURED.replace("input lr : f32[]", "input lr : bf16[]"))
    for given in (np.float64(0.1), np.asarray(0x3DCD, np.uint16)):
        made = start(program, {"lr": np.asarray(given)}, 0)[0]["lr"]
        assert isinstance(made, Tensor) and float(made.numbers) == 0.10009765625
