"""step.watch and run --watch: the training stays as it was, and the numbers are those of the tensors."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import quatrain  # noqa: E402
from quatrain.passes.parts.watch_points import watch_points  # noqa: E402
from quatrain.passes.recipe import load_recipe  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402
from quatrain.runtime.watched.row import WatchRow  # noqa: E402
from quatrain.targets.reference.evaluate import evaluate  # noqa: E402

from ..cases.commands import Quatrain  # noqa: E402
from ..cuda.device import device  # noqa: E402
from ..cuda.emulate import has_compiler  # noqa: E402
from ..exactness import given  # noqa: E402
from .test_step import batch, network, sgd  # noqa: E402

pytestmark = pytest.mark.torch
STEPS = 5


def compiled(recipe: str = "ultra_low_4bit", target: str = "reference", **options: Any) -> Step:
    model = network()
    loss = torch.nn.functional.cross_entropy
    return quatrain.compile(
        model, loss, batch(), sgd(model), recipe=recipe, options=options, target=target
    )


def state(step: Step) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in step.state.items()}


@pytest.mark.parametrize(
    ("recipe", "options"),
    [("ultra_low_4bit", {"exempt": "none"}), ("luq4", {"exempt": "none"})],
)
def test_nothing_that_is_trained_changes(recipe: str, options: dict[str, Any]) -> None:
    watched, plain = compiled(recipe, **options), compiled(recipe, **options)
    watcher = watched.watch("*", every=2, fp32=2)
    for seed in range(STEPS):
        assert torch.equal(watched(*batch(seed=seed)), plain(*batch(seed=seed)))
    assert state(watched) == state(plain)
    assert sorted({row.step for row in watcher.rows()}) == [0, 2, 4]


def test_numbers_are_those_of_the_tensors() -> None:
    """Each row beside NumPy on the values of the step that it was taken from."""
    step = compiled(exempt="none")
    watcher = step.watch("*", every=1, fp32=0)
    for seed in range(2):
        values = evaluate(step.program, given(step, batch(seed=seed)))
        step(*batch(seed=seed))
    rows = {row.name: row for row in watcher.rows() if row.step == 1}
    points = watch_points(step.program)
    assert {p.role for p in points} >= {"x", "w", "y", "dy", "dx", "dw", "mean", "dbeta"}
    for point in points:
        row, x = rows[point.name], values[point.before].real()
        assert row.largest == np.abs(x).max() and row.elements == x.size
        assert row.rms == pytest.approx(math.sqrt(np.square(x).mean()), rel=1e-6)
        exponent = np.frexp(x[x != 0])[1] - 1
        assert row.before.counts == tuple(np.bincount(exponent - row.before.first))
        if point.after is None:
            assert row.sqnr is None and row.after is None
            continue
        q, f = values[point.after], point.after.type.format
        real = q.real()
        noise = np.square(x - real).sum() / np.square(x).sum()
        assert row.sqnr == pytest.approx(-10 * math.log10(noise), abs=1e-4)
        assert row.underflow == ((real == 0) & (x != 0)).sum() / (x != 0).sum()
        at_end = np.abs(q.numbers) == f.max
        beyond = at_end & (np.abs(x) > np.abs(real) * (1 + 2**-20))
        beyond |= (not f.signed) & (q.numbers == 0) & (x < 0)
        assert row.saturation == pytest.approx(beyond.mean())


def test_beside_f32() -> None:
    """A step in f32 is itself; in bf16 it is near."""
    step = compiled("fp32")
    watcher = step.watch("dw", "dy", "y", "dbeta", every=1, fp32=2)
    for _ in range(3):
        step(*batch())
    compared = [row for row in watcher.rows() if row.step != 1]
    assert all(row.cosine == pytest.approx(1) and row.error == 0 for row in compared)
    assert {row.cosine for row in watcher.rows() if row.step == 1} == {None}
    step = compiled("bf16")
    watcher = step.watch("dw", every=1)
    step(*batch())
    assert all(0.99 < (row.cosine or 0) < 1 for row in watcher.rows())


def test_cosine_is_that_of_the_gradients() -> None:
    """dW of both programs, each run alone."""
    low, plain = compiled(exempt="none"), compiled("fp32")
    watcher = low.watch("dw", every=1)
    both = [evaluate(s.program, given(s, batch())) for s in (low, plain)]
    by_name = [{v.name: t.real() for v, t in values.items()} for values in both]
    low(*batch())
    assert len(watcher.rows()) > 2
    for row in watcher.rows():
        a, b = (values[row.value].reshape(-1) for values in by_name)
        want = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert row.cosine == pytest.approx(want, abs=1e-6)


@pytest.mark.tvm
@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_on_targets(target: str) -> None:
    """Of a layer counts and shares are the reference's to the number; sums nearly."""
    pytest.importorskip("tvm")
    if target == "cuda" and not has_compiler():
        pytest.skip("the emulator needs g++")
    with device():
        wanted, rows = _of_a_layer("reference"), _of_a_layer(target)
    for want, got in zip(wanted, rows, strict=True):
        assert (got.name, got.before, got.after) == (want.name, want.before, want.after)
        assert (got.underflow, got.saturation) == (want.underflow, want.saturation)
        assert got.sqnr == pytest.approx(want.sqnr, abs=1e-4)
        assert got.cosine == (want.cosine and pytest.approx(want.cosine, abs=1e-6))


