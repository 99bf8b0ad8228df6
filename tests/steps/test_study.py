"""``quatrain study recipes``: trainings in order, results that are kept, failures, tables."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.errors import FileError, UsageError
from quatrain.passes.recipe import load_recipe
from quatrain.tools.study import processes
from quatrain.tools.study.entry import entries
from quatrain.tools.study.plan import Script
from quatrain.tools.study.tables import BITS, RIGHT

from ..cases.commands import Quatrain
from ..cases.fake_study import GEMM, SOURCE, Fake, faked, tiny_data

BROKEN = """
def broken(program):
    raise ValueError("this idea does not work")
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Nineteen training images of three classes, 3x3, and seven for testing."""
    return tiny_data(tmp_path)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Fake]]:
    yield from faked(monkeypatch)


def study(data: Path, *words: object) -> tuple[object, ...]:
    return ("study", "recipes", "--data", data, "--network", "mlp", "--batch", 4, *words)


TWO = ("--recipes", "fp32,ultra_low_4bit:exempt=first,last,carrier=f32", "--seeds", 2)


def test_all_recipes_seed_by_seed_then_times(
    quatrain: Quatrain, data: Path, fake: type[Fake]
) -> None:
    found = json.loads(quatrain(*study(data, *TWO, "--steps", 6, "--json")))
    low, parts = "ultra_low_4bit", ("seed0", "seed1")
    assert fake.built[:4] == [(r, p) for p in parts for r in ("fp32", low)]
    assert fake.built[4:] == [("fp32", "time"), (low, "time")]
    assert found["script"]["steps"] == 6 and found["seeds"] == 2
    by_name = {r["recipe"]: r for r in found["recipes"]}
    ours = by_name[low]
    assert ours["options"] == {"exempt": "first,last", "carrier": "f32"}
    assert (ours["accuracy"], ours["accuracy_low"], ours["accuracy_high"]) == (0.625, 0.5, 0.75)
    assert ours["gbitops"] == 3.0  # half a GBitOP in each of six steps
    assert ours["times_faster"] == 2.0 and by_name["fp32"]["times_faster"] == 1.0
    assert ours["saved_bytes"] == 2048 and ours["classes"] == [GEMM]


def test_a_rate_of_ones_own_reaches_the_training(
    quatrain: Quatrain, data: Path, fake: type[Fake]
) -> None:
    words = study(data, "--recipes", "fp32,fp32:lr=0.5", "--seeds", 1, "--rounds", 0, "--json")
    common, own = json.loads(quatrain(*words))["recipes"]
    assert common["own"] == {} and own["own"] == {"lr": 0.5}
    assert fake.rates == [0.05, 0.5]


def test_the_tables_have_their_columns(quatrain: Quatrain, data: Path, fake: type[Fake]) -> None:
    text = quatrain(*study(data, *TWO))
    header = next(line for line in text.splitlines() if "GBitOPs" in line)
    assert [c for c in RIGHT if c not in header] == []
    header = next(line for line in text.splitlines() if "operands" in line)
    assert [c for c in BITS if c not in header] == []
    assert max(map(len, text.splitlines())) <= 100
    flat = " ".join(text.split())
    assert "62.5 50.0..75.0" in flat and "f32 x f32 100.0" in flat and "2 seeds" in flat
    assert "What failed" not in flat


def test_times_beside_other_programs_say_so(
    quatrain: Quatrain, data: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = study(data, "--recipes", "fp32", "--seeds", 1)
    for load, said in ((0.0, False), (1e6, True)):
        monkeypatch.setattr("quatrain.tools.commands.study.system_load", lambda load=load: load)
        assert ("other programs were running" in " ".join(quatrain(*words).split())) == said


def test_a_process_that_has_died_is_replaced(
    quatrain: Quatrain, data: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Fake] = []

    def start(*_: object) -> Fake:
        made.append(Fake())
        return made[-1]

    monkeypatch.setattr(processes, "Worker", start)
    words = study(data, *TWO, "--rounds", 0)
    quatrain(*words)
    assert len(made) == 1
    monkeypatch.setattr(Fake, "alive", False)
    made.clear()
    quatrain(*words)
    assert len(made) == 4


def test_a_failing_recipe_is_a_row(
    quatrain: Quatrain, data: Path, fake: type[Fake], tmp_path: Path
) -> None:
    fake.failing = "ultra_low_4bit"
    words = study(data, *TWO, "-o", tmp_path / "kept")
    flat = " ".join(quatrain(*words, status=1).split())
    assert "failed" in flat and "RecipeError: it does not work" in flat
    assert "62.5" in flat  # the other recipe's result is there
    count = len(fake.built)
    quatrain(*words, status=1)
    assert len(fake.built) == count  # what failed is kept as well
    fake.failing = ""
    assert "What failed" not in quatrain(*words, "--retry")
    done = [b for b in fake.built[count:] if b[0] == "ultra_low_4bit"]
    assert [part for _, part in done] == ["seed0", "seed1", "time"]


def test_an_interrupted_study_goes_on(
    quatrain: Quatrain, data: Path, fake: type[Fake], tmp_path: Path
) -> None:
    whole = quatrain(*study(data, *TWO, "--json"))
    fake.built, fake.interrupt_at = [], 3
    words = study(data, *TWO, "-o", tmp_path / "kept", "--json")
    quatrain(*words, status=130)
    done = fake.built
    fake.built, fake.interrupt_at = [], None
    assert quatrain(*words) == whole
    assert [b for b in fake.built if b in done] == []
    assert len(done) == 3 and len(fake.built) == 3
    # More seeds and more recipes join what is there.
    fake.built = []
    quatrain(*study(data, "--recipes", "fp32", "--seeds", 3, "-o", tmp_path / "kept"))
    assert fake.built == [("fp32", "seed2")]


def test_another_number_of_threads_measures_the_time_again(
    quatrain: Quatrain, data: Path, fake: type[Fake], tmp_path: Path
) -> None:
    words = study(data, "--recipes", "fp32", "--seeds", 1, "-o", tmp_path / "kept")
    quatrain(*words, "--threads", 1)
    quatrain(*words, "--threads", 2)
    assert fake.built == [("fp32", "seed0"), ("fp32", "time"), ("fp32", "time")]
    quatrain(*words, "--threads", 3, "--rounds", 0)
    assert len(fake.built) == 3


def test_a_folder_of_something_else(
    quatrain: Quatrain, data: Path, fake: type[Fake], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    words = study(data, "--recipes", "fp32", "--seeds", 1, "-o", kept)
    quatrain(*words, "--steps", 4)
    error = quatrain(*words, "--steps", 5, status=2)
    assert "holds a study with steps 4, not 5" in error
    (file,) = kept.glob("*.seed0.json")
    file.write_text("{")
    assert "is no result of a study; remove it" in quatrain(*words, "--steps", 4, status=2)
    file.write_text(json.dumps({"digest": load_recipe("fp32").digest, "error": None}))
    assert "is no result of fp32; remove it" in quatrain(*words, "--steps", 4, status=2)
    assert "name an empty folder" in quatrain(*words[:-1], tmp_path, status=2)


def test_results_of_another_recipe_are_refused(tmp_path: Path) -> None:
    from quatrain.tools.study.folder import open_folder

    plan = Script("mlp", "digits", 8, 4, 2, 0.1, "constant", "cpu")
    folder = open_folder(tmp_path / "kept", plan)
    (entry,) = entries(["fp32"])
    folder.keep(entry, "seed0", {"error": "why"})
    found = folder.find(entry, "seed0")
    assert found is not None and found["error"] == "why" and found["part"] == "seed0"
    (file,) = (tmp_path / "kept").glob("*.seed0.json")
    file.write_text(file.read_text().replace(entry.digest, "0" * 64))
    with pytest.raises(FileError, match="is no result of fp32"):
        folder.find(entry, "seed0")


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_the_picture_names_the_recipes(
    quatrain: Quatrain, data: Path, fake: type[Fake], tmp_path: Path
) -> None:
    picture = tmp_path / "study.svg"
    fake.failing = "ultra_low_4bit"
    quatrain(*study(data, *TWO, "--plot", picture), status=1)
    text = picture.read_text()
    assert "<!-- fp32 -->" in text and "GBitOPs" in text and "carrier=f32" not in text
    fake.failing = "fp32"
    only = study(data, "--recipes", "fp32", "--plot", tmp_path / "none.svg")
    quatrain(*only, status=1)
    assert "GBitOPs" in (tmp_path / "none.svg").read_text()
    error = quatrain(*study(data, "--plot", tmp_path / "no.bmp"), status=2)
    assert "a picture ends in" in error


def test_mistakes_end_before_anything_runs(
    quatrain: Quatrain, data: Path, fake: type[Fake], tmp_path: Path
) -> None:
    for words, message in (
        (study(data, "--target", "cpi"), "did you mean 'cpu'?"),
        (study(data, "--recipes", "fp23"), "did you mean 'fp32'?"),
        (study(data, "-o", data), "cannot make the folder"),
        (study(tmp_path / "no.npz"), "there is no file"),
        (study(data, "--train-samples", 20), "has 19, a batch 4"),
    ):
        assert message in quatrain(*words, status=2)
    assert fake.built == []


@pytest.mark.torch
@pytest.mark.slow
def test_a_real_study(
    quatrain: Quatrain, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from ..cases.in_process import InProcess

    (tmp_path / "net.py").write_text(SOURCE)
    (tmp_path / "own.py").write_text(BROKEN)
    toml = 'title = "broken"\n[[passes]]\npass = "own.py:broken"\n'
    (tmp_path / "broken.toml").write_text(toml)
    recipes = f"fp32,ultra_low_4bit:carrier=f32,{tmp_path / 'broken.toml'}"
    words = (
        "study", "recipes", "--data", data, "--network", f"{tmp_path / 'net.py'}:task",
        "--recipes", recipes, "--batch", 4, "--steps", 9, "--seeds", 1, "--rounds", 1,
        "--target", "reference", "-o", tmp_path / "kept", "--json",
    )  # fmt: skip
    found = json.loads(quatrain(*words, status=1))
    plain, low, broken = found["recipes"]
    assert "this idea does not work" in broken["failures"][0]["why"]
    assert len(broken["failures"]) == 1 and broken["accuracy"] is None
    assert plain["failures"] == low["failures"] == []
    # One convolution in all directions in 4 bits, the first and the last layer in f32.
    assert low["widths"]["4"] > 0.5 and plain["widths"] == {"4": 0, "8": 0, "16": 0, "32": 1}
    assert low["gbitops"] < plain["gbitops"]
    assert plain["gbitops"] == pytest.approx(9 * plain["bit_operations"]["giga_per_step"])
    assert plain["seconds_per_step"] > 0 and len(plain["accuracies"]) == 1
    kept = {p: p.read_bytes() for p in (tmp_path / "kept").iterdir()}
    assert len(kept) == 1 + 3 + 2
    # A training that is done again comes to the same bytes, here as in a process of its own;
    # nothing else is touched.
    monkeypatch.setattr(processes, "Worker", InProcess)
    (again,) = (tmp_path / "kept").glob("ultra*.seed0.json")
    again.unlink()
    assert json.loads(quatrain(*words, status=1)) == found
    assert {p: p.read_bytes() for p in (tmp_path / "kept").iterdir()} == kept


@pytest.mark.torch
def test_a_training_whose_steps_are_not_applied_ends(data: Path) -> None:
    pytest.importorskip("torch")
    from quatrain.tools.data import load_data
    from quatrain.tools.study.jobs import Trainee, Training
    from quatrain.tools.train import MAX_SKIPPED

    plan = Script("mlp", str(data), 19, 4, 100, 1e30, "constant", "reference")
    training = Training(Trainee(plan, load_data(str(data)), 0, "fp32", {}))
    losses: list[float] = []
    with pytest.raises(UsageError, match=f"{MAX_SKIPPED + 1} steps in a row up to step .* applied"):
        while len(losses) < plan.steps:
            losses.append(training.step())
    assert MAX_SKIPPED < len(losses) < plan.steps
    # A few of them are a number beside the loss.
    found = training.facts()
    loss = found["loss"]
    assert found["skipped"] == MAX_SKIPPED + 1 and isinstance(loss, float) and np.isfinite(loss)


def test_a_group_needs_a_command(quatrain: Quatrain) -> None:
    assert "Missing command" in quatrain("study", status=2)
    assert "No such command 'nothing'" in quatrain("study", "nothing", status=2)
    for name in ("recipes", "cpt"):
        assert f"quatrain study {name}" in quatrain("study", name, "--help")


def test_a_precision_schedule_spans_the_training() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from quatrain.tools.data import load_data
    from quatrain.tools.study.jobs import Trainee

    script = Script("mlp", "digits", 8, 4, 2, 0.1, "constant", "reference")
    trainee = Trainee(script, load_data("digits"), 0, "cpt", {"cycles": "2"})
    assert int(trainee.compiled.state["schedule.total"]) == script.steps
