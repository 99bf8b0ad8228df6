"""The ``cuda`` target on the stand-in: its driver, and the emulator for a compiler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from quatrain.targets.cuda import ahead, compiler, step_memory
from quatrain.targets.cuda.driver import Driver

from .standin import image, standin


class EmulatorCompiler:
    """See ``Compiler``: its machine code is for the emulator."""

    version = (12, 0)
    name = "emulator"

    def compile(self, source: str, arch: str) -> bytes:
        """See ``Compiler``."""
        return image(source, int(arch.removeprefix("sm_")))


def find_compiler(newest: int | None = None) -> compiler.Compiler:
    """See ``compiler.find_compiler``."""
    return EmulatorCompiler()


@contextmanager
def device(**settings: int) -> Iterator[Driver]:
    """A GPU of capability 9.0, or as ``standin`` is asked for."""
    with pytest.MonkeyPatch.context() as patch, standin(**{"capability": 90, **settings}) as driver:
        for module in (step_memory, ahead):
            patch.setattr(module, "find_compiler", find_compiler)
        yield driver
