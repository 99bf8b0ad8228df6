"""Steps on the second GPU, and on two at once, on a stand-in for the driver that has both."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator
from ctypes import byref, c_void_p
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")

from torch import Tensor  # noqa: E402

import quatrain  # noqa: E402
from quatrain.compiler.errors import InputError, TargetError  # noqa: E402
from quatrain.compiler.formats import INT4  # noqa: E402
from quatrain.runtime.built import load  # noqa: E402
from quatrain.runtime.built.folder import write_folder  # noqa: E402
from quatrain.runtime.built.make import make  # noqa: E402
from quatrain.runtime.bundle import read  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402
from quatrain.targets.cuda.driver import Device, Driver  # noqa: E402
from quatrain.targets.cuda.module import Module  # noqa: E402
from quatrain.targets.cuda.stream import Stream  # noqa: E402
from quatrain.tools import doctor  # noqa: E402
from quatrain.tools.self_test import self_test  # noqa: E402
from quatrain.tools.units_by_format import unit  # noqa: E402

from ..cases.commands import Quatrain  # noqa: E402
from ..cuda import standin  # noqa: E402
from ..cuda.device import device  # noqa: E402
from ..cuda.emulate import has_compiler  # noqa: E402
from ..cuda.tensors import as_if_torch_had_cuda, there  # noqa: E402
from .test_step import batch, compiled  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.tvm,
    pytest.mark.slow,
    pytest.mark.skipif(not has_compiler(), reason="the emulator needs g++"),
]
SEEDS = range(3)
RECIPE = "ultra_low_4bit"


@pytest.fixture
def gpus() -> Iterator[Driver]:
    """Two of them."""
    with device(devices=2) as driver:
        yield driver


def on(index: int) -> Step:
    return compiled(RECIPE, f"cuda:{index}")


def same(one: Step, other: Step) -> bool:
    held = other.state
    return all(torch.equal(v, held[k]) for k, v in one.state.items())


def used(index: int) -> int:
    """Bytes of a device that are taken."""
    free, total = Device(index).memory()
    return total - free


def test_a_step_is_on_the_device_of_its_number(gpus: Driver) -> None:
    second = on(1)
    second(*batch())
    assert used(0) == 0 < used(1) and "on cuda:1" in repr(second)
    first, plain = on(0), compiled(RECIPE, "cuda")
    for step in (first, plain):
        step(*batch())
        assert same(step, second)
    before = used(1)
    first.predict(batch()[0])
    assert used(1) == before


def test_kernels_are_those_of_the_device_s_architecture(tmp_path: Path) -> None:
    path = tmp_path / "net.qtn"
    with device(devices=2, other=80):
        first, second = on(0), on(1)
        for step in (first, second):
            step(*batch())
        first.save(path)
        for target, arch in (("cuda", "sm_90"), ("cuda:1", "sm_80")):
            folder = tmp_path / arch
            write_folder(folder, make(read(path), path, target, "0"))
            assert load(folder, target=target).manifest.machine["arch"] == arch
        with pytest.raises(TargetError, match=r"run on cuda:1 \(Em.* is sm_80: compile"):
            load(tmp_path / "sm_90", target="cuda:1")
        with pytest.raises(TargetError, match=r"run on cuda:0 \(Em.* is sm_90: compile"):
            load(tmp_path / "sm_80")


@pytest.mark.parametrize("settings", [{}, {"seed": 3, "late": 1, "backwards": 1}], ids=str)
def test_two_steps_on_two_devices_in_turns_are_two_steps_alone(settings: dict[str, int]) -> None:
    with device(devices=2, **settings):
        alone = []
        for number in range(2):
            step = on(number)
            for seed in SEEDS:
                step(*batch(seed=seed + 7 * number))
            alone.append(step)
        both = [on(number) for number in range(2)]
        for seed in SEEDS:
            for number, step in enumerate(both):
                step(*batch(seed=seed + 7 * number))
        assert all(map(same, alone, both))
        x, _ = batch(seed=5)
        for one, other in zip(alone, both, strict=True):
            assert torch.equal(one.predict(x), other.predict(x))
        del step, one, other, alone, both


def test_tensors_of_each_device_are_taken_as_they_are(gpus: Driver) -> None:
    alone = [compiled(RECIPE, "cuda") for _ in range(2)]
    with as_if_torch_had_cuda():
        both = [on(number) for number in range(2)]
        for seed in SEEDS:
            for number, step in enumerate(both):
                given = batch(seed=seed + 7 * number)
                loss = step(*(there(t, number) for t in given))
                assert loss.device == torch.device("cuda", number)
                assert float(loss) == float(alone[number](*given))
        assert all(map(same, alone, both))


@pytest.mark.parametrize("other", [0, 1, None])
def test_the_caller_s_context_stays_what_it_was(
    gpus: Driver, other: int | None, tmp_path: Path
) -> None:
    """Also where it is of another device: nothing runs in it."""
    held = None if other is None else Device(other)
    if held:
        gpus.call("cuCtxPushCurrent_v2", held.context)
    with as_if_torch_had_cuda():
        step = on(1)
        for given in (batch(), tuple(there(t, 1) for t in batch(seed=1))):
            step(*given)
        step.predict(batch()[0])
        step.save(tmp_path / "net.qtn")
        again = quatrain.load(tmp_path / "net.qtn")
        assert same(step, again)
        with pytest.raises(TargetError, match="no cuda:2"):
            quatrain.load(tmp_path / "net.qtn", target="cuda:2")
        del step, again, given
        gc.collect()
    popped = c_void_p()
    if held:
        gpus.call("cuCtxPopCurrent_v2", byref(popped))
        assert popped.value == held.context
    with pytest.raises(TargetError, match="CUDA_ERROR_INVALID_CONTEXT"):
        gpus.call("cuCtxPopCurrent_v2", byref(popped))
    assert used(0) == used(1) == 0


def test_a_step_goes_on_on_another_device(gpus: Driver, tmp_path: Path) -> None:
    path, step = tmp_path / "net.qtn", on(1)
    step(*batch())
    step.save(path)
    loaded = {name: quatrain.load(path, target=name) for name in (None, "cuda:0", "cuda")}
    assert [s.source.target for s in loaded.values()] == ["cuda:1", "cuda:0", "cuda"]
    assert copy.deepcopy(step).source.target == "cuda:1"
    loss = step(*batch(seed=1))
    for other in loaded.values():
        assert torch.equal(other(*batch(seed=1)), loss)
        assert same(step, other)


def test_a_file_of_a_device_that_is_not_here(tmp_path: Path) -> None:
    path = tmp_path / "net.qtn"
    with device(devices=2):
        on(1).save(path)
    with device():
        sentence = r"no cuda:1: this process sees 1, cuda:0 \(Emulated GPU 0\); name one"
        with pytest.raises(TargetError, match=sentence):
            quatrain.load(path)
        quatrain.load(path, target="cuda")(*batch())


def test_a_build_runs_on_the_device_that_is_named(gpus: Driver, tmp_path: Path) -> None:
    path, folder = tmp_path / "net.qtn", tmp_path / "built"
    step = on(0)
    step.save(path)
    write_folder(folder, make(read(path), path, "cuda:1", "0"))
    arrays = [t.numpy() for t in batch()]
    loss = float(step(*batch()))
    with pytest.raises(TargetError, match="no cuda:2: this process sees 2, "):
        load(folder, target="cuda:2")
    for other in ("cpu", "cuda:sm_80"):
        with pytest.raises(TargetError, match=f"is built for cuda; build the .* for {other}"):
            load(folder, target=other)
    for name, number in ((None, 0), ("cuda:1", 1)):
        before = used(number), used(1 - number)
        built = load(folder, target=name)
        assert float(built(*arrays)) == loss
        assert used(number) > before[0] and used(1 - number) <= before[1]
        assert f"on {name or 'cuda'}," in repr(built)
    # A state that was saved on the second is gone on with on the first.
    built.save()
    assert float(load(folder)(*arrays)) == float(step(*batch()))


def test_a_device_without_room_leaves_the_other_alone() -> None:
    with device(devices=2, memory=300_000):
        alone, first, second = (compiled(RECIPE, "cuda:0"), on(0), on(1))
        for step in (alone, first, second):
            step(*batch())
        sentence = r"cuda:1 \(Emulated GPU 1\) has no room for .* are free"
        with pytest.raises(TargetError, match=sentence):
            second(*batch(4096))
        for step in (alone, first, second):
            step(*batch(seed=1))
        assert same(alone, first) and same(alone, second)


def test_a_device_that_is_lost_leaves_the_other_alone(
    gpus: Driver, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = on(0), on(1)
    first(*batch())
    alone = copy.deepcopy(first)
    lost = Device(1)
    twice = Module(lost, standin.image(standin.SOURCE)).function("twice")
    with pytest.raises(TargetError, match="ILLEGAL_ADDRESS"):
        Stream(lost).launch(twice, (1,), (32,), [8, 8])
        lost.synchronize()
    with pytest.raises(TargetError, match="context is lost"):
        second(*batch())
    assert "no memory" in capfd.readouterr().err
    for step in (alone, first):
        step(*batch(seed=1))
    assert same(alone, first)


@pytest.mark.parametrize(("number", "given"), [(0, (1, 1)), (1, (0, 0)), (1, (1, 0)), (1, (-1, 0))])
def test_tensors_of_another_device(gpus: Driver, number: int, given: tuple[int, int]) -> None:
    def placed(tensor: Tensor, index: int) -> Tensor:
        return tensor if index < 0 else there(tensor, index)

    with as_if_torch_had_cuda():
        step = on(number)
        step(*batch())
        before = step.state
        x, y = (placed(t, i) for t, i in zip(batch(seed=1), given, strict=True))
        sentence = (
            rf"is on cuda:{1 - number}; this step is on cuda:{number} and takes tensors of that or "
            "of the CPU"
        )
        with pytest.raises(InputError, match=sentence):
            step(x, y)
        if given[0] == 1 - number:
            with pytest.raises(InputError, match=f"x {sentence}"):
                step.predict(x)
            with pytest.raises(InputError, match=f"x {sentence}"):
                step.predict(x[:3])
        assert all(torch.equal(v, before[k]) for k, v in step.state.items())


TASK = """
import torch, quatrain

