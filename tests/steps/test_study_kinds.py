"""Ablations, ranges, sweeps, sensitivity and pictures: the same engine, kept and gone on with."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from quatrain.tools.study import processes

from ..cases.commands import Quatrain
from ..cases.fake_study import SOURCE, Fake, faked, tiny_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A tiny data set of three classes."""
    return tiny_data(tmp_path)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Fake]]:
    yield from faked(monkeypatch)


def words(kind: str, data: Path, *more: object) -> tuple[object, ...]:
    common = ("--data", data, "--network", "mlp", "--batch", 4, "--steps", 6, "--seeds", 2)
    return ("study", kind, *more, *common)


def test_an_ablation_shares_its_folder(
    quatrain: Quatrain, data: Path, fake: type[Fake], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    ablate = ("--recipe", "luq4", "--without", "luq_gradients", "--swap", "smp=2", "-o", kept)
    text = quatrain(*words("ablate", data, *ablate))
    assert len(fake.built) == 4 * 2 and "time" not in {part for _, part in fake.built}
    assert "without luq_gradients" in text and "change: from luq4" in " ".join(text.split())
    assert quatrain(*words("ablate", data, *ablate)) == text
    quatrain(*words("recipes", data, "--recipes", "fp32,luq4", "--rounds", 0, "-o", kept))
    quatrain(*words("range", data, "smp=1..2", "--recipes", "luq4", "-o", kept))
    assert len(fake.built) == 4 * 2
    files = sorted(kept.glob("luq4-*.seed0.json"))
    assert {} in [json.loads(f.read_text())["entry"]["options"] for f in files]


def test_a_range_of_rates(quatrain: Quatrain, data: Path, fake: type[Fake]) -> None:
    found = json.loads(
        quatrain(
            *words("range", data, "lr=0.01..0.1", "--points", 2, "--recipes", "fp32", "--json")
        )
    )
    assert [r["own"] for r in found["recipes"]] == [{"lr": 0.01}, {"lr": 0.1}]
    assert fake.rates == [0.01, 0.1] * 2
    assert "like lr=0.01..0.4" in quatrain(*words("range", data, "lr"), status=2)


def test_a_sweep_goes_on(quatrain: Quatrain, data: Path, fake: type[Fake], tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(
        f'data = {str(data)!r}\nnetwork = "mlp"\nbatch = 4\nsteps = 6\nseeds = 1\n'
        'recipes = ["fp32", "luq4"]\nschedules = ["cosine", "constant"]\n'
    )
    fake.interrupt_at = 3
    quatrain("study", "sweep", file, "-o", tmp_path / "kept", status=130)
    fake.interrupt_at = None
    text = quatrain("study", "sweep", file, "-o", tmp_path / "kept")
    assert len(fake.built) == 4 and "luq4 schedule=constant" in text
    assert "cannot read" in quatrain("study", "sweep", tmp_path / "none.toml", status=2)


def test_one_step_of_each_layer(
    quatrain: Quatrain, data: Path, fake: type[Fake], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    fake.failing = "*,!3"
    more = ("--recipe", "luq4", "-o", kept)
    text = quatrain(*words("sensitivity", data, *more), status=1)
    lines = [line.split() for line in text.splitlines()]
    assert ["3", "failed"] in lines and "only 3   RecipeError: it does not work" in text
    # The network is looked into once, a process that failed is asked anew for the rows behind.
    assert [part for _, part in fake.built] == ["layers", "oneshot", "oneshot"]
    fake.failing = ""
    assert quatrain(*words("sensitivity", data, *more), status=1) == text
    assert len(fake.built) == 3
    text = quatrain(*words("sensitivity", data, *more, "--retry"))
    assert [part for _, part in fake.built[3:]] == ["oneshot"]
    assert "turn the gradients most, by cosine: 0 (0.800)" in text and "0*" in text
    assert "-1.0" not in text and "+25.00" in text
    # Other batches are other numbers.
    found = json.loads(quatrain(*words("sensitivity", data, *more, "--batches", 2, "--json")))
    assert len(fake.built) == 5 and [r["layer"] for r in found["rows"]] == [
        None,
        "0",
        "3",
        "7",
        None,
    ]
    error = quatrain(*words("sensitivity", data, *more, "--layers", "conv*"), status=2)
    assert "no layer is called 'conv*'" in error
    error = quatrain(*words("sensitivity", data, *more, "--state", tmp_path / "no.qtn"), status=2)
    assert "cannot read" in error
    error = quatrain(*words("sensitivity", data, *more, "--batches", 5), status=2)
    assert "--batches 5: the training part has 4 of this size" in error


def test_one_step_of_each_recipe(
    quatrain: Quatrain, data: Path, fake: type[Fake], tmp_path: Path
) -> None:
    more = ("--recipes", "luq4,luq4:smp=2,fp32", "--batches", 2, "-o", tmp_path / "kept")
    fake.failing = "none"
    text = quatrain(*words("gradients", data, *more))
    assert [part for _, part in fake.built] == ["oneshot"]
    rows = [line.split() for line in text.splitlines() if line.startswith(" luq4")]
    assert rows[0] == ["luq4", "10.0", "10.0", "0.9000", "0.900..0.900", "0.875", "+25.00"]
    assert rows[1][:3] == ["luq4", "smp=2", "9.0"]
    found = json.loads(quatrain(*words("gradients", data, *more, "--json")))
    assert [r["label"] for r in found["rows"]] == ["luq4", "luq4 smp=2", "fp32"]
    assert len(fake.built) == 1  # all of it was kept
    failed = quatrain(*words("gradients", data, "--recipes", "luq4:exempt=none"), status=1)
    assert "RecipeError: it does not work" in failed and ["luq4", "exempt=none", "failed"] in [
        line.split() for line in failed.splitlines()
    ]
    error = quatrain(*words("gradients", data, "--recipes", "luq4:lr=0.1"), status=2)
    assert "lr is of a training; nothing is trained" in error
    error = quatrain(*words("gradients", data, "--batches", 5), status=2)
    assert "--batches 5: the training part has 4 of this size" in error


def test_layers_by_short_trainings(quatrain: Quatrain, data: Path, fake: type[Fake]) -> None:
    more = ("--recipe", "luq4", "--how", "exempt", "--layers", "3", "--layers", "7")
    text = quatrain(*words("sensitivity", data, *more))
    assert "3 exempt" in text and "7 quantized" in text and "change: from luq4" in text
    assert [part for _, part in fake.built] == ["layers", *["seed0"] * 4, *["seed1"] * 4]


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_a_folder_as_a_picture(
    quatrain: Quatrain, data: Path, fake: type[Fake], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    assert "no folder of a study" in quatrain("study", "plot", tmp_path, status=2)
    quatrain(*words("range", data, "low=2..4", "--recipes", "cpt", "-o", kept))
    quatrain(*words("recipes", data, "--recipes", "fp32", "--rounds", 2, "-o", kept))
    quatrain(*words("sensitivity", data, "--recipe", "luq4", "-o", kept))
    assert quatrain("study", "plot", kept).strip() == str(kept / "study.svg")
    text = (kept / "study.svg").read_text()
    panels = ("curves", "over GBitOPs", "over ms", "over low", "One step, without training")
    assert [p for p in panels if p not in text] == []
    assert "<!-- low=3 -->" in text and "<!-- fp32 -->" in text
    assert "--by: no row sets 'lew'" in quatrain("study", "plot", kept, "--by", "lew", status=2)
    assert "--output" in quatrain("study", "plot", kept, "-o", kept / "a.bmp", status=2)
    # With the picture in it the folder is still that of the study.
    quatrain(*words("range", data, "low=2..4", "--recipes", "cpt", "-o", kept))
    (kept / "fp32-0.seed9.json").write_text("{}")
    assert "is no result of a study" in quatrain("study", "plot", kept, status=2)


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_names_do_not_lie_on_each_other() -> None:
    from matplotlib.text import Text

    from quatrain.tools.bench.plot import start_plot
    from quatrain.tools.study.labels import name_points

    _, axis = start_plot().subplots()
    axis.set(xlim=(0, 1), ylim=(0, 1))
    name_points(axis, [(0.5, 0.5, f"a name of row {i}", "C0") for i in range(12)])
    boxes = [Text.get_window_extent(t) for t in axis.texts]
    apart = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert len(boxes) == 12 and apart == []


@pytest.mark.torch
def test_real_steps(
    quatrain: Quatrain, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from ..cases.in_process import InProcess

    monkeypatch.setattr(processes, "Worker", InProcess)
    (tmp_path / "net.py").write_text(SOURCE)
    shared = (
        "study", "sensitivity", "--data", data, "--network", f"{tmp_path / 'net.py'}:task",
        "--batch", 4, "--steps", 2, "--target", "reference", "-o", tmp_path / "kept", "--json",
    )  # fmt: skip
    found = json.loads(quatrain(*shared, "--set", "carrier=f32", "--batches", 2))["rows"]
    none, first, middle, last, whole = found
    assert [r["layer"] for r in found] == [None, "0", "3", "7", None]
    # With no layer quantized and f32 around it is the same step.
    assert none["gradients"]["equal"] and none["loss"][0] == none["loss"][1]
    # What lies ahead of a layer in the forward is as it was; what it makes is not.
    assert middle["layers"]["0"]["y"]["equal"] and not middle["layers"]["3"]["y"]["equal"]
    assert not middle["layers"]["0"]["dw"]["equal"] and middle["gradients"]["cosine"] < 1
    assert last["layers"]["3"]["y"]["equal"] and not first["layers"]["3"]["y"]["equal"]
    # Gradients of a loss that is scaled are those of the loss.
    more = ("--recipes", "fp32,hfp8:exempt=*,init=16", "--batches", 2)
    plain, scaled = json.loads(quatrain("study", "gradients", *shared[2:], *more))["rows"]
    assert plain["left"] == 1 and plain["gradients"]["equal"] and len(plain["cosines"]) == 2
    assert abs(scaled["left"] - 1) < 0.01 and scaled["gradients"]["sqnr"] > 40
    # The recipe quantizes the layer in the middle alone.
    drop = {"digest", "recipe", "entry", "layer"}
    same: list[dict[str, Any]] = [
        {k: v for k, v in r.items() if k not in drop} for r in (middle, whole)
    ]
    assert same[0] == same[1]
