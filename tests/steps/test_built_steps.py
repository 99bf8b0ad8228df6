"""Steps built ahead of time: the bytes of the step that was built, without torch and TVM's package."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")

from safetensors.numpy import load_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import quatrain  # noqa: E402
from quatrain.compiler.errors import FileError, InputError, TargetError  # noqa: E402
from quatrain.runtime.built import BuiltStep, load  # noqa: E402
from quatrain.runtime.built.folder import check_place, write_folder  # noqa: E402
from quatrain.runtime.built.make import make  # noqa: E402
from quatrain.runtime.bundle import read  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402
from quatrain.targets.cuda import ahead, compiler  # noqa: E402

from ..cuda import standin  # noqa: E402
from ..cuda.device import device  # noqa: E402
from ..cuda.emulate import has_compiler  # noqa: E402
from . import test_step as usual  # noqa: E402
from .test_skipped_steps import batch, compiled, hostile  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.tvm]
GPU = pytest.param(
    "cuda:sm_90",
    marks=[
        pytest.mark.slow,
        pytest.mark.skipif(not has_compiler(), reason="the emulator needs g++"),
    ],
)
TARGETS = ("cpu", GPU)
BATCHES = (batch(0), hostile("inf"), batch(1), hostile("nan"), batch(2))
TOP = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose steps may be hostile."""
    path = tmp_path_factory.mktemp("network") / "net.qtn"
    compiled("ultra_low_4bit", "cpu").save(path)
    return path


def built(network: Path, target: str, folder: Path) -> Path:
    write_folder(folder, make(read(network), network, target, "0"))
    return folder


@pytest.fixture(scope="module")
def folder(network: Path) -> Path:
    """That network built for the CPU of this machine; tests leave it as it is."""
    return built(network, "cpu", network.parent / "built")


@pytest.fixture
def on(request: pytest.FixtureRequest) -> Iterator[str]:
    """A target, with a GPU where it needs one."""
    with device() if request.param.startswith("cuda") else nullcontext():
        yield request.param


def arrays(given: tuple[Any, ...]) -> list[np.ndarray]:
    return [t.numpy() for t in given]


def same(step: Step, other: BuiltStep) -> bool:
    """Whether two steps carry the same bytes."""
    held = other.state
    return all(v.numpy().tobytes() == held[k].tobytes() for k, v in step.state.items())


@pytest.mark.parametrize("on", TARGETS, indirect=True)
def test_the_bytes_are_those_of_the_step_itself(on: str, network: Path, tmp_path: Path) -> None:
    step, other = quatrain.load(network, target=on), load(built(network, on, tmp_path / "b"))
    for given in BATCHES:
        assert np.float32(step(*given)).tobytes() == other(*arrays(given)).tobytes()
        assert step.skipped == other.skipped
    assert other.skipped == 2 and same(step, other)
    for samples in (4, 1, 9, 0):
        x = torch.randn(samples, 3, 9, 9)
        assert step.predict(x).numpy().tobytes() == np.asarray(other.predict(x.numpy())).tobytes()
    held = other.state_dict()
    assert all(np.array_equal(v, held[k]) for k, v in step.state_dict().items())
    assert (
        repr(other)
        == f"<BuiltStep Sequential: ultra_low_4bit on {on[:4].rstrip(':')}, batch 4x3x9x9, 4x5>"
    )


@pytest.mark.parametrize("on", TARGETS, indirect=True)
def test_two_builds_are_equal(on: str, network: Path) -> None:
    one, two = (make(read(network), network, on, "0") for _ in range(2))
    assert one == two


ALONE = """
import sys
for name in {blocked}:
    sys.modules[name] = None
from quatrain.runtime.built import load
from quatrain.targets.cuda import driver
import numpy as np
driver.LIBRARY = {library!r}
step = load({folder!r})
batches = np.load({data!r})
for i in range({count}):
    print(float(step(batches[f"x{{i}}"], batches[f"y{{i}}"])))
print(step.skipped)
print(step.predict(batches["x0"]).tobytes().hex())
del step
"""
BLOCKED = ("torch", "tvm", "safetensors", "networkx", "ml_dtypes", "typer", "rich")


@pytest.mark.parametrize("on", TARGETS, indirect=True)
def test_a_process_without_torch_and_tvm_runs_it(on: str, network: Path, tmp_path: Path) -> None:
    folder, data = built(network, on, tmp_path / "b"), tmp_path / "data.npz"
    named = {
        f"{k}{i}": t.numpy() for i, b in enumerate(BATCHES) for k, t in zip("xy", b, strict=True)
    }
    np.savez(data, allow_pickle=False, **named)
    blocked = BLOCKED if on == "cpu" else (*BLOCKED, "tvm_ffi")
    library = str(standin.library()) if on != "cpu" else ""
    facts = {"blocked": blocked, "library": library, "folder": str(folder)}
    code = ALONE.format(**facts, data=str(data), count=len(BATCHES))
    env = {**os.environ, standin.VARIABLE: "capability=90"}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=TOP, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    step = quatrain.load(network, target=on)
    *losses, skipped, scores = done.stdout.split()
    assert list(map(float, losses)) == [float(step(*given)) for given in BATCHES]
    assert int(skipped) == step.skipped == 2
    assert scores == step.predict(BATCHES[0][0]).numpy().tobytes().hex()


