"""Views that cost nothing, and outputs that are inputs, state or each other: right, and apart."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm")

from quatrain.compiler import parse, verify
from quatrain.compiler.errors import NoKernelError
from quatrain.targets.cpu.info import named
from quatrain.targets.cpu.target import plan_cpu
from quatrain.targets.plan.kernel import Slot
from quatrain.targets.plan.state import aligned_bytes, state_layout
from quatrain.targets.registry import BindOptions, find_target

pytestmark = pytest.mark.tvm

# What forward makes of an input and a state, and what is returned.
CHAINS = {
    "of an input": ("a = view(x) : f32[24]|b = view(a) : f32[2x12]|y = relu(b) : f32[2x12]", "y"),
    "of state": ("a = view(s) : f32[2x3]|b = view(a) : f32[3x2]|y = relu(b) : f32[3x2]", "y"),
    "of a slice of a view": (
        "a = view(x) : f32[2x12]|b = slice(a) {dim=1, start=3, step=2} : f32[2x4]"
        "|c = view(b) : f32[8]|d = view(c) : f32[4x2]|y = relu(d) : f32[4x2]",
        "y",
    ),
    "that branch": (
        "r = relu(x) : f32[4x6]|a = view(r) : f32[24]|b = view(a) : f32[3x8]|c = view(a) : f32[8x3]"
        "|y = relu(b) : f32[3x8]|z = sum(c) {dims=[0], keepdim=false} : f32[3]",
        "y, z",
    ),
    "that are outputs": ("a = view(x) : f32[24]|b = view(a) : f32[6x4]", "b, a, x"),
    "of state that are outputs": ("a = view(s) : f32[2x3]|b = view(a) : f32[3x2]", "b, a, s"),
    "of what is an output": (
        "r = relu(x) : f32[4x6]|a = view(r) : f32[24]|b = view(a) : f32[2x12]|y = abs(b) : f32[2x12]",
        "y, r, a",
    ),
}
OUTPUTS = {
    "one value twice": ("y = relu(x) : f32[4x6]", "y, y"),
    "an input twice": ("y = relu(x) : f32[4x6]", "x, y, x"),
    "a constant and its view": (
        "c = constant() {value=2.5} : f32[4x6]|a = view(c) : f32[24]|b = view(a) : f32[6x4]",
        "c, b, c",
    ),
    "a table": ("c = table() {numbers=[1.0,2.0,3.0]} : f32[3]|y = view(c) : f32[1x3]", "y, c"),
    "turned": (
        "y = permute(x) {dims=[1,0]} : f32[6x4]|z = permute(y) {dims=[1,0]} : f32[4x6]",
        "y, z",
    ),
    "a slice of all": ("y = slice(x) {dim=0, start=0, step=1} : f32[4x6]", "y, x"),
    "in its own format": ("y = cast(x) : f32[4x6]|z = cast(s) : f32[6]", "y, z"),
}
NEXT = {
    "a view of an input": "n = slice(x) {dim=0, start=1, step=1} : f32[1x6]|m = view(n) : f32[6]",
    "a view of a view of state": "n = view(s) : f32[2x3]|k = view(n) : f32[3x2]|m = view(k) : f32[6]",
    "what a view is read of": "m = relu(s) : f32[6]|n = view(m) : f32[2x3]|k = abs(n) : f32[2x3]",
}


def program(lines: str, returned: str, after: str = "") -> str:
    """A step on an input and a state."""
    body = "".join(f"  {line}\n" for line in lines.split("|"))
    return (
        "program views\nafter\ninput x : f32[4x6]\nstate s : f32[6]\n\n"
        f"forward:\n{body}return {returned}\n{after}"
    )


def run(text: str, target: str) -> tuple[list[np.ndarray], np.ndarray]:
    """The outputs and the state of a run.

    They stay what they are when the caller writes into the input or an output, or runs again.
    """
    made = verify(parse(text))
    layout = state_layout(made)
    executable = find_target(target).bind(made, layout, BindOptions())
    old, new = (aligned_bytes(layout.bytes) for _ in range(2))
    rng = np.random.default_rng(0)
    for block in (old, new):
        layout.view(block, "s")[...] = np.arange(6) - 2.5
    x = rng.normal(size=(4, 6)).astype(np.float32)
    first = executable.run((x,), old, new)
    kept = [y.copy() for y in first]
    given, made_state = x.copy(), layout.view(new, "s").copy()
    x[...] = 7.0
    executable.run((x,), new, old)
    for y, before in zip(first, kept, strict=True):
        np.testing.assert_array_equal(y, before)
    x[...], ahead, made_again = given, new.copy(), old.copy()
    for y, before in zip(first, kept, strict=True):
        np.testing.assert_array_equal(y, before)
        y[...] = 9.0
    np.testing.assert_array_equal(x, given)
    np.testing.assert_array_equal(new, ahead)
    np.testing.assert_array_equal(old, made_again)
    return kept, made_state


def same(text: str) -> None:
    """Both targets agree to the bit."""
    (ours, state), (wanted, wanted_state) = (run(text, target) for target in ("cpu", "reference"))
    for a, b in zip(ours, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(state, wanted_state)


@pytest.mark.parametrize("chain", CHAINS)
def test_chains_of_views(chain: str) -> None:
    same(program(*CHAINS[chain]))


@pytest.mark.parametrize("kind", OUTPUTS)
def test_outputs_that_share(kind: str) -> None:
    same(program(*OUTPUTS[kind]))


@pytest.mark.parametrize("chain", NEXT)
def test_a_next_state_that_is_a_view(chain: str) -> None:
    same(program(NEXT[chain], "x, m, s, n", "next s = m\n"))


@pytest.mark.parametrize("chain", CHAINS)
def test_every_slot_has_a_place(chain: str) -> None:
    made = verify(parse(program(*CHAINS[chain])))
    plan = plan_cpu(made, state_layout(made), named("znver4"))
    slots = {slot for planned in plan.kernels for slot in planned.kernel.slots}
    assert slots | {Slot(v) for v in made.outputs} <= set(plan.places)


@pytest.mark.parametrize(
    ("shape", "op", "wanted"),
    [
        ("65536x32768", "y = relu(x) : f32[65536x32768]", r"x has shape \[65536, 32768\]"),
        (
            "3",
            "y = broadcast(x) {dims=[0]} : f32[715827883x3]",
            r"y of layer - has shape \[715827883",
        ),
    ],
)
def test_tensors_beyond_32_bits_are_refused(shape: str, op: str, wanted: str) -> None:
    text = f"program large\nafter\ninput x : f32[{shape}]\n\nforward:\n  {op}\nreturn y\n"
    made = verify(parse(text))
    with pytest.raises(NoKernelError, match=f"{wanted}.*fewer than 2\\^31.*smaller"):
        plan_cpu(made, state_layout(made), named("znver4"))
