"""The verifier: pairs of an accepted program and one that breaks a single invariant."""

from __future__ import annotations

import pytest

from quatrain.compiler import parse, verify
from quatrain.compiler.errors import VerifyError
from quatrain.compiler.ir.verify import read_program

GOOD = """\
program p
input x : f32[2x3x4x4]
input g : f32[2x3x4x4]
input lr : f32[]
state w : f32[3x3x1x1]
state m : f32[3x3x1x1]
state n : i64[]
state clip : f32[] = 8.0

forward:
  # conv
  q = quantize(x, clip) : uint4*t[2x3x4x4]
  y = conv2d(q, w) {stride=[1,1], padding=[0,0], dilation=[1,1], groups=1} : f32[2x3x4x4]
  a = relu(y) : f32[2x3x4x4]

backward:
  # conv
  d = relu_grad(g, a) : f32[2x3x4x4]
  dw = conv2d_weight_grad(d, q) {stride=[1,1], padding=[0,0], dilation=[1,1], groups=1} : f32[3x3x1x1]

update:
  # conv
  w1, m1 = sgd(w, dw, m, n, lr, lr, lr, lr) {nesterov=false, maximize=false} : f32[3x3x1x1], f32[3x3x1x1]
  n1 = increment(n) : i64[]

return a
next w = w1
next m = m1
next n = n1
"""

BROKEN = {
    "y = conv2d(q, w)|y = conv2d(q, w, w)": "conv2d has 3 operands; the signature is conv2d(x: gemm",
    "relu(y) : f32[2x3x4x4]|relu(y) : f32[2x3x4x5]": "a is f32[2x3x4x5], but relu makes shape",
    "relu(y) : f32[2x3x4x4]|relu(y) : int4*t[2x3x4x4]": "is not of class float",
    "groups=1} : f32[2x3x4x4]|groups=2} : f32[2x3x4x4]": "channels of",
    ", groups=1} : f32[2x3x4x4]|} : f32[2x3x4x4]": "conv2d has attributes",
    "stride=[1,1], padding=[0,0], dilation=[1,1], groups=1} : f32[3x3x1x1]"
    "|stride=1, padding=[0,0], dilation=[1,1], groups=1} : f32[3x3x1x1]": "stride=1 is not of type 2 ints >= 1",
    "conv2d_weight_grad(d, q)|conv2d_weight_grad(g, w)": "x of conv2d_weight_grad is [N C H W] with N = 2",
    "next w = w1|next w = m1": "bind a value of its own",
    "next n = n1|next n = w1": "bind a value of its own",
    "next n = n1\n|": "update, layer conv: nothing reads n1 and no state takes it; add 'next STATE",
    "next m = m1\n|": "nothing reads m1 and no state takes it",
    "next n = n1|next m = n1": "next m stands twice; a state has one next value",
    "return a|return ": "the program returns nothing; name its outputs",
}


def test_a_whole_step_is_accepted() -> None:
    program = parse(GOOD)
    assert verify(program) is program


@pytest.mark.parametrize("change", BROKEN, ids=list(BROKEN.values()))
def test_a_broken_invariant_is_named(change: str) -> None:
    before, after = change.split("|")
    assert before in GOOD
    with pytest.raises(VerifyError) as e:
        verify(parse(GOOD.replace(before, after)))
    assert BROKEN[change] in str(e.value)


def test_regions_keep_their_order() -> None:
    text = GOOD.replace("forward:", "later:").replace("backward:", "forward:")
    with pytest.raises(VerifyError, match="the order is forward, backward, update"):
        verify(parse(text.replace("later:", "backward:")))


def test_the_failing_line_stands_among_its_neighbours() -> None:
    with pytest.raises(VerifyError) as e:
        verify(parse(GOOD.replace("relu(y) : f32[2x3x4x4]", "relu(y) : f32[1]")))
    lines = str(e.value).splitlines()
    assert lines[0].startswith("forward, layer conv: ")
    assert [line[2] for line in lines[1:]] == [" ", " ", ">"]


@pytest.mark.parametrize(
    ("change", "mark"),
    [
        ("relu(y) : f32[2x3x4x4]|relu(y) : f32[1]", "a = relu"),
        ("next w = w1|next w = m1", "next m = m1"),
        ("next n = n1\n|", "n1 = increment"),
        ("return a|return ", "return"),
        ("backward:|sideways:", "sideways:"),
    ],
)
def test_errors_of_a_text_name_the_line(change: str, mark: str) -> None:
    before, after = change.split("|")
    text = GOOD.replace(before, after)
    line = next(i for i, t in enumerate(text.splitlines(), 1) if t.strip().startswith(mark))
    with pytest.raises(VerifyError) as e:
        read_program(text)
    assert str(e.value).startswith(f"line {line}: ")
