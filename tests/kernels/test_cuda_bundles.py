"""Bundles: which kernels share a launch, and that each does there what it does alone."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("tvm")

from quatrain.compiler import parse, verify
from quatrain.compiler.ir import Program
from quatrain.targets.cuda.bundle import MOST_KERNELS, MOST_POINTERS, KernelBundle
from quatrain.targets.cuda.target import plan_cuda
from quatrain.targets.plan.plan import Plan
from quatrain.targets.plan.state import state_layout

from ..cases.one_kernel import random_inputs
from ..cuda.emulated import EmulatedGpu
from ..exactness import compare_on

pytestmark = pytest.mark.tvm
CONV = "{stride=[1,1], padding=[0,0], dilation=[1,1], groups=1}"


def program(text: str) -> Program:
    """A program of some lines."""
    return verify(parse(f"program p\n{text}\n"))


def planned(made: Program) -> Plan:
    """Its plan, after checking that every op has one kernel, behind those whose results it reads."""
    plan = plan_cuda(made, state_layout(made), "sm_90")
    kernels = [p.kernel for p in plan.kernels]
    covered = Counter(id(op) for kernel in kernels for op in kernel.ops)
    views = [op for _, op in made.ops() if op.kind == "view"]
    wanted = {id(op) for _, op in made.ops() if op not in views}
    assert {*covered} - {*map(id, views)} == wanted and {*covered.values()} == {1}
    ready = {*made.inputs, *made.state}
    for kernel in kernels:
        for slot in kernel.inputs:
            source = next((op.inputs[0] for op in views if slot.value in op.results), slot.value)
            assert {slot.value, source} & ready, f"{kernel.spec.name} runs too early"
        ready |= {slot.value for slot in kernel.outputs}
    return plan


def bundles(plan: Plan) -> list[list[str]]:
    """The kinds of the members of each."""
    return [
        sorted(m.name for m in p.kernel.spec.members)
        for p in plan.kernels
        if isinstance(p.kernel.spec, KernelBundle)
    ]


def differences(made: Program, seed: int = 0) -> list[str]:
    """Where the kernels of its plan differ from the reference, in four orders of threads."""
    given = random_inputs([*made.inputs, *made.state], seed)
    return [str(m) for m in compare_on(EmulatedGpu(), made, given)]


MIXED = """\
input x : f32[5x7x3x3]
input index : i64[13]
input g : f32[13x27]
state a : f32[33x3x3x3]
state b : f32[28x13x1x1]
state n : i32[]
state m : i32[]

forward:
  clips = sawb_clip(a) {c1=12.1, c2=12.2} : f32[33]
  wide = sawb_clip(b) {c1=12.1, c2=12.2} : f32[28]
  clip = sawb_clip(b) {c1=12.1, c2=12.2} : f32[]
  low, high = extremes(x) : f32[], f32[]
  below, above = extremes(a) : f32[33], f32[33]
  s = sum_channels(x) : f32[7]
  doubled = add(b, b) : f32[28x13x1x1]
  largest = amax(a) : f32[]
  n1 = increment(n) : i32[]
  dw = embedding_grad(g, index) {padding_index=-1} : f32[9x27]
  qa = quantize(a, clips) : int4*c[33x3x3x3]
  qb = quantize(b, clip) : int4*t[28x13x1x1]
  m1 = tally(m, x, a, x) : i32[]

next n = n1
next m = m1
return low, high, below, above, s, doubled, largest, dw, qa, qb, wide"""


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("seed", range(2))
def test_members_of_all_kinds_do_what_they_do_alone(seed: int) -> None:
    # Blocks of 1, 16, 32, 64 and 256 threads; one launch and two; barriers and shared arrays in
    # some; the same operand twice.
    made = program(MIXED)
    first, second = bundles(planned(made))
    assert len(first) == 11 and len(second) == 2
    assert differences(made, seed) == []


def sgds(count: int, own: bool) -> str:
    """Updates of parameters, each with a learning rate of its own, or with the same."""
    rate = [f"lr{i}" if own else "lr0" for i in range(count)]
    names = ("momentum", "dampening", "decay", *dict.fromkeys(rate))
    lines = [f"state {name} : f32[]" for name in names]
    lines += ["state step : i64[]"]
    lines += [f"state {x}{i} : f32[3]" for i in range(count) for x in "wm"]
    lines += [f"input g{i} : f32[3]" for i in range(count)]
    lines += ["", "update:"]
    lines += [
        f"  v{i}, k{i} = sgd(w{i}, g{i}, m{i}, step, {rate[i]}, momentum, dampening, decay)"
        " {nesterov=false, maximize=false} : f32[3], f32[3]"
        for i in range(count)
    ]
    lines += ["", *(f"next {a}{i} = {b}{i}" for i in range(count) for a, b in ("wv", "mk"))]
    return "\n".join([*lines, "return v0"])


@pytest.mark.parametrize("count, own, launches", [(64, False, 1), (65, False, 2), (150, True, 3)])
def test_a_launch_has_room_for_so_many(count: int, own: bool, launches: int) -> None:
    plan = planned(program(sgds(count, own)))
    assert len(plan.kernels) == launches
    assert sum(map(len, bundles(plan))) >= count - 1
    for p in plan.kernels:
        assert len(p.kernel.ops) <= MOST_KERNELS
        assert len(p.kernel.slots) + len(p.kernel.scratch) <= MOST_POINTERS


@pytest.mark.usefixtures("emulated")
def test_a_single_member_more_stays_alone() -> None:
    made = program(sgds(MOST_KERNELS + 1, own=False))
    assert differences(made) == []
    kinds = [type(p.kernel.spec) for p in planned(made).kernels]
    assert kinds.count(KernelBundle) == 1 and len(kinds) == 2


LAYERS = f"""\
input x : f32[2x8x16x16]
state w : f32[8x8x1x1]
state u : f32[8x8x1x1]
state mean : f32[8]
state var : f32[8]

