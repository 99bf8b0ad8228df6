"""The recipe ``ultra_low_4bit`` simulated in plain PyTorch: every tensor stays float32.

What a study without low-bit kernels does: round to the levels, multiply in float32. Forward: PACT
uint4 activations (arXiv 1805.06085; int4 where an input may be negative) and SAWB int4 weights
(MLSys 2019). Backward: radix-4 FP4 with two-phase rounding and a power-of-two scale per layer, FP8
for 1x1 convolutions (Sun et al., NeurIPS 2020). Exempt are the first layer, the last, and the
shortcuts' convolutions.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.functional import conv2d, linear
from torch.nn.grad import conv2d_input, conv2d_weight

FIRST_CLIP = 8.0
SMALLEST_CLIP = 1e-3
# Clip of the weights from their moments: c1 * sqrt(E[w^2]) - c2 * E[|w|], 15 levels.
SAWB_C1, SAWB_C2 = 12.035, 12.03
FP4_TOP = 64.0  # the even levels are 0 and 4^-3 .. 4^3; the odd ones twice that
FP8_TOP = 57344.0  # of float8_e5m2
EVEN, ODD = (1.6, 1.0), (0.8, 2.0)


def radix4(scaled: Tensor, phase: tuple[float, float]) -> Tensor:
    """``scaled`` rounded to the nearest level of ``phase``; ties go up, the top saturates.

    The level is read off the exponent field of ``1.6 * |g|`` (0.8 for the odd phase), with ``g`` in
    units of the smallest even level: ``floor(log4)`` without a logarithm.
    """
    factor, shift = phase
    magnitude = factor * (scaled.abs() * FP4_TOP)
    field = magnitude.view(torch.int32) >> 23
    level = ((field - 125) >> 1).clamp(0, 7)
    value = torch.ldexp(torch.full_like(scaled, shift / FP4_TOP), 2 * (level - 1))
    return torch.where(level > 0, value, 0.0).copysign(scaled)


def grad_scale(dy: Tensor, top: float) -> Tensor:
    """The power of two that takes the largest magnitude of ``dy`` to ``top`` or just below."""
    largest = dy.abs().amax()
    exponent = torch.frexp(top / largest.clamp(min=2.0**-100)).exponent - 1
    return torch.ldexp(torch.ones_like(largest), exponent)


class Pact(torch.autograd.Function):
    """A never negative activation clipped at ``clip`` and rounded to 16 levels."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, clip: Tensor) -> Tensor:
        ctx.save_for_backward(x, clip)
        return torch.round(torch.minimum(x.clamp(min=0), clip) * (15 / clip)) * (clip / 15)

    @staticmethod
    def backward(ctx: FunctionCtx, dy: Tensor) -> tuple[Tensor, Tensor]:
        x, clip = ctx.saved_tensors  # type: ignore[attr-defined]
        inside, above = (x >= 0) & (x <= clip), x > clip
        return dy * inside, (dy * above).sum()


