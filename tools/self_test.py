"""A tiny 4-bit step on targets, compared bit for bit with the reference: doctor's self-test.

``python -m quatrain.tools.self_test`` prints one line; a process of its own, so that code for a CPU
that this machine is not ends there and not in the doctor.
"""

from __future__ import annotations

import sys

import numpy as np

from ..compiler.errors import QuatrainError
from ..compiler.ir.text import parse
from ..compiler.ir.verify import verify
from ..targets.plan.state import aligned_bytes, state_layout
from ..targets.registry import BindOptions, find_target

PROGRAM = """
program self_test
input x : f32[3x13]
input w : f32[7x13]
state alpha : f32[] = 2.0

forward:
  # fc
  clip = sawb_clip(w) {c1=12.68, c2=12.8} : f32[]
  wq = quantize(w, clip) : int4*t[7x13]
  xq = quantize(x, alpha) : uint4*t[3x13]
  y = linear(xq, wq) : f32[3x7]

return y
"""


def self_test(target: str) -> str:
    """Build, run and compare; returns what happened, raises QuatrainError where it fails."""
    program = verify(parse(PROGRAM))
    layout = state_layout(program)
    generator = np.random.default_rng(0)
    inputs = [_aligned(generator.standard_normal(v.type.shape)) for v in program.inputs]
    made = []
    for name in (target, "reference"):
        bound = find_target(name)
        memory = bound.memory(BindOptions())
        old, new = (memory.block(layout.bytes) for _ in range(2))
        alpha = np.float32(program.initial["alpha"]).reshape(1)
        memory.write(old, layout.offsets["alpha"], alpha.view(np.uint8))
        executable = bound.bind(program, layout, BindOptions(), memory)
        (result,) = executable.run(inputs, old, new)
        made.append(np.array(result, np.float32).reshape(-1))
    if not np.array_equal(made[0], made[1]):
        raise QuatrainError(f"{target} computed {made[0][:3]} where {made[1][:3]} is right")
    return f"a 4-bit layer built for {target} equals the reference in all {made[0].size} numbers"


def _aligned(array: np.ndarray) -> np.ndarray:
    block = aligned_bytes(array.size * 4).view(np.float32).reshape(array.shape)
    block[...] = array
    return block


def main() -> int:
    """Test the targets that are named, or cpu; status 1 where one fails."""
    try:
        sys.stdout.write("; ".join(map(self_test, sys.argv[1:] or ["cpu"])) + "\n")
    except (QuatrainError, ImportError, OSError) as error:
        sys.stdout.write(f"{type(error).__name__}: {error}".splitlines()[0] + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