def task():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    example = torch.zeros(4, 2, 3), torch.zeros(4, dtype=torch.int64)
    return quatrain.Task(model, torch.nn.functional.cross_entropy, optimizer, example)
"""


def test_the_commands(gpus: Driver, quatrain: Quatrain, tmp_path: Path) -> None:
    net, folder, task = tmp_path / "net.qtn", tmp_path / "built", tmp_path / "task.py"
    data, trained = tmp_path / "data.npz", tmp_path / "trained"
    task.write_text(TASK)
    x, y = np.zeros((8, 2, 3), np.float32), np.arange(8) % 3
    np.savez(data, allow_pickle=False, x_train=x, y_train=y, x_test=x, y_test=y)
    steps = ("--data", data, "--steps", "2")
    for words in (
        ("compile", f"{task}:task", "--recipe", "int4", "-o", net),
        ("inspect", net, "--plan"),
        ("report", net),
        ("run", net, *steps, "-o", tmp_path / "trained.qtn"),
        ("build", net, "-o", folder),
        ("run", folder, *steps, "-o", trained),
    ):
        said = quatrain(*words, "--target", "cuda:2", status=2)
        assert "there is no cuda:2: this process sees 2, cuda:0 (Em" in said
        quatrain(*words, "--target", "cuda:1")
    assert read(net).manifest["target"] == "cuda:1"
    assert "no cuda:2" in quatrain("targets", "cuda:2", status=2)
    here, named = (unit(name, "linear", INT4, INT4) for name in ("cuda:1", "cuda:sm_90"))
    assert here == named
    said = quatrain("bench", "resnet20", "--predict", "--target", "cuda:1", status=2)
    assert "--target cuda:sm_90, not for cuda:1" in said
    assert "built for cuda:1 equals the reference" in self_test("cuda:1")


def test_the_doctor_names_each_device_and_tests_it(
    gpus: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(standin.library().parent))
    found = doctor.gpu()
    assert found.mark is doctor.Mark.GOOD
    assert "cuda:0 (Emulated GPU 0), sm_90, 1.0 GiB; cuda:1 (Emulated GPU 1), sm_90" in found.text
    tested = []
    good = doctor.Finding("self-test", doctor.Mark.GOOD, "well")

    def noted(*targets: str) -> doctor.Finding:
        tested.append(targets)
        return good

    monkeypatch.setattr(doctor, "_self_test", noted)
    assert doctor.self_test().text == "well; well"
    assert tested == [("cpu",), ("cuda:0", "cuda:1")]
