"""GEMM kernels as machine code, where nvcc is there: tensor cores, no spills, enough registers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("tvm")

from quatrain.compiler.formats import BF16, F32, FP4_EVEN, INT4, UINT4
from quatrain.compiler.types import Shape, TensorType
from quatrain.targets.cuda.bundle_build import build as build_bundle
from quatrain.targets.cuda.code import Launch
from quatrain.targets.cuda.pointwise.kernel import DevicePointwise, pointwise_kernel
from quatrain.targets.plan.kernel import Unit
from quatrain.targets.plan.layout import Order

from ..cases.device_gemm import device_spec
from ..cases.gemm_case import Case
from ..cases.gemm_stats import GemmAndMoments
from ..cases.one_kernel import Group
from ..cuda.emulated import EmulatedGpu
from ..cuda.machine_code import NVCC, compiled
from ..cuda.sass import counts, kernels, loop

pytestmark = [
    pytest.mark.tvm,
    pytest.mark.skipif(NVCC is None, reason="no nvcc"),
]
REGISTERS = 65536  # of a multiprocessor
LAYER = Case("conv2d", n=128, c=64, k=64, size=(56, 56), made=BF16)
POINT = replace(LAYER, c=256, kernel=(1, 1), padding=(0, 0))
CASES = {
    "forward": (LAYER, "IMMA"),
    "pointwise": (POINT, "IMMA"),
    "large": (replace(LAYER, c=256, k=256, size=(14, 14)), "IMMA"),
    "strided_planes": (
        replace(LAYER, kind="conv2d_input_grad", formats=(FP4_EVEN, INT4), stride=(2, 2)),
        "IMMA",
    ),
    "dw_planes": (
        replace(LAYER, kind="conv2d_weight_grad", formats=(FP4_EVEN, UINT4), made=F32),
        "IMMA",
    ),
    "dw_bf16": (replace(LAYER, kind="conv2d_weight_grad", formats=(BF16, BF16)), "HMMA"),
}


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_gemms_are_products_of_tensor_cores(arch: str, tmp_path: Path) -> None:
    launches = {
        f"{name}_{i}": launch
        for name, (case, _) in CASES.items()
        for i, launch in enumerate(device_spec(case).build())
    }
    cubin, usage = compiled(launches, arch, tmp_path)
    codes = {key: counts(code) for key, code in kernels(cubin)}
    for name, (case, multiplies) in CASES.items():
        of = [key for key in launches if key.startswith(name)]
        main = max(of, key=lambda key: codes[key][multiplies])
        assert codes[main][multiplies] >= 16 and codes[main]["LDSM"] >= 4, case
        for key in of:
            assert usage[key].spilled == 0 and usage[key].shared <= 48 << 10, key
            # Two blocks on a multiprocessor hide each other's waiting.
            assert 2 * usage[key].registers * launches[key].threads <= REGISTERS, key


def test_statistics_of_results_take_no_room(tmp_path: Path) -> None:
    """Of the launch that makes both: those of its own are elsewhere."""
    kernels = GemmAndMoments.of(CASES["large"][0], EmulatedGpu())
    (joined,) = kernels.planned
    both = {"alone": kernels.gemm.spec.build()[1], "joined": joined.spec.build()[1]}
    _, usage = compiled(both, "sm_90", tmp_path)
    alone, made = usage["alone"], usage["joined"]
    assert made.spilled == made.stack == 0 and made.shared <= alone.shared
    assert made.registers <= alone.registers
    assert 2 * made.registers * both["joined"].threads <= REGISTERS


def quotients(shape: Shape) -> DevicePointwise:
    """Divisions, which are calls for compilers, of weights in one order by those in another."""
    group, type_ = Group(), TensorType(shape, F32)
    s = group.input("s", TensorType((), F32))
    w, g, h = (group.input(name, type_) for name in "wgh")
    (wide,) = group.op("broadcast", (s,), [type_], dims=(0, 1, 2, 3))
    (ratio,) = group.op("div", (w, wide), [type_])
    (other,) = group.op("div", (g, wide), [type_])
    (both,) = group.op("mul", (ratio, other), [type_])
    (alike,) = group.op("compare", (ratio, h), [type_], relation="eq")
    (made,) = group.op("mul", (alike, both), [type_])
    values = {v for op in group.ops for v in (*op.inputs, *op.results)}
    orders = {v: Order.ROWS if v is g else Order.PIXELS for v in values}
    spec = pointwise_kernel(tuple(group.ops), (ratio, both, alike, made), orders).spec
    assert isinstance(spec, DevicePointwise)
    return spec


def bundle_of_quotients() -> Launch:
    """Of seven layers."""
    shapes: tuple[Shape, ...] = (*((64, 64, 3, 3),) * 5, (64, 32, 3, 3), (64, 32, 1, 1))
    specs = [quotients(shape) for shape in shapes]
    members = [(spec, tuple(range(8 * i, 8 * i + 8))) for i, spec in enumerate(specs)]
    (launch,) = build_bundle(members)
    return launch


def test_registers_are_there_where_compilers_would_rather_spill(tmp_path: Path) -> None:
    sums = replace(LAYER, n=8, size=(8, 8), kind="conv2d_weight_grad", formats=(F32, UINT4))
    made = {f"dw_{i}": launch for i, launch in enumerate(device_spec(sums).build())}
    _, usage = compiled({**made, "bundle": bundle_of_quotients()}, "sm_90", tmp_path)
    assert all(one.spilled == one.stack == 0 for one in usage.values()), usage


NIBBLES = {
    "forward": LAYER,
    "pointwise": POINT,
    "on_the_way": replace(POINT, kind="conv2d_input_grad", formats=(INT4, INT4)),
}


def test_nibbles_are_products_of_one_instruction(tmp_path: Path) -> None:
    """Where there are such; none of them is picked apart, as it is on later GPUs."""
    launches = {
        f"{name}_{i}": launch
        for name, case in NIBBLES.items()
        for i, launch in enumerate(device_spec(case, EmulatedGpu("sm_80")).build())
    }
    cubin, usage = compiled(launches, "sm_80", tmp_path)
    codes = dict(kernels(cubin))
    for name in NIBBLES:
        main = max(
            (key for key in launches if key.startswith(name)),
            key=lambda key: counts(codes[key])["IMMA.16864"],
        )
        found = counts(codes[main])
        assert found["IMMA.16864"] >= 16 and found["LDSM"] >= 4 and not found["IMMA"], name
        assert 2 * usage[main].registers * launches[main].threads <= REGISTERS, name
    assert all(one.spilled == 0 and one.shared <= 48 << 10 for one in usage.values())
    # Next to products, copies and what is loaded there is less than an instruction a product.
    body = loop(codes["pointwise_1"])
    assert body is not None and body["other"] < body["IMMA.16864"] == 32


@pytest.mark.parametrize("arch", ["sm_86", "sm_89", "sm_90"])
def test_which_gpus_multiply_nibbles(arch: str, tmp_path: Path) -> None:
    """The unit is declared where it is one; elsewhere a product is a call that picks apart."""
    small = replace(POINT, n=1, k=16, size=(3, 3))
    _, multiplies = device_spec(small, EmulatedGpu("sm_80")).build()
    cubin, _ = compiled({"k": multiplies}, arch, tmp_path)
    assert (counts(dict(kernels(cubin))["k"])["IMMA.16864"] > 0) is (arch != "sm_90")
    unit = device_spec(small, EmulatedGpu(arch)).way.unit
    assert unit is (Unit.INT8_MMA if arch == "sm_90" else Unit.INT4_MMA)
