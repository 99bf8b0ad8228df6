"""The gate of DFQ: a small recurrent network that looks at a block's input and chooses a precision.

"FracTrain" (Fu et al., NeurIPS 2020), section 3.2, with the sizes of its code for CIFAR:

    p = mean of x over the plane              N x C
    u = relu(p W1^T + b1)                     N x 32
    e = u W2^T + b2                           N x 16
    h, c = LSTM(e, h, c)                      N x 16, carried from block to block
    soft = softmax(h Wp^T + bp)               N x choices
    mask = 1 at the first largest of soft, else 0

The LSTM and the projection are shared by all blocks. Backward takes the gradient of ``mask`` for
that of ``soft`` (straight through), and goes back through the LSTM of all blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.formats import F32
from ...compiler.ir import Attr, Op, Program, Value, attrs, unused
from ...compiler.types import Shape, TensorType

ORIGIN = "gate"
FIRST, EMBEDDING, HIDDEN = 32, 16, 16
LSTM_GATES = 4


def f32(*shape: int) -> TensorType:
    """Type of a tensor of plain numbers."""
    return TensorType(shape, F32)


@dataclass(frozen=True, eq=False, slots=True)
class GateParameter:
    """State of the gate, and what it is in this step: drawn at the first, the state later."""

    state: Value
    now: Value


@dataclass(frozen=True, eq=False, slots=True)
class Passed:
    """What the gate of one block made in forward, for backward."""

    x: Value
    pooled: Value
    hidden: Value
    embedded: Value
    before: tuple[Value, Value]
    gates: tuple[Value, Value, Value, Value]
    squashed: Value
    after: tuple[Value, Value]
    soft: Value
    mask: Value


class GateNetwork:
    """Composes the ops of all gates; ``gradients`` collects those of the parameters.

    ``noise`` is the seed and the step counter, from which training draws the first parameters,
    uniform up to 1 / sqrt(inputs) as torch does; a program that evaluates has none.
    """

    def __init__(
        self, program: Program, samples: int, choices: int, noise: tuple[Value, ...]
    ) -> None:
        self.taken, self.samples, self.noise = program.names(), samples, noise
        salts = (op.int_attr("salt") for _, op in program.ops() if "salt" in op.attrs)
        self.salt = max(salts, default=0)
        self.parameters: dict[str, GateParameter] = {}
        self.gradients: dict[str, list[Value]] = {}
        self.ops: list[Op] = []
        wide = LSTM_GATES * HIDDEN
        self._parameter("lstm.x", (wide, EMBEDDING), HIDDEN)
        self._parameter("lstm.h", (wide, HIDDEN), HIDDEN)
        self._parameter("lstm.b", (wide,), HIDDEN)
        self._parameter("choice.w", (choices, HIDDEN), HIDDEN)
        self._parameter("choice.b", (choices,), HIDDEN)

    def _parameter(self, name: str, shape: Shape, inputs: int) -> None:
        state = now = self.value(f"{ORIGIN}.{name}", f32(*shape))
        if self.noise:
            self.salt += 1
            how = attrs(bound=inputs**-0.5, salt=self.salt)
            now = self.op("initialize", f"{name}.now", state.type, state, *self.noise, **how)
        self.parameters[name] = GateParameter(state, now)
        self.gradients[name] = []

    def value(self, name: str, type_: TensorType) -> Value:
        """A new value."""
        return Value(unused(name, self.taken), type_)

    def take(self) -> tuple[Op, ...]:
        """The ops made since the last call."""
        ops, self.ops = tuple(self.ops), []
        return ops

    def op(self, kind: str, name: str, type_: TensorType, *x: Value, **more: Attr) -> Value:
        """Append an op with one result."""
        made = self.value(f"{ORIGIN}.{name}", type_)
        self.ops.append(Op(kind, x, (made,), attrs(**more), ORIGIN))
        return made

    def now(self, name: str) -> Value:
        """A parameter in this step."""
        return self.parameters[name].now

    def zeros(self, name: str) -> Value:
        """An empty hidden state."""
        return self.op("constant", name, f32(self.samples, HIDDEN), value=0.0)

    def affine(self, name: str, x: Value, w: str, b: str) -> Value:
        """x w^T + b"""
        type_ = f32(self.samples, self.now(w).type.shape[0])
        product = self.op("linear", f"{name}.product", type_, x, self.now(w))
        return self.op("add_bias", name, type_, product, self.now(b))

    def forward(self, block: str, x: Value, before: tuple[Value, Value]) -> Passed:
        """The gate of a block with input ``x``; ``before`` is (h, c) of the one ahead."""
        n, channels = x.type.shape[:2]
        self._parameter(f"{block}.w1", (FIRST, channels), channels)
        self._parameter(f"{block}.b1", (FIRST,), channels)
        self._parameter(f"{block}.w2", (EMBEDDING, FIRST), FIRST)
        self._parameter(f"{block}.b2", (EMBEDDING,), FIRST)
        plane = attrs(dims=(2, 3), keepdim=False)
        pooled = self.op("mean", f"{block}.pooled", f32(n, channels), x, **plane)
        first = self.affine(f"{block}.first", pooled, f"{block}.w1", f"{block}.b1")
        hidden = self.op("relu", f"{block}.hidden", first.type, first)
        embedded = self.affine(f"{block}.embedded", hidden, f"{block}.w2", f"{block}.b2")
        gates, squashed, after = self._lstm(block, embedded, before)
        logits = self.affine(f"{block}.logits", after[0], "choice.w", "choice.b")
        logs = self.op("log_softmax", f"{block}.logs", logits.type, logits)
        soft = self.op("exp", f"{block}.soft", logits.type, logs)
        mask = self.op("hard_choice", f"{block}.mask", logits.type, soft)
        return Passed(x, pooled, hidden, embedded, before, gates, squashed, after, soft, mask)

    def _lstm(
        self, block: str, x: Value, before: tuple[Value, Value]
    ) -> tuple[tuple[Value, Value, Value, Value], Value, tuple[Value, Value]]:
        h, c = before
        wide = f32(self.samples, LSTM_GATES * HIDDEN)
        seen = self.affine(f"{block}.seen", x, "lstm.x", "lstm.b")
        kept = self.op("linear", f"{block}.kept", wide, h, self.now("lstm.h"))
        z = self.op("add", f"{block}.z", wide, seen, kept)
        kinds = {"i": "sigmoid", "f": "sigmoid", "g": "tanh", "o": "sigmoid"}
        gates = []
        for place, (name, kind) in enumerate(kinds.items()):
            where = attrs(dim=1, start=place * HIDDEN, step=1)
            part = self.op("slice", f"{block}.z{name}", h.type, z, **where)
            gates.append(self.op(kind, f"{block}.{name}", h.type, part))
        i, f, g, o = gates
        remembered = self.op("mul", f"{block}.fc", h.type, f, c)
        written = self.op("mul", f"{block}.ig", h.type, i, g)
        cell = self.op("add", f"{block}.c", h.type, remembered, written)
        squashed = self.op("tanh", f"{block}.t", h.type, cell)
        return (i, f, g, o), squashed, (self.op("mul", f"{block}.h", h.type, o, squashed), cell)

    def backward(
        self, block: str, it: Passed, dmask: Value, later: tuple[Value, Value]
    ) -> tuple[Value, tuple[Value, Value]]:
        """dx of the block's input, and the gradients of ``it.before``.

        ``later`` are the gradients of ``it.after`` from the blocks behind.
        """
        weighted = self.op("mul", f"{block}.ds", dmask.type, dmask, it.soft)
        dims = attrs(dims=(1,), keepdim=True)
        total = self.op("sum", f"{block}.dsum", f32(self.samples, 1), weighted, **dims)
        wide = self.op("broadcast", f"{block}.dsum.wide", dmask.type, total, dims=(1,))
        common = self.op("mul", f"{block}.dcommon", dmask.type, it.soft, wide)
        dlogits = self.op("sub", f"{block}.dlogits", dmask.type, weighted, common)
        dh = self._back(f"{block}.dh.choice", dlogits, it.after[0], "choice.w", "choice.b")
        dh = self.op("add", f"{block}.dh", dh.type, dh, later[0])
        dz, dc = self._lstm_back(block, it, dh, later[1])
        dbefore = self._back(f"{block}.dh.before", dz, it.before[0], "lstm.h", "")
        dembedded = self._back(f"{block}.de", dz, it.embedded, "lstm.x", "lstm.b")
        dhidden = self._back(f"{block}.du", dembedded, it.hidden, f"{block}.w2", f"{block}.b2")
        dfirst = self.op("relu_grad", f"{block}.dfirst", dhidden.type, dhidden, it.hidden)
        dpooled = self._back(f"{block}.dp", dfirst, it.pooled, f"{block}.w1", f"{block}.b1")
        shape = it.x.type.shape
        spread = self.op("broadcast", f"{block}.dx.wide", f32(*shape), dpooled, dims=(2, 3))
        share = 1.0 / (shape[2] * shape[3])
        return self.op("scale", f"{block}.dx", f32(*shape), spread, factor=share), (dbefore, dc)

    def _back(self, name: str, g: Value, x: Value, w: str, b: str) -> Value:
        """dX of ``affine``; dW and the gradient of the bias are collected."""
        weight = self.now(w)
        dw = self.op("linear_weight_grad", f"{name}.dw", weight.type, g, x)
        self.gradients[w].append(dw)
        if b:
            bias = self.op("sum_channels", f"{name}.db", self.now(b).type, g)
            self.gradients[b].append(bias)
        type_ = f32(self.samples, weight.type.shape[1])
        return self.op("linear_input_grad", name, type_, g, weight)

    def _lstm_back(self, block: str, it: Passed, dh: Value, dc: Value) -> tuple[Value, Value]:
        """dz of all four gates side by side, and the gradient of the cell before."""
        i, f, g, o = it.gates
        (_, c), t = it.before, it.squashed

        def op(kind: str, name: str, *x: Value, **more: Attr) -> Value:
            return self.op(kind, f"{block}.{name}", dh.type, *x, **more)

        def through_tanh(name: str, gradient: Value, y: Value) -> Value:
            first = op("mul", f"{name}.dy", gradient, y)
            return op("sub", name, gradient, op("mul", f"{name}.dy2", first, y))

        def through_sigmoid(name: str, gradient: Value, y: Value) -> Value:
            first = op("mul", f"{name}.dy", gradient, y)
            return op("sub", name, first, op("mul", f"{name}.dy2", first, y))

        dc = op("add", "dc", dc, through_tanh("dt", op("mul", "dht", dh, o), t))
        dz = (
            through_sigmoid("dzi", op("mul", "di", dc, g), i),
            through_sigmoid("dzf", op("mul", "df", dc, c), f),
            through_tanh("dzg", op("mul", "dg", dc, i), g),
            through_sigmoid("dzo", op("mul", "do", dh, t), o),
        )
        wide = f32(self.samples, LSTM_GATES * HIDDEN)
        return self.op("cat", f"{block}.dz", wide, *dz, dim=1), op("mul", "dc.before", dc, f)
