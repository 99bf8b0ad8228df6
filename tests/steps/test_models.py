"""The networks: shapes, sizes, and where their multiplications are."""

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from quatrain.tools import models  # noqa: E402

pytestmark = pytest.mark.torch

IMAGE, DIGIT = (3, 32, 32), (1, 8, 8)


@pytest.mark.parametrize(
    ("factory", "example", "parameters"),
    [
        # He et al. count 0.27 million with option A; option B adds 2,560 weights and 192 of norms.
        (models.resnet20, IMAGE, 269_722 + 2_560 + 192),
        (models.resnet18, IMAGE, 11_173_962),  # the usual count of the 3x3-stem variant
        (models.vgg11_bn, IMAGE, 9_228_362),
        # torchvision's count with ten classes; strides do not change it.
        (models.mobilenetv2, IMAGE, 2_236_682),
        (models.bottleneck_resnet, IMAGE, None),
        (models.digits_cnn, DIGIT, None),
        (models.mlp, DIGIT, 64 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10),
    ],
)
def test_shapes_and_sizes(
    factory: Callable[[], nn.Module], example: tuple[int, ...], parameters: int | None
) -> None:
    model = factory()
    assert model(torch.zeros(2, *example)).shape == (2, 10)
    if parameters is not None:
        assert sum(p.numel() for p in model.parameters()) == parameters


def macs(model: nn.Module, example: tuple[int, ...]) -> list[int]:
    """Multiplications of one forward, for each layer in order of execution."""
    found: list[int] = []

    def note(layer: nn.Module, _: object, y: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        found.append(y.numel() * layer.weight[0].numel())

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(note)
    model(torch.zeros(1, *example))
    return found


@pytest.mark.parametrize(
    ("factory", "example"), [(models.digits_cnn, DIGIT), (models.resnet20, IMAGE)]
)
def test_most_work_is_in_inner_layers(
    factory: Callable[[], nn.Module], example: tuple[int, ...]
) -> None:
    counts = macs(factory(), example)
    assert len(counts) >= 5 and sum(counts[1:-1]) > 0.9 * sum(counts)


@pytest.mark.parametrize(("width", "channels", "classes"), [(1, 1, 2), (7, 3, 13)])
def test_awkward_widths(width: int, channels: int, classes: int) -> None:
    x = torch.zeros(2, channels, 13, 9)
    for factory in (models.resnet20, models.bottleneck_resnet):
        assert factory(width, classes, channels)(x).shape == (2, classes)


def test_mlp_needs_a_layer() -> None:
    with pytest.raises(ValueError, match="at least two sizes"):
        models.mlp((64,))
