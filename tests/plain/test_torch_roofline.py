"""PyTorch's bytes in bf16, counted by hand on a small network."""

import pytest

from quatrain.compiler.ir.text import parse
from quatrain.compiler.ir.verify import verify
from quatrain.runtime.report.torch_roofline import TorchKernel, torch_roofline

from ..cases.bill_programs import CAPTURED

IMAGE = 3 * 13 * 7 * 7
BATCH = 3 * 5 * 7 * 7
WEIGHTS, LAST = 13 * 5 * 3 * 3, 3 * 13
CHANNELS = 4 * 13


@pytest.fixture
def kernels() -> dict[tuple[str, ...], TorchKernel]:
    made = torch_roofline(verify(parse(CAPTURED))).kernels
    return {k.ops: k for k in made}


def test_a_convolution(kernels: dict[tuple[str, ...], TorchKernel]) -> None:
    found = kernels[("conv2d",)]
    assert found.bytes == 2 * (BATCH + WEIGHTS + IMAGE)
    assert found.products == IMAGE * 5 * 3 * 3
    # Its weight gradient is in f32.
    assert kernels[("conv2d_weight_grad",)].bytes == 2 * (BATCH + IMAGE) + 4 * WEIGHTS


def test_weights_become_bf16_once(kernels: dict[tuple[str, ...], TorchKernel]) -> None:
    assert kernels[("cast",)].bytes == (4 + 2) * (WEIGHTS + LAST)


def test_batch_norm_reads_its_input_twice(kernels: dict[tuple[str, ...], TorchKernel]) -> None:
    assert kernels[("batch_stats",)].bytes == 2 * IMAGE + 2 * CHANNELS
    found = kernels[("batch_norm", "relu")]
    assert found.bytes == 2 * (IMAGE + IMAGE) + 4 * CHANNELS
    assert found.layer == "bn, relu" and found.products == 0


def test_its_gradient_reads_twice_as_well(kernels: dict[tuple[str, ...], TorchKernel]) -> None:
    # The gradient, what ReLU gave, what batch norm took; the masked gradient is written.
    stats = kernels[("relu_grad", "batch_norm_grad_stats")]
    assert stats.bytes == 2 * 4 * IMAGE + 4 * CHANNELS
    grad = kernels[("batch_norm_input_grad",)]
    assert grad.bytes == 2 * 3 * IMAGE + 5 * CHANNELS


def test_views_cost_nothing_and_parameters_are_f32(
    kernels: dict[tuple[str, ...], TorchKernel],
) -> None:
    assert not any("view" in ops for ops in kernels)
    updates = [k for k in torch_roofline(parse(CAPTURED)).kernels if k.ops == ("sgd",)]
    # Reads weight, gradient, momentum; writes weight and momentum; and a few single numbers.
    assert max(k.bytes for k in updates) // (4 * WEIGHTS) == 5


def test_a_kernel_takes_the_longer_of_both() -> None:
    kernel = TorchKernel("forward", "", ("conv2d",), bytes=600, products=1000)
    assert kernel.seconds(bandwidth=100, peak=1000) == 6
    assert kernel.seconds(bandwidth=100, peak=100) == 10


def test_what_is_kept_for_backward() -> None:
    # The batch is the caller's. Statistics, what batch norm took, ReLU's, the pooled, the loss's.
    kept = torch_roofline(verify(parse(CAPTURED))).saved_bytes
    assert kept == 2 * (2 * IMAGE + LAST + 3 * 3) + 2 * CHANNELS + 2 * 4