class SignedPact(torch.autograd.Function):
    """An activation clipped at ``-clip`` and ``clip`` and rounded to 15 levels."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, clip: Tensor) -> Tensor:
        ctx.save_for_backward(x, clip)
        return torch.round(torch.maximum(torch.minimum(x, clip), -clip) * (7 / clip)) * (clip / 7)

    @staticmethod
    def backward(ctx: FunctionCtx, dy: Tensor) -> tuple[Tensor, Tensor]:
        x, clip = ctx.saved_tensors  # type: ignore[attr-defined]
        beyond = (x > clip).to(dy.dtype) - (x < -clip).to(dy.dtype)
        return dy * (x.abs() <= clip), (dy * beyond).sum()


class Sawb(torch.autograd.Function):
    """Weights rounded to the 15 levels of int4; the gradient passes everywhere."""

    @staticmethod
    def forward(ctx: FunctionCtx, w: Tensor) -> Tensor:
        clip = SAWB_C1 * w.square().mean().sqrt() - SAWB_C2 * w.abs().mean()
        clip = clip.clamp(min=2.0**-100)  # all weights zero
        return torch.round(torch.clamp(w, -clip, clip) * (7 / clip)) * (clip / 7)

    @staticmethod
    def backward(ctx: FunctionCtx, dy: Tensor) -> Tensor:
        return dy


def rounded_gradients(dy: Tensor, fp8: bool) -> tuple[Tensor, Tensor, Tensor]:
    """``dy`` scaled and rounded for dX and for dW, and the scale."""
    if fp8:
        scale = grad_scale(dy, FP8_TOP)
        both = (dy * scale).clamp(-FP8_TOP, FP8_TOP).to(torch.float8_e5m2).to(dy.dtype)
        return both, both, scale
    scale = grad_scale(dy, FP4_TOP)
    return radix4(dy * scale, EVEN), radix4(dy * scale, ODD), scale


class ConvWithLowBitGradient(torch.autograd.Function):
    """A convolution whose two gradients are computed from rounded copies of the incoming one."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        w: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
        groups: int = 1,
    ) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.how = stride, padding, (1, 1), groups  # type: ignore[attr-defined]
        return conv2d(x, w, stride=stride, padding=padding, groups=groups)

    @staticmethod
    def backward(ctx: FunctionCtx, dy: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x, w = ctx.saved_tensors  # type: ignore[attr-defined]
        how = ctx.how  # type: ignore[attr-defined]
        for_x, for_w, scale = rounded_gradients(dy, w.shape[2:] == (1, 1))
        dx = conv2d_input(x.shape, w, for_x, *how) / scale
        dw = conv2d_weight(x, w.shape, for_w, *how) / scale
        return dx, dw, None, None, None


class LinearWithLowBitGradient(torch.autograd.Function):
    """A linear map ``[..., K] -> [..., M]`` whose two gradients are computed from rounded copies of
    the incoming one."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return linear(x, w)

    @staticmethod
    def backward(ctx: FunctionCtx, dy: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors  # type: ignore[attr-defined]
        for_x, for_w, scale = rounded_gradients(dy, fp8=False)
        dw = for_w.flatten(0, -2).T @ x.flatten(0, -2)
        return for_x @ w / scale, dw / scale


class FakeQuantLayer(nn.Module):
    """A convolution or linear layer on 4-bit values, with one learned clip for its input.

    ``signed`` says that the input may be negative. The layer's parameters are shared, not copied.
    """

    def __init__(self, plain: nn.Conv2d | nn.Linear, signed: bool = False) -> None:
        super().__init__()
        self.weight, self.bias = plain.weight, plain.bias
        self.clip = nn.Parameter(torch.tensor(FIRST_CLIP))
        self.signed = signed
        self.how: tuple[object, ...] = ()
        if isinstance(plain, nn.Conv2d):
            assert plain.padding_mode == "zeros" and plain.dilation == (1, 1), plain
            assert not isinstance(plain.padding, str), plain
            self.how = plain.stride, plain.padding, plain.groups

    def forward(self, x: Tensor) -> Tensor:
        pact = SignedPact if self.signed else Pact
        xq: Tensor = pact.apply(x, self.clip)  # type: ignore[no-untyped-call]
        wq: Tensor = Sawb.apply(self.weight)  # type: ignore[no-untyped-call]
        product = ConvWithLowBitGradient if self.how else LinearWithLowBitGradient
        y: Tensor = product.apply(xq, wq, *self.how)  # type: ignore[no-untyped-call]
        if self.bias is None:
            return y
        return y + (self.bias[:, None, None] if self.how else self.bias)


def fake_quantize(model: nn.Module, example: Tensor | None = None) -> nn.Module:
    """Replace, in place, every convolution and linear layer but the first, the last and those of
    shortcuts (modules called ``shortcut``, as in ``quatrain.tools.models``).

    A layer whose input is negative somewhere in a forward pass of ``example`` gets signed levels;
    without an example all inputs are taken to come from a ReLU.
    """
    inner = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)][1:-1]
    signed = set() if example is None else _negative_inputs(model, example)
    for name in inner:
        if ".shortcut." in name:
            continue
        parent, _, child = name.rpartition(".")
        plain = model.get_submodule(name)
        assert isinstance(plain, nn.Conv2d | nn.Linear)
        setattr(model.get_submodule(parent), child, FakeQuantLayer(plain, name in signed))
    return model


def _negative_inputs(model: nn.Module, example: Tensor) -> set[str]:
    """The layers of ``model`` whose input has a negative number for this example."""
    found: set[str] = set()
    probe = copy.deepcopy(model)
    for name, layer in probe.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):

            def note(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                if inputs[0].amin() < 0:
                    found.add(name)

            layer.register_forward_pre_hook(note)
    with torch.no_grad():
        probe(example)
    return found


def clips(model: nn.Module) -> list[nn.Parameter]:
    """The learned clips, for a parameter group with a decay of their own."""
    return [m.clip for m in model.modules() if isinstance(m, FakeQuantLayer)]


def keep_clips_positive(model: nn.Module) -> None:
    """To be called after each update: a clip at or below zero has no levels."""
    with torch.no_grad():
        for clip in clips(model):
            clip.clamp_(min=SMALLEST_CLIP)