def _of_a_layer(target: str) -> list[WatchRow]:
    """One look at a linear layer."""
    torch.manual_seed(0)
    model = torch.nn.Linear(33, 7)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(13, 33, generator=generator)
    y = torch.randint(7, (13,), generator=generator)
    step = quatrain.compile(
        model, torch.nn.functional.cross_entropy, (x, y), sgd(model),
        recipe="ultra_low_4bit", options={"exempt": "none"}, target=target,
    )  # fmt: skip
    watcher = step.watch("w", "x", "dy", every=1)
    step(x, y)
    return watcher.rows()


def test_a_watcher_ends_and_others_go_on() -> None:
    step = compiled()
    with step.watch("w", every=1) as first:
        second = step.watch("dw", "x", every=2, fp32=0)
        step(*batch())
    step(*batch())
    step(*batch(), outputs=True)
    small = [t[:1] for t in batch()]
    assert not {row.step for row in first.rows()} - {0}
    assert {row.step for row in second.rows()} == {0, 2}
    assert all(row.cosine is None for row in second.rows())
    step(*small)
    step(*small)
    assert {row.step for row in second.rows()} == {0, 2, 4}
    assert "every 1 steps" in repr(first) and "closed" in repr(first)


@pytest.mark.parametrize(
    ("words", "settings", "hint"),
    [
        (("*.dz",), {}, "by role: x, w, y"),
        ((3,), {}, "patterns as text, not 3"),
        (("dy",), {"every": 0}, "every is 0; give a number of steps from 1 on"),
        (("dy",), {"every": True}, "every is True"),
        (("dy",), {"fp32": "no"}, "fp32 is 'no'; 1 compares with f32 at each look"),
        (("dy",), {"fp32": -1}, "fp32 is -1; 1 compares"),
    ],
)
def test_mistakes(words: Any, settings: dict[str, Any], hint: str, tmp_path: Path) -> None:
    step = compiled()
    with pytest.raises(quatrain.QuatrainError) as e:
        step.watch(*words, to=tmp_path / "new", **settings)
    assert hint in str(e.value) and not (tmp_path / "new").exists()


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Path]:
    """A network, and data of two epochs of six steps."""
    step = compiled(exempt="none")
    step.save(tmp_path / "net.qtn")
    x, y = batch()
    n = 6 * len(x)
    generator = np.random.default_rng(0)
    images = generator.standard_normal((n, *x.shape[1:])).astype(np.float32)
    labels = generator.integers(0, int(y.max()) + 1, n)
    few = images[:8], labels[:8]
    path = tmp_path / "data.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=few[0], y_test=few[1])
    return tmp_path / "net.qtn", tmp_path / "data.npz"


