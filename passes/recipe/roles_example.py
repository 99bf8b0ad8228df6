"""A tiny network with one layer of each class, as IR text: what the table of roles is read from."""

from __future__ import annotations

import re

CONV3 = "{stride=[1,1], padding=[1,1], dilation=[1,1], groups=1}"
CONV1 = "{stride=[1,1], padding=[0,0], dilation=[1,1], groups=1}"
NLL = "{reduction=mean, ignore_index=-100}"
RATES = "step, group0.lr, group0.momentum, group0.dampening, group0.weight_decay"
SHAPES = {"first": "4x4x3x3", "ordinary": "4x4x3x3", "pointwise": "4x4x1x1"} | {
    "shortcut": "4x4x1x1",
    "last": "4x4",
}
LAYERS = tuple(SHAPES)
CHANNELS = 4
PRODUCT = "product"  # a layer without a weight


def _update() -> str:
    lines = []
    for layer, shape in SHAPES.items():
        inputs = f"{layer}.w, {layer}.dw, {layer}.m, {RATES}"
        lines += [
            f"# {layer}",
            f"{layer}.w1, {layer}.m1 = sgd({inputs}) {{nesterov=false, maximize=false}} : "
            f"f32[{shape}], f32[{shape}]",
        ]
    return "\n".join([*lines, "step1 = increment(step) : i64[]"])


def _state(part: str) -> str:
    return "\n".join(f"state {layer}.{part} : f32[{s}]" for layer, s in SHAPES.items())


def _next() -> str:
    pairs = [f"next {n}.{p} = {n}.{p}1" for n in LAYERS for p in ("w", "m")]
    return "\n".join([*pairs, "next step = step1"])


EXAMPLE = f"""program roles
input x : f32[2x4x6x6]
input y : i64[2]
input group0.lr : f32[]
input group0.momentum : f32[]
input group0.dampening : f32[]
input group0.weight_decay : f32[]
{_state("w")}
{_state("m")}
state step : i64[]

forward:
# first
first.y = conv2d(x, first.w) {CONV3} : f32[2x4x6x6]
a = relu(first.y) : f32[2x4x6x6]
# ordinary
ordinary.y = conv2d(a, ordinary.w) {CONV3} : f32[2x4x6x6]
b = relu(ordinary.y) : f32[2x4x6x6]
# pointwise
pointwise.y = conv2d(b, pointwise.w) {CONV1} : f32[2x4x6x6]
# shortcut
shortcut.y = conv2d(a, shortcut.w) {CONV1} : f32[2x4x6x6]
s = add(pointwise.y, shortcut.y) : f32[2x4x6x6]
c = relu(s) : f32[2x4x6x6]
p = adaptive_avg_pool2d(c) : f32[2x4x1x1]
f = view(p) : f32[2x4]
t = view(b) : f32[2x36x4]
u = view(c) : f32[2x4x36]
# product
product.y = product(u, t) : f32[2x4x4]
m = mean(product.y) {{dims=[2], keepdim=false}} : f32[2x4]
h = add(f, m) : f32[2x4]
# last
last.y = linear(h, last.w) : f32[2x4]
# loss
l = log_softmax(last.y) : f32[2x4]
loss, count = nll_loss(l, y) {NLL} : f32[], f32[]

backward:
# loss
one = constant() {{value=1.0}} : f32[]
dl = nll_loss_grad(one, y, count) {NLL} : f32[2x4]
dlast = log_softmax_grad(dl, l) : f32[2x4]
# last
df = linear_input_grad(dlast, last.w) : f32[2x4]
last.dw = linear_weight_grad(dlast, h) : f32[4x4]
dm = view(df) : f32[2x4x1]
dy = broadcast(dm) {{dims=[2]}} : f32[2x4x4]
# product
product.da = product_input_grad(dy, t) : f32[2x4x36]
product.db = product_weight_grad(dy, u) : f32[2x36x4]
dt = view(product.db) : f32[2x4x6x6]
du = view(product.da) : f32[2x4x6x6]
dp = view(df) : f32[2x4x1x1]
dq = adaptive_avg_pool2d_grad(dp) : f32[2x4x6x6]
dc = add(dq, du) : f32[2x4x6x6]
ds = relu_grad(dc, c) : f32[2x4x6x6]
# shortcut
shortcut.dx = conv2d_input_grad(ds, shortcut.w) {CONV1} : f32[2x4x6x6]
shortcut.dw = conv2d_weight_grad(ds, a) {CONV1} : f32[4x4x1x1]
# pointwise
pointwise.dx = conv2d_input_grad(ds, pointwise.w) {CONV1} : f32[2x4x6x6]
pointwise.dw = conv2d_weight_grad(ds, b) {CONV1} : f32[4x4x1x1]
dboth = add(pointwise.dx, dt) : f32[2x4x6x6]
db = relu_grad(dboth, b) : f32[2x4x6x6]
# ordinary
ordinary.dx = conv2d_input_grad(db, ordinary.w) {CONV3} : f32[2x4x6x6]
ordinary.dw = conv2d_weight_grad(db, a) {CONV3} : f32[4x4x3x3]
da = add(shortcut.dx, ordinary.dx) : f32[2x4x6x6]
dfirst = relu_grad(da, a) : f32[2x4x6x6]
# first
first.dw = conv2d_weight_grad(dfirst, x) {CONV3} : f32[4x4x3x3]

update:
{_update()}

return loss
{_next()}
"""


def text(channels: int) -> str:
    """The network with another number of channels; units of a target may ask for many."""
    return re.sub(rf"(?<=[\[x]){CHANNELS}(?=[x\]])", str(channels), EXAMPLE)
