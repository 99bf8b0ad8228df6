"""Names: of the values that passes add (the layer's name and a part), and sets of op kinds."""

from __future__ import annotations

from zlib import crc32

from ...compiler.ir import spelled


def part(layer: str, name: str) -> str:
    """``layer.name``; a GEMM in the model's own forward has a layer name of ``""`` or ``#2``."""
    return spelled(f"{layer}.{name}" if layer[:1] not in ("", "#") else f"gemm{layer}.{name}")


def words(text: str) -> frozenset[str]:
    """The words of ``text``, as a set."""
    return frozenset(text.split())


def salt_of(name: str) -> int:
    """A salt for the random numbers of a value: the same in every compilation, by its name."""
    return crc32(name.encode())
