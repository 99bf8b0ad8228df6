"""What a CPU lets be seen between kernels: the numbers of a step, and those of the reference."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm")

from dataclasses import replace

from quatrain.compiler.ir import Program
from quatrain.compiler.ir.verify import read_program
from quatrain.targets.registry import BindOptions, find_target
from quatrain.targets.seen import seen
from quatrain.tools.compare.align import Ran, compare_ran
from quatrain.tools.compare.rows import Where
from quatrain.tools.compare.start import start

pytestmark = pytest.mark.tvm
# A GEMM of codes with what it fuses, a view of its memory, a loop that goes backwards.
TEXT = """
program seen
input x : f32[6x5]
state w : f32[5x5]

forward:
  # fc
  clip = constant() {value=2.0} : f32[]
  wq = quantize(w, clip) : int4*t[5x5]
  xq = quantize(x, clip) : int4*t[6x5]
  y = linear(xq, wq) : bf16[6x5]
  z = relu(y) : bf16[6x5]
  u = scale(z) {factor=0.5} : bf16[6x5]
  v = view(u) : bf16[30]
  # cell
  zeros = constant() {value=0.0} : f32[2x5]
  t = steps() {count=3, reverse=true} : i64[]
  xt = rows_of_step(x, t) : f32[2x5]
  h = carried(zeros, t) : f32[2x5]
  s = add(h, xt) : f32[2x5]
  last = feed(h, s) : f32[2x5]
  hs = all_steps(s, t) : f32[6x5]

update:
  # fc
  w' = scale(w) {factor=0.5} : f32[5x5]

return v, hs, last
next w = w'
"""


def run(name: str, program: Program, *, ends: bool = False) -> Ran:
    target = find_target(name)
    lowered = [program, *(made for _, made in target.lower(program))][-1]
    values, _ = start(lowered, {}, 0)
    target = replace(target, sees=None) if ends else target
    return Ran(name, lowered, seen(target, lowered, values, BindOptions(threads=1)))


def test_a_cpu_shows_what_its_step_computes() -> None:
    program = read_program(TEXT)
    reference, cpu, step = (
        run("reference", program),
        run("cpu", program),
        run("cpu", program, ends=True),
    )
    made = compare_ran(reference, cpu, 0.0)
    assert made.first is None
    both = {r.name for r in made.rows if r.where is Where.BOTH}
    assert both >= {"x", "w", "wq", "xq", "y", "u", "v", "s", "hs", "last", "w'"}, (
        "step 0 of a loop, too"
    )
    hidden = {r.name for r in made.rows if r.where is Where.HIDDEN}
    assert "z" in hidden, "what a kernel keeps in registers"
    by_value = {v.name: words for v, words in cpu.seen.kernels.items()}
    assert by_value["u"].endswith("(relu + scale)")

    ends = compare_ran(cpu, step, 0.0)
    assert ends.first is None and {r.name for r in ends.rows if r.where is Where.BOTH} == {
        *("x", "w", "v", "hs", "last", "w'", "output 0", "output 1", "output 2", "next w"),
    }  # fmt: skip


def test_a_wrong_buffer_is_found() -> None:
    program = read_program(TEXT)
    reference, cpu = run("reference", program), run("cpu", program)
    made = {v.name: (v, t) for v, t in cpu.seen.values.items()}
    value, tensor = made["xq"]
    wrong = replace(tensor, data=tensor.data ^ np.uint8(1))
    faulty = replace(cpu.seen, values={**cpu.seen.values, value: wrong})
    first = compare_ran(reference, replace(cpu, seen=faulty), 0.0).first
    assert first is not None and first.row.name == "xq" and "quantize" in first.b.kernel
