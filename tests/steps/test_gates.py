"""DFQ: blocks, the gate network beside PyTorch, whole steps, what the cost does to the choices."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.errors import RecipeError
from quatrain.compiler.ir import Program, Region, Value
from quatrain.compiler.ir.verify import verify
from quatrain.passes.parts.gate_network import EMBEDDING, HIDDEN, GateNetwork, f32
from quatrain.passes.parts.residual_blocks import residual_blocks

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import cross_entropy, linear, relu  # noqa: E402

import quatrain  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402
from quatrain.targets.numbers.tensor import Tensor as Stored  # noqa: E402
from quatrain.targets.reference.evaluate import evaluate  # noqa: E402

from ..cases.captured import captured_once  # noqa: E402

pytestmark = pytest.mark.torch
CLASSES, SAMPLES, CHOICES = 5, 6, 3


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.short = nn.Conv2d(channels, out, 1, stride) if channels != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(relu(self.norm1(self.conv1(x)))))
        return relu(y + self.short(x))


class Network(nn.Module):
    """Three blocks of odd channel counts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 7, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(7)
        self.blocks = nn.Sequential(Block(7, 7, 1), Block(7, 13, 2), Block(13, 13, 1))
        self.fc = nn.Linear(13, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.blocks(relu(self.norm(self.conv(x))))
        made: Tensor = self.fc(y.mean((2, 3)))
        return made


def batch(size: int = SAMPLES) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, 3, 9, 9, generator=generator)
    return x, torch.randint(CLASSES, (size,), generator=generator)


@captured_once("test_gates")
def compiled(
    options: Mapping[str, object] | None = None, target: str = "reference", recipe: str = "dfq"
) -> Step:
    torch.manual_seed(0)
    model = Network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return quatrain.compile(
        model, cross_entropy, batch(), sgd, recipe=recipe, options=options, target=target
    )


def test_blocks_are_found_by_their_shape() -> None:
    blocks = residual_blocks(compiled().source.train)
    assert [b.layers for b in blocks] == [
        ("blocks.0.conv1", "blocks.0.conv2"),
        ("blocks.1.conv1", "blocks.1.conv2", "blocks.1.short"),
        ("blocks.2.conv1", "blocks.2.conv2"),
    ]
    assert all(a.y is b.x for a, b in pairwise(blocks))


def gates() -> tuple[Program, GateNetwork, list[Value]]:
    """A program of two gates, their probabilities and all gradients as outputs."""
    inputs = [Value(f"x{i}", f32(SAMPLES, c, 3, 3)) for i, c in enumerate((4, 7))]
    wanted = [Value(f"dmask{i}", f32(SAMPLES, CHOICES)) for i in range(2)]
    empty = Program("gates", (*inputs, *wanted), (), (), ())
    net = GateNetwork(empty, SAMPLES, CHOICES, ())
    hidden, passed = (net.zeros("h"), net.zeros("c")), []
    for i, x in enumerate(inputs):
        passed.append(net.forward(f"block{i}", x, hidden))
        hidden = passed[-1].after
    later, dx = (net.zeros("dh"), net.zeros("dc")), list[Value]()
    for i in (1, 0):
        made, later = net.backward(f"block{i}", passed[i], wanted[i], later)
        dx.insert(0, made)
    sums = []
    for name, parts in net.gradients.items():
        total = parts[0]
        for more in parts[1:]:
            total = net.op("add", f"{name}.sum", total.type, total, more)
        sums.append(total)
    state = tuple(p.state for p in net.parameters.values())
    outputs = (passed[0].soft, passed[1].soft, *dx, *sums)
    region = Region("forward", net.take())
    return (
        verify(Program("gates", empty.inputs, state, (region,), outputs)),
        net,
        [*inputs, *wanted],
    )


