"""The cache of compiled kernels: what is kept, found again, and made anew."""

from __future__ import annotations

import ast
import multiprocessing
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.runtime.step import Step
from quatrain.targets.cpu import kernels as made
from quatrain.targets.cpu.info import detect
from quatrain.targets.cpu.kernels import load_kernels
from quatrain.targets.cpu.module import Walker
from quatrain.targets.cpu.peaks import BLOCK, Triad
from quatrain.targets.plan.kernel import KernelSpec
from quatrain.targets.tir.digest import APART, source_files
from quatrain.targets.tir.runtime import version
from quatrain.targets.tir.store import Store, Stored

pytestmark = pytest.mark.tvm
SPECS = [Triad(detect().lanes, n * BLOCK) for n in (1, 2, 3)]


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that are generated from here on."""
    from quatrain.targets.cpu import generate

    names: list[str] = []
    plain = generate.generate

    def counted(specs: Sequence[KernelSpec], cpu: object) -> object:
        names.extend(spec.name for spec in specs)
        return plain(specs, cpu)  # type: ignore[arg-type]

    monkeypatch.setattr(generate, "generate", counted)
    return names


def works(folder: Path | None) -> None:
    """All of SPECS, loaded from ``folder``, compute what they should."""
    loaded = load_kernels(SPECS, detect(), folder)
    for spec in SPECS:
        (_, count), *_ = spec.sizes
        a, b = np.arange(count, dtype=np.float32), np.full(count, 2, np.float32)
        c = np.zeros_like(a)
        walker = Walker([(loaded[spec], [(0, 0), (1, 0), (2, 0)])], 3)
        walker([x.ctypes.data for x in (a, b, c)])
        np.testing.assert_array_equal(c, a + 1)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(128, 10))


def compiled(recipe: str = "ultra_low_4bit", **options: object) -> Step:
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batch = torch.randn(8, 3, 8, 8), torch.randint(10, (8,))
    return quatrain.compile(model, cross_entropy, batch, sgd, recipe=recipe, options=options)


def specs(step: Step) -> set[KernelSpec]:
    plan = step.executable.plan
    assert plan is not None
    return {planned.kernel.spec for planned in plan.kernels}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("QUATRAIN_CACHE", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def test_a_kernel_is_generated_once(folder: Path, generated: list[str]) -> None:
    works(folder)
    assert len(generated) == len(SPECS)
    works(folder)
    assert len(generated) == len(SPECS)
    assert not list(folder.glob("draft-*")), "a draft was left behind"


def test_the_same_step_generates_nothing(folder: Path, generated: list[str]) -> None:
    first = compiled()
    count = len(generated)
    assert count == len(specs(first))
    x, y = torch.randn(8, 3, 8, 8), torch.randint(10, (8,))
    again = compiled()
    assert len(generated) == count
    assert torch.equal(first(x, y), again(x, y))


def test_a_changed_option_generates_only_the_new_kernels(
    folder: Path, generated: list[str]
) -> None:
    before = specs(compiled())
    count = len(generated)
    after = specs(compiled(gradscale="instant"))
    new = after - before
    assert 0 < len(new) < len(after) / 2
    assert sorted(generated[count:]) == sorted(spec.name for spec in new)


def test_recipes_share_kernels(folder: Path, generated: list[str]) -> None:
    before = specs(compiled())
    count = len(generated)
    after = specs(compiled("fp32"))
    assert after & before
    assert len(generated) - count == len(after - before)


def test_evaluation_shares_kernels_with_training(folder: Path, generated: list[str]) -> None:
    step = compiled()
    count = len(generated)
    step.predict(torch.randn(8, 3, 8, 8))
    assert 0 < len(generated) - count < count / 2


def test_without_a_cache(generated: list[str]) -> None:
    works(None)
    works(None)
    assert len(generated) == 2 * len(SPECS)


@pytest.mark.parametrize("how", ["cut", "changed", "garbage", "empty", "gone"])
@pytest.mark.parametrize("what", ["*.so", "*.kernel"])
def test_a_damaged_file_is_made_again(
    what: str, how: str, folder: Path, generated: list[str]
) -> None:
    works(folder)
    for path in folder.glob(what):
        damage(path, how)
    works(folder)
    assert len(generated) == 2 * len(SPECS)
    works(folder)
    assert len(generated) == 2 * len(SPECS)


def damage(path: Path, how: str) -> None:
    """What disks and people do to files."""
    if how == "gone":
        path.unlink()
        return
    whole = path.read_bytes()
    middle = len(whole) // 2
    changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    parts = {"cut": whole[:middle], "changed": changed, "garbage": b"\x7fELF\xff", "empty": b""}
    path.unlink()  # not in place: this process has mapped it
    path.write_bytes(parts[how])


def test_a_kernel_is_not_taken_for_another(folder: Path) -> None:
    works(folder)
    store = Store(folder)
    first, second = (made.digest(spec, detect()) for spec in SPECS[:2])
    shutil.copy(folder / f"{first}.kernel", folder / f"{second}.kernel")
    assert isinstance(store.find(first), Stored)
    assert store.find(second) is None


def test_without_a_linker(
    folder: Path, generated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made, "has_linker", lambda: False)
    works(folder)
    assert list(folder.glob("*.ll")) and not list(folder.glob("*.so"))
    works(folder)
    assert len(generated) == len(SPECS)


def test_a_linker_that_fails(
    folder: Path, generated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = folder.parent / "bin"
    empty.mkdir()
    (empty / "g++").write_text("#!/bin/sh\nexit 1\n")
    (empty / "g++").chmod(0o755)
    monkeypatch.setenv("PATH", str(empty))
    works(folder)
    assert not list(folder.glob("*.so"))


def test_a_cache_that_cannot_be_made(tmp_path: Path, generated: list[str]) -> None:
    (tmp_path / "file").touch()
    works(tmp_path / "file" / "kernels")
    assert len(generated) == len(SPECS)


def test_a_cache_that_cannot_be_written(
    folder: Path, generated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    works(folder)
    assert len(generated) == len(SPECS)


def test_two_processes_at_once(folder: Path, generated: list[str]) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=works, args=(folder,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    works(folder)
    assert not generated


def test_another_generator_or_tvm_misses(
    folder: Path, generated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    works(folder)
    monkeypatch.setattr(made, "sources", lambda: "changed")
    works(folder)
    assert len(generated) == 2 * len(SPECS)
    monkeypatch.setattr(made, "version", lambda: version() + "+other")
    works(folder)
    assert len(generated) == 3 * len(SPECS)


PACKAGE = Path(quatrain.__file__).parent


def test_no_generator_imports_what_is_apart() -> None:
    """The digest leaves some folders out: nothing that it covers may import from them."""
    for path in source_files(PACKAGE):
        package = ["quatrain", *path.relative_to(PACKAGE).parent.parts]
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom):
                continue
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")])
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
            apart = ["quatrain." + room.replace("/", ".") for room in APART]
            assert not [n for n in names for a in apart if n == a or n.startswith(f"{a}.")], path


def test_the_digest_covers_the_sources_and_only_those() -> None:
    found = {str(path.relative_to(PACKAGE)) for path in source_files(PACKAGE)}
    assert {"targets/cpu/gemm/taps.py", "targets/tir/expr.py", "compiler/formats.py"} <= found
    assert not [name for name in found if name.startswith(APART)]
