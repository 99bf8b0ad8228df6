"""Arrays as safetensors: a line of JSON with names, types and places, and the numbers behind it.

Written here, so that a built step needs NumPy alone; the package of that name reads and writes the
same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod

import numpy as np

DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint16": "U16",
    "uint8": "U8",
}
NAMES = {word: name for name, word in DTYPES.items()}
NOTES = "__metadata__"
PREFIX = 8  # bytes that say how long the line is; it is filled up to a multiple of them


def write(arrays: Mapping[str, np.ndarray], notes: Mapping[str, str]) -> bytes:
    """The contents of a file, with ``notes`` beside the arrays."""
    # The widest first, so that each lies at a multiple of its width.
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    facts: dict[str, object] = {NOTES: dict(sorted(notes.items()))}
    parts, end = [], 0
    for name in order:
        array = np.ascontiguousarray(arrays[name])
        start, end = end, end + array.nbytes
        facts[name] = {
            "dtype": DTYPES[array.dtype.name],
            "shape": list(arrays[name].shape),
            "data_offsets": [start, end],
        }
        parts.append(array.tobytes())
    line = json.dumps(facts, separators=(",", ":")).encode()
    line += b" " * (-len(line) % PREFIX)
    return b"".join([len(line).to_bytes(PREFIX, "little"), line, *parts])


def read(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and notes; ValueError, KeyError or TypeError for anything but a whole file."""
    start = PREFIX + int.from_bytes(data[:PREFIX], "little")
    facts = json.loads(data[PREFIX:start])
    notes = {str(k): str(v) for k, v in facts.pop(NOTES, {}).items()}
    found = {}
    for name, fact in facts.items():
        shape, (first, end) = tuple(map(int, fact["shape"])), fact["data_offsets"]
        dtype = np.dtype(NAMES[fact["dtype"]])
        if (
            not 0 <= first <= end <= len(data) - start
            or end - first != prod(shape) * dtype.itemsize
        ):
            raise ValueError(f"{name} lies behind the end")
        raw = data[start + first : start + end]
        found[name] = np.frombuffer(raw, dtype).reshape(shape)
    return found, notes
