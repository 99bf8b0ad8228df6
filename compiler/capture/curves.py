"""Functions of a number that are made of others: angles, hyperbolic curves, remainders."""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
TensorOrNumber = Tensor | float
# The arc tangent up to tan(pi / 8), odd powers from the seventh down (Cephes, atanf).
ARC = (8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1)
TWO = log(2.0)
EIGHTH, THREE_EIGHTHS = 0.41421356237309503, 2.414213562373095


def table() -> dict[Any, Callable[..., Tensor]]:
    """The replaced ops."""
    return {
        aten.tan.default: lambda x: x.sin() / x.cos(),
        aten.atan.default: arc,
        aten.atan2.default: angle,
        aten.asin.default: arc_sine,
        aten.acos.default: lambda x: pi / 2 - arc_sine(x),
        aten.sinh.default: lambda x: (x.expm1() - (-x).expm1()) / 2,
        aten.cosh.default: lambda x: (x.exp() + (-x).exp()) / 2,
        aten.asinh.default: area_sine,
        aten.acosh.default: lambda x: (x + ((x - 1) * (x + 1)).sqrt()).log(),
        aten.atanh.default: lambda x: (x.log1p() - (-x).log1p()) / 2,
        aten.erfc.default: lambda x: 1 - x.erf(),
        aten.hypot.default: lambda x, y: (x.square() + y.square()).sqrt(),
        aten.frac.default: lambda x: x - x.trunc(),
        aten.remainder.Scalar: remainder,
        aten.remainder.Tensor: remainder,
        aten.fmod.Scalar: toward_zero,
        aten.fmod.Tensor: toward_zero,
        aten.nan_to_num.default: finite,
        aten.isinf.default: lambda x: x.abs() == float("inf"),
        aten.logit.default: logit,
        aten.logaddexp2.default: lambda x, y: torch.logaddexp(x * TWO, y * TWO) / TWO,
        aten.rad2deg.default: lambda x: x * (180 / pi),
        aten.deg2rad.default: lambda x: x * (pi / 180),
    }


class Arc(torch.autograd.Function):
    """The arc tangent, whose derivative is no derivative of its pieces."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """By a polynomial on what is folded to up to tan(pi / 8)."""
        ctx.save_for_backward(x)
        size = x.abs()
        far, middle = size > THREE_EIGHTHS, size > EIGHTH
        near = torch.where(middle, (size - 1) / (size + 1), size)
        near = torch.where(far, -1 / size, near)
        square, made = near * near, torch.full_like(near, ARC[0])
        for factor in ARC[1:]:
            made = made * square + factor
        made = made * square * near + near
        made = made + torch.where(far, pi / 2, torch.where(middle, pi / 4, 0.0))
        return torch.where(x < 0, -made, made)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """g / (1 + x^2)"""
        (x,) = ctx.saved_tensors
        made: Tensor = grads[0] / (1 + x * x)
        return made


def arc(x: Tensor) -> Tensor:
    """The arc tangent."""
    made: Tensor = Arc.apply(x)  # type: ignore[no-untyped-call]
    return made


def angle(y: Tensor, x: Tensor) -> Tensor:
    """The angle of (x, y); 0 at the origin."""
    steep = y.abs() > x.abs()
    top, bottom = torch.where(steep, x, y), torch.where(steep, y, x)
    made = arc(top / torch.where(bottom == 0, 1.0, bottom))
    half = torch.where(y < 0, -pi, pi)
    upright = half / 2 - made
    return torch.where(steep, upright, torch.where(x < 0, made + half, made))


def arc_sine(x: Tensor) -> Tensor:
    """By the angle that has this sine."""
    return angle(x, ((1 - x) * (1 + x)).sqrt())


def area_sine(x: Tensor) -> Tensor:
    """The inverse of sinh, exact for small numbers too."""
    size = x.abs()
    made = (size + size.square() / (1 + (1 + size.square()).sqrt())).log1p()
    return torch.where(x < 0, -made, made)


def logit(x: Tensor, eps: float | None = None) -> Tensor:
    """The inverse of the sigmoid."""
    x = x if eps is None else x.clamp(eps, 1 - eps)
    return (x / (1 - x)).log()


def _whole(x: TensorOrNumber, y: TensorOrNumber) -> bool:
    return all(not isinstance(a, Tensor) or not a.dtype.is_floating_point for a in (x, y))


def remainder(x: Tensor, y: TensorOrNumber) -> Tensor:
    """What is left of x, of the sign of y."""
    if _whole(x, y) and not isinstance(y, float):
        return x - y * torch.div(x, y, rounding_mode="floor")
    return x - y * (x / y).floor()


def toward_zero(x: Tensor, y: TensorOrNumber) -> Tensor:
    """What is left of x, of the sign of x."""
    return x - y * (x / y).trunc()


def finite(
    x: Tensor, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """Numbers in the place of NaN and of infinities."""
    most = torch.finfo(torch.float32).max
    high, low = most if posinf is None else posinf, -most if neginf is None else neginf
    x = torch.where(x.isnan(), nan or 0.0, x)
    x = torch.where(x == float("inf"), high, x)
    return torch.where(x == float("-inf"), low, x)
