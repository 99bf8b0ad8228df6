"""Pictures of ``quatrain bench``, and what its short form leaves out."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from quatrain.tools.bench import plot as bench_plot
from quatrain.tools.bench.machine import BUSY_WORDS, Machine
from quatrain.tools.bench.plan import CONTENDERS, Contender, Workload, contenders, workload
from quatrain.tools.bench.results import ContenderRow, WorkloadResult
from quatrain.tools.commands import bench as cmd_bench

from ..cases.commands import Quatrain

EAGER, OURS = "torch fp32 channels_last", "quatrain ultra_low_4bit"
MACHINE = Machine("a CPU", "", (), 2, 2, "default", 0.0, {})


def row(name: str, seconds: float) -> ContenderRow:
    (contender,) = (c for c in CONTENDERS if c.name == name)
    return ContenderRow(contender, rounds=(seconds,))


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
@pytest.mark.parametrize(("longest", "scale"), [(9, "linear"), (11, "log")])
def test_bars_that_one_would_dwarf(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, longest: int, scale: str
) -> None:
    drawn = []
    monkeypatch.setattr(bench_plot, "_save", lambda figure, path, busy: drawn.append(figure))
    result = WorkloadResult(workload("resnet20", None), (row(EAGER, longest), row(OURS, 1)))
    bench_plot.plot_results([result], tmp_path / "a.svg")
    (axis,) = drawn[0].axes
    assert axis.get_xscale() == scale
    assert [t.get_text() for t in axis.texts] == [f"{1000 * longest}", "1000"]
    assert all(axis.get_xlim()[0] < bar.get_width() < axis.get_xlim()[1] for bar in axis.patches)


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
@pytest.mark.parametrize("busy", [False, True])
def test_a_picture_of_a_busy_machine_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, busy: bool
) -> None:
    rc = pytest.importorskip("matplotlib").rcParams
    monkeypatch.setitem(rc, "svg.fonttype", "none")  # letters in place of their shapes
    result = WorkloadResult(workload("resnet20", None), (row(EAGER, 2), row(OURS, 1)))
    bench_plot.plot_results([result], tmp_path / "a.svg", busy=busy)
    assert (BUSY_WORDS.split(":")[0] in (tmp_path / "a.svg").read_text()) is busy


EVERYTHING = contenders("resnet20", [], {})
BF16 = "torch bf16 channels_last"


@pytest.mark.parametrize(
    ("words", "units", "names"),
    [
        ((), (), [c.name for c in EVERYTHING]),
        (("--quick",), ("int8 dot",), [OURS, EAGER]),
        (("--quick",), ("int8 tile", "bf16 tile"), [OURS, EAGER, BF16]),
        (("--quick", "--only", BF16), (), [BF16]),
    ],
)
def test_quick_leaves_out_what_takes_long(
    quatrain: Quatrain,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    units: tuple[str, ...],
    names: list[str],
) -> None:
    asked = []

    def measured(size: Workload, who: Sequence[Contender], *_: object) -> WorkloadResult:
        asked.append([c.name for c in who])
        return WorkloadResult(size, tuple(ContenderRow(c, error="why") for c in who))

    monkeypatch.setattr(cmd_bench, "look", lambda: replace(MACHINE, units=units))
    monkeypatch.setattr(cmd_bench, "measure", measured)
    quatrain("bench", "resnet20", *words)
    assert asked == [names]
