"""GEMM kernels as machine code, where nvcc is there: tensor cores, no spills, enough registers."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("tvm")

from quatrain.compiler.formats import BF16, F32, FP4_EVEN, INT4, UINT4

from ..cases.device_gemm import device_spec
from ..cases.gemm_case import Case
from ..cuda.machine_code import NVCC, compiled

pytestmark = [
    pytest.mark.tvm,
    pytest.mark.skipif(NVCC is None, reason="no nvcc"),
]
# The lower 12 bits of an instruction.
CODES = {0x237: "IMMA", 0x23C: "HMMA", 0x83B: "LDSM", 0xFAE: "LDGSTS"}
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
    codes = dict(_instructions(cubin))
    for name, (case, multiplies) in CASES.items():
        of = [key for key in launches if key.startswith(name)]
        main = max(of, key=lambda key: codes[key][multiplies])
        assert codes[main][multiplies] >= 16 and codes[main]["LDSM"] >= 4, case
        for key in of:
            assert usage[key].spilled == 0 and usage[key].shared <= 48 << 10, key
            # Two blocks on a multiprocessor hide each other's waiting.
            assert 2 * usage[key].registers * launches[key].threads <= REGISTERS, key


def _instructions(cubin: bytes) -> list[tuple[str, Counter[str]]]:
    """How often each of ``CODES`` is in the kernels of an ELF file, 16 bytes an instruction."""
    (start,) = struct.unpack_from("<Q", cubin, 0x28)
    count, names = struct.unpack_from("<HH", cubin, 0x3C)
    headers = [struct.unpack_from("<IIQQQQ", cubin, start + 64 * i) for i in range(count)]
    made = []
    for name, _, _, _, offset, size in headers:
        first = headers[names][4] + name
        text = cubin[first : cubin.index(b"\0", first)].decode()
        if text.startswith(".text."):
            words = (struct.unpack_from("<H", cubin, offset + at)[0] for at in range(0, size, 16))
            found = Counter(CODES.get(word & 0xFFF, "other") for word in words)
            made.append((text.removeprefix(".text."), found))
    return made
