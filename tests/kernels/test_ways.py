"""The registry of GEMM kernels: one way is the fastest for every GEMM, twins are an error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import pytest

pytest.importorskip("tvm")

from quatrain.compiler.errors import TargetError
from quatrain.compiler.formats import BF16, F32, FP4_EVEN, FP8_152, INT4, INT16, UINT4
from quatrain.targets.cpu.choose import choose
from quatrain.targets.cpu.gemm.spec import GemmRequest, GemmSpec
from quatrain.targets.cpu.info import CpuInfo, named
from quatrain.targets.cpu.ways import WAYS
from quatrain.targets.plan.kernel import Unit

from ..cases.gemm_case import KINDS, LINEAR, Case

pytestmark = pytest.mark.tvm

CPUS = ("sapphirerapids", "znver4", "haswell", "nehalem")
PAIRS = (
    *((F32, F32), (BF16, BF16), (FP8_152, INT4)),
    *((UINT4, INT4), (FP4_EVEN, INT4), (INT16, INT16)),
)
CASES = [
    Case(kind, n=n, c=c, k=c, groups=groups, formats=formats)
    for kind in (*KINDS, *LINEAR)
    for formats in PAIRS
    for n, c, groups in ((2, 13, 1), (9, 16, 1), (2, 12, 12))
    if groups == 1 or kind in KINDS
]


def spec_of(case: Case, cpu: CpuInfo) -> GemmSpec:
    spec = case.kernel_on(cpu)[0].spec
    assert isinstance(spec, GemmSpec)
    return spec


def specs() -> Iterator[GemmSpec]:
    for cpu in map(named, CPUS):
        yield from (spec_of(case, cpu) for case in CASES)


def asked(spec: GemmSpec) -> GemmRequest:
    """The GEMM that a spec answers."""
    return GemmRequest(**{f.name: getattr(spec, f.name) for f in fields(GemmRequest)})


def test_the_chosen_way_is_the_fastest_that_takes_a_gemm() -> None:
    used = set()
    for spec in specs():
        takers = [way for way in WAYS if way.takes(asked(spec))]
        assert spec.way in takers and max(way.peak for way in takers) == spec.way.peak
        assert spec.dot.unit in (*spec.cpu.units, Unit.INT32)
        used.add(spec.way)
    # Sums in a narrow float and in int64 of few products are asked for by other cases.
    assert {way.name for way in set(WAYS) - used} <= {
        "chunks of products, f32",
        "depthwise taps, int64",
    }


def test_names_of_ways_are_their_own() -> None:
    assert len({way.name for way in WAYS}) == len(WAYS)


def test_two_ways_of_one_peak_are_an_error() -> None:
    gemm = asked(spec_of(CASES[0], named("haswell")))
    best = choose(gemm).way
    twin = replace(best, name="the twin")
    with pytest.raises(TargetError, match=f"is taken by {best.name} and the twin"):
        choose(gemm, (*WAYS, twin))
    assert choose(gemm, (*WAYS, replace(twin, peak=best.peak + 1))).way.name == "the twin"


def test_a_gemm_that_no_way_takes_is_an_error() -> None:
    gemm = asked(spec_of(CASES[0], named("haswell")))
    with pytest.raises(TargetError, match="is taken by no kernel"):
        choose(gemm, ())
