"""The reference as a whole: every op has a meaning; programs run; bad values are refused."""

import numpy as np
import pytest

from quatrain.compiler.errors import InputError, VerifyError
from quatrain.compiler.formats import BF16, F32, FP8_152, INT4
from quatrain.compiler.ir.ops import OPS
from quatrain.compiler.ir.text import parse
from quatrain.compiler.ir.verify import verify
from quatrain.compiler.types import Scale, TensorType
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.reference.evaluate import FUNCTIONS, apply, evaluate

STEP = """
program step
input x : f32[3x7]
input target : i64[3]
state w : f32[5x7]
state m : f32[5x7]
state t : i64[] = 0.0
state lr : f32[] = 0.5
state momentum : f32[] = 0.9
state zero : f32[] = 0.0

forward:
  # fc
  y = linear(x, w) : f32[3x5]
  # loss
  p = log_softmax(y) : f32[3x5]
  loss, count = nll_loss(p, target) {reduction=mean, ignore_index=-100} : f32[], f32[]

backward:
  one = constant() {value=1.0} : f32[]
  dp = nll_loss_grad(one, target, count) {reduction=mean, ignore_index=-100} : f32[3x5]
  dy = log_softmax_grad(dp, p) : f32[3x5]
  # fc
  dw = linear_weight_grad(dy, x) : f32[5x7]

update:
  w1, m1 = sgd(w, dw, m, t, lr, momentum, zero, zero) {nesterov=false, maximize=false} : f32[5x7], f32[5x7]
  t1 = increment(t) : i64[]

return loss
next w = w1
next m = m1
next t = t1
"""


def values() -> dict[str, Tensor]:
    rng = np.random.default_rng(0)
    program = parse(STEP)
    types = {v.name: v.type for v in (*program.inputs, *program.state)}
    return {
        "x": Tensor.from_numbers(types["x"], rng.standard_normal((3, 7))),
        "target": Tensor.from_numbers(types["target"], [1, 0, 4]),
        "w": Tensor.from_numbers(types["w"], rng.standard_normal((5, 7))),
        "m": Tensor.zeros(types["m"]),
    }


def test_every_op_has_a_meaning_and_nothing_else_has() -> None:
    assert set(FUNCTIONS) == set(OPS)


def test_a_program_trains_and_carries_its_state() -> None:
    program = verify(parse(STEP))
    given, losses = values(), []
    for _ in range(4):
        made = evaluate(program, given, keep=False)
        assert set(made) == {*program.outputs, *(v for _, v in program.next)}
        losses.append(float(made[program.outputs[0]].data))
        given |= {s.name: made[v] for s, v in program.next}
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] / 2
    assert given["t"].data == 4


def test_keep_returns_every_value() -> None:
    program = parse(STEP)
    kept = evaluate(program, values())
    few = evaluate(program, values(), keep=False)
    assert {v.name for v in kept} == program.names()
    for v, tensor in few.items():
        assert tensor.data.tobytes() == kept[v].data.tobytes()


def test_given_values_win_over_initial_ones() -> None:
    program = parse(STEP)
    still = values() | {"lr": Tensor.zeros(TensorType((), F32))}
    made = evaluate(program, still)
    w1 = next(v for s, v in program.next if s.name == "w")
    np.testing.assert_array_equal(made[w1].data, still["w"].data)


def test_missing_and_wrong_values_are_refused() -> None:
    program = parse(STEP)
    with pytest.raises(InputError, match=r"step needs a value of w : f32\[5x7\]"):
        evaluate(program, {k: v for k, v in values().items() if k != "w"})
    wrong = values() | {"w": Tensor.zeros(TensorType((5, 7), BF16))}
    with pytest.raises(InputError, match=r"w is bf16\[5x7\]; step needs f32\[5x7\]"):
        evaluate(program, wrong)


def test_tensors_refuse_data_and_scales_of_another_kind() -> None:
    with pytest.raises(InputError, match="needs uint8 of shape"):
        Tensor(TensorType((3,), INT4), np.zeros(3, np.float32))
    with pytest.raises(InputError, match="needs float32 of shape"):
        Tensor(TensorType((3,), F32), np.zeros(4, np.float32))
    with pytest.raises(InputError, match=r"scale has shape None; int4\*c\[3\] needs \(3,\)"):
        Tensor(TensorType((3,), INT4, Scale.CHANNEL), np.zeros(3, np.uint8))
    with pytest.raises(InputError, match="needs None"):
        Tensor.from_numbers(TensorType((3,), F32), [1, 2, 3], 2.0)


def test_real_values_are_codes_times_scale() -> None:
    real = np.array([[1, 3.4], [-1, 9]])
    t = Tensor.from_float(TensorType((2, 2), INT4, Scale.CHANNEL), real, [1, 0.5])
    np.testing.assert_array_equal(t.numbers, [[1, 3], [-2, 7]])
    np.testing.assert_array_equal(t.real(), [[1, 3], [-1, 3.5]])


def test_cast_keeps_the_scale_or_refuses() -> None:
    scaled = Tensor.from_numbers(TensorType((3,), F32, Scale.POW2), [1, 2.2, 1e9], 0.25)
    (q,) = apply("cast", [scaled], [TensorType((3,), FP8_152, Scale.POW2)])
    np.testing.assert_array_equal(q.real(), [0.25, 0.5, 57344 / 4])
    (back,) = apply("cast", [q], [TensorType((3,), BF16, Scale.POW2)])
    np.testing.assert_array_equal(back.numbers, [1, 2, 57344])
    with pytest.raises(VerifyError, match="the scale must stay p"):
        apply("cast", [scaled], [TensorType((3,), F32)])


def test_overflow_is_infinity_without_a_warning() -> None:
    x = Tensor.from_numbers(TensorType((2,), F32), [3e38, np.nan])
    (y,) = apply("add", [x, x], [x.type])
    np.testing.assert_array_equal(y.data, [np.inf, np.nan])