def test_another_cpu_needs_not_be_here(network: Path, tmp_path: Path) -> None:
    step = load(built(network, "cpu:x86-64-v2", tmp_path / "old"))
    assert step(*arrays(BATCHES[0])) == quatrain.load(network, target="cpu:x86-64-v2")(*BATCHES[0])
    folder = built(network, "cpu:sapphirerapids", tmp_path / "new")
    manifest = folder / "manifest.json"
    assert '"amx-int8"' in manifest.read_text()
    # What this machine lacks whichever it is.
    manifest.write_text(manifest.read_text().replace('"amx-int8"', '"amx-int1"'))
    with pytest.raises(TargetError, match=r"this machine lacks .*amx-int1.*; build it for a CPU"):
        load(folder)


def test_its_state_is_saved_and_goes_on(network: Path, folder: Path, tmp_path: Path) -> None:
    one = load(folder)
    one(*arrays(batch(0)))
    one.hyper["group0.lr"] = 0.25
    other = tmp_path / "other"
    one.save(other)
    files = sorted(p.name for p in other.iterdir())
    assert files == sorted(p.name for p in folder.iterdir())
    assert load_file(other / "state.safetensors").keys() == one.state.keys()
    again = load(other)
    assert again.hyper == one.hyper and again.hyper != again.compiled_hyper
    for step in (one, again):
        step(*arrays(batch(1)))
    assert one.state.keys() == again.state.keys()
    assert all(v.tobytes() == again.state[k].tobytes() for k, v in one.state.items())
    again.save()
    one.save(other)
    assert load(other).state["step"] == 2 and load(folder).state["step"] == 0
    before = {p.name: p.read_bytes() for p in other.iterdir()}
    again.load_state({"step": 5, "0.bias": np.ones(7, np.float32)})
    again.save()
    assert {n for n, data in before.items() if (other / n).read_bytes() != data} == {
        "state.safetensors"
    }
    plain = quatrain.load(network)
    plain.load_state({k: torch.from_numpy(v) for k, v in load(other).state.items()})
    assert int(plain.state["step"]) == 5


