"""Memory with a page on either side that no one may touch: a kernel that leaves its buffer dies."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np

from quatrain.targets.plan.memory import ALIGNMENT

PAGE = mmap.PAGESIZE
NOTHING = 0  # PROT_NONE
CANARY = 0xA5
LIBC = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """A copy of ``array``, flat, that ends at a forbidden page, or begins at one.

    Where its bytes are no multiple of the alignment the rest of it holds a canary.
    """

    def __init__(self, array: np.ndarray, *, at_end: bool) -> None:
        flat = np.ascontiguousarray(array).reshape(-1)
        room = max(1, -(-flat.nbytes // ALIGNMENT)) * ALIGNMENT
        pages = -(-room // PAGE)
        self._memory = mmap.mmap(-1, (pages + 2) * PAGE)
        whole = np.frombuffer(self._memory, np.uint8)
        for page in (0, pages + 1):
            if LIBC.mprotect(ctypes.c_void_p(whole.ctypes.data + page * PAGE), PAGE, NOTHING):
                raise OSError(ctypes.get_errno(), "mprotect")
        start = PAGE + (pages * PAGE - room if at_end else 0)
        self._rest = whole[start + flat.nbytes : start + room]
        self._rest[...] = CANARY
        self.array = whole[start : start + flat.nbytes].view(flat.dtype)
        self.array[...] = flat

    @property
    def whole(self) -> bool:
        """Whether the canary is as it was."""
        return bool((self._rest == CANARY).all())
