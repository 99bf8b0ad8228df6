"""SGD of the reference against torch.optim.SGD over several steps."""

from typing import Any

import numpy as np
import pytest

from quatrain.compiler.formats import F32, I64
from quatrain.compiler.types import TensorType
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.reference.evaluate import apply

pytestmark = pytest.mark.torch

# momentum, dampening, weight decay, nesterov, maximize
CASES = [
    (0.0, 0.0, 0.0, False, False),
    (0.0, 0.5, 0.1, False, False),  # torch ignores dampening without momentum
    (0.9, 0.0, 5e-4, False, False),
    (0.9, 0.0, 5e-4, True, False),
    (0.5, 0.3, 0.0, False, True),
]


def f32(x: Any) -> Tensor:
    return Tensor.from_numbers(TensorType(np.shape(x), F32), x)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(), (33,), (3, 1, 7)])
def test_sgd(case: Any, shape: tuple[int, ...]) -> None:
    import torch

    momentum, dampening, decay, nesterov, maximize = case
    rng = np.random.default_rng(0)
    start = rng.standard_normal(shape)
    parameter = torch.nn.Parameter(torch.tensor(start, dtype=torch.float32))
    optimizer = torch.optim.SGD(
        [parameter],
        lr=0.1,
        momentum=momentum,
        dampening=dampening,
        weight_decay=decay,
        nesterov=nesterov,
        maximize=maximize,
    )
    w, m = f32(start), f32(np.full(shape, 9.0))  # the first step must not read the buffer
    hyper = [f32(v) for v in (0.1, momentum, dampening, decay)]
    types = [TensorType(shape, F32)] * 2
    for i in range(4):
        dw = rng.standard_normal(shape).astype(np.float32)
        parameter.grad = torch.tensor(dw)
        optimizer.step()
        step = Tensor.from_numbers(TensorType((), I64), i)
        operands = [w, f32(dw), m, step, *hyper]
        w, m = apply("sgd", operands, types, nesterov=nesterov, maximize=maximize)
        # torch fuses multiplications and additions, and takes its constants in double.
        np.testing.assert_allclose(w.data, parameter.detach(), rtol=2e-6, atol=1e-6)