def numbers(folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder, without what tells of the step before."""
    rows = map(json.loads, (folder / "watch.jsonl").read_text().splitlines())
    return [{k: v for k, v in r.items() if k not in ("changed", "oscillation")} for r in rows]


def test_run_stops_and_goes_on(
    quatrain: Quatrain, saved: tuple[Path, Path], tmp_path: Path
) -> None:
    """Rows and steps of a run in two parts are those of one in one part."""
    network, data = saved
    words = ("--data", data, "--watch", "*.dy,w", "--watch-every", 2)
    whole = quatrain("run", network, *words, "--steps", 8, "--watch-to", tmp_path / "a")
    assert "Watched, step 6 (4 looks at" in whole and max(map(len, whole.splitlines())) <= 80
    point, rest = tmp_path / "point.qtn", ("--watch-to", tmp_path / "b")
    quatrain("run", network, *words, *rest, "--steps", 5, "--checkpoint", point)
    quatrain("run", network, *words, *rest, "--steps", 8, "--resume", point)
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")
    last = quatrain("run", network, *words, "--steps", 3, "--json").splitlines()[-2]
    assert json.loads(last)["watched"] == 2


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--watch", "*.dz"), "no tensor of the step is called '*.dz'"),
        (("--watch-every", 3), "--watch-every needs --watch PATTERN"),
        (("--watch-to", "x"), "--watch-to needs --watch PATTERN"),
        (("--watch", ","), "nothing to watch is named"),
    ],
)
def test_run_refuses(
    quatrain: Quatrain, saved: tuple[Path, Path], words: tuple[object, ...], hint: str
) -> None:
    network, data = saved
    assert hint in quatrain("run", network, "--data", data, "--steps", 1, *words, status=2)


def test_files_of_tensorboard(tmp_path: Path) -> None:
    """Curves and histograms as TensorBoard reads them."""
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    step = compiled(exempt="none")
    with step.watch("dy", every=1, to=tmp_path) as watcher:
        step(*batch())
    (path,) = tmp_path.glob("events.out.tfevents.*")
    data, tags = path.read_bytes(), dict[str, Any]()
    while data:  # length, its checksum, an event, its checksum
        size = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + size])
        tags |= {v.tag: (event.step, v) for v in event.summary.value}
        data = data[16 + size :]
    row = watcher.rows()[0]
    tag = f"{row.role}/{row.layer}/{row.of}"
    assert tags[f"{tag}/sqnr"][1].simple_value == pytest.approx(row.sqnr)
    assert tags[f"{tag}/exponents_before"][1].histo.num == row.elements
    assert len(tags[f"{tag}/exponents_after"][1].histo.bucket) >= 2


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its program runs, and its pass gives the zeros that a watcher sees."""
    from .test_readme import blocks

    program, by_hand = blocks("python", "docs/watching.md")
    monkeypatch.setenv("QUATRAIN_TARGET", "reference")
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    rows = (tmp_path / "run" / "watch.jsonl").read_text().splitlines()
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == len(rows) + 1 > 5
    (tmp_path / "zeros.py").write_text(by_hand)
    base = load_recipe("ultra_low_4bit").with_options({"exempt": "none"})
    entries = "".join(
        f'[[passes]]\npass = "{e.name}"\n' + ('exempt = "none"\n' if "exempt" in e.settings else "")
        for e in base.passes
    )
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'title = "zeros"\n{entries}[[passes]]\npass = "zeros.py:zeros"\n')
    step = compiled(str(recipe))
    watcher = step.watch("dy", every=1, fp32=0)
    step(*batch())
    coded = [r for r in watcher.rows() if (r.quantized or "").startswith("fp4")]
    shares = sorted(r.after.zero / r.elements for r in coded if r.after)
    kept = sorted(float(v) for k, v in step.state.items() if k.endswith(".zeros"))
    assert kept == pytest.approx(shares) and len(kept) > 2
