"""The recipe ``sbm8``: Range BN, whole steps beside plain PyTorch, kernels, ranges, refusals."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.errors import RecipeError
from quatrain.compiler.ir.analysis import saved
from quatrain.compiler.ir.text import parse
from quatrain.compiler.ir.verify import verify
from quatrain.passes import PASSES
from quatrain.passes.range_batch_norm import range_factor

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

import quatrain  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402
from quatrain.targets.numbers.tensor import Tensor as Stored  # noqa: E402
from quatrain.targets.numbers.threefry import uniform  # noqa: E402
from quatrain.targets.plan.decode import decode_operands  # noqa: E402
from quatrain.targets.reference.evaluate import evaluate  # noqa: E402

from ..cases.captured import captured_once  # noqa: E402
from ..cases.plain_sbm import Quantized, RangeNorm  # noqa: E402

pytestmark = pytest.mark.torch
CLASSES = 5
PLAIN_CPT: dict[str, object] = {
    "sbm_act_range": "extreme",
    "bifurcation": False,
    "range_bn": False,
}


def network() -> nn.Sequential:
    """Convolutions of odd sizes with norms, a pooling, a linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 7, 3, padding=1, bias=False),
        nn.BatchNorm2d(7),
        nn.ReLU(),
        nn.Conv2d(7, 13, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(13),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(13, CLASSES),
    )


def batch(size: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 3, 12, 12, generator=generator)
    return x, torch.randint(CLASSES, (size,), generator=generator)


@captured_once("test_sbm8")
def compiled(options: Mapping[str, object] | None = None, target: str = "reference") -> Step:
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    return quatrain.compile(
        model, cross_entropy, batch(), sgd, recipe="sbm8", options=options, target=target
    )


@pytest.mark.parametrize(
    ("n", "paper", "code"),
    [(64, 0.346734, 0.187309), (256, 0.300281, 0.162214), (1024, 0.268579, 0.145089),
     (4096, 0.245178, 0.132447)],
)  # fmt: skip
def test_constants_of_range_bn(n: int, paper: float, code: float) -> None:
    """To the digits that the table of the method prints."""
    assert range_factor("paper", n) == pytest.approx(paper, abs=5e-7)
    assert range_factor("code", n) == pytest.approx(code, abs=5e-7)


NORM = """program norm
input x : f32[SHAPE]
input dy : f32[SHAPE]
state gamma : f32[CH]
state beta : f32[CH]

forward:
  # norm
  mean, var = batch_stats(x) : f32[CH], f32[CH]
  y = batch_norm(x, mean, var, gamma, beta) {eps=1e-05} : f32[SHAPE]

backward:
  # norm
  dgamma, dbeta = batch_norm_grad_stats(dy, x, mean, var) {eps=1e-05} : f32[CH], f32[CH]
  dx = batch_norm_input_grad(dy, x, mean, var, gamma, dgamma, dbeta) {eps=1e-05} : f32[SHAPE]

return y, dx, dgamma, dbeta
"""


@pytest.mark.parametrize("constant", ["code", "paper"])
@pytest.mark.parametrize(
    ("shape", "wanted", "chunks"),
    [((4, 3, 6, 6), 16, 9), ((4, 3, 8, 8), 16, 16), ((4, 3, 6, 6), 1, 1), ((3, 7, 13, 1), 16, 1),
     ((28, 5), 16, 1), ((1, 1, 27, 27), 16, 9), ((33, 2, 7), 16, 11), ((4, 3, 2, 2), 16, 1),
     ((8, 3, 2, 2), 16, 2), ((5, 3), 16, 1)],
)  # fmt: skip
def test_range_bn_is_what_autograd_makes_of_it(
    shape: tuple[int, ...], wanted: int, chunks: int, constant: str
) -> None:
    """``chunks``: the largest divisor of the numbers of a channel, of chunks of 16 or more."""
    text = NORM.replace("SHAPE", "x".join(map(str, shape))).replace("CH", str(shape[1]))
    program = PASSES["range_batch_norm"](
        verify(parse(text)), range_bn_bits=0, chunks=wanted, range_bn_const=constant
    )
    rng = np.random.default_rng(0)
    norm = nn.BatchNorm2d(shape[1])
    norm.weight.data[...] = torch.from_numpy(rng.normal(size=shape[1]))
    norm.bias.data[...] = torch.from_numpy(rng.normal(size=shape[1]))
    x, dy = (torch.from_numpy(rng.normal(size=shape)).float() for _ in range(2))
    plain = RangeNorm(norm, constant, chunks)
    y = plain(x.requires_grad_())
    y.backward(dy)
    numbers = {"x": x, "dy": dy, "gamma": norm.weight, "beta": norm.bias}
    given = {
        v.name: Stored.from_numbers(v.type, numbers[v.name].detach().numpy())
        for v in (*verify(program).inputs, *program.state)
    }
    made = evaluate(program, given)
    for out, want in zip(
        program.outputs, (y, x.grad, norm.weight.grad, norm.bias.grad), strict=True
    ):
        assert want is not None
        # f32 sums of up to 729 numbers of about 1, in two orders.
        right = want.detach()
        bound = 2e-5 * float(right.abs().max())
        np.testing.assert_allclose(made[out].data, right.numpy(), rtol=2e-5, atol=bound)


