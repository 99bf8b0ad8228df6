"""ONNX networks as modules of torch: numbers beside onnxruntime, gradients, names, refusals."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

import onnx  # noqa: E402
import onnx.parser  # noqa: E402
import onnxruntime  # noqa: E402
from onnx import ModelProto  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from quatrain.tools import driver  # noqa: E402
from quatrain.tools.from_onnx import from_onnx  # noqa: E402

from ..cases.onnx_networks import (  # noqa: E402
    KERAS_WEIGHTS,
    TORCH_WEIGHTS,
    keras_network,
    network,
    torch_network,
    weights,
)

pytestmark = pytest.mark.torch


def close(made: np.ndarray, wanted: np.ndarray) -> None:
    """Equal but for sums of some hundred products in another order."""
    np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-5)


def by_onnxruntime(model: ModelProto, *inputs: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    named = zip(session.get_inputs(), inputs, strict=True)
    return [np.asarray(a) for a in session.run(None, {i.name: a for i, a in named})]


def outputs(model: ModelProto, *inputs: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        made = from_onnx(model).eval()(*map(torch.from_numpy, inputs))
    return [t.numpy() for t in (made if isinstance(made, tuple) else (made,))]


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


X = "float[2,3,6,5] x"
Y = "float[a,b,c,d] y"
# Opset, the graph's inputs, its body: operators whose meaning depends on opset, padding or mode.
BODIES = [
    (12, X, "y = Softmax<axis=2>(x)"),
    (13, X, "y = Softmax<axis=2>(x)"),
    (10, X, "y = Clip<min=-0.5, max=0.5>(x)"),
    (12, X, "t = Squeeze<axes=[0]>(u) u2 = Unsqueeze<axes=[0]>(t) y = Add(x, u2)"),
    (9, X, "y = Slice<starts=[1,0], ends=[-1,3], axes=[2,3]>(x)"),
    (10, X, 'y = Pad<pads=[0,0,1,0,0,0,2,1], mode="reflect">(x)'),
    (11, X, "y = ReduceSum<axes=[1,3], keepdims=1>(x)"),
    (17, X, "y = ReduceMean<axes=[-1], keepdims=1>(x)"),
    (13, X, "y, z, w = Split<axis=1>(x)"),
    (18, X, "y = MaxPool<kernel_shape=[3,2], strides=[2,2], pads=[1,0,0,1], ceil_mode=1>(x)"),
    (11, X, "y = AveragePool<kernel_shape=[3,3], pads=[1,1,0,1], count_include_pad=1>(x)"),
    (19, X, "y = AveragePool<kernel_shape=[3,2], strides=[2,2], ceil_mode=1>(x)"),
    (13, X, "y = LRN<size=3, alpha=0.1, beta=0.5, bias=2.0>(x)"),
    (13, X, "y = InstanceNormalization(x, c3, d3)"),
    (21, X, "y = GroupNormalization<num_groups=3>(x, c3, d3)"),
    (17, X, "y = LayerNormalization<axis=2>(x, n65)"),
    (13, X, 'y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w)'),
    (13, X, "y = Conv<pads=[0,1,2,0], dilations=[2,1]>(x, w, c4)"),
    (13, X, "y = ConvTranspose<strides=[2,2], output_shape=[12,11]>(x, v)"),
    (13, X, "y = ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,0]>(x, v, c4)"),
    (11, X, 'y = Resize<mode="linear", coordinate_transformation_mode="asymmetric">(x, r, s)'),
    (11, X, 'y = Resize<mode="nearest", nearest_mode="ceil">(x, r, s)'),
    (13, X, 'y = Resize<mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1>(x, r, s)'),
    (9, X, 'y = Upsample<mode="linear">(x, s)'),
    (16, X, "i = ArgMax<axis=1>(x) y = GatherElements<axis=1>(x, i)"),
    (13, X, "y = CumSum<exclusive=1, reverse=1>(x, one)"),
    (14, X, "y = Trilu<upper=0>(x, one)"),
    (13, X, 'y = DepthToSpace<blocksize=1, mode="CRD">(x)'),
    (13, X, "y = PRelu(x, slope)"),
    (13, X, "y = Mod<fmod=1>(x, slope)"),
    (18, X, "y = Mish(x)"),
    (20, X, 'y = Gelu<approximate="tanh">(x)'),
    (13, X, 'e = Einsum<equation="nchw,cd->ndhw">(x, m) y = HardSigmoid(e)'),
    (13, X, "h = Shape(x) k = ConstantOfShape<value=float[1] {2.0}>(h) y = Mul(k, x)"),
]
FOR_BODIES = weights(
    u=(1, 2, 3, 6, 5), w=(4, 3, 3, 2), v=(3, 4, 3, 3), c4=(4,), c3=(3,), d3=(3,),
    n65=(6, 5), slope=(3, 1, 1), m=(3, 4),
) | {
    "s": np.array([1, 1, 2, 1.5], np.float32),
    "r": np.zeros(0, np.float32),
    "one": np.array(1, np.int64),
}  # fmt: skip


@pytest.mark.parametrize(("opset", "inputs", "body"), BODIES)
def test_operators_mean_what_onnxruntime_says(opset: int, inputs: str, body: str) -> None:
    domains = f'<ir_version: 8, opset_import: ["":{opset}]>'
    graph = f"g ({inputs}) => ({Y}) {{ {body} }}"
    used = {name for node in onnx.parser.parse_graph(graph).node for name in node.input}
    arrays = {name: a for name, a in FOR_BODIES.items() if name in used}
    model = network(f"{domains} {graph}", arrays)
    x = numbers(2, 3, 6, 5)
    for made, wanted in zip(outputs(model, x), by_onnxruntime(model, x), strict=True):
        close(made, wanted)


class Written(nn.Module):
    """What ``torch_network`` was exported from."""

    def __init__(self) -> None:
        super().__init__()
        block = {"conv": nn.Conv2d(3, 4, 3, padding=1), "bn": nn.BatchNorm2d(4)}
        self.body = nn.ModuleList([nn.ModuleDict(block)])
        self.head = nn.Linear(196, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body[0]["bn"](self.body[0]["conv"](x))  # type: ignore[index]
        made: Tensor = self.head(torch.relu(y).flatten(1))
        return made


def test_a_network_of_torch_comes_back_with_its_names_and_gradients() -> None:
    read, written = from_onnx(torch_network()), Written()
    written.load_state_dict(read.state_dict())
    for name, array in TORCH_WEIGHTS.items():
        np.testing.assert_array_equal(read.state_dict()[name].numpy(), array)
    kinds = {name: type(module) for name, module in read.named_modules()}
    assert kinds["body.0.conv"] is nn.Conv2d and kinds["body.0.bn"] is nn.BatchNorm2d
    assert kinds["head"] is nn.Linear
    x, labels = torch.from_numpy(numbers(3, 3, 7, 7)), torch.tensor([0, 4, 1])
    for model in (read, written):
        nn.functional.cross_entropy(model.train()(x), labels).backward()
    wanted = dict(written.named_parameters())
    assert wanted.keys() == dict(read.named_parameters()).keys()
    for name, parameter in read.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad, rtol=1e-5, atol=1e-6)
    # Statistics of the batch were written too.
    torch.testing.assert_close(dict(read.state_dict()), dict(written.state_dict()))


MAKERS = {"torch": torch_network, "keras": keras_network}
SHAPES = {"torch": (3, 7, 7), "keras": (9, 9, 2)}


@pytest.mark.parametrize("exporter", MAKERS)
def test_a_file_made_for_one_batch_takes_another(exporter: str) -> None:
    model, x = MAKERS[exporter](), numbers(3, *SHAPES[exporter])
    rows = [by_onnxruntime(model, x[i : i + 1])[0] for i in range(3)]
    close(outputs(model, x)[0], np.concatenate(rows))


def test_a_product_takes_the_bias_that_follows_it() -> None:
    read = from_onnx(keras_network())
    conv, dense = read.get_submodule("conv"), read.get_submodule("dense")
    assert isinstance(conv, nn.Conv2d) and isinstance(dense, nn.Linear)
    assert conv.bias is not None and dense.bias is not None
    np.testing.assert_array_equal(conv.bias.detach(), KERAS_WEIGHTS["conv_bias"].reshape(-1))


def test_a_softmax_at_the_end_is_left_out_for_losses_of_logits() -> None:
    read = from_onnx(keras_network(), logits=True).eval()
    x = numbers(1, 9, 9, 2)
    probabilities = torch.softmax(read(torch.from_numpy(x)), -1).detach().numpy()
    close(probabilities, by_onnxruntime(keras_network(), x)[0])
    assert read.left_out == "Softmax"


@pytest.mark.parametrize("exporter", MAKERS)
def test_a_step_is_what_torch_does(exporter: str) -> None:
    model = from_onnx(MAKERS[exporter](), logits=True)
    x, labels = torch.from_numpy(numbers(2, *SHAPES[exporter])), torch.tensor([3, 1])
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    step = driver.compile(
        *(model, nn.functional.cross_entropy, (x, labels), optimizer),
        recipe="fp32",
        target="reference",
    )
    loss = step(x, labels)
    wanted = nn.functional.cross_entropy(model(x), labels)
    wanted.backward()
    optimizer.step()
    torch.testing.assert_close(loss, wanted.detach(), rtol=1e-5, atol=1e-6)
    state = step.state_dict()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(state[name], parameter.detach(), rtol=1e-4, atol=1e-6)
    layers = {op.origin for _, op in step.program.ops()}
    assert {"torch": {"head", "body.0.conv"}, "keras": {"conv", "dense"}}[exporter] <= layers
