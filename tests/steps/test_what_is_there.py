"""Each function that docs/ops.md lists as made of others: captured with its gradient."""

from collections.abc import Callable

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..cases.op_cases import Part
from .test_composed_functions import COMPARED
from .test_what_is_not_there import named, taken

pytestmark = pytest.mark.torch
Use = Callable[[Tensor], Tensor]


def of(layer: nn.Module) -> nn.Module:
    """The layer behind another, on a batch of 4 samples of one line of 4 places."""
    return nn.Sequential(nn.Linear(4, 4), nn.Unflatten(1, (1, 4)), layer)


def square(use: Use) -> Use:
    """On one image of 4 x 4."""
    return lambda h: use(h[None, None])


def recurrent(layer: nn.Module) -> nn.Module:
    """A recurrent layer behind another, on one sequence."""
    return nn.Sequential(nn.Linear(4, 4), layer, Part(0))


MADE: dict[str, Use | nn.Module] = {
    "lstm": recurrent(nn.LSTM(4, 3)),
    "gru": recurrent(nn.GRU(4, 3)),
    "rnn_tanh": recurrent(nn.RNN(4, 3)),
    "rnn_relu": recurrent(nn.RNN(4, 3, nonlinearity="relu")),
    "conv1d": of(nn.Conv1d(1, 2, 3)),
    "conv_transpose1d": of(nn.ConvTranspose1d(1, 2, 3)),
    "conv_transpose2d": square(lambda h: F.conv_transpose2d(h, h[:, :, :2, :2])),
    "scaled_dot_product_attention": lambda h: F.scaled_dot_product_attention(
        h[None], h[None], h[None]
    ),
    "dropout": lambda h: F.dropout(h, 0.5),
    "feature_dropout": square(lambda h: F.dropout2d(h, 0.5)),
    "addmm": lambda h: torch.addmm(h, h, h),
    "addmv": lambda h: torch.addmv(h[0], h, h[1]),
    "baddbmm": lambda h: torch.baddbmm(h[None], h[None], h[None]),
    "mv": lambda h: torch.mv(h, h[0]),
    "dot": lambda h: torch.dot(h[0], h[1]),
    "vdot": lambda h: torch.vdot(h[0], h[1]),
    "matmul": lambda h: h @ h,
    "einsum": lambda h: torch.einsum("ij,kj->ik", h, h),
    "tensordot": lambda h: torch.tensordot(h, h, ([1], [1])),
    "linalg_multi_dot": lambda h: torch.linalg.multi_dot([h, h, h]),
    "weight_norm": nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
    "layer_norm": nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)),
    "group_norm": nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(2, 4)),
    "rms_norm": nn.Sequential(nn.Linear(4, 4), nn.RMSNorm(4)),
    "linalg_vector_norm": lambda h: torch.linalg.vector_norm(h),
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "elu": F.elu,
    "leaky_relu": F.leaky_relu,
    "prelu": nn.Sequential(nn.Linear(4, 4), nn.PReLU()),
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "softplus": F.softplus,
    "log_sigmoid": F.logsigmoid,
    "glu": F.glu,
    "softmax": lambda h: F.softmax(h, 1),
    "addcmul": lambda h: torch.addcmul(h, h, h),
    "lerp": lambda h: torch.lerp(h, 2 * h, 0.5),
    "rsub": lambda h: torch.rsub(h, 1.0),
    "xlogy": lambda h: torch.xlogy(h, h.exp()),
    "logsumexp": lambda h: h.logsumexp(1),
    "std": lambda h: h.std(1),
    "expand_as": lambda h: h[:1].expand_as(h),
    "repeat": lambda h: h.repeat(2, 1),
    "pad": lambda h: F.pad(h, (1, 1)),
    "pixel_shuffle": lambda h: F.pixel_shuffle(h[None, :, :, None], 2),
    "pixel_unshuffle": square(lambda h: F.pixel_unshuffle(h, 2)),
    "bilinear": lambda h: F.bilinear(h, h, torch.ones(3, 4, 4), torch.ones(3)),
    "norm": lambda h: torch.norm(h, dim=1) + F.pairwise_distance(h, 2 * h),
    "dist": lambda h: torch.dist(h, 3 * h),
    "celu": lambda h: F.celu(h, 0.5),
    "threshold": lambda h: F.threshold(h, 0.5, 7.0),
    "addr": lambda h: torch.addr(h, h[0], h[1]),
    "linalg_cross": lambda h: torch.linalg.cross(h[:, :3], h[:, 1:]),
    "logaddexp": lambda h: torch.logaddexp(h, 2 * h),
    "diag_embed": lambda h: torch.diag_embed(h) + torch.diag(h[0]),
    "index_copy": lambda h: h.index_copy(0, torch.tensor([2, 0]), h[:2]),
    "index_fill": lambda h: h.index_fill(0, torch.tensor([2, 0]), 3.0),
    "im2col": square(lambda h: F.unfold(h, 2)),
    "col2im": lambda h: F.fold(h[None], (3, 3), (2, 2)),
    "ones_like": lambda h: h + torch.ones_like(h),
    "zeros_like": lambda h: h + torch.zeros_like(h),
    "upsample_nearest1d": lambda h: F.interpolate(h[None], scale_factor=2),
    "upsample_nearest2d": square(lambda h: F.interpolate(h, scale_factor=2)),
    "upsample_linear1d": lambda h: F.interpolate(h[None], scale_factor=2, mode="linear"),
    "upsample_bilinear2d": square(lambda h: F.interpolate(h, scale_factor=2, mode="bilinear")),
    "upsample_nearest_exact1d": lambda h: F.interpolate(h[None], size=7, mode="nearest-exact"),
    "upsample_nearest_exact2d": square(lambda h: F.interpolate(h, size=7, mode="nearest-exact")),
    "upsample_bicubic2d": square(lambda h: F.interpolate(h, scale_factor=2, mode="bicubic")),
    "cross_entropy_loss": lambda h: F.cross_entropy(h, h.softmax(1)),
    "binary_cross_entropy": lambda h: F.binary_cross_entropy(h.sigmoid(), h.sigmoid().detach()),
    "binary_cross_entropy_with_logits": lambda h: F.binary_cross_entropy_with_logits(
        h, h.sigmoid()
    ),
    "smooth_l1_loss": lambda h: F.smooth_l1_loss(h, 2 * h),
    "huber_loss": lambda h: F.huber_loss(h, 2 * h),
    # torch writes these out as well; no name of theirs is in the graph.
    "normalize": lambda h: F.normalize(h),
    "kl_div": lambda h: F.kl_div(h.log_softmax(1), h.softmax(1).detach(), reduction="batchmean"),
    "max_pool1d": lambda h: F.max_pool1d(h[None], 2),
}


@pytest.mark.parametrize("name", MADE)
def test_what_the_page_lists_is_there(name: str) -> None:
    taken(MADE[name])


def test_the_whole_list_is_tried() -> None:
    """Here, or beside PyTorch in ``test_composed_functions``."""
    assert set(named("Functions that are made of these")) <= {*MADE, *COMPARED}