class Shares:
    """Memory that speaks DLPack alone."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **how: Any) -> Any:
        return self._array.__dlpack__(**how)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def test_batches_of_other_libraries(folder: Path) -> None:
    given = arrays(batch(0))
    wanted = load(folder)(*given)
    odd = np.zeros(given[0].nbytes + 4, np.uint8)[4:].view(np.float32).reshape(given[0].shape)
    odd[...] = given[0]
    frozen = given[0].copy()
    frozen.flags.writeable = False
    turned = np.ascontiguousarray(given[0].transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    for x in (batch(0)[0], Shares(given[0]), odd, frozen, turned):
        assert load(folder)(x, given[1]) == wanted


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x, y: (x,), r"the step takes 2 arrays \(x, y\), not 1"),
        (lambda x, y: (x.tolist(), y), "x is a list; give a NumPy array"),
        (lambda x, y: (x.astype(np.float64), y), "x is float64; the step was built for float32"),
        (lambda x, y: (x[:3], y), r"x has shape \[3, 3, 9, 9\]; the step was built for \[4, 3"),
        (lambda x, y: (x / 0, y), "x holds NaN or infinity"),
        (lambda x, y: (torch.from_numpy(x).requires_grad_(), y), "x does not share its numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_a_batch_that_does_not_fit_changes_nothing(wrong: Any, message: str, folder: Path) -> None:
    step = load(folder)
    before = step.state
    with pytest.raises(InputError, match=message):
        step(*wrong(*arrays(batch(0))))
    assert all(v.tobytes() == before[k].tobytes() for k, v in step.state.items())


def test_labels_and_hyper_parameters(tmp_path: Path) -> None:
    path = tmp_path / "net.qtn"
    usual.compiled("ultra_low_4bit", "cpu").save(path)
    step = load(built(path, "cpu", tmp_path / "b"))
    x, y = arrays(usual.batch())
    with pytest.raises(InputError, match=r"y holds the label 5; labels are 0 \.\. 4"):
        step(x, np.full_like(y, 5))
    with pytest.raises(InputError, match=r"predict takes N samples, \[N, 3, 9, 9\]"):
        step.predict(x[:, 1:])
    step.hyper["group0.lr"] = float("nan")
    with pytest.raises(InputError, match="must be a finite number"):
        step(x, y)
    with pytest.raises(InputError, match="keeps no average of its weights"):
        step.state_dict(average=True)


class Always(nn.Module):
    """Dropout that is on in eval mode too."""

    def forward(self, x: Tensor) -> Tensor:
        """A draw."""
        return nn.functional.dropout(x, 0.3)


def test_averages_and_draws(tmp_path: Path) -> None:
    path, model = tmp_path / "net.qtn", nn.Sequential(nn.Linear(7, 5), Always())
    given = torch.randn(4, 7), torch.arange(4)
    fixed: dict[str, Any] = {"recipe": "fp32", "target": "cpu", "average": 0.5, "seed": 3}
    loss = nn.functional.cross_entropy
    quatrain.compile(model, loss, given, usual.sgd(model), **fixed).save(path)
    one, other = quatrain.load(path), load(built(path, "cpu", tmp_path / "b"))
    for _ in range(2):
        assert float(one(*given)) == float(other(*arrays(given)))
        scores = np.asarray(other.predict(given[0]))
        assert one.predict(given[0]).numpy().tobytes() == scores.tobytes()
    held = other.state_dict(average=True)
    assert all(np.array_equal(v, held[k]) for k, v in one.state_dict(average=True).items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("format", 1, 2), "is a build of format 2, this version reads 1; build it again"),
        (("kernels", "[", "{"), "manifest.json is damaged; build it again"),
        (("arena", None, None), "manifest.json lacks or garbles 'arena'"),
    ],
)
def test_a_manifest_that_is_another(
    change: Any, message: str, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "b"
    load(folder).save(other)
    path, (key, old, new) = other / "manifest.json", change
    text = path.read_text()
    if old is None:
        path.write_text(text.replace(f'"{key}"', '"other"'))
    else:
        path.write_text(text.replace(f'"{key}": {old}', f'"{key}": {new}', 1))
    with pytest.raises(FileError) as e:
        load(other)
    assert message in str(e.value)


def test_what_is_no_build_or_a_damaged_one(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "b"
    with pytest.raises(
        FileError, match=r"does not exist; make it with: quatrain build NET\.qtn -o"
    ):
        load(other)
    with pytest.raises(FileError, match=r"is no build: it has no manifest\.json"):
        load(tmp_path)
    with pytest.raises(FileError, match="is a file, and a build is a folder"):
        load(folder / "manifest.json")
    load(folder).save(other)
    kernels = next(other.glob("kernels-*.so"))
    kernels.write_bytes(kernels.read_bytes()[:-1])
    with pytest.raises(FileError, match=rf"{kernels.name} is damaged; build it again"):
        load(other)
    kernels.unlink()
    with pytest.raises(FileError, match=rf"lacks {kernels.name}; build it again"):
        load(other)
    load(folder).save(tmp_path / "c")
    state = tmp_path / "c" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1])
    with pytest.raises(FileError, match=r"state\.safetensors is damaged"):
        load(tmp_path / "c")


def test_a_folder_with_other_things_stays(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    check_place(tmp_path / "own")
    (tmp_path / "own" / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match=r"exists and is no build \(it holds notes\.txt\)"):
        load(folder).save(tmp_path / "own")
    with pytest.raises(FileError, match="it is no folder, and a build is one"):
        check_place(tmp_path / "own" / "notes.txt")
    with pytest.raises(FileError, match="is no folder; make it first"):
        check_place(tmp_path / "nowhere" / "b")
    assert [p.name for p in tmp_path.rglob("*")] == ["own", "notes.txt"]


def test_a_write_that_fails_leaves_what_was(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, place = load(folder), tmp_path / "b"
    write_folder(place, {"manifest.json": b"{}"})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"No space left on device; it is as it was before"):
        step.save(place)
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == [
        "b",
        "b/manifest.json",
    ]


def test_targets_that_do_not_build(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = read(network)
    for target, message in (
        ("reference", "reference interprets programs and makes no machine code; build for cpu or"),
        ("gpu", "no target is called 'gpu'; did you mean 'cpu'"),
        ("cuda:sm_12", "cuda makes kernels for no 'sm_12'"),
        ("cpu:znver44", "LLVM knows no CPU 'znver44'"),
    ):
        with pytest.raises(TargetError, match=message):
            make(bundle, network, target, "0")
    for name in ("_nvrtc", "_nvcc"):
        monkeypatch.setattr(compiler, name, lambda: iter(()))
    monkeypatch.setattr(ahead, "find_compiler", compiler.find_compiler.__wrapped__)
    with pytest.raises(TargetError, match=r"there is no compiler for CUDA 12.* here: pip install"):
        make(bundle, network, "cuda:sm_90", "0")


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="the emulator needs g++")
def test_machine_code_for_another_gpu(network: Path, tmp_path: Path) -> None:
    with device():
        folder = built(network, "cuda:sm_90", tmp_path / "b")
    with device(capability=80), pytest.raises(TargetError, match=r"do not run on .* is sm_80"):
        load(folder)
    with pytest.raises(TargetError, match=r"finds no GPU"), device(devices=0):
        load(folder)
