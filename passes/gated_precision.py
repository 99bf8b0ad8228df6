"""DFQ: a gate network chooses, for each sample and residual block, how many bits compute it.

"FracTrain: Fractionally Squeezing Bit Savings Both Temporally and Spatially for Efficient DNN
Training" (Fu et al., NeurIPS 2020), section 3.2.

    choice k of a block   activations in a_k bits, gradients in g_k, weights in w as they are
    cost of a MAC         (a_k w + g_k w + a_k g_k) / 32^2
    cp                    100 sum of cost * MACs over (3 * MACs): percent of training in 32 bits
    loss                  L + r beta * mean over samples of the sum over blocks of
                          cost * MACs / mean MACs of a block, r = 1 where cp >= target, else -1
    relax=tenth           r / 10 where |cp - target| <= relax_band
    relax=zero            r = 0 where target <= cp <= target + relax_band

The gradient of the mask is that of the block that was computed, straight through to the softmax:
for each sample the sum of dy * y at the chosen place, and what the cost adds. The authors'
simulation computes a block for every choice and has the gradient of all places.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ..compiler.errors import RecipeError
from ..compiler.ir import Attr, Op, Program, Region, Value, attrs
from ..compiler.ir.analysis import is_training
from ..compiler.ir.ops import FORWARD_GEMMS, GRADIENT_PRODUCTS, OPS
from ..compiler.types import Scale, TensorType
from .parts.added_update import added_update
from .parts.draws import seed_and_step, with_seed
from .parts.gate_network import ORIGIN, GateNetwork, Passed, f32
from .parts.options import require
from .parts.order import Makes, placed
from .parts.residual_blocks import ResidualBlock, residual_blocks
from .parts.select import layers, terms_of

FULL_BITS = 32
COST = f"{ORIGIN}.cost"
# By how much cp exceeds the target.
OVER = f"{ORIGIN}.over"
Relax = Literal["none", "tenth", "zero"]


@placed(makes=Makes.BITS, after=(Makes.CODES,))
def gated_precision(
    program: Program,
    *,
    activation_choices: str = "3,4,4,6,6",
    gradient_choices: str = "6,6,8,8,12",
    target: float = 3.0,
    beta: float = 1e-3,
    relax: Relax = "none",
    relax_band: float = 0.1,
) -> Program:
    """Let a gate set the bits of each residual block's affine activations and gradients.

    ``target`` is the percent of 32-bit training cost that training is held to. Within
    ``relax_band`` percent of it the cost counts a ``tenth``, or up to that above it ``zero``. The
    state ``gate.cost`` is cp of the last step.
    """
    choices = _choices(activation_choices, gradient_choices)
    require(0 < target <= 100, f"target={target:g} is no percentage above 0")
    require(beta >= 0, f"beta={beta:g} must not be negative")
    require(relax_band >= 0, f"relax_band={relax_band:g} must not be negative")
    blocks = residual_blocks(program)
    if not layers(program):
        return program.done("gated_precision")
    if not blocks:
        raise RecipeError(
            "the network has no residual block on images whose input is the result of a ReLU; "
            "gates choose the precision of such blocks"
        )
    training = is_training(program)
    drawn = seed_and_step(program, "the first parameters of the gates") if training else ()
    work = _Gated(program, blocks, choices, _Aim(target, beta, relax, relax_band), drawn)
    out = program.rewrite(work.rule, by="gated_precision")
    return with_seed(_trained(out, work), drawn, used=True)


def _choices(activations: str, gradients: str) -> tuple[tuple[int, int], ...]:
    try:
        a, g = ([int(word) for word in terms_of(text)] for text in (activations, gradients))
    except ValueError:
        raise RecipeError(
            f"choices {activations!r} and {gradients!r} are lists of whole numbers, such as 3,4,6"
        ) from None
    require(
        len(a) == len(g) > 1,
        f"{len(a)} activation_choices and {len(g)} gradient_choices do not make pairs of at least "
        "two choices",
    )
    return tuple(zip(a, g, strict=True))


@dataclass(frozen=True, slots=True)
class _Aim:
    """What the loss gains: weight of the cost, its target, and how it counts near that."""

    target: float
    beta: float
    relax: Relax
    band: float


@dataclass(eq=False, slots=True)
class _OpenGate:
    """What is known of a block's gate so far: its forward values, bits by role, dx."""

    passed: Passed
    bits: dict[str, Value]
    dx: Value | None = None


