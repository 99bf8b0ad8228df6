"""``quatrain bench``: ratios and spreads, processes that fail, the shape of tables and of JSON."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.errors import UsageError
from quatrain.tools.bench import plan as bench_plan
from quatrain.tools.bench import plot as bench_plot
from quatrain.tools.bench.layers import DIRECTIONS, KERNELS, Layer, LayerResult, measure_layers
from quatrain.tools.bench.machine import Machine, share
from quatrain.tools.bench.plan import CONTENDERS, NETWORKS, Contender, Runner, contenders, workload
from quatrain.tools.bench.process import ContenderFailed, Worker
from quatrain.tools.bench.progress import BenchProgress
from quatrain.tools.bench.results import ContenderRow, WorkloadResult
from quatrain.tools.bench.rounds import MOST_STEPS, TURN_SECONDS, Racer
from quatrain.tools.bench.stats import ratio, spread
from quatrain.tools.bench.steps import Effort
from quatrain.tools.cli import main
from quatrain.tools.commands import bench as cmd_bench
from quatrain.tools.worker import reason

from ..cases.in_process import run_in_process

EAGER = "torch fp32"
OURS = "quatrain ultra_low_4bit"
SOURCE = """
import quatrain, torch
from torch import nn

def tiny():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(),
        nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(),
        nn.Flatten(), nn.Linear(45, 3),
    )
    example = torch.randn(2, 1, 7, 7), torch.zeros(2, dtype=torch.int64)
    return quatrain.Task(
        model, nn.functional.cross_entropy, torch.optim.SGD(model.parameters(), 0.1), example
    )

def flat():
    model = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
    example = torch.randn(2, 7), torch.zeros(2, dtype=torch.int64)
    return quatrain.Task(
        model, nn.functional.cross_entropy, torch.optim.SGD(model.parameters(), 0.1), example
    )
