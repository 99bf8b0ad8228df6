"""A study on a local cluster of Ray or Dask comes to the bytes of one without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from quatrain.tools.study import processes

from ..cases.commands import Quatrain
from ..cases.fake_study import SOURCE, tiny_data
from ..cases.in_process import InProcess

pytestmark = [pytest.mark.torch, pytest.mark.slow]


@pytest.mark.share(2)
@pytest.mark.parametrize("cluster", ["ray", "dask"])
def test_a_study_on_a_cluster(
    cluster: str, quatrain: Quatrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed" if cluster == "dask" else cluster, reason="quatrain[cluster]")
    for variable in ("RAY_ADDRESS", "DASK_SCHEDULER_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    tiny_data(tmp_path)
    (tmp_path / "net.py").write_text(SOURCE)
    # Paths are those of the folder that the command was started in.
    words = [
        "study", "recipes", "--data", "tiny.npz", "--network", "net.py:task",
        "--recipes", "fp32,luq4", "--batch", "4", "--steps", "3", "--seeds", "1",
        "--rounds", "0", "--target", "reference",
    ]  # fmt: skip
    more = ["-o", "there", "--workers", "2", "--threads", "1", "--backend", cluster]
    done = subprocess.run(
        [sys.executable, "-m", "quatrain", *words, *more],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = sorted(done.stderr.splitlines())
    assert [line.partition(":")[0] for line in said] == ["fp32, seed 0", "luq4, seed 0"], said
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processes, "Worker", InProcess)
    quatrain(*words, "-o", "here")
    kept = {p.name: p.read_bytes() for p in (tmp_path / "there").iterdir()}
    assert kept == {p.name: p.read_bytes() for p in (tmp_path / "here").iterdir()}
    assert len(kept) == 3
