"""Small ONNX networks, written as exporters write them, and their weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.parser
from onnx import ModelProto, numpy_helper

Arrays = Mapping[str, np.ndarray]

# As torch's exporter writes it: names of modules, a dynamic batch, a Reshape by sizes, a norm.
TORCH = """<ir_version: 8, opset_import: ["":17]>
net (float[batch,3,7,7] x) => (float[batch,5] scores) {
  [n0] c = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, body__0__conv__weight, body__0__conv__bias)
  [n1] n = BatchNormalization<epsilon=0.00001, momentum=0.9>(c, body__0__bn__weight, body__0__bn__bias,
       body__0__bn__running_mean, body__0__bn__running_var)
  [n2] r = Relu(n)
  [n3] s = Shape(r)
  [n4] zero = Constant<value=int64 {0}>()
  [n5] b = Gather<axis=0>(s, zero)
  [n6] axes = Constant<value=int64[1] {0}>()
  [n7] bu = Unsqueeze(b, axes)
  [n8] rest = Constant<value=int64[1] {-1}>()
  [n9] sizes = Concat<axis=0>(bu, rest)
  [n10] f = Reshape(r, sizes)
  [n11] wt = Transpose<perm=[1,0]>(head__weight)
  [n12] m = MatMul(f, wt)
  [n13] scores = Add(head__bias, m)
}"""

# As exporters of Keras write it: pixels last, padding by words, a batch of 1, a softmax at the end.
KERAS = """<ir_version: 8, opset_import: ["":13]>
net (float[1,9,9,2] x) => (float[1,4] probabilities) {
  [first] t = Transpose<perm=[0,3,1,2]>(x)
  [conv] c = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(t, conv_kernel)
  [bias] b = Add(c, conv_bias)
  [act] a = Clip(b, low, high)
  [pool] p = AveragePool<kernel_shape=[2,2], strides=[2,2], auto_pad="SAME_LOWER">(a)
  [last] l = Transpose<perm=[0,2,3,1]>(p)
  [flat] f = Reshape(l, sizes)
  [dense] d = MatMul(f, dense_kernel)
  [dense_bias] s = Add(d, dense_bias)
  [softmax] probabilities = Softmax<axis=-1>(s)
}"""


def weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Random arrays of moderate size; ``__`` in a name is a dot."""
    rng = np.random.default_rng(0)
    return {
        name.replace("__", "."): (rng.standard_normal(shape) * 0.3).astype(np.float32)
        for name, shape in shapes.items()
    }


TORCH_WEIGHTS = weights(
    **{"body__0__conv__weight": (4, 3, 3, 3), "body__0__conv__bias": (4,)},
    **{"body__0__bn__weight": (4,), "body__0__bn__bias": (4,), "body__0__bn__running_mean": (4,)},
    **{"head__weight": (5, 196), "head__bias": (5,)},
) | {"body.0.bn.running_var": np.array([0.5, 1, 1.5, 2], np.float32)}
KERAS_WEIGHTS: dict[str, np.ndarray] = weights(
    conv_kernel=(6, 2, 3, 3), conv_bias=(1, 6, 1, 1), dense_kernel=(54, 4), dense_bias=(4,)
) | {
    "low": np.array(0, np.float32),
    "high": np.array(6, np.float32),
    "sizes": np.array([1, 54], np.int64),
}


def network(text: str, arrays: Arrays) -> ModelProto:
    """The network of a text with its arrays; ``__`` in a name is a dot."""
    model = onnx.parser.parse_model(text)
    for node in model.graph.node:
        node.input[:] = [name.replace("__", ".") for name in node.input]
    made = [numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items()]
    model.graph.initializer.extend(made)
    return model


def torch_network() -> ModelProto:
    """A convolution, a norm and a linear layer as torch's exporter writes them."""
    return network(TORCH, TORCH_WEIGHTS)


def keras_network() -> ModelProto:
    """A convolution and a linear layer as exporters of Keras write them."""
    return network(KERAS, KERAS_WEIGHTS)
