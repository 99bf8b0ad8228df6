"""Threefry-2x32-20 against the known answers that its authors published with Random123."""

import numpy as np
import pytest

from quatrain.targets.numbers.threefry import threefry2x32, uniform

ONES = 0xFFFFFFFF
KNOWN = [
    # counter, key, words
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((ONES, ONES), (ONES, ONES), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(
    counter: tuple[int, int], key: tuple[int, int], words: tuple[int, int]
) -> None:
    a, b = threefry2x32(key, *(np.array([c], np.uint32) for c in counter))
    assert (int(a[0]), int(b[0])) == words


def test_uniform_uses_the_first_word_of_each_index() -> None:
    u = uniform(seed=-1, step=(7 << 32) + 3, salt=5, shape=(3, 7))
    index = np.arange(21, dtype=np.uint32)
    word, _ = threefry2x32((ONES, 3), np.array([5], np.uint32), index)
    np.testing.assert_array_equal(u.ravel(), (word >> 8) / 2.0**24)
    assert u.dtype == np.float32 and u.min() >= 0 and u.max() < 1


def test_numbers_depend_on_each_of_the_four_and_on_nothing_else() -> None:
    same = uniform(1, 2, 3, (33,))
    np.testing.assert_array_equal(uniform(1, 2, 3, (3, 11)).ravel(), same)
    for other in (uniform(0, 2, 3, (33,)), uniform(1, 0, 3, (33,)), uniform(1, 2, 0, (33,))):
        assert not np.any(other == same)
    assert uniform(1, 2, 3, ()).shape == ()


def test_uniform_is_uniform() -> None:
    u = uniform(0, 0, 0, (1 << 16,)).astype(np.float64)
    # Six standard deviations of the mean of n numbers, 1 / sqrt(12 n).
    assert abs(u.mean() - 0.5) < 6 / np.sqrt(12 * u.size)
    counts, _ = np.histogram(u, 16, (0, 1))
    assert np.all(np.abs(counts - u.size / 16) < 6 * np.sqrt(u.size / 16))