class _Gated:
    """The rule of the pass."""

    def __init__(
        self,
        program: Program,
        blocks: tuple[ResidualBlock, ...],
        choices: tuple[tuple[int, int], ...],
        aim: _Aim,
        drawn: tuple[Value, ...],
    ) -> None:
        self.blocks, self.choices, self.aim = blocks, choices, aim
        self.samples = blocks[0].x.type.shape[0]
        self.net = GateNetwork(program, self.samples, len(choices), drawn)
        self.block_of = {name: b for b in blocks for name in b.layers}
        self.roles = _roles(program, self.block_of)
        self.weight_bits = _weight_bits(program, self.block_of)
        self.gates: dict[ResidualBlock, _OpenGate] = {}
        self.hidden: tuple[Value, Value] | None = None
        self.later: tuple[Value, Value] | None = None
        self.cost: Value | None = None
        self.sign: Value | None = None

    def rule(self, region: Region, op: Op) -> tuple[Op, ...] | None:
        if region.name == "forward" and op.kind == "relu":
            return self._forward(op)
        if region.name == "backward" and op.kind == "relu_grad":
            return self._backward(op)
        if OPS[op.kind].affine and op.result.name in self.roles:
            return self._quantizer(op)
        return None

    def _forward(self, op: Op) -> tuple[Op, ...] | None:
        found = [b for b in self.blocks if b.x.name == op.result.name]
        for block in found:
            name = f"block{self.blocks.index(block)}"
            before = self.hidden or (self.net.zeros("h"), self.net.zeros("c"))
            passed = self.net.forward(name, op.result, before)
            self.hidden = passed.after
            bits = {
                role: self._looked_up(
                    f"{name}.{role}.bits", passed.mask, [c[i] for c in self.choices]
                )
                for i, role in enumerate(("activation", "gradient"))
            }
            self.gates[block] = _OpenGate(passed, bits)
            self._count(block, name, passed.mask)
        return (op, *self.net.take()) if found else None

    def _wide(self, name: str, numbers: list[float]) -> Value:
        """A row of numbers for each sample."""
        row = self.net.op("table", f"{name}.row", f32(1, len(numbers)), numbers=tuple(numbers))
        type_ = f32(self.samples, len(numbers))
        return self.net.op("broadcast", f"{name}.rows", type_, row, dims=(0,))

    def _looked_up(self, name: str, mask: Value, numbers: list[int]) -> Value:
        """The number that each sample has chosen."""
        rows = self._wide(name, [float(n) for n in numbers])
        chosen = self.net.op("mul", f"{name}.chosen", mask.type, mask, rows)
        return self.net.op("sum", name, f32(self.samples), chosen, dims=(1,), keepdim=False)

    def _costs(self) -> list[float]:
        """Cost of a MAC in forward, dX and dW together, by choice."""
        w = self.weight_bits
        return [(a * w + g * w + a * g) / FULL_BITS**2 for a, g in self.choices]

    def _count(self, block: ResidualBlock, name: str, mask: Value) -> None:
        """Add the block's part of cp."""
        share = 100 * block.macs / (3 * sum(b.macs for b in self.blocks) * self.samples)
        rows = self._wide(f"{name}.cost", [c * share for c in self._costs()])
        paid = self.net.op("mul", f"{name}.paid", mask.type, mask, rows)
        part = self.net.op("sum", f"{name}.cp", f32(), paid, dims=(0, 1), keepdim=False)
        self.cost = part if self.cost is None else self.net.op("add", "cp", f32(), self.cost, part)

    def _backward(self, op: Op) -> tuple[Op, ...] | None:
        g, y = op.inputs
        for gate in self.gates.values():
            if gate.passed.x is y and gate.dx is not None:
                g = self.net.op("add", f"{op.result.name}.total", g.type, g, gate.dx)
        for block in self.blocks:
            if block.y.name == y.name and block in self.gates:
                self._gate_gradient(block, g, y)
        ahead = self.net.take()
        return (*ahead, replace(op, inputs=(g, y))) if ahead else None

    def _gate_gradient(self, block: ResidualBlock, g: Value, y: Value) -> None:
        net, gate = self.net, self.gates[block]
        name, mask = f"block{self.blocks.index(block)}", gate.passed.mask
        if self.later is None:
            self.later = net.zeros("dh"), net.zeros("dc")
            self.sign = self._sign()
        product = net.op("mul", f"{name}.gy", g.type, g, y)
        dims = tuple(range(1, len(g.type.shape)))
        dot = net.op("sum", f"{name}.dot", f32(self.samples), product, dims=dims, keepdim=False)
        wide = net.op("broadcast", f"{name}.dot.wide", mask.type, dot, dims=(1,))
        felt = net.op("mul", f"{name}.felt", mask.type, wide, mask)
        mean = sum(b.macs for b in self.blocks) / len(self.blocks)
        weight = self.aim.beta * block.macs / mean / self.samples
        rows = self._wide(f"{name}.price", [c * weight for c in self._costs()])
        assert self.sign is not None
        price = net.op("mul", f"{name}.pressed", mask.type, rows, self.sign)
        dmask = net.op("add", f"{name}.dmask", mask.type, felt, price)
        gate.dx, self.later = net.backward(name, gate.passed, dmask, self.later)

    def _sign(self) -> Value:
        """1 where cp has reached the target, else -1, for each sample and choice."""
        net = self.net
        assert self.cost is not None
        by = -float(self.aim.target)
        over = net.op("shift", OVER.partition(".")[2], f32(), self.cost, by=by)
        reached = net.op("compare_to", "reached", f32(), over, relation="ge", value=0.0)
        double = net.op("scale", "reached.double", f32(), reached, factor=2.0)
        sign = self._relaxed(net.op("shift", "sign", f32(), double, by=-1.0), over, reached)
        type_ = f32(self.samples, len(self.choices))
        return net.op("broadcast", "sign.wide", type_, sign, dims=(0, 1))

    def _relaxed(self, sign: Value, over: Value, reached: Value) -> Value:
        """The sign times what the cost counts near the target."""
        net, aim = self.net, self.aim
        if aim.relax == "none":
            return sign
        within = dict[str, Attr](relation="le", value=float(aim.band))
        if aim.relax == "tenth":
            near = net.op("compare_to", "near", f32(), net.op("abs", "far", f32(), over), **within)
        else:
            below = net.op("compare_to", "below", f32(), over, **within)
            near = net.op("mul", "near", f32(), reached, below)
        less = net.op("scale", "less", f32(), near, factor=-0.9 if aim.relax == "tenth" else -1.0)
        counts = net.op("shift", "counts", f32(), less, by=1.0)
        return net.op("mul", "relaxed", f32(), sign, counts)

    def _quantizer(self, op: Op) -> tuple[Op, ...]:
        """The quantizer with bits, and therefore a step, for each sample."""
        block, role = self.roles[op.result.name]
        x, low, high, _, *more = op.inputs
        q = op.result.type
        most = max(c[role == "gradient"] for c in self.choices)
        if most > q.format.bits:
            raise RecipeError(
                f"layer {op.origin}: a choice of {most} bits does not fit codes in {q.format}"
            )
        each = f32(self.samples)
        limits = [
            self.net.op("broadcast", f"{v.name}.each", each, v, dims=(0,)) for v in (low, high)
        ]
        made = Value(op.result.name, TensorType(q.shape, q.format, Scale.AFFINE_CHANNEL))
        inputs = (x, *limits, self.gates[block].bits[role], *more)
        return (*self.net.take(), replace(op, inputs=inputs, results=(made,)))