"""
Bench = Callable[..., str]


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str]) -> Bench:
    def run(*words: object, status: int = 0) -> str:
        found = main(["bench", *map(str, words)])
        out, err = capsys.readouterr()
        assert found == status, err
        if status:
            assert err.startswith("error: ") and err.count("\n") == 1, err
        else:
            # A line a stage, where a bar would be on a terminal.
            assert all(
                re.search(r"machine can do|gets ready|each kernel|/\d+\)$", line)
                for line in err.splitlines()
            ), err
        return err if status else out

    return run


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    path = tmp_path / "nets.py"
    path.write_text(SOURCE)
    return f"{path}:tiny"


def test_spread_and_ratio() -> None:
    s = spread([5.0, 1.0, 3.0, 2.0, 4.0])
    assert (s.median, s.low, s.high) == (3, 2, 4)
    assert spread([7.0]) == spread([7.0, 7.0, 7.0])
    # A round in which everything took four times as long leaves the ratio alone.
    assert ratio([4, 16, 4], [2, 8, 2]) == spread([2.0])


def test_share_of_a_peak() -> None:
    assert share(1e9, 0.5, 4.0) == 0.5
    assert share(1e9, 0.5, None) is None


def test_turns_are_long_enough_and_bounded() -> None:
    assert Racer("slow", pace=100.0).steps == 1
    assert Racer("fast", pace=1e-9).steps == MOST_STEPS
    assert Racer("middle", pace=TURN_SECONDS / 3).steps == 3


def row(name: str, *rounds: float, error: str | None = None) -> ContenderRow:
    (contender,) = (c for c in CONTENDERS if c.name == name)
    return ContenderRow(contender, error, rounds, operations=6 * 10**9, saved_bytes=1000)


def test_baseline_and_fastest_torch() -> None:
    size = workload("resnet20", None)
    rows = (row(EAGER, 4, 4), row("torch bf16", 3, 1), row("fakequant", 0.1, 0.1), row(OURS, 1, 2))
    result = WorkloadResult(size, rows)
    assert result.baseline == rows[0] and result.fastest_torch == rows[1]
    found = result.against(result.baseline, rows[3])
    assert found is not None and found.median == 3
    # Channels last is what is taken where it ran, and failed rows count for nothing.
    last = row("torch fp32 channels_last", 3, 3)
    assert WorkloadResult(size, (*rows, last)).baseline == last
    broken = row("torch fp32 channels_last", error="no")
    assert WorkloadResult(size, (*rows, broken)).baseline == rows[0]
    alone = WorkloadResult(size, rows[3:])
    assert alone.baseline is None and alone.against(None, rows[3]) is None


MACHINE = Machine(
    cpu="a CPU", mcpu="", units=(), cpus=2, threads=2, omp_wait_policy="default", load=0.0,
    versions={}, peaks={"int8 dot": 6.0, "f32": 3.0},
)  # fmt: skip


def test_result_as_plain_data() -> None:
    rows = (row(EAGER, 2, 2), row(OURS, 1, 1), row("fakequant", error="why"))
    found = WorkloadResult(workload("resnet20", 7), rows).to_dict(MACHINE)
    plain = json.loads(json.dumps(found, allow_nan=False))
    assert plain["workload"] == {"network": "resnet20", "batch": 7, "width": 1, "depth": 1}
    assert plain["baseline"] == plain["fastest_torch"] == EAGER
    by_name = {r["name"]: r for r in plain["contenders"]}
    ours, failed = by_name[OURS], by_name["fakequant"]
    assert ours["ratio_to_baseline"] == {"median": 2, "low": 2, "high": 2}
    assert ours["gops"] == 6 and ours["share_of_integer_peak"] == 1
    assert ours["share_of_f32_peak"] == 2
    assert failed["error"] == "why" and failed["seconds"] is failed["gops"] is None


def test_contenders_of_a_network() -> None:
    names = {n: [c.name for c in contenders(n, [], {})] for n in NETWORKS}
    assert OURS in names["resnet20"] and "torch.compile bf16 channels_last" in names["resnet20"]
    assert not any("channels_last" in n or "bn_input" in n for n in names["mlp"])
    assert f"{OURS} fp8_on=none" in names["mobilenetv2"]
    chosen = contenders("resnet20", ["quatrain u*", EAGER], {"carrier": "f32"})
    assert [c.name for c in chosen] == [
        f"{OURS} carrier=f32", f"{OURS} recompute=bn_input carrier=f32", EAGER
    ]  # fmt: skip
    assert chosen[1].options == {"recompute": "bn_input", "carrier": "f32"}
    # What does not suit a network runs where it is called by its whole name.
    assert [c.name for c in contenders("mlp", [f"{EAGER}*"], {})] == [EAGER]
    assert len(contenders("mlp", [EAGER, f"{EAGER} channels_last"], {})) == 2
    with pytest.raises(UsageError, match="no contender is called 'jax'"):
        contenders("resnet20", ["jax"], {})


@pytest.mark.parametrize("network", NETWORKS)
def test_contenders_of_a_sweep_share_one_layout(network: str) -> None:
    found = contenders(network, [], {}, swept=True)
    assert [c.way for c in found] == [Runner.QUATRAIN, Runner.TORCH, Runner.TORCH]
    assert {c.channels_last for c in found if c.plain_torch} == {NETWORKS[network].images}


def test_sweeps() -> None:
    first = workload("resnet20", None)
    assert [w.batch for w in bench_plan.sweep(first, "batch")] == [32, 64, 128, 256]
    assert [w.batch for w in bench_plan.sweep(workload("mlp", 2), "batch")] == [1, 2, 4]
    assert {w.width for w in bench_plan.sweep(first, "width")} == {0.25, 0.5, 1, 2}
    assert bench_plan.sweep(first, "depth")[-1].label == "resnet20, batch 128, depth x 3"
    with pytest.raises(UsageError, match="did you mean 'width'"):
        bench_plan.sweep(first, "widht")
    for along, why in (("batch", "--batch"), ("width", "one of the networks")):
        with pytest.raises(UsageError, match=why):
            bench_plan.sweep(workload("a.py:net", None), along)


def test_words_that_fit_nothing(bench: Bench, tmp_path: Path) -> None:
    assert "did you mean 'resnet20'" in bench("resnet21", status=2)
    assert "give one" in bench("--layers", "--profile", status=2)
    assert "one network" in bench("mlp", "resnet20", "--sweep", "batch", status=2)
    assert "name it with --only" in bench("mlp", "--profile", "--only", EAGER, status=2)
    assert "ends in .svg" in bench("--plot", tmp_path / "a.txt", status=2)


def test_plot_without_matplotlib(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_plot, "find_spec", lambda name: None)
    assert "pip install 'quatrain[plot]'" in bench("--plot", "a.svg", status=2)


def test_reason_is_one_line() -> None:
    assert reason(ValueError("backend raised:\nno compiler\n\nSet X")) == (
        "ValueError: backend raised: no compiler"
    )
    assert reason(KeyError()) == "KeyError"


def test_a_worker_that_dies_leaves_a_reason() -> None:
    with Worker() as worker:
        with pytest.raises(ContenderFailed, match="KeyError: 'dance'"):
            worker.ask("dance", 60)
        with pytest.raises(ContenderFailed, match="AssertionError: build comes first"):
            worker.ask("run", 60, steps=1)
        os.kill(worker._process.pid, signal.SIGKILL)
        with pytest.raises(ContenderFailed, match="ended with signal 9"):
            worker.ask("run", 60, steps=1)


def test_a_worker_that_takes_too_long() -> None:
    with Worker() as worker, pytest.raises(ContenderFailed, match="run took longer than 0 s"):
        worker.ask("run", 0, steps=1)


def test_the_command_itself_loads_neither_torch_nor_tvm() -> None:
    code = "import sys, quatrain.tools.commands.bench; print({'torch', 'tvm'} & set(sys.modules))"
    top = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=top, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.torch
def test_whole_steps_as_json(bench: Bench, tiny: str) -> None:
    only = ("--only", "quatrain fp32", "--only", "torch fp32", "--only", "fakequant")
    words = ("--quick", "--rounds", 2, "--target", "reference", "--threads", 1, "--json")
    found = json.loads(bench(tiny, *only, *words))
    assert found["machine"]["threads"] == 1 and found["machine"]["versions"]["torch"]
    (result,) = found["results"]
    rows = {r["name"]: r for r in result["contenders"]}
    assert list(rows) == ["quatrain fp32", EAGER, "fakequant"]
    assert result["baseline"] == EAGER
    # Forward and dW of all layers; dX of all but the first, which reads the batch.
    first, *others = 2 * 3 * 25 * 9, 2 * 5 * 9 * 27, 2 * 3 * 45
    operations = 2 * (2 * first + 3 * sum(others))
    for r in rows.values():
        assert r["error"] is None and len(r["rounds"]) == 2 and min(r["rounds"]) > 0
        assert r["gops"] == pytest.approx(operations / r["seconds"]["median"] / 1e9)
        assert r["peak_bytes"] >= r["start_bytes"] > 0
    # The same weights and the same batch: fp32 everywhere, but sums in another order.
    losses = [rows[n]["first_loss"] for n in rows if n != "fakequant"]
    assert losses == pytest.approx([losses[0]] * 2, rel=1e-5)
    assert rows["quatrain fp32"]["compile_cold_seconds"] > 0
    assert rows["quatrain fp32"]["saved_bytes"] is None, "the reference has no plan"
    assert rows[EAGER]["compile_cold_seconds"] is None and rows[EAGER]["saved_bytes"] > 0


@pytest.mark.torch
def test_a_failing_contender_is_a_row(
    bench: Bench, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_in_process(monkeypatch)
    monkeypatch.setattr(cmd_bench, "look", lambda: MACHINE)
    network = tiny.replace(":tiny", ":flat")
    text = bench(
        network, "--only", "torch fp32*", "--rounds", 2, "--threads", 1, "--target", "reference"
    )
    assert "medians of 2 rounds" in text and "x base: times faster than torch fp32" in text
    failed = " ".join(text.partition("Did not run")[2].split())
    assert "torch fp32 channels_last UsageError: channels_last is for images" in failed
    assert text.startswith("a CPU") and "measured peaks: int8 dot 6 Gop/s" in text


@pytest.mark.torch
def test_sweep_is_a_line_a_size(bench: Bench, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_in_process(monkeypatch)
    monkeypatch.setattr(cmd_bench, "look", lambda: MACHINE)
    monkeypatch.setattr(bench_plan, "FACTORS", (0.5, 1.0))
    words = ("--sweep", "batch", "--batch", 4, "--rounds", 1, "--threads", 1, "--only", EAGER)
    text = bench(tiny, *words)
    sizes = [line.split()[0] for line in text.splitlines() if "KiB" in line]
    assert "torch fp32 as batch grows" in text and sizes == ["2", "4"]


@pytest.mark.torch
@pytest.mark.tvm
def test_profile_of_a_step(
    bench: Bench, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_in_process(monkeypatch)
    monkeypatch.setattr(cmd_bench, "look", lambda: MACHINE)
    words = ("--profile", "--cache-dir", tmp_path, "--threads", 1, "--json")
    found = json.loads(bench(tiny, *words))["profile"]
    assert found["step_seconds"] > 0 and found["peaks"]["memory"] > 0
    parts = found["parts"]
    spent = [p["seconds"] * p["count"] for p in parts]
    assert spent == sorted(spent, reverse=True)
    gemms = [p for p in parts if p["operations"]]
    # Forward and dW of three layers, dX of two; equal kernels are one part.
    assert sum(p["count"] for p in gemms) == 8
    assert all(p["unit"] for p in gemms) and all(p["bytes"] > 0 for p in parts)
    assert {layer for p in parts for layer in p["layers"]} >= {"0", "3", "7"}


@pytest.mark.torch
@pytest.mark.tvm
def test_single_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    run_in_process(monkeypatch)
    monkeypatch.setenv("QUATRAIN_THREADS", "1")
    layers = [Layer(1, 7, 13, direction) for direction in DIRECTIONS]
    found = measure_layers(layers, Effort(2, 120, warm=False), BenchProgress())
    for result in found:
        assert not result.errors and set(result.rounds) == set(KERNELS)
        plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
        assert plain["ratios"]["oneDNN fp32"]["median"] > 0
        assert plain["kernels"]["quatrain"]["gops"] > 0


@pytest.mark.torch
def test_kernels_multiply_what_their_op_says() -> None:
    """The convolution whose kernel is timed gives the codes' product, in each direction."""
    from quatrain.compiler.ir.analysis import macs
    from quatrain.tools.bench.layer_jobs import convolution

    for direction in DIRECTIONS:
        layer = Layer(2, 7, 13, direction)
        assert 2 * macs(convolution(layer)) == layer.operations


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_pictures(tmp_path: Path) -> None:
    rows = (row(EAGER, 2, 3), row(OURS, 1, 1), row("fakequant", error="why"))
    results = [
        WorkloadResult(w, rows) for w in bench_plan.sweep(workload("resnet20", None), "batch")
    ]
    layers = [LayerResult(Layer(1, 7, 13, d), {"quatrain": (1.0,)}, {}) for d in DIRECTIONS]
    part = {"seconds": 1.0, "count": 2, "operations": 0, "kernel": "batch_norm"}
    calls: tuple[Callable[[Path], None], ...] = (
        lambda p: bench_plot.plot_results(results, p),
        lambda p: bench_plot.plot_sweep(results, "batch", p),
        lambda p: bench_plot.plot_layers(layers, p),
        lambda p: bench_plot.plot_profile("net", {"parts": [part]}, p),
    )
    for i, call in enumerate(calls):
        path = tmp_path / f"{i}.svg"
        call(path)
        assert "<svg" in path.read_text()


@pytest.mark.torch
def test_storages_that_torch_keeps() -> None:
    torch = pytest.importorskip("torch")
    from quatrain.compiler.capture.saved import kept_by_torch

    x = torch.rand(3, 5, requires_grad=True)
    y = torch.rand(3, 5)
    # sin keeps its operand, exp its result: views and owned tensors add nothing.
    kept = kept_by_torch(lambda: (x * y).exp().view(-1).sin(), [x, y])
    assert [s.bytes for s in kept] == [60]
    assert np.prod(kept[0].shape) == 15


def test_contender_travels_as_json() -> None:
    for contender in CONTENDERS:
        words = json.loads(json.dumps(contender.words))
        assert Contender(**{**words, "way": Runner(words["way"])}) == contender
        assert set(words) == set(asdict(contender))
