"""Names of targets: a CPU behind a colon, and what is said where it cannot be had."""

import pytest

from quatrain.compiler.errors import TargetError
from quatrain.targets.cpu import info as cpu_info
from quatrain.targets.registry import TARGETS, find_target


def test_a_cpu_behind_the_colon() -> None:
    found = find_target("cpu:znver4")
    assert (found.name, found.mcpu) == ("cpu:znver4", "znver4")
    assert find_target("cpu") is TARGETS["cpu"]


def test_the_number_of_a_gpu_behind_the_colon() -> None:
    found = find_target("cuda:1")
    assert (found.name, found.number, found.mcpu, found.family) == ("cuda:1", 1, None, "cuda")
    assert find_target("cuda:0").number == find_target("cuda").number == 0
    assert find_target("cuda:007").name == "cuda:7"
    assert find_target("cuda:sm_90").mcpu == "sm_90"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("reference:1", "name a CPU or GPU behind the target, as in .* cuda:1"),
        ("cpv:znver4", "no target is called 'cpv:znver4'.*cpu"),
        ("reference:znver4", "name a CPU or GPU behind the target"),
        ("cpu:", "name a CPU or GPU behind the target"),
    ],
)
def test_names_that_are_none(name: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        find_target(name)


@pytest.mark.tvm
def test_code_for_a_cpu_that_this_machine_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tvm")
    cpu = cpu_info.named("znver4")
    monkeypatch.setattr(cpu_info, "flags", lambda: frozenset({"avx2", "fma", "f16c"}))
    with pytest.raises(TargetError, match=r"znver4 does not run here.*avx512bf16"):
        cpu_info.check_runs_here(cpu)
    cpu_info.check_runs_here(cpu_info.named("x86-64-v3"))


@pytest.mark.tvm
def test_tiles_need_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tvm")
    cpu = cpu_info.named("sapphirerapids")
    monkeypatch.setattr(cpu_info, "flags", lambda: cpu_info.features("sapphirerapids"))
    monkeypatch.setattr(cpu_info, "tiles_allowed", lambda: False)
    with pytest.raises(TargetError, match="leave to use AMX"):
        cpu_info.check_runs_here(cpu)
    assert not cpu_info.as_seen("sapphirerapids", cpu_info.features("sapphirerapids")).amx
