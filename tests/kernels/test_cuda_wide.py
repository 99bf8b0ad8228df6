"""Batch norm of more channels than shared memory has room for: the numbers of each, where read."""

from __future__ import annotations

import pytest

pytest.importorskip("tvm")

from quatrain.compiler.formats import BF16, F32, FP4_EVEN, UINT4
from quatrain.compiler.ir import Attr
from quatrain.compiler.types import Scale, TensorType

from ..cases.one_kernel import Group, pointwise, random_inputs, same

pytestmark = [pytest.mark.tvm, pytest.mark.usefixtures("emulated")]


@pytest.mark.parametrize("channels", [2731, 4100])
def test_gradients_of_wide_norms(channels: int) -> None:
    shape, group = (3, channels, 1, 1), Group()
    g, x = (group.input(name, TensorType(shape, BF16)) for name in "gx")
    names = ["mean", "var", "gamma", "dgamma", "dbeta"]
    ps = [group.input(name, TensorType((channels,), F32)) for name in names]
    s = group.input("s", TensorType((), F32))
    (dx,) = group.op("batch_norm_input_grad", (g, x, *ps), [g.type], eps=1e-5)
    (gs,) = group.op("grad_scale", (dx, s), [TensorType(shape, BF16, Scale.POW2)])
    (m,) = group.op("amax", (gs,), [TensorType((), F32)])
    words: dict[str, Attr] = {"tie": "up", "underflow": "uniform", "up": 1.6}
    (even,) = group.op("round_log", (gs,), [TensorType(shape, FP4_EVEN, Scale.POW2)], **words)
    got, want = pointwise(group, (m, even), random_inputs(group.inputs, given={"s": 4.0}))
    for v in (m, even):
        same(got[v.name], want[v.name])


def test_wide_norms() -> None:
    channels = 8200
    shape, group = (2, channels, 1, 1), Group()
    x = group.input("x", TensorType(shape, BF16))
    names = ["mean", "var", "gamma", "beta"]
    ps = [group.input(name, TensorType((channels,), F32)) for name in names]
    clip = group.input("clip", TensorType((), F32))
    (y,) = group.op("batch_norm", (x, *ps), [x.type], eps=1e-5)
    (q,) = group.op("quantize", (y, clip), [TensorType(shape, UINT4, Scale.TENSOR)])
    got, want = pointwise(group, (q,), random_inputs(group.inputs))
    same(got[q.name], want[q.name])
