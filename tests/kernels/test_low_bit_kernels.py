"""Kernels of updates whose states are codes, on both targets: all but sums bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("tvm")

from quatrain.compiler.ir import Program
from quatrain.compiler.ir.verify import read_program
from quatrain.passes.low_bit_states import SCALES
from quatrain.targets.cpu.info import detect
from quatrain.targets.numbers.tensor import Tensor

from ..cases.one_kernel import Array, random_inputs
from ..exactness import compare

pytestmark = [pytest.mark.torch, pytest.mark.tvm]
GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(p.stem for p in GOLDEN.glob("low_bit_states.*.qt"))


def program(case: str) -> Program:
    """What the pass makes in a golden file."""
    text = (GOLDEN / f"{case}.qt").read_text(encoding="utf-8")
    return read_program(text.partition("=" * 72 + "\n")[2])


def numbers(made: Program, turn: int) -> dict[str, Tensor]:
    """All codes; block scales over several decades, and one of a block that was never trained."""
    rng = np.random.default_rng(turn)
    given: dict[str, Array | float] = {"step": turn}
    given |= {v.name: float(rng.uniform(0.1, 0.9)) for v in made.inputs if not v.type.shape}
    for v in made.state:
        if v.name.endswith(SCALES):
            scales = 10.0 ** rng.integers(-14, 3, v.type.shape)
            scales[0] *= turn
            given[v.name] = scales
    return random_inputs((*made.inputs, *made.state), turn, given)


def check(case: str) -> None:
    made = program(case)
    for turn in (0, 2):
        found = [str(m) for m in compare(made, numbers(made, turn), detect())]
        assert not found, "\n".join(found)


@pytest.mark.parametrize("case", CASES)
def test_on_a_cpu(case: str) -> None:
    check(case)


@pytest.mark.usefixtures("emulated")
def test_on_a_gpu() -> None:
    for case in CASES:
        check(case)