def _roles(
    program: Program, block_of: dict[str, ResidualBlock]
) -> dict[str, tuple[ResidualBlock, str]]:
    """Names of the codes that a block's products read, with block and role."""
    found: dict[str, tuple[ResidualBlock, str]] = {}
    for _, op in program.ops():
        if op.origin not in block_of:
            continue
        if op.kind in FORWARD_GEMMS:
            found[op.inputs[0].name] = block_of[op.origin], "activation"
        elif op.kind in GRADIENT_PRODUCTS:
            found[op.inputs[0].name] = block_of[op.origin], "gradient"
    return found


def _weight_bits(program: Program, block_of: dict[str, ResidualBlock]) -> int:
    """Bits of the blocks' weights; 32 where they are plain floats."""
    made = program.producers()
    for op in program.region("forward").ops:
        if op.kind in FORWARD_GEMMS and op.origin in block_of:
            maker = made.get(op.inputs[1])
            bits = made.get(maker.inputs[3]) if maker and OPS[maker.kind].affine else None
            if bits is not None and bits.kind == "constant":
                return int(bits.float_attr("value"))
    return FULL_BITS


def _trained(out: Program, work: _Gated) -> Program:
    """The gates' parameters as state, with their updates, and the cost of the last step."""
    net = work.net
    out = out.with_state({p.state: 0.0 for p in net.parameters.values()})
    if work.later is None or not any(r.name == "update" for r in out.regions):
        return out
    for name, parameter in net.parameters.items():
        first, *more = net.gradients[name]
        for gradient in more:
            first = net.op("add", f"{name}.grad", first.type, first, gradient)
        step = added_update(out, ORIGIN, parameter.now, first, net.taken, name=parameter.state.name)
        assert step is not None, "a program with an update region updates something"
        out = out.append("update", (*net.take(), *step.ops))
        out = out.with_state({s: 0.0 for s, _ in step.kept})
        out = replace(out, next=(*out.next, (parameter.state, step.made), *step.kept))
    assert work.cost is not None
    seen, kept = net.value(COST, f32()), net.value(f"{ORIGIN}.cost.next", f32())
    out = out.append("update", (Op("scale", (work.cost,), (kept,), attrs(factor=1.0), ORIGIN),))
    return replace(out.with_state({seen: 0.0}), next=(*out.next, (seen, kept)))
