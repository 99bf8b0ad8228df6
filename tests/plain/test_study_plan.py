"""What ``quatrain study`` compares: recipes with options, the script, networks; cyclic savings."""

import json
from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.errors import RecipeError, UsageError
from quatrain.passes.recipe import load_recipe, recipe_names
from quatrain.tools.cli import main
from quatrain.tools.dataset import Dataset
from quatrain.tools.study.entry import check_own, entries
from quatrain.tools.study.plan import Wish, script


def test_recipes_with_options() -> None:
    found = entries(["fp32,ultra_low_4bit:exempt=first,last,carrier=f32,ultra_low_4bit", "fp32"])
    assert [e.label for e in found] == [
        "fp32", "ultra_low_4bit exempt=first,last carrier=f32", "ultra_low_4bit"
    ]  # fmt: skip
    made = load_recipe("ultra_low_4bit").with_options({"exempt": "first,last", "carrier": "f32"})
    assert found[1].digest == made.digest
    assert len({e.stem for e in found}) == 3
    assert [e.recipe for e in entries([])] == list(recipe_names())


def test_a_rate_of_ones_own() -> None:
    plain, own, other = entries(["luq4,luq4:lr=0.05,momentum=0,smp=2,luq4:lr=0.1"])
    assert own.label == "luq4 smp=2 lr=0.05 momentum=0.0"
    assert own.options == {"smp": "2"} and len({e.stem for e in (plain, own, other)}) == 3
    common = script(Wish("digits"), rows(130))
    assert plain.script(common) == common
    mine = own.script(common)
    assert (mine.lr, mine.momentum, mine.weight_decay) == (0.05, 0.0, common.weight_decay)
    assert mine.steps == common.steps
    factory = script(Wish("digits", f"{__file__}:task"), rows(130))
    check_own([plain], factory)
    with pytest.raises(UsageError, match="recipes luq4: lr is for the networks by name"):
        check_own([other], factory)


@pytest.mark.parametrize(
    ("word", "error", "message"),
    [
        ("luq4:lr=fast", UsageError, "recipes luq4: lr=fast is no number of at least 0"),
        ("luq4:momentum=-1", UsageError, "momentum=-1 is no number of at least 0"),
        ("luq4:lr=inf", UsageError, "lr=inf is no number of at least 0"),
        ("fp33", RecipeError, "did you mean 'fp32'?"),
        ("ultra_low_4bit:carier=f32", RecipeError, "has no option 'carier'"),
        ("ultra_low_4bit:carrier", UsageError, "no key=value"),
        ("ultra_low_4bit:carrier=f32,carrier=bf16", UsageError, "'carrier' twice"),
        ("carrier=f32", UsageError, "follows no recipe"),
    ],
)
def test_recipes_that_do_not_read(word: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        entries([word])


def rows(count: int, labels: type = np.int64) -> Dataset:
    x = np.zeros((count, 1, 8, 8), np.float32)
    return Dataset("digits", x, np.zeros(count, labels), x[:2], np.zeros(2, labels))


def test_the_script_follows_data_and_network(tmp_path: Path) -> None:
    found = script(Wish("digits"), rows(130))
    assert (found.network, found.batch, found.steps, found.lr) == ("digits_cnn", 64, 20, 0.05)
    assert script(Wish("cifar10"), rows(300)).network == "resnet20"
    short = script(Wish("digits", epochs=3, samples=100, batch=10, lr=0.5), rows(130))
    assert (short.steps, short.per_epoch, short.samples) == (30, 10, 100)
    assert "100 training samples, batch 10, 30 steps (3 epochs)" in short.words
    (tmp_path / "net.py").touch()
    assert "own optimizer" in script(Wish("digits", f"{tmp_path}/net.py:task"), rows(130)).words


@pytest.mark.parametrize(
    ("wish", "data", "message"),
    [
        (Wish("digits", "resnet2"), rows(99), "did you mean 'resnet20'?"),
        (Wish("digits", steps=3, epochs=4), rows(99), "give one of them"),
        (Wish("digits", f"{__file__}:task", lr=0.1), rows(99), "brings its own optimizer"),
        (Wish("digits", "nothing.py:task"), rows(99), r"there is no file nothing\.py"),
        (Wish("digits", schedule="cosin"), rows(99), "did you mean 'cosine'?"),
        (Wish("digits", samples=9), rows(99), "has 99, a batch 64"),
        (Wish("digits"), rows(99, np.float32), "no class labels"),
    ],
)
def test_scripts_that_do_not_fit(wish: Wish, data: Dataset, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        script(wish, data)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["resnet20", "resnet18", "vgg11_bn", "mobilenetv2", "mlp"])
def test_networks_fit_the_data(name: str) -> None:
    torch = pytest.importorskip("torch")
    from quatrain.tools.study.jobs import build

    x = np.zeros((4, 2, 32, 32), np.float32)
    data = Dataset("two", x, np.arange(4), x, np.arange(4))
    with torch.device("meta"):
        assert build(name, data)(torch.zeros(3, 2, 32, 32)).shape == (3, 4)


def test_published_savings_of_cyclic_precision(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "cpt"]) == 0
    lines = {s.split()[0]: s for s in capsys.readouterr().out.splitlines() if "/" in s}
    ours = {
        "3-8/8": "-36.67", "3-6/6": "-30.05", "4-8/8": "-30.11", "4-6/6": "-20.69",
        "5-8/8": "-23.16", "5-6/8": "-10.23", "3-4/6": "-14.84", "4-6/8": "-19.96",
    }  # fmt: skip
    assert lines.keys() == ours.keys()
    assert [s for s, percent in ours.items() if f" {percent} %" not in lines[s]] == []
    assert "3: 410, 4: 329, 5: 261, 6: 262, 7: 329, 8: 409" in lines["3-8/8"]


def test_a_cycle_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "cpt", "6-6/8", "--length", "5", "--json"]) == 0
    (own,) = json.loads(capsys.readouterr().out)
    assert own["saving"] == 0 and own["spent"] == {"6": 5} and own["static"] == "6/8"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("3-8", "like 3-8/8"),
        ("3-8/0", "3-8/0: gradients have 2 to 16 bits, not 0"),
        ("8-3/8", "is no cycle"),
        ("1-8/8", "1-8/8: weights have 2 to 8 bits, not 1"),
    ],
)
def test_cycles_that_do_not_read(
    word: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "cpt", word]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