def plain(step: Step, model: nn.Sequential, options: dict[str, object]) -> nn.Sequential:
    """``model`` with fake quantizers, and the draws of the step's stochastic roundings."""
    salts = {
        op.origin: op.int_attr("salt")
        for _, op in step.program.ops()
        if op.kind == "quantize_affine_stochastic"
    }

    def draw(name: str, shape: tuple[int, ...]) -> Tensor:
        made: Tensor = torch.from_numpy(uniform(0, 0, salts[name], shape))
        return made

    made = copy.deepcopy(model)
    extreme, split = options.get("sbm_act_range") == "extreme", not options
    for name, layer in list(made.named_children()):
        if isinstance(layer, nn.BatchNorm2d):
            if split:
                # Of 576 and of 144 numbers a channel.
                new: nn.Module = RangeNorm(layer, "code", {"1": 16, "4": 9}[name])
                setattr(made, name, Quantized(new, name, draw, True, split))
        elif isinstance(layer, (nn.Conv2d, nn.Linear)):
            setattr(made, name, Quantized(layer, name, draw, not extreme, split))
    return made


@pytest.mark.parametrize("options", [{}, PLAIN_CPT], ids=["published", "no range bn"])
def test_a_whole_step_beside_plain_torch(options: dict[str, object]) -> None:
    step, model = compiled(options), network()
    beside = plain(step, model, options)
    x, y = batch()
    loss = cross_entropy(beside(x), y)
    loss.backward()
    # A sum in another order may put a number on the other side of a code's edge, which changes it
    # by 1/255 of its range. None of the 10^4 codes here is so near to an edge in the loss.
    assert step(x, y).item() == pytest.approx(loss.item(), rel=1e-5)
    grads = dict(beside.named_parameters())
    for key, after in step.state_dict().items():
        name = next((n for n in grads if n.replace("inner.", "") == key), None)
        if name is None:
            continue
        gradient = grads[name].grad
        assert gradient is not None
        made = (model.state_dict()[key] - after) / 0.1
        # The bound: a few codes of dY turned over, each 1/255 of the range, in sums of hundreds.
        away = (made - gradient).norm() / gradient.norm()
        assert away < 2e-3, (key, float(away))


@pytest.mark.tvm
@pytest.mark.parametrize(
    "options",
    [
        {},
        PLAIN_CPT | {"sbm_act_rounding": "stochastic"},
        {"carrier": "bf16", "bits": 4, "chunks": 2},
    ],
    ids=["published", "stochastic", "bf16"],
)
def test_every_kernel_equals_the_reference(options: dict[str, object]) -> None:
    pytest.importorskip("tvm")
    from quatrain.targets.cpu.info import detect

    from ..exactness import compare, given

    step = compiled(options)
    program = decode_operands(step.program)
    found = [str(m) for m in compare(program, given(step, batch()), detect())]
    assert not found, "\n".join(found)


@pytest.mark.tvm
@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_a_saved_step_goes_on_and_carries_its_ranges(target: str, tmp_path: Path) -> None:
    step = compiled(target=target)
    step(*batch())
    first = step.state["3.range.high"].item()
    assert first > 0
    step.save(tmp_path / "a.qtn")
    again = quatrain.load(tmp_path / "a.qtn")
    for s in (step, again):
        s(*batch(seed=1))
    assert step.state["3.range.high"].item() != first
    for s, name in ((step, "b"), (again, "c")):
        s.save(tmp_path / name)
    assert (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
    assert torch.equal(step.predict(batch()[0]), again.predict(batch()[0]))


def test_the_running_range_is_that_of_the_first_batch_and_then_a_mean() -> None:
    step = compiled({"range_momentum": 0.25})
    highs = []
    for seed in (0, 1):
        x, y = batch(seed=seed)
        step(x, y)
        highs.append(x.flatten(1).amax(1).mean().item())
    want = 0.75 * highs[0] + 0.25 * highs[1]
    # Sums of four and of two f32 numbers.
    assert step.state["0.range.high"].item() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 9}, "option bits of affine_weights must be 2, 3, 4, 5, 6, 7 or 8, not 9"),
        ({"chunks": 0}, "chunks=0 of range_batch_norm is not at least 1"),
        ({"range_momentum": 0}, "range_momentum=0 does not lie above 0 and up to 1"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as e:
        compiled(options)
    assert str(e.value) == message


def test_norms_keep_codes_for_backward_and_weights_are_made_again() -> None:
    program = compiled().program
    kept = {v.name: v.type.short for v in saved(program)}
    assert kept["1.xq"] == kept["3.xq"] == "uint8*a"
    assert not any(name.endswith((".wq", ".plain")) for name in kept)
    again = [op.origin for op in program.region("backward").ops if op.kind == "quantize_affine"]
    assert again == ["8", "3"]
