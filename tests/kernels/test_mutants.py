"""A share of what ``python -m tests.mutants`` runs, what it found, and that it finds."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm")

from .. import exactness, mutants
from ..cases.guarded import Guarded

pytestmark = pytest.mark.tvm
# Accepted mutants of other ops, formats and layouts; each was wrong once.
FOUND = (138, 1589, 1605, 1683, 2508, 3234, 4129, 21181, 22177, 24182)
FINE = {"refused", "equal", "unplanned", "too large"}


def test_a_share_of_the_mutants() -> None:
    assert {what for _, what in mutants.run(range(60))} <= FINE


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_stays_mended(seed: int) -> None:
    assert mutants.outcome(seed, mutants.bases(), at_end=seed % 2 == 0) in FINE


def test_mutants_are_refused_and_accepted() -> None:
    texts = mutants.bases()
    assert all(mutants.outcome(seed, texts[:1]) in FINE for seed in range(4))
    assert len({mutants.mutant(seed, texts) for seed in range(50, 100)}) == 50


def test_a_child_that_dies_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The next mutant goes on in another child."""
    script = tmp_path / "child.py"
    script.write_text(
        "import os, sys\n"
        "seed, count = int(sys.argv[5]), int(sys.argv[7])\n"
        "for n in range(seed, seed + count):\n"
        "    print(n, 'starts', flush=True)\n"
        "    if n == 2:\n"
        "        os.kill(os.getpid(), 11)\n"
        "    print(n, 'equal', flush=True)\n"
    )
    real: Any = subprocess.Popen

    def popen(command: list[str], **options: object) -> object:
        return real([command[0], str(script), *command[1:]], **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    found = dict(mutants.run(range(4)))
    assert found == {0: "equal", 1: "equal", 2: "died: exit status -11", 3: "equal"}


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("size", [1, 3, 16, 1024, 1027])
def test_guarded_memory(at_end: bool, size: int) -> None:
    array = np.arange(size, dtype=np.float32)
    held = Guarded(array, at_end=at_end)
    assert np.array_equal(held.array, array) and held.array.ctypes.data % 64 == 0 and held.whole


def test_a_wrong_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results that are not those of the reference are named by op and value."""

    def zeros(kernel: object, count: int, at_end: bool, *arrays: np.ndarray) -> None:
        for array in arrays[count:]:
            array[...] = 0

    monkeypatch.setattr(exactness, "_run_guarded", zeros)
    texts = mutants.bases()
    found = {mutants.outcome(seed, texts).partition(":")[0] for seed in range(30)}
    assert "differs" in found