def test_the_gate_network_is_what_autograd_makes_of_it() -> None:
    program, net, inputs = gates()
    rng = np.random.default_rng(0)
    numbers = {
        v.name: torch.from_numpy(rng.normal(size=v.type.shape) * 0.5).requires_grad_()
        for v in (*program.inputs, *program.state)
    }
    of = {name: numbers[p.state.name] for name, p in net.parameters.items()}
    h = c = torch.zeros(SAMPLES, HIDDEN, dtype=torch.float64)
    total, soft = torch.zeros((), dtype=torch.float64), []
    for i, x in enumerate(inputs[:2]):
        pooled = numbers[x.name].mean((2, 3))
        hidden = relu(linear(pooled, of[f"block{i}.w1"], of[f"block{i}.b1"]))
        e = linear(hidden, of[f"block{i}.w2"], of[f"block{i}.b2"])
        assert e.shape[1] == EMBEDDING
        z = linear(e, of["lstm.x"], of["lstm.b"]) + linear(h, of["lstm.h"])
        zi, zf, zg, zo = z.chunk(4, 1)
        c = zf.sigmoid() * c + zi.sigmoid() * zg.tanh()
        h = zo.sigmoid() * c.tanh()
        soft.append(linear(h, of["choice.w"], of["choice.b"]).softmax(1))
        total = total + (soft[-1] * numbers[f"dmask{i}"].detach()).sum()
    total.backward()
    given = {
        v.name: Stored.from_numbers(v.type, numbers[v.name].detach().numpy())
        for v in (*program.inputs, *program.state)
    }
    made = evaluate(program, given)
    grads = [numbers[x.name].grad for x in inputs[:2]]
    grads += [of[name].grad for name in net.gradients]
    for out, want in zip(program.outputs, [s.detach() for s in soft] + grads, strict=True):
        assert want is not None
        # The program rounds each op to f32; sums are of at most a hundred numbers of about 1.
        np.testing.assert_allclose(made[out].data, want.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("a", "g", "w", "percent"), [(3, 6, 4, 1.7578), (6, 12, 4, 4.6875), (8, 16, 6, 8.8542)]
)
def test_a_choice_costs_what_the_table_says(a: int, g: int, w: int, percent: float) -> None:
    """Percent of training in 32 bits (the method's own table)."""
    choices = {"activation_choices": f"{a},{a}", "gradient_choices": f"{g},{g}"}
    step = compiled(choices | {"affine_weights.bits": w})
    step(*batch())
    assert float(step.state["gate.cost"]) == pytest.approx(percent, abs=5e-5)


def test_a_high_target_pays_for_bits_and_a_low_one_saves_them() -> None:
    costs = {}
    for target in (50.0, 1.0):
        step = compiled({"beta": 30.0, "gated_precision.target": target})
        for _ in range(12):
            step(*batch())
        costs[target] = float(step.state["gate.cost"])
    assert costs[50.0] > costs[1.0]
    assert costs[1.0] == pytest.approx(1.7578, abs=5e-5)


@pytest.mark.tvm
@pytest.mark.parametrize(
    ("relax", "over", "counts"),
    [
        ("none", -0.05, -1), ("none", 0.01, 1), ("tenth", -0.05, -0.1), ("tenth", 0.24, 0.1),
        ("tenth", 0.26, 1), ("tenth", -0.26, -1), ("zero", -0.05, -1), ("zero", 0.01, 0),
        ("zero", 0.24, 0), ("zero", 0.26, 1),
    ],
)  # fmt: skip
def test_what_the_cost_counts_near_the_target(relax: str, over: float, counts: float) -> None:
    """All choices cost the same, so that the target alone decides how far away that is."""
    pytest.importorskip("tvm")
    from ..exactness import given

    cost = 1.7578  # of 3, 6 and 4 bits
    options = {"activation_choices": "3,3", "gradient_choices": "6,6", "relax_band": 0.25}
    step = compiled(options | {"relax": relax, "gated_precision.target": cost - over})
    values = evaluate(step.program, given(step, batch()))
    (wide,) = (t for v, t in values.items() if v.name == "gate.sign.wide")
    np.testing.assert_allclose(wide.data, counts, rtol=1e-6)


@pytest.mark.tvm
@pytest.mark.parametrize("recipe", ["dfq", "fractrain"])
def test_kernels_equal_the_reference(recipe: str) -> None:
    pytest.importorskip("tvm")
    from quatrain.targets.cpu.info import detect

    from ..exactness import compare, given

    step = compiled(recipe=recipe)
    step(*batch())
    found = [str(m) for m in compare(step.program, given(step, batch()), detect())]
    assert not found, "\n".join(found)


