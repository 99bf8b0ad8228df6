"""The emulator of CUDA C: each instruction against NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ..cuda.emulate import ORDERS, Emulated, guarded, has_compiler, intact

pytestmark = pytest.mark.skipif(not has_compiler(), reason="the emulator needs g++")
SOURCE = Path(__file__).parents[1] / "cuda" / "kernels" / "instructions.cu"
# Operands of a product: its names, the bits of a number, the depth of the sum.
PRODUCTS = [(a, b, 8, 32) for a in ("u8", "s8") for b in ("u8", "s8")]
PRODUCTS += [(a, b, 4, 64) for a in ("u4", "s4") for b in ("u4", "s4")]
PRODUCTS += [("f16", "f16", 16, 16), ("bf16", "bf16", 16, 16)]
SPECIAL = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-45, 1e-8, np.inf, -np.inf, np.nan]
SPECIAL += [2.0**31, -(2.0**31), 2147483520.0, 2.0**32, 65519.0, 65520.0]
SPECIAL += [3.3895314e38, 1 + 2**-8, 1 + 3 * 2**-8]  # ties of bf16, and what it rounds to infinity


@pytest.fixture(scope="module")
def kernels() -> Emulated:
    return Emulated(SOURCE.read_text() + "".join(product_kernel(*p[:2], p[3]) for p in PRODUCTS))


def run(
    kernels: Emulated,
    name: str,
    *arrays: np.ndarray,
    threads: int = 32,
    grid: int = 1,
    shared: int = 0,
) -> list[np.ndarray]:
    """What all arrays are behind a kernel; it must be that in all orders, and nothing around them."""
    results = []
    for backwards, early in ORDERS:
        held = [guarded(array) for array in arrays]
        places = [view.ctypes.data for view, _ in held]
        kernels.launch(
            name, (grid,), (threads,), places, shared=shared, backwards=backwards, early=early
        )
        assert all(intact(*pair) for pair in held)
        results.append([view.copy() for view, _ in held])
    for other in results[1:]:
        for first, array in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(first.view(np.uint8), array.view(np.uint8))
    return results[0]


def product_kernel(a: str, b: str, depth: int) -> str:
    """A kernel that gives each lane its registers of a product."""
    sums, constraint, carrier = ("f32", "f", "float") if "f" in a else ("s32", "r", "int")
    outs = ", ".join(f'"={constraint}"(d[{i}])' for i in range(4))
    ins = [f'"r"(a[6 * threadIdx.x + {i}])' for i in range(6)]
    ins += [f'"{constraint}"(c[4 * threadIdx.x + {i}])' for i in range(4)]
    places = (range(4), range(4, 8), range(8, 10), range(10, 14))
    groups = [f"{{{', '.join(f'%{i}' for i in place)}}}" for place in places]
    return f"""
