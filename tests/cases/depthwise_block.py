"""A small network with one residual block, whose convolution is depthwise."""

from torch import Tensor, nn


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 7, 1, bias=False)
        self.block = nn.Conv2d(7, 7, 3, padding=1, groups=7, bias=False)
        self.norm = nn.BatchNorm2d(7)
        self.last = nn.Linear(175, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (self.norm(self.block(x)) + x).relu()
        found: Tensor = self.last(x.flatten(1))
        return found


def network() -> nn.Module:
    """For images of 3x5x5 and three classes."""
    return _Residual()