@pytest.mark.tvm
@pytest.mark.parametrize("recipe", ["dfq", "fractrain"])
def test_a_resumed_step_goes_on_to_the_same_bytes(recipe: str, tmp_path: Path) -> None:
    """Of ``fractrain`` the save falls into the window ahead of the first rise."""
    pytest.importorskip("tvm")
    early = {"eval_every": 1, "eps": 50} if recipe == "fractrain" else {}
    step = compiled(early, target="cpu", recipe=recipe)
    for _ in range(3):
        step(*batch())
    step.save(tmp_path / "half.qtn")
    again = quatrain.load(tmp_path / "half.qtn")
    for _ in range(3):
        step(*batch())
        again(*batch())
    assert all(torch.equal(v, again.state[k]) for k, v in step.state.items())
    assert torch.equal(step.predict(batch()[0]), again.predict(batch()[0]))


def test_the_target_rises_with_each_plateau() -> None:
    """At 1.75 % the cheapest choice, which costs 1.7578 %, is too much; at 30 % it is too little."""
    options = {"eval_every": 1, "eps": 50, "stages": 2, "first": 1.75, "rise": 28.25, "beta": 30.0}
    step = compiled(options, recipe="fractrain")
    costs = []
    for _ in range(24):
        step(*batch())
        costs.append(float(step.state["gate.cost"]))
    assert float(step.state["schedule.plateau"][0]) == 1
    assert costs[5] == pytest.approx(1.7578, abs=5e-5)
    assert costs[-1] > costs[5]


def test_a_target_needs_gates(tmp_path: Path) -> None:
    path = tmp_path / "alone.toml"
    path.write_text('title = "t"\n[[passes]]\npass = "progressive_target"\n', encoding="utf-8")
    with pytest.raises(RecipeError, match="the passes ahead of it make none; put gated_precision"):
        compiled(recipe=str(path))


def test_the_bits_are_no_constants_of_the_program() -> None:
    program = compiled().program
    affine = [op for _, op in program.ops() if op.kind.startswith("quantize_affine")]
    gated = [op for op in affine if op.inputs[3].type.shape == (SAMPLES,)]
    assert {op.origin.rpartition(".")[0] for op in gated} == {f"blocks.{i}" for i in range(3)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation_choices": "3,4"}, "2 activation_choices and 5 gradient_choices"),
        ({"activation_choices": "a,b"}, "lists of whole numbers"),
        ({"gradient_choices": "6,6,8,8,17"}, "a choice of 17 bits does not fit codes in uint16"),
        ({"target": 0}, "target=0 is no percentage above 0"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        compiled({f"gated_precision.{k}": v for k, v in options.items()})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": 1}, "stages=1 of progressive_target has no second stage"),
        ({"rise": -1}, "first=1.5 and rise=-1 of progressive_target must be positive"),
        ({"eval_every": 0}, "eval_every=0 of progressive_target is not at least 1"),
        ({"eps": 0}, "eps=0 and alpha=0.3 of progressive_target must be positive"),
    ],
)
def test_refusals_of_the_progressive_target(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        compiled(options, recipe="fractrain")


@pytest.mark.parametrize("base", ["dfq", "fractrain"])
def test_no_schedule_goes_over_gates(base: str) -> None:
    with pytest.raises(RecipeError, match="recipe that it follows has bits that change already"):
        compiled({"base": base, "low": 2, "high": 4}, recipe="cpt")


def test_a_network_without_blocks_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(196, CLASSES))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RecipeError, match="no residual block"):
        quatrain.compile(model, cross_entropy, batch(), sgd, recipe="dfq", target="reference")


@pytest.mark.parametrize("recipe", ["dfq", "fractrain"])
def test_blocks_of_vectors_are_no_blocks(recipe: str) -> None:
    class Vectors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            x = relu(self.a(x))
            return relu(x + self.b(x))

    model, given = Vectors(), (torch.randn(4, 6), torch.tensor([0, 1, 2, 5]))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RecipeError, match="no residual block on images"):
        quatrain.compile(model, cross_entropy, given, sgd, recipe=recipe, target="reference")