extern "C" __global__ void mma_{a}_{b}(const unsigned* a, const {carrier}* c, {carrier}* out) {{
  {carrier} d[4];
  asm volatile("mma.sync.aligned.m16n8k{depth}.row.col.{sums}.{a}.{b}.{sums} {", ".join(groups)};"
               : {outs} : {", ".join(ins)});
  for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = d[i];
}}
"""


def numbers(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Random numbers of a kind, half of them at the ends of its range, and their codes."""
    if kind == "f16":
        half = rng.normal(0, 4, shape).astype(np.float16)
        return half.astype(np.float64), half.view(np.uint16)
    if kind == "bf16":
        code = (rng.normal(0, 4, shape).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        return (code.astype(np.uint32) << 16).view(np.float32).astype(np.float64), code
    bits = int(kind[1:])
    low, high = (0, 2**bits) if kind[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    values = rng.integers(low, high, shape)
    ends = np.where(rng.random(shape) < 0.5, low, high - 1)
    values = np.where(rng.random(shape) < 0.5, ends, values)
    return values, (values & (2**bits - 1)).astype(np.uint16)


def registers(codes: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Words of (lane, register) of rows along the sum: PTX's layout of the operands of mma."""
    each = 32 // bits
    out = np.zeros((32, count), np.uint32)
    rows = codes.shape[0] // 8
    for lane, i, e in np.ndindex(32, count, each):
        row = lane // 4 + 8 * (i % rows)
        k = lane % 4 * each + e + i // rows * 4 * each
        out[lane, i] |= np.uint32(int(codes[row, k]) << (bits * e))
    return out


def spread(matrix: np.ndarray) -> np.ndarray:
    """The 16 x 8 sums as the four of each lane."""
    lane, i = np.indices((32, 4))
    return np.ascontiguousarray(matrix[lane // 4 + 8 * (i // 2), lane % 4 * 2 + i % 2])


@pytest.mark.parametrize(("a", "b", "bits", "depth"), PRODUCTS)
def test_product(kernels: Emulated, a: str, b: str, bits: int, depth: int) -> None:
    rng = np.random.default_rng(bits)
    x, x_codes = numbers(a, (16, depth), rng)
    y, y_codes = numbers(b, (8, depth), rng)
    words = np.hstack([registers(x_codes, bits, 4), registers(y_codes, bits, 2)])
    if bits == 16:
        c = rng.normal(0, 100, (16, 8)).astype(np.float32)
        out = run(kernels, f"mma_{a}_{b}", words, spread(c), np.zeros((32, 4), np.float32))[-1]
        # A tensor core sums in an order and a width of its own.
        np.testing.assert_allclose(out, spread(x @ y.T + c), rtol=1e-6, atol=1e-4)
        return
    c = rng.choice(np.array([0, 1, -5, 2**31 - 1, -(2**31)]), (16, 8))
    given = spread(c).astype(np.int32)
    out = run(kernels, f"mma_{a}_{b}", words, given, np.zeros_like(given))[-1]
    np.testing.assert_array_equal(out, spread(x @ y.T + c).astype(np.int32))


def matrix_parts(rows: np.ndarray, count: int, transposed: bool) -> np.ndarray:
    """The registers that `ldmatrix` makes of 32 rows of eight numbers, zeros where it makes none."""
    out = np.zeros((32, 4), np.uint32)
    for i in range(count):
        matrix = rows[8 * i : 8 * i + 8]
        matrix = matrix.T if transposed else matrix
        out[:, i] = np.ascontiguousarray(matrix).view(np.uint32).reshape(32)
    return out


@pytest.mark.parametrize("form", ["x1", "x2", "x4", "x2_trans", "x4_trans"])
def test_load_matrices(kernels: Emulated, form: str) -> None:
    rows = np.random.default_rng(0).integers(0, 2**16, (32, 8)).astype(np.uint16)
    out = run(kernels, f"ldmatrix_{form}", rows, np.zeros((32, 4), np.uint32))[-1]
    np.testing.assert_array_equal(out, matrix_parts(rows, int(form[1]), "trans" in form))


@pytest.mark.parametrize("form", ["x4", "x4_trans"])
def test_store_matrices(kernels: Emulated, form: str) -> None:
    rows = np.random.default_rng(1).integers(0, 2**16, (32, 8)).astype(np.uint16)
    parts = matrix_parts(rows, 4, "trans" in form)
    out = run(kernels, f"stmatrix_{form}", parts, np.zeros((32, 8), np.uint16))[-1]
    np.testing.assert_array_equal(out, rows)


def test_copies(kernels: Emulated) -> None:
    data = np.random.default_rng(2).integers(1, 256, (32, 64)).astype(np.uint8)
    want = data.copy()
    for lane in range(32):
        want[lane, 4 + lane % 5 : 8] = 0
        want[lane, 32 + lane % 17 : 48] = 0
        want[lane, 48:] *= lane % 2
    out = run(kernels, "copies", data, np.zeros_like(data), shared=data.nbytes)[-1]
    np.testing.assert_array_equal(out, want)


def test_accesses(kernels: Emulated) -> None:
    x = np.random.default_rng(8).integers(0, 9, (32, 4)).astype(np.uint32)
    _, out, floats = run(kernels, "accesses", x, np.zeros_like(x), np.zeros(32, np.float32))
    flat = x.reshape(-1)[:32]
    np.testing.assert_array_equal(out.T, [x[:, 1], x[:, 0], flat, np.maximum(flat, 3)])
    np.testing.assert_array_equal(floats.view(np.uint32), x[:, 3])


def permuted(a: int, b: int, selector: int, *, signs: bool) -> int:
    source = (b << 32 | a).to_bytes(8, "little")
    out = 0
    for i in range(4):
        nibble = selector >> 4 * i & 15
        byte = source[nibble & 7]
        out |= (255 * (byte >> 7) if signs and nibble & 8 else byte) << 8 * i
    return out


def test_bit_operations(kernels: Emulated) -> None:
    a, b, c = np.random.default_rng(3).integers(0, 2**32, (3, 32)).astype(np.uint32)
    a[:4], c[4] = (0, 1, 2**31, 2**32 - 1), 0
    out = run(kernels, "bit_operations", a, b, c, np.zeros((10, 32), np.uint32))[-1]
    triples = [(int(x), int(y), int(z)) for x, y, z in zip(a, b, c, strict=True)]
    want = [
        [permuted(*t, signs=True) for t in triples],
        [permuted(*t, signs=False) for t in triples],
        (a & b) | c,  # 0xEA
        [sum(1 << i for i in range(32) if 0x1B >> (4 * (x >> i & 1) + 2 * (y >> i & 1) + (z >> i & 1)) & 1)
         for x, y, z in triples],
        [x.bit_count() for x, _, _ in triples],
        [(v & -v).bit_length() for v in (x & y & z for x, y, z in triples)],
        [32 - x.bit_length() for x, _, _ in triples],
        [int(f"{x:032b}"[::-1], 2) for x, _, _ in triples],
        [x * y >> 32 for x, y, _ in triples],
        [(y << 32 | x) >> (z & 31) & 0xFFFFFFFF for x, y, z in triples],
    ]  # fmt: skip
    np.testing.assert_array_equal(out, np.array(want, np.uint32))


def test_dots(kernels: Emulated) -> None:
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 2**32, (2, 32)).astype(np.uint32)
    a[0], b[0] = 0x80808080, 0x80808080
    c = rng.choice(np.array([0, -7, 2**31 - 1], np.int32), 32)
    out = run(kernels, "dots", a, b, c, np.zeros((5, 32), np.int32))[-1]
    kinds = [(np.int8, np.int8), (np.int8, np.uint8), (np.uint8, np.int8), (np.uint8, np.uint8)]
    for row, (ka, kb) in zip(out, [*kinds, kinds[0]], strict=True):
        bytes_of = [w.view(k).reshape(32, 4).astype(np.int64) for w, k in ((a, ka), (b, kb))]
        want = (bytes_of[0] * bytes_of[1]).sum(1) + c
        np.testing.assert_array_equal(row, want.astype(np.int32))


def test_shuffles(kernels: Emulated) -> None:
    rng = np.random.default_rng(5)
    x, y, lane = rng.integers(-99, 99, 32).astype(np.int32), rng.normal(size=32), np.arange(32)
    _, _, out, wide = run(kernels, "shuffles", x, y, np.zeros((8, 32), np.int32), np.zeros(32))
    ballot = sum(1 << int(i) for i in lane if x[i] > 0)
    within = lane + 3 < (lane | 7) + 1
    halves = np.where(lane < 16, x[lane ^ 1] + (ballot & 0xFFFF), x[lane ^ 2])
    want = [
        x[lane ^ 5],
        x[np.where(lane + 3 < 32, lane + 3, lane) % 32],
        x[np.full(32, 7)],
        x[np.where(lane >= 2, lane - 2, lane)],
        x[lane ^ 1],
        x[np.where(within, lane + 3, lane) % 32],
        np.full(32, ballot, np.int64).astype(np.int32),
        halves,
    ]
    np.testing.assert_array_equal(out, np.array(want, np.int32))
    np.testing.assert_array_equal(wide, y[lane ^ 16])


def test_warp_instructions(kernels: Emulated) -> None:
    x = np.random.default_rng(9).integers(-99, 99, 32).astype(np.int32)
    words = x.view(np.uint32)
    _, out, want = run(kernels, "warp_instructions", x, *np.zeros((2, 10, 32), np.int32))
    np.testing.assert_array_equal(out[:6], want[:6])
    whole = [x.sum(), x.min(), words.max().view(np.int32), np.bitwise_xor.reduce(x)]
    np.testing.assert_array_equal(out[6:], np.broadcast_to(np.array(whole)[:, None], (4, 32)))


def test_atomics(kernels: Emulated) -> None:
    x = np.random.default_rng(6).integers(-1000, 1000, 256).astype(np.int32)
    start = np.array([0, 0, -(2**31), 2**31 - 1], np.int32)
    words, single, double = np.zeros(3, np.uint32), np.zeros(1, np.float32), np.zeros(1)
    _, i, u, f, d = run(kernels, "atomics", x, start, words, single, double, threads=64, grid=4)
    assert i.tolist() == [x.sum(), x.sum(), x.max(), x.min()]
    assert u.tolist() == [int(x.sum()) % 2**32] * 2 + [int(np.bitwise_or.reduce(x)) % 2**32]
    assert (f[0], d[0]) == (x.sum(), x.sum())


def bf16(x: np.ndarray) -> np.ndarray:
    u = x.view(np.uint32).astype(np.uint64)
    return np.where(np.isnan(x), 0x7FFF, (u + 0x7FFF + (u >> 16 & 1)) >> 16).astype(np.uint32)


def f16(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.where(np.isnan(x), 0x7FFF, x.astype(np.float16).view(np.uint16)).astype(np.uint32)


def to_int(x: np.ndarray, low: int, high: int, nan: int = 0) -> np.ndarray:
    near = np.clip(np.nan_to_num(x, nan=0.0), low, high)
    return np.where(np.isnan(x), nan, near).astype(np.int64)


def test_conversions(kernels: Emulated) -> None:
    x = np.zeros(32, np.float32)
    x[: len(SPECIAL)] = SPECIAL
    y = x.astype(np.float64)
    ints, words = np.zeros((5, 32), np.int32), np.zeros((2, 32), np.uint32)
    floats = np.zeros((3, 32), np.float32)
    _, _, i, u, packed, back = run(kernels, "conversions", x, y, ints, words[0], words, floats)
    ends = (-(2**31), 2**31 - 1)
    for row, rounded in zip(i[:4], (np.rint, np.trunc, np.floor, np.ceil), strict=True):
        np.testing.assert_array_equal(row, to_int(rounded(y), *ends))
    np.testing.assert_array_equal(i[4], to_int(np.rint(y), *ends, nan=-(2**31)))
    np.testing.assert_array_equal(u, to_int(np.rint(y), 0, 2**32 - 1).astype(np.uint32))
    other = x[np.arange(32) ^ 1]
    np.testing.assert_array_equal(packed[0], bf16(x) << 16 | bf16(other))
    np.testing.assert_array_equal(packed[1], f16(x) << 16 | f16(other))
    np.testing.assert_array_equal(back[0].view(np.uint32), x.view(np.uint32) ^ np.uint32(2**31))
    np.testing.assert_array_equal(back[1], np.fmax(x, other))
    np.testing.assert_array_equal(back[2], np.fmin(x, other))
    assert not np.signbit(back[1][:2]).any() and np.signbit(back[2][:2]).all(), "+0 is above -0"


def test_narrow_floats_round_after_each_operation(kernels: Emulated) -> None:
    x = np.random.default_rng(7).normal(0, 3, 32).astype(np.float16)
    code = bf16(x.astype(np.float32)).astype(np.uint16)
    made = run(kernels, "narrow_floats", x, code, np.zeros_like(x), np.zeros_like(code))
    np.testing.assert_array_equal(made[2], (x * x).astype(np.float16) + x)
    y = (code.astype(np.uint32) << 16).view(np.float32)
    square = (bf16(y * y) << 16).view(np.float32)
    np.testing.assert_array_equal(made[3], bf16(square + y))


def test_wide_vectors(kernels: Emulated) -> None:
    x, y = np.arange(64, dtype=np.float64), np.arange(64, dtype=np.int64) << 33
    made = run(kernels, "wide_vectors", x, y, np.zeros_like(x), np.zeros_like(y))
    np.testing.assert_array_equal(made[2][::2], x[1::2])
    np.testing.assert_array_equal(made[2][1::2], x[::2] + 1)
    np.testing.assert_array_equal(made[3][::2], y[1::2] * 3)
    np.testing.assert_array_equal(made[3][1::2], y[::2])


def test_functions_and_tables_of_the_source(kernels: Emulated) -> None:
    x = np.arange(32, dtype=np.int32)
    _, y, z = run(kernels, "functions", x, np.zeros(32, np.int32), np.zeros(32, np.float32))
    np.testing.assert_array_equal(y, np.array([3, 1, 4, 1], np.int32)[x & 3] * x)
    np.testing.assert_array_equal(z, np.where(x % 2, 1.5, 0.5))


def test_indices_of_blocks_and_threads(kernels: Emulated) -> None:
    out, _ = guarded(np.zeros((8, 30), np.int32))
    for backwards, early in ORDERS:
        out[...] = -1
        place = [out.ctypes.data]
        kernels.launch("indices", (2, 2, 2), (3, 2, 5), place, backwards=backwards, early=early)
        np.testing.assert_array_equal(out, 1000 * np.arange(8)[:, None] + np.arange(30))
