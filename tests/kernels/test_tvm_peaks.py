"""The kernels that measure the machine: what they compute, and the instructions they consist of."""

import numpy as np
import pytest

pytest.importorskip("tvm")

from quatrain.targets.cpu.build import compile_kernel
from quatrain.targets.cpu.info import CpuInfo, detect, named
from quatrain.targets.cpu.peaks import (
    BLOCK,
    CHAINS,
    DOTS,
    DotLoop,
    TileLoop,
    Triad,
    dot_on,
    measure_peaks,
)
from quatrain.targets.plan.kernel import Kernel, Unit

pytestmark = pytest.mark.tvm
TURNS = 7
TILES = {Unit.INT8_TILE: "tdpbusd", Unit.BF16_TILE: "tdpbf16ps"}
INSTRUCTION = {
    Unit.INT8_DOT: "vpdpbusd",
    Unit.BF16_DOT: "vdpbf16ps",
    Unit.INT16_DOT: "vpdpwssd",
    Unit.F32: "vfmadd",
}
WITHOUT_VNNI = {Unit.INT8_DOT: "vpmaddubsw", Unit.INT16_DOT: "vpmaddwd"}
BF16_ONE = 0x3F80


def cpus() -> list[CpuInfo]:
    """This machine's, and a plain one that every x86-64 of today runs."""
    return [detect(), named("x86-64-v3")]


@pytest.mark.parametrize("cpu", cpus(), ids=lambda c: c.mcpu)
@pytest.mark.parametrize("unit", INSTRUCTION, ids=lambda u: u.value)
def test_every_product_is_added(unit: Unit, cpu: CpuInfo) -> None:
    if unit not in cpu.units:
        pytest.skip(f"{cpu.mcpu} has no {unit.value}")
    loop = DotLoop(dot_on(cpu, unit), cpu.lanes, 3, TURNS)
    compiled = compile_kernel(Kernel(loop, (), (), ()), cpu)
    one = BF16_ONE if unit is Unit.BF16_DOT else 1
    arrays = compiled.copies(*(np.full(n, one, dtype) for dtype, n in loop.sizes))
    compiled.run(*arrays)
    sums = arrays[2].astype(np.float64)
    # Each lane adds one product of ones for each number of a block, in every turn.
    _, each = loop.sums
    added = sums.reshape(3, CHAINS, each) - np.arange(CHAINS)[:, None]
    assert (added == TURNS * loop.dot.block * cpu.lanes / each).all()
    assert loop.operations == 2 * added.sum()
    words = INSTRUCTION if cpu.vnni else INSTRUCTION | WITHOUT_VNNI
    assert compiled.assembly.count(words[unit]) >= CHAINS


@pytest.mark.parametrize("unit", TILES, ids=lambda u: u.value)
def test_every_product_of_tiles_is_added(unit: Unit) -> None:
    cpu = detect()
    if unit not in cpu.units:
        pytest.skip("this machine has no AMX")
    loop = TileLoop(DOTS[unit], 3, TURNS)
    compiled = compile_kernel(Kernel(loop, (), (), ()), cpu)
    one = BF16_ONE if unit is Unit.BF16_TILE else 1
    arrays = compiled.copies(*(np.full(n, one, dtype) for dtype, n in loop.sizes))
    compiled.run(*arrays)
    # A row of 64 bytes in every turn; three of four tiles are not stored.
    assert (arrays[2] == TURNS * 16 * loop.dot.block).all()
    assert loop.operations == 2 * 4 * arrays[2].astype(np.float64).sum()
    assert compiled.assembly.count(TILES[unit]) >= 4


def test_triad() -> None:
    triad = Triad(detect().lanes, 3 * BLOCK)
    compiled = compile_kernel(Kernel(triad, (), (), ()), detect())
    a, b = np.arange(3.0 * BLOCK, dtype=np.float32), np.full(3 * BLOCK, 2, np.float32)
    arrays = compiled.copies(a, b, np.zeros_like(a))
    compiled.run(*arrays)
    np.testing.assert_array_equal(arrays[2], a + 1)


def test_peaks_of_the_units_that_the_cpu_has() -> None:
    for cpu in cpus():
        found = measure_peaks(cpu, 1, repeats=1, turns=100, floats=BLOCK)
        assert set(found) == {u.value for u in cpu.units if u in DOTS} | {"memory"}
        assert all(value > 0 for value in found.values())
