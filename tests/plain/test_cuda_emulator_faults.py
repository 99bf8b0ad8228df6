"""The emulator of CUDA C: faults that a kernel may have, each found by running all orders."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest

from ..cuda.emulate import ORDERS, Emulated, emulated, guarded, has_compiler, intact

pytestmark = pytest.mark.skipif(not has_compiler(), reason="the emulator needs g++")
SOURCE = Path(__file__).parents[1] / "cuda" / "kernels" / "faults.cu"
NUMBERS = np.arange(1, 65, dtype=np.int32)
NEXT = np.roll(NUMBERS, -1)


@pytest.fixture(scope="module")
def kernels() -> Emulated:
    return Emulated(SOURCE.read_text())


def outcomes(kernels: Emulated, name: str, want: np.ndarray) -> list[bool]:
    """Whether the result is right, in each order."""
    out = []
    for backwards, early in ORDERS:
        (given, _), (made, whole) = guarded(NUMBERS), guarded(np.zeros(64, np.int32))
        places = [given.ctypes.data, made.ctypes.data]
        kernels.launch(name, (1,), (64,), places, backwards=backwards, early=early)
        out.append(np.array_equal(made, want) and intact(made, whole))
    return out


def test_a_sound_kernel(kernels: Emulated) -> None:
    assert outcomes(kernels, "both_barriers", NEXT) == [True] * 4


@pytest.mark.parametrize("which", ["no_barrier_behind_write", "no_barrier_behind_read"])
def test_a_missing_barrier_shows_in_one_direction(kernels: Emulated, which: str) -> None:
    right = outcomes(kernels, which, NEXT)
    assert not all(right) and right[0] == right[1] and right[2] == right[3]


def test_a_copy_that_is_not_awaited_shows_where_it_is_late(kernels: Emulated) -> None:
    assert outcomes(kernels, "copy_not_awaited", NUMBERS) == [False, True, False, True]


def test_a_place_that_is_read_ahead_of_the_wait_shows_where_it_is_early(kernels: Emulated) -> None:
    assert outcomes(kernels, "copy_too_early", NUMBERS) == [True, False, True, False]


def test_an_order_of_blocks_shows(kernels: Emulated) -> None:
    made = []
    for backwards in (False, True):
        out = np.zeros((3, 64), np.int32)
        places = [NUMBERS.ctypes.data, out.ctypes.data]
        kernels.launch("order_of_blocks", (3,), (64,), places, backwards=backwards)
        made.append(out)
    assert not np.array_equal(made[0], made[1])


ERRORS = {
    "barrier_in_a_branch": "a barrier that not all threads of the block reach",
    "two_barriers": r"different barriers, of lines \d+ and \d+",
    "returned_early": "a barrier that not all threads of the block reach",
    "misaligned_copy": "no multiple of its size",
    "copy_of_eight_past_the_cache": "a size that is none",
    "misaligned_matrix": "not aligned to 16 bytes",
    "matrix_without_alignment": "not aligned to 16 bytes",
    "matrix_outside": "outside of the block's shared arrays",
    "misaligned_vector": "not aligned to 8 bytes",
    "misaligned_int4": "an access that is not aligned to its size",
    "misaligned_store": "an access that is not aligned to its size",
    "trapped": "a trap",
    "two_loads": "at different instructions",
    "two_products": "at different instructions",
    "lanes_apart": "a thread returned while others of its warp wait|at different instructions",
    "two_instructions": "at different instructions",
    "foreign_mask": "not in the mask of its own instruction",
    "past_a_shared_array": "a write outside of the shared arrays",
    "ahead_of_a_shared_array": "a write outside of the shared arrays, 4 bytes ahead of one of 256",
    "nowhere": "an access to 0x[0-9a-f]+, which is no memory",
    "not_shared": "a pointer that is none to shared memory",
    "for_one_warp": "more threads than the kernel's launch bounds allow",
    "too_much_shared": "more than 48 KiB of static shared memory",
}

if platform.machine() == "x86_64":  # others give what a GPU does not
    ERRORS["divided_by_zero"] = "an integer division by zero"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ERRORS)
def test_error(kernels: Emulated, name: str, order: tuple[bool, bool]) -> None:
    out, given = np.zeros(64, np.int32), NUMBERS.copy()
    places = [given.ctypes.data, out.ctypes.data]
    with pytest.raises(RuntimeError, match=f"{name}: .*({ERRORS[name]})"):
        kernels.launch(name, (2,), (64,), places, backwards=order[0], early=order[1])


def test_an_error_says_where(kernels: Emulated) -> None:
    places = [NUMBERS.ctypes.data, np.zeros(64, np.int32).ctypes.data]
    with pytest.raises(RuntimeError, match=r"nowhere: .* \(block 0,0,0 thread 0,0,0\)"):
        kernels.launch("nowhere", (1,), (64,), places)
    with pytest.raises(RuntimeError, match=r"nowhere: .* \(block 6,0,0 thread 63,0,0\)"):
        kernels.launch("nowhere", (7,), (64,), places, backwards=True)


def test_the_next_launch_is_whole_again(kernels: Emulated) -> None:
    places = [NUMBERS.ctypes.data, np.zeros(64, np.int32).ctypes.data]
    for name in ("barrier_in_a_branch", "two_instructions", "nowhere", "past_a_shared_array"):
        with pytest.raises(RuntimeError):
            kernels.launch(name, (1,), (64,), places)
        assert all(outcomes(kernels, "both_barriers", NEXT))


def test_a_write_around_an_array_shows(kernels: Emulated) -> None:
    made, whole = guarded(np.zeros(64, np.int32))
    kernels.launch("past_the_result", (1,), (64,), [NUMBERS.ctypes.data, made.ctypes.data])
    assert not intact(made, whole)


def test_the_size_of_the_dynamic_array(kernels: Emulated) -> None:
    out = np.zeros(64, np.int32)
    places = [NUMBERS.ctypes.data, out.ctypes.data]
    kernels.launch("past_the_dynamic_array", (1,), (64,), places, shared=256)
    np.testing.assert_array_equal(out, NUMBERS)
    with pytest.raises(RuntimeError, match="behind the last of them, which has 252 bytes"):
        kernels.launch("past_the_dynamic_array", (1,), (64,), places, shared=252)
    with pytest.raises(RuntimeError, match="more shared memory than a block has"):
        kernels.launch("past_the_dynamic_array", (1,), (64,), places, shared=228 << 10)


def test_what_nobody_wrote_is_no_zero(kernels: Emulated) -> None:
    out = np.zeros(64, np.int32)
    kernels.launch("not_written", (1,), (64,), [NUMBERS.ctypes.data, out.ctypes.data])
    assert out.all()


@pytest.mark.parametrize(
    ("grid", "block", "why"),
    [
        ((1,), (0,), "a launch without threads"),
        ((0,), (64,), "a launch without threads"),
        ((1,), (33, 32), "more than 1024 threads"),
        ((1, 65536), (1,), "a grid that is too large"),
        ((1,), (31,), "lanes that it has not"),
    ],
)
def test_a_launch_that_cannot_be(
    kernels: Emulated, grid: tuple[int, ...], block: tuple[int, ...], why: str
) -> None:
    places = [NUMBERS.ctypes.data, np.zeros(64, np.int32).ctypes.data]
    with pytest.raises(RuntimeError, match=why):
        kernels.launch("two_instructions", grid, block, places)


def test_the_number_of_pointers(kernels: Emulated) -> None:
    with pytest.raises(ValueError, match="both_barriers takes 2 pointers, not 1"):
        kernels.launch("both_barriers", (1,), (64,), [NUMBERS.ctypes.data])


def test_what_the_emulator_does_not_know_is_an_error() -> None:
    kernel = 'extern "C" __global__ void k(int* p) {{ asm volatile("{}" : "=r"(*p) : "r"(*p)); }}'
    with pytest.raises(ValueError, match="unheard_of"):
        Emulated(kernel.format("unheard.of %0, %1;"))
    with pytest.raises(ValueError, match="a register of type b8"):
        emulated(kernel.format("{ .reg .b8 x; mov.b8 x, %1; }"))
