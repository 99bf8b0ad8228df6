"""Threefry-2x32-20: random bits as a pure function of a key and a counter.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A number
depends on (seed, step; salt, element index) alone, so every target and every thread makes the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = np.uint32(0x1BD11BDA)
ROUNDS = 20


def threefry2x32(
    key: tuple[int, int], counter0: NDArray[Any], counter1: NDArray[Any]
) -> tuple[Words, Words]:
    """Both words for each pair of counters (uint32 arrays that broadcast); ``key`` is two words."""
    words = [np.array(k, np.uint32) for k in key]
    words.append(words[0] ^ words[1] ^ PARITY)
    a = np.asarray(counter0, np.uint32) + words[0]
    b = np.asarray(counter1, np.uint32) + words[1]
    for i in range(ROUNDS):
        a = a + b
        r = ROTATIONS[i % 8]
        b = ((b << np.uint32(r)) | (b >> np.uint32(32 - r))) ^ a
        if i % 4 == 3:
            n = i // 4 + 1
            a = a + words[n % 3]
            b = b + words[(n + 1) % 3] + np.array(n, np.uint32)
    return a, b


def uniform(seed: int, step: int, salt: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Numbers in [0, 1), multiples of 2^-24, one for each element in row-major order.

    Key: the low 32 bits of ``seed`` and ``step``; counter: ``salt`` and the element's index.
    """
    count = int(np.prod(shape, dtype=np.int64))
    index = np.arange(count, dtype=np.uint32).reshape(shape)
    low = 0xFFFFFFFF
    word, _ = threefry2x32((seed & low, step & low), np.array([salt & low], np.uint32), index)
    return (word >> np.uint32(8)).reshape(shape).astype(np.float32) * np.float32(2.0**-24)