forward:
  y = conv2d(x, w) {CONV} : f32[2x8x16x16]
  mean1, var1 = batch_stats(y) : f32[8], f32[8]
  z = conv2d(y, u) {CONV} : f32[2x8x16x16]
  mean2, var2 = batch_stats(z) : f32[8], f32[8]
  r1 = running_stats(mean, mean1) {{momentum=0.1, correction=1.0}} : f32[8]
  r2 = running_stats(var, var2) {{momentum=0.1, correction=1.0}} : f32[8]

next mean = r1
next var = r2
return z"""


def test_what_no_gemm_waits_for_comes_last() -> None:
    plan = planned(program(LAYERS))
    assert [p.kernel.spec.name for p in plan.kernels][-1] == "bundle of 2 running_stats"
    # Statistics of both layers are ahead of what reads them; those of y need not wait for z.
    assert bundles(plan) == [["batch_stats", "batch_stats"], ["running_stats", "running_stats"]]


LARGE = """\
input x : f32[1x64xSIDExSIDE]
state w : f32[64x64x1x1]

forward:
  y = conv2d(x, w) CONV : f32[1x64xSIDExSIDE]
backward:
  r = relu(x) : f32[1x64xSIDExSIDE]
  s = tanh(w) : f32[64x64x1x1]
  t = sum_channels(y) : f32[64]
  z = add(r, y) : f32[1x64xSIDExSIDE]
  a = conv2d(z, s) CONV : f32[1x64xSIDExSIDE]
return a, t"""


@pytest.mark.parametrize("side, alone", [(32, False), (65, True)])
def test_what_keeps_much_memory_for_longer_stays_where_it_is(side: int, alone: bool) -> None:
    # 64 channels of 65 x 65 numbers of four bytes are more than 1 MiB.
    found = bundles(planned(program(LARGE.replace("SIDE", str(side)).replace("CONV", CONV))))
    assert any("relu" in name for members in found for name in members) is not alone


def test_a_kernel_of_more_pointers_than_a_launch_takes_stays_alone() -> None:
    count = MOST_POINTERS + 8
    text = "state s : f32[]\nstate n : i64[]\ninput loss : f32[]\n"
    text += "".join(f"input x{i} : f32[4]\n" for i in range(count))
    read = ", ".join(f"x{i}" for i in range(count))
    text += f"""
update:
  s1, n1 = loss_scale_step(s, n, loss, {read}) {{growth=2.0, backoff=0.5, interval=10}} : f32[], i64[]
  t = scale(s) {{factor=2.0}} : f32[]
  u = scale(t) {{factor=2.0}} : f32[]

next s = s1
next n = n1
return t, u"""
    plan = planned(program(text))
    assert any(len(p.kernel.slots) > MOST_POINTERS for p in plan.kernels)


WIDE = """\
input x : f32[8x4000]
state mean : f32[4000]
state var : f32[4000]
state gamma : f32[4000]
state beta : f32[4000]
state w : f32[4x20001]
state clip : f32[]

forward:
  y = batch_norm(x, mean, var, gamma, beta) {eps=1e-05} : f32[8x4000]
  q = quantize(w, clip) : int4*t[4x20001]
return y, q"""


def test_what_fills_shared_memory_shares_it_with_none() -> None:
    assert bundles(planned(program(WIDE))) == []


def test_what_a_region_keeps_for_longer_is_bounded() -> None:
    # 64 layers whose weights in bytes are just below what one of them may keep.
    states = "".join(f"state w{i} : f32[1000x1000]\n" for i in range(64))
    layers = "".join(
        f"  q{i} = quantize(w{i}, c) : int8*t[1000x1000]\n"
        f"  y{i} = linear({'x' if i == 0 else f'r{i - 1}'}, q{i}) : f32[32x1000]\n"
        f"  r{i} = quantize(y{i}, c) : int8*t[32x1000]\n"
        for i in range(64)
    )
    text = f"input x : int8*t[32x1000]\nstate c : f32[]\n{states}\nforward:\n{layers}return r63"
    assert planned(program(text)).arena < 24 << 20
