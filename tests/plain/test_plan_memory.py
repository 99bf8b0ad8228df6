"""Memory planning: buffers that live at the same time never overlap, and memory is reused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quatrain.targets.plan.memory import ALIGNMENT, Lifetime, aligned, place

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
