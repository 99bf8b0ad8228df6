"""Weights of ONNX networks: what is trained, shared and decoded; operators that are made of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

import onnx.parser  # noqa: E402
from onnx import helper  # noqa: E402

from quatrain.compiler.errors import FileError, QuatrainError, UnsupportedOpError  # noqa: E402
from quatrain.tools.from_onnx import from_onnx  # noqa: E402

from ..cases.onnx_networks import KERAS, network, torch_network, weights  # noqa: E402
from .test_from_onnx import by_onnxruntime, close, numbers, outputs  # noqa: E402

pytestmark = pytest.mark.torch

RECURRENT = """<ir_version: 8, opset_import: ["":14]>
net (float[6,batch,3] x) => (float[6,d,batch,4] y, float[d,batch,4] h) {{
  [net] y, h = {kind}<hidden_size=4, direction="{direction}"{more}>(x, w, r, b)
}}"""


@pytest.mark.parametrize(
    ("kind", "gates", "direction", "more"),
    [
        ("LSTM", 4, "bidirectional", ""),
        ("LSTM", 4, "reverse", ""),
        ("GRU", 3, "bidirectional", ", linear_before_reset=1"),
        ("GRU", 3, "bidirectional", ", linear_before_reset=0"),
        ("RNN", 1, "forward", ', activations=["Relu"]'),
    ],
)
def test_recurrent_networks(kind: str, gates: int, direction: str, more: str) -> None:
    ways = 2 if direction == "bidirectional" else 1
    arrays = weights(w=(ways, 4 * gates, 3), r=(ways, 4 * gates, 4), b=(ways, 8 * gates))
    model = network(RECURRENT.format(kind=kind, direction=direction, more=more), arrays)
    x = numbers(6, 2, 3)
    for made, wanted in zip(outputs(model, x), by_onnxruntime(model, x), strict=True):
        close(made, wanted)
    count = sum(p.numel() for p in from_onnx(model).parameters())
    assert count == sum(a.size for a in arrays.values())


QUANTIZED = """<ir_version: 8, opset_import: ["":13]>
net (float[batch,6] x) => (float[batch,3] y) {
  qx = QuantizeLinear(x, sx, zx)
  dx = DequantizeLinear(qx, sx, zx)
  dw = DequantizeLinear<axis=1>(qw, sw, zw)
  [fc] m = MatMul(dx, dw)
  qm = QuantizeLinear(m, sm, zm)
  y = DequantizeLinear(qm, sm, zm)
}"""
WIDTHS = np.array([0.01, 0.02, 0.005], np.float32)
CODES = np.random.default_rng(2).integers(-127, 128, (6, 3), np.int8)
QUANTIZED_ARRAYS: dict[str, np.ndarray] = {
    "sx": np.array(0.04, np.float32),
    "zx": np.array(0, np.int8),
    "qw": CODES,
    "sw": WIDTHS,
    "zw": np.zeros(3, np.int8),
    "sm": np.array(0.02, np.float32),
    "zm": np.array(0, np.uint8),
}


def test_codes_of_weights_are_decoded_and_a_pair_keeps_its_range_alone() -> None:
    model, x = network(QUANTIZED, QUANTIZED_ARRAYS), numbers(5, 6)
    weight = from_onnx(model).get_parameter("fc.weight").detach().numpy()
    close(weight, (CODES * WIDTHS).T)
    made, wanted = outputs(model, x)[0], by_onnxruntime(model, x)[0]
    # Codes from 0 on are a ReLU. onnxruntime rounds x by up to 0.02, times a weight, and y by 0.01.
    assert made.min() == 0 == wanted.min() and made.max() > 0
    assert np.abs(made - wanted).max() < 0.02 * np.abs(weight).sum(1).max() + 0.011


SHARED = """<ir_version: 8, opset_import: ["":17]>
net (int64[batch,4] ids) => (float[batch,4,9] y) {
  e = Gather(words__weight, ids)
  [norm1] a = LayerNormalization(e, ones)
  [norm2] b = LayerNormalization(a, ones)
  t = Transpose<perm=[1,0]>(words__weight)
  y = MatMul(b, t)
}"""


def test_what_nodes_share_is_one_parameter_but_not_the_ones_of_new_norms() -> None:
    arrays = weights(words__weight=(9, 5)) | {"ones": np.ones(5, np.float32)}
    read = from_onnx(network(SHARED, arrays))
    assert sorted(n for n, _ in read.named_parameters()) == [
        *("norm1.weight", "norm2.weight", "words.weight")
    ]


UNTRAINED = """<ir_version: 8, opset_import: ["":13]>
net (float[batch,4,4] x) => (float[batch,4,4] y) {
  a = Add(x, mask)
  b = Mul(a, half)
  c = Mul(b, gamma)
  y = Softmax(c)
}"""


def test_masks_and_single_numbers_are_no_parameters() -> None:
    mask = np.triu(np.full((4, 4), -1e9, np.float32), 1)
    arrays = {"mask": mask, "half": np.array(0.5, np.float32)} | weights(gamma=(4,))
    assert [n for n, _ in from_onnx(network(UNTRAINED, arrays)).named_parameters()] == ["gamma"]


FUSED = """<ir_version: 8, opset_import: ["":17, "com.microsoft":1]>
net (float[2,5,8] x) => (float[2,5,8] y) {
  g = com.microsoft.BiasGelu(x, bias)
  s = com.microsoft.SkipLayerNormalization<epsilon=0.00001>(g, x, gamma, beta)
  a = com.microsoft.Attention<num_heads=2>(s, w, b)
  y = com.microsoft.FusedMatMul<alpha=0.5, transB=1>(a, m)
}"""


def test_operators_that_onnxruntime_fuses() -> None:
    arrays = weights(bias=(8,), gamma=(8,), beta=(8,), w=(8, 24), b=(24,), m=(8, 8))
    model, x = network(FUSED, arrays), numbers(2, 5, 8)
    close(outputs(model, x)[0], by_onnxruntime(model, x)[0])


def test_functions_of_a_file_are_written_out() -> None:
    text = """<ir_version: 8, opset_import: ["":18, "own":1]>
    net (float[2,3] x) => (float[2,3] y) { t = own.twice(x) y = Shrink<lambd=0.5>(t) }
    <domain: "own", opset_import: ["":18]> twice (a) => (b) { b = Add(a, a) }"""
    model, x = onnx.parser.parse_model(text), numbers(2, 3)
    close(outputs(model, x)[0], by_onnxruntime(model, x)[0])


REFUSED = [
    ("y = NonZero(x)", "no step has the operators NonZero (node 'y')"),
    ("y = Reshape(x, n)", "node 'y' (Reshape, opset 17) takes its shape from the numbers"),
    ("y = MatMulInteger(n8, n8)", "node 'y' (MatMulInteger, opset 17) computes with integers"),
    ('y = Pad<mode="odd">(x, k)', "pads in mode 'odd'; known: constant, edge, reflect, wrap"),
    ("y = QuantizeLinear(x, one)", "the output 'y' holds codes"),
]


@pytest.mark.parametrize(("body", "words"), REFUSED)
def test_what_is_refused_names_its_node(body: str, words: str) -> None:
    text = f"""<ir_version: 8, opset_import: ["":17]>
    net (float[2,3,4] x, int64[3] n, int8[3,3] n8) => (float[a,b,c] y) {{ {body} }}"""
    arrays: dict[str, np.ndarray] = {
        "one": np.array(1, np.float32),
        "k": np.array([0, 0, 1, 0, 0, 1], np.int64),
    }
    used = {name: a for name, a in arrays.items() if f" {name})" in body}
    n8 = torch.ones(3, 3, dtype=torch.int64)
    with pytest.raises(UnsupportedOpError) as error:
        from_onnx(network(text, used))(torch.zeros(2, 3, 4), n8[0], n8)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_branch_is_refused() -> None:
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["o"])], "branch", [], [info("o", 1, [2])]
    )
    node = helper.make_node("If", ["c"], ["y"], name="fork", then_branch=body, else_branch=body)
    inputs = [info("x", 1, [2]), info("c", 9, [])]
    graph = helper.make_graph([node], "net", inputs, [info("y", 1, [2])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(UnsupportedOpError, match=r"node 'fork' .If, opset 17. holds graphs"):
        from_onnx(model)


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with pytest.raises(FileError, match="there is no file"):
        from_onnx(path)
    path.write_bytes(b"no network")
    with pytest.raises(FileError, match=r"net.onnx is no"):
        from_onnx(path)
    with pytest.raises(FileError, match="no valid ONNX model"):
        from_onnx(onnx.parser.parse_model(KERAS))


def test_inputs_and_outputs_are_checked_by_name() -> None:
    read = from_onnx(torch_network())
    x = torch.zeros(2, 3, 7, 7)
    with pytest.raises(QuatrainError, match="'x' is batchx3x7x7, and was given 2x3x7x8"):
        read(torch.zeros(2, 3, 7, 8))
    with pytest.raises(QuatrainError, match="the input 'x' holds floats"):
        read(x.long())
    with pytest.raises(QuatrainError, match="takes x, and was given 2 tensors"):
        read(x, x)
    with pytest.raises(QuatrainError, match="no output 'sores'; did you mean 'scores'"):
        from_onnx(torch_network(), outputs=["sores"])
