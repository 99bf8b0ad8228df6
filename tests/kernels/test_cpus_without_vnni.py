"""Integer products of CPUs without VNNI: sums of int16 on the way, or products one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")

from quatrain.compiler.formats import FP4_EVEN, FP4_ODD, INT4, LUQ, UINT4, UINT8, Format
from quatrain.compiler.types import TensorType
from quatrain.targets.cpu.build import compile_kernel
from quatrain.targets.cpu.gemm.spec import GemmSpec
from quatrain.targets.cpu.info import flags, named
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.plan.kernel import Unit

from ..cases.gemm_case import KINDS, LINEAR, Case, check, expected, run, tensor

pytestmark = pytest.mark.tvm

PORTABLE = pytest.param(
    "x86-64-v3", marks=pytest.mark.skipif("avx2" not in flags(), reason="no AVX2")
)
SIGNED = dict.fromkeys(KINDS + LINEAR, (INT4, INT4))
BACKWARD = {
    kind: (FP4_EVEN if kind.endswith("input_grad") else FP4_ODD, INT4)
    for kind in KINDS + LINEAR
    if kind.endswith("grad")
}
CASES = [Case(kind, formats=formats) for kind, formats in (SIGNED | BACKWARD).items()]


def unit(case: Case, mcpu: str) -> Unit:
    if mcpu == "x86-64-v2":
        return Unit.INT32
    return Unit.INT16_DOT if case.kind in BACKWARD else Unit.INT8_DOT


@pytest.mark.parametrize("mcpu", [PORTABLE, "x86-64-v2"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.kind)
def test_other_cpus_give_the_same_integers(case: Case, mcpu: str) -> None:
    check(case, named(mcpu), unit(case, mcpu), beside=CASES)


# 2 * 255 * 7 fits int16 nine times: all products, those of a row of taps, of a tap, and of parts.
RUNS = [
    Case("conv2d", c=4, k=9, size=(5, 5), formats=(UINT8, INT4)),
    Case("conv2d", c=12, k=9, size=(5, 5), formats=(UINT8, INT4)),
    Case("conv2d_input_grad", k=20, c=9, size=(5, 5), formats=(UINT8, INT4), stride=(2, 2)),
    Case("conv2d", c=55, k=9, size=(5, 5), formats=(UINT8, INT4)),
    Case("linear", n=7, c=72, k=13, formats=(UINT8, INT4)),
    Case("linear", n=7, c=1300, k=13, formats=(INT4, INT4)),
    Case("linear_input_grad", n=7, c=13, k=600, formats=(LUQ[5], INT4)),
]


def largest(type_: TensorType, rng: np.random.Generator) -> Tensor:
    """The largest numbers of one sign, so that sums grow as far as they can."""
    drawn = tensor(type_, rng)
    levels = type_.format.levels()
    best = max(range(1 << type_.format.bits), key=lambda c: abs(float(type_.format.decode(c))))
    assert abs(float(type_.format.decode(best))) == max(abs(levels[0]), abs(levels[-1]))
    return replace(drawn, data=np.full_like(drawn.data, best))


@pytest.mark.parametrize("mcpu", [PORTABLE])
@pytest.mark.parametrize("case", RUNS, ids=lambda c: f"{c.kind}-{RUNS.index(c)}")
def test_runs_of_sums_in_int16_do_not_overflow(case: Case, mcpu: str) -> None:
    kernel, _ = case.kernel_on(named(mcpu))
    assert isinstance(kernel.spec, GemmSpec) and kernel.spec.dot.run >= 4
    check(case, named(mcpu), Unit.INT8_DOT, beside=RUNS)
    got, operands, _ = run(case, named(mcpu), RUNS, draw=largest)
    assert np.array_equal(got.numbers, expected(case, operands).numbers)


INSTRUCTIONS = {Unit.INT8_DOT: "pmaddubsw", Unit.INT16_DOT: "pmaddwd", Unit.INT32: "pmulld"}
DECLARED: list[tuple[str, tuple[Format, Format], str, Unit]] = [
    *((kind, (UINT4, INT4), "x86-64-v2", Unit.INT32) for kind in (*KINDS, *LINEAR)),
    *((kind, (UINT4, INT4), "x86-64-v3", Unit.INT8_DOT) for kind in ("conv2d", "linear")),
    *((kind, BACKWARD[kind], "x86-64-v3", Unit.INT16_DOT) for kind in BACKWARD),
    ("conv2d", (UINT4, INT4), "skylake-avx512", Unit.INT8_DOT),
    ("linear_weight_grad", (FP4_ODD, INT4), "skylake-avx512", Unit.INT16_DOT),
]


@pytest.mark.parametrize(("kind", "formats", "mcpu", "unit"), DECLARED)
def test_the_declared_unit_is_in_the_assembly(
    kind: str, formats: tuple[Format, Format], mcpu: str, unit: Unit
) -> None:
    kernel, _ = Case(kind, n=16, c=32, k=32, formats=formats).kernel_on(named(mcpu))
    assert kernel.unit is unit
    assembly = compile_kernel(kernel, named(mcpu)).assembly
    assert INSTRUCTIONS[unit] in assembly
    # Sums in int16 are added up by pmaddwd.
    slower = set(INSTRUCTIONS) - {unit, *([Unit.INT16_DOT] if unit is Unit.INT8_DOT else [])}
    assert not [u for u in slower if INSTRUCTIONS[u] in assembly]
