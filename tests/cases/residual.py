"""Residual networks as f32 training and evaluation programs, as capture makes them, without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from quatrain.compiler.formats import F32, I64
from quatrain.compiler.ir import Attr, Op, Program, Region, Value, attrs
from quatrain.compiler.types import TensorType

Shape = tuple[int, ...]


@dataclass
class Net:
    """Ops so far; each layer adds its forward and pushes what backward does with a gradient."""

    training: bool = True
    forward: list[Op] = field(default_factory=list)
    backward: list[Op] = field(default_factory=list)
    inputs: dict[str, Value] = field(default_factory=dict)
    state: dict[str, Value] = field(default_factory=dict)
    gradients: dict[str, Value] = field(default_factory=dict)
    next: dict[str, Value] = field(default_factory=dict)
    update: list[Op] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def op(
        self,
        ops: list[Op],
        kind: str,
        inputs: Sequence[Value],
        names: Sequence[tuple[str, Shape]],
        origin: str,
        **options: Attr,
    ) -> tuple[Value, ...]:
        results = tuple(Value(n, TensorType(s, F32)) for n, s in names)
        ops.append(Op(kind, tuple(inputs), results, attrs(**options), origin))
        return results

    def parameter(self, name: str, shape: Shape) -> Value:
        self.state.setdefault(name, Value(name, TensorType(shape, F32)))
        return self.state[name]

    def input(self, name: str, shape: Shape, integer: bool = False) -> Value:
        self.inputs[name] = Value(name, TensorType(shape, I64 if integer else F32))
        return self.inputs[name]

    # Each layer: forward now, and a function from dy to dx that adds the backward ops.
    def conv(
        self, x: Value, name: str, width: int, size: int, stride: int = 1, needs_dx: bool = True
    ) -> tuple[Value, Callable[[Value], Value]]:
        n, c, h, w_ = x.type.shape
        pad = size // 2
        out = (n, width, (h + 2 * pad - size) // stride + 1, (w_ + 2 * pad - size) // stride + 1)
        w = self.parameter(f"{name}.weight", (width, c, size, size))
        how: dict[str, Attr] = {
            "stride": (stride, stride),
            "padding": (pad, pad),
            "dilation": (1, 1),
            "groups": 1,
        }
        (y,) = self.op(self.forward, "conv2d", [x, w], [(f"{name}.y", out)], name, **how)

        def back(g: Value) -> Value:
            dx = g
            if needs_dx:
                result = [(f"{name}.dx", x.type.shape)]
                (dx,) = self.op(self.backward, "conv2d_input_grad", [g, w], result, name, **how)
            result = [(f"{name}.dw", w.type.shape)]
            kind = "conv2d_weight_grad"
            (self.gradients[w.name],) = self.op(self.backward, kind, [g, x], result, name, **how)
            return dx

        return y, back

    def linear(self, x: Value, name: str, width: int) -> tuple[Value, Callable[[Value], Value]]:
        n, c = x.type.shape
        w = self.parameter(f"{name}.weight", (width, c))
        b = self.parameter(f"{name}.bias", (width,))
        (y,) = self.op(self.forward, "linear", [x, w], [(f"{name}.y", (n, width))], name)
        (out,) = self.op(self.forward, "add_bias", [y, b], [(f"{name}.out", (n, width))], name)

        def back(g: Value) -> Value:
            ops = self.backward
            (dx,) = self.op(ops, "linear_input_grad", [g, w], [(f"{name}.dx", (n, c))], name)
            (dw,) = self.op(ops, "linear_weight_grad", [g, x], [(f"{name}.dw", (width, c))], name)
            (db,) = self.op(ops, "sum_channels", [g], [(f"{name}.db", (width,))], name)
            self.gradients |= {w.name: dw, b.name: db}
            return dx

        return out, back

    def norm(self, x: Value, name: str) -> tuple[Value, Callable[[Value], Value]]:
        c = (x.type.shape[1],)
        gamma, beta, mean_, var_ = (
            self.parameter(f"{name}.{p}", c)
            for p in ("weight", "bias", "running_mean", "running_var")
        )
        mean, var = mean_, var_
        if self.training:
            results = [(f"{name}.mean", c), (f"{name}.var", c)]
            mean, var = self.op(self.forward, "batch_stats", [x], results, name)
            for old, new in ((mean_, mean), (var_, var)):
                (self.next[old.name],) = self.op(
                    self.update,
                    "running_stats",
                    [old, new],
                    [(f"{old.name}.next", c)],
                    name,
                    momentum=0.1,
                    correction=1.0,
                )
        reads = [x, mean, var, gamma, beta]
        (y,) = self.op(
            self.forward, "batch_norm", reads, [(f"{name}.y", x.type.shape)], name, eps=1e-5
        )

        return y, lambda g: self.norm_back(g, name, [x, mean, var, gamma, beta])

    def norm_back(self, g: Value, name: str, forward: list[Value]) -> Value:
        x, mean, var, gamma, beta = forward
        c = gamma.type.shape
        results = [(f"{name}.dgamma", c), (f"{name}.dbeta", c)]
        kind = "batch_norm_grad_stats"
        sums = self.op(self.backward, kind, [g, x, mean, var], results, name, eps=1e-5)
        reads = [g, x, mean, var, gamma, *sums]
        result = [(f"{name}.dx", x.type.shape)]
        kind = "batch_norm_input_grad"
        self.gradients |= {gamma.name: sums[0], beta.name: sums[1]}
        return self.op(self.backward, kind, reads, result, name, eps=1e-5)[0]

    def relu(self, x: Value, name: str) -> tuple[Value, Callable[[Value], Value]]:
        (y,) = self.op(self.forward, "relu", [x], [(f"{name}.y", x.type.shape)], name)

        def back(g: Value) -> Value:
            result = [(f"{name}.dx", x.type.shape)]
            return self.op(self.backward, "relu_grad", [g, y], result, name)[0]

        return y, back

    def add(self, a: Value, b: Value, name: str, backward: bool = False) -> Value:
        ops = self.backward if backward else self.forward
        return self.op(ops, "add", [a, b], [(name, a.type.shape)], name.rpartition(".")[0])[0]

    def block(
        self, x: Value, name: str, width: int, stride: int, middle: int = 3
    ) -> tuple[Value, Callable[[Value], Value]]:
        y, conv1 = self.conv(x, f"{name}.conv1", width, middle, stride)
        y, bn1 = self.norm(y, f"{name}.bn1")
        y, relu1 = self.relu(y, f"{name}.relu")
        y, conv2 = self.conv(y, f"{name}.conv2", width, 3)
        y, bn2 = self.norm(y, f"{name}.bn2")
        projects = stride > 1 or width != x.type.shape[1]
        side = x
        if projects:
            side, conv3 = self.conv(x, f"{name}.downsample.0", width, 1, stride)
            side, bn3 = self.norm(side, f"{name}.downsample.1")
        y, relu2 = self.relu(self.add(y, side, f"{name}.sum"), f"{name}.relu#2")

        def back(g: Value) -> Value:
            g = relu2(g)
            other = conv3(bn3(g)) if projects else g
            main = conv1(bn1(relu1(conv2(bn2(g)))))
            return self.add(other, main, f"{name}.dsum", backward=True)

        return y, back

    def stem(
        self, x: Value, width: int, size: int, stride: int
    ) -> tuple[Value, Callable[[Value], Value]]:
        y, conv = self.conv(x, "conv1", width, size, stride, needs_dx=False)
        y, bn = self.norm(y, "bn1")
        y, relu = self.relu(y, "relu")
        return y, lambda g: conv(bn(relu(g)))

    def head(self, x: Value, classes: int) -> tuple[Value, Callable[[Value], Value]]:
        n, c = x.type.shape[:2]
        pooled = [("avgpool.y", (n, c, 1, 1))]
        (y,) = self.op(self.forward, "adaptive_avg_pool2d", [x], pooled, "avgpool")
        (flat,) = self.op(self.forward, "view", [y], [("flatten", (n, c))], "")
        out, fc = self.linear(flat, "fc", classes)

        def back(g: Value) -> Value:
            (g4,) = self.op(self.backward, "view", [fc(g)], [("flatten.dx", (n, c, 1, 1))], "")
            result = [("avgpool.dx", x.type.shape)]
            kind = "adaptive_avg_pool2d_grad"
            return self.op(self.backward, kind, [g4], result, "avgpool")[0]

        return out, back

    def loss(self, logits: Value, target: Value) -> tuple[Value, Value]:
        how: dict[str, Attr] = {"reduction": "mean", "ignore_index": -100}
        shape = logits.type.shape
        (p,) = self.op(self.forward, "log_softmax", [logits], [("log_softmax.y", shape)], "loss")
        value, count = self.op(
            self.forward, "nll_loss", [p, target], [("loss", ()), ("loss.count", ())], "loss", **how
        )
        (one,) = self.op(self.backward, "constant", [], [("loss.one", ())], "loss", value=1.0)
        result = [("loss.dy", shape)]
        kind = "nll_loss_grad"
        (dy,) = self.op(self.backward, kind, [one, target, count], result, "loss", **how)
        (dx,) = self.op(self.backward, "log_softmax_grad", [dy, p], [("loss.dx", shape)], "loss")
        return value, dx

    def sgd(self) -> None:
        step = self.state["step"] = Value("step", TensorType((), I64))
        rates = [
            self.input(f"group0.{n}", ()) for n in ("lr", "momentum", "dampening", "weight_decay")
        ]
        for name, g in self.gradients.items():
            w, layer = self.state[name], name.rpartition(".")[0]
            m = self.parameter(f"{name}.momentum", w.type.shape)
            results = [(f"{name}.next", w.type.shape), (f"{m.name}.next", w.type.shape)]
            made = self.op(
                self.update,
                "sgd",
                [w, g, m, step, *rates],
                results,
                layer,
                nesterov=True,
                maximize=False,
            )
            self.next |= {name: made[0], m.name: made[1]}
        after = Value("step.next", TensorType((), I64))
        self.update.append(Op("increment", (step,), (after,)))
        self.next["step"] = after

    def program(self, name: str, outputs: tuple[Value, ...]) -> Program:
        regions = [Region("forward", tuple(self.forward))]
        if self.training:
            regions.append(Region("backward", tuple(self.backward)))
            regions.append(Region("update", tuple(self.update)))
        return Program(
            name,
            tuple(self.inputs.values()),
            tuple(self.state.values()),
            tuple(regions),
            outputs,
            tuple((self.state[s], v) for s, v in self.next.items()),
        )


def resnet(
    batch: int = 2,
    image: int = 8,
    widths: tuple[int, ...] = (3, 5),
    blocks: int = 1,
    *,
    stem: tuple[int, int] = (3, 1),
    middle: int = 3,
    training: bool = True,
) -> Program:
    """A residual network of basic blocks; ``stem`` is the first kernel's size and stride."""
    net = Net(training)
    x, backs = net.input("x", (batch, 3, image, image)), []
    y, back = net.stem(x, widths[0], *stem)
    backs.append(back)
    for i, width in enumerate(widths):
        for j in range(blocks):
            stride = 2 if i and not j else 1
            y, back = net.block(y, f"layer{i + 1}.{j}", width, stride, middle)
            backs.append(back)
    out, back = net.head(y, 10)
    if not training:
        return net.program("resnet", (out,))
    value, g = net.loss(out, net.input("y", (batch,), integer=True))
    for undo in (back, *reversed(backs)):
        g = undo(g)
    net.sgd()
    return net.program("resnet", (value,))
