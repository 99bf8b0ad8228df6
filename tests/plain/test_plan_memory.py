"""Memory planning: buffers that live at the same time never overlap, and memory is reused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quatrain.compiler.ir.verify import read_program
from quatrain.targets.plan.memory import ALIGNMENT, Lifetime, aligned, place

from ..cases.plan_in_numpy import planned

BUFFERS = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 30), st.integers(0, 10)).map(
        lambda t: Lifetime(t[0], t[1], t[1] + t[2])
    ),
    max_size=40,
)


@given(BUFFERS)
def test_living_buffers_do_not_overlap(buffers: list[Lifetime]) -> None:
    offsets, size = place(buffers)
    for i, a in enumerate(buffers):
        assert offsets[i] % ALIGNMENT == 0
        assert offsets[i] + a.bytes <= size
        for j, b in enumerate(buffers[:i]):
            together = a.first <= b.last and b.first <= a.last
            apart = (
                offsets[i] + a.bytes <= offsets[j]
                or offsets[j] + b.bytes <= offsets[i]
                or not a.bytes
                or not b.bytes
            )
            assert apart or not together


def test_memory_of_a_dead_buffer_is_used_again() -> None:
    chain = [Lifetime(1000, i, i + 1) for i in range(10)]
    assert place(chain)[1] == 2 * aligned(1000)


VIEWS = """
program p
input x : f32[4x6]

forward:
  y = abs(x) : f32[4x6]
  flat = view(y) : f32[24]
  loss = sum(y) {dims=[0,1], keepdim=false} : f32[]

backward:
  a = sign(flat) : f32[24]
  b = view(a) : f32[4x6]
  c = abs(b) : f32[4x6]

return loss, c
"""


def test_what_is_kept_for_backward_is_made_ahead_of_it() -> None:
    """A view shares the memory of what it views, and is as old."""
    (kept,) = planned(read_program(VIEWS)).saved()
    assert kept[0].value.name in ("y", "flat") and kept[1].bytes == 4 * 24
