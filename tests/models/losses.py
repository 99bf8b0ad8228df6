"""Losses: those of torch with their options, and those that people write."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .given import CLASSES, Given, Loss, Make, mlp

ROWS, WIDTH = 7, 6


def of_classes(loss: Loss, target: Tensor | None = None) -> Given:
    """On scores of classes."""
    target = torch.randint(CLASSES, (ROWS,)) if target is None else target
    return Given(mlp(WIDTH, 8, CLASSES), loss, (torch.randn(ROWS, WIDTH), target))


def of_numbers(loss: Loss, target: Tensor | None = None) -> Given:
    """On five numbers a row."""
    return of_classes(loss, torch.randn(ROWS, CLASSES) if target is None else target)


def signs(*shape: int) -> Tensor:
    return torch.randint(2, shape).float() * 2 - 1


def bits(*shape: int) -> Tensor:
    return torch.randint(2, shape).float()


def shares() -> Tensor:
    return torch.rand(ROWS, CLASSES).softmax(1)


def halves(loss: Loss, target: Tensor) -> Given:
    """On two vectors a row."""
    return Given(
        mlp(WIDTH, 8, 8), lambda o, y: loss(o.chunk(2, 1), y), (torch.randn(8, WIDTH), target)
    )


def focal(x: Tensor, y: Tensor) -> Tensor:
    lost = F.cross_entropy(x, y, reduction="none")
    return ((1 - torch.exp(-lost)) ** 2 * lost).mean()


def dice(x: Tensor, y: Tensor) -> Tensor:
    p = x.sigmoid()
    return 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)


def tversky(x: Tensor, y: Tensor) -> Tensor:
    p = x.sigmoid()
    hit, more, less = (p * y).sum(1), (p * (1 - y)).sum(1), ((1 - p) * y).sum(1)
    return (1 - hit / (hit + 0.3 * more + 0.7 * less + 1e-6)).pow(0.75).mean()


def sorted_hinge(x: Tensor, y: Tensor) -> Tensor:
    """Lovász's extension of the overlap."""
    x, y = x.flatten(), y.flatten()
    errors, order = torch.sort(1 - x * (2 * y - 1), descending=True)
    truth = y[order]
    total = truth.sum()
    overlap = 1 - (total - truth.cumsum(0)) / (total + (1 - truth).cumsum(0))
    steps = torch.cat([overlap[:1], overlap[1:] - overlap[:-1]])
    return torch.dot(F.relu(errors), steps)


def overlap_of_boxes(x: Tensor, y: Tensor) -> Tensor:
    """Generalized overlap of two boxes."""
    one = torch.cat([x[:, :2], x[:, :2] + F.softplus(x[:, 2:4])], 1)
    low, high = torch.max(one[:, :2], y[:, :2]), torch.min(one[:, 2:], y[:, 2:])
    inside = (high - low).clamp(min=0).prod(1)
    areas = [(b[:, 2:] - b[:, :2]).prod(1) for b in (one, y)]
    union = areas[0] + areas[1] - inside
    least, most = torch.min(one[:, :2], y[:, :2]), torch.max(one[:, 2:], y[:, 2:])
    hull = (most - least).prod(1)
    return (1 - inside / union + (hull - union) / hull).mean()


def boxes() -> Tensor:
    corner = torch.rand(ROWS, 2)
    return torch.cat([corner, corner + torch.rand(ROWS, 2) + 0.1], 1)


def structure(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of two images."""

    def mean(t: Tensor) -> Tensor:
        return F.avg_pool2d(t, 3, 1)

    x, y = x.view(ROWS, 1, 5, 5), y.view(ROWS, 1, 5, 5)
    mx, my = mean(x), mean(y)
    vx, vy = mean(x * x) - mx * mx, mean(y * y) - my * my
    both = mean(x * y) - mx * my
    top = (2 * mx * my + 0.01) * (2 * both + 0.03)
    return 1 - (top / ((mx * mx + my * my + 0.01) * (vx + vy + 0.03))).mean()


def pairs_among_all(x: Tensor, y: Tensor) -> Tensor:
    """Two views of each sample, all others apart (NT-Xent)."""
    z = F.normalize(x, dim=1)
    near = (z @ z.T / 0.5).masked_fill(torch.eye(8, dtype=torch.bool), float("-inf"))
    return F.cross_entropy(near, torch.arange(8).roll(4))


def images_and_words(parts: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
    """Both ways, as CLIP."""
    a, b = (F.normalize(p, dim=-1) for p in parts)
    scores = a @ b.t() * 10
    return (F.cross_entropy(scores, y) + F.cross_entropy(scores.t(), y)) / 2


def same_class_together(x: Tensor, y: Tensor) -> Tensor:
    """Supervised contrast."""
    z = F.normalize(x, dim=1)
    other = ~torch.eye(ROWS, dtype=torch.bool)
    same = (y[:, None] == y) & other
    scores = (z @ z.T / 0.5).masked_fill(~other, -1e9)
    logs = scores.log_softmax(1)
    return -((logs * same).sum(1) / same.sum(1).clamp(min=1)).mean()


def twins(parts: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
    """Cross correlation near the identity (Barlow)."""
    a, b = ((p - p.mean(0)) / p.std(0) for p in parts)
    c = a.T @ b / a.shape[0]
    on = (torch.diagonal(c) - 1).square().sum()
    return on + 0.01 * (c.square().sum() - torch.diagonal(c).square().sum())


def variance_and_covariance(parts: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
    """VICReg."""
    total = F.mse_loss(*parts)
    for p in parts:
        p = p - p.mean(0)
        total = total + F.relu(1 - (p.var(0) + 1e-4).sqrt()).mean()
        c = p.T @ p / (p.shape[0] - 1)
        total = total + c.masked_fill(torch.eye(4, dtype=torch.bool), 0).square().sum() / 4
    return total


def margin_of_angles(x: Tensor, y: Tensor) -> Tensor:
    """Additive margin (ArcFace's cosine)."""
    cosine = F.normalize(x, dim=1)
    sine = (1 - cosine.square()).clamp(1e-6, 1).sqrt()
    moved = cosine * 0.878 - sine * 0.479
    hot = F.one_hot(y, CLASSES)
    return F.cross_entropy(10 * torch.where(hot.bool(), moved, cosine), y)


def quantiles(x: Tensor, y: Tensor) -> Tensor:
    at = torch.linspace(0.1, 0.9, CLASSES)
    away = y - x
    return torch.maximum(at * away, (at - 1) * away).mean()


def wing(x: Tensor, y: Tensor) -> Tensor:
    away = (x - y).abs()
    return torch.where(away < 1, torch.log1p(away / 0.5), away - 1 + 1.0986).mean()


def distillation(x: Tensor, y: Tensor) -> Tensor:
    return F.kl_div((x / 2).log_softmax(1), y, reduction="batchmean") * 4 + F.cross_entropy(
        x, y.argmax(1)
    )


def ranks(x: Tensor, y: Tensor) -> Tensor:
    """Each pair in the order of its targets (Bayesian ranking)."""
    return -F.logsigmoid(x[:, :1] - x[:, 1:]).mean()


def smooth_total(x: Tensor, y: Tensor) -> Tensor:
    """A fit and the variation between neighbours."""
    return (x - y).square().add(1e-6).sqrt().mean() + 0.1 * (x[:, 1:] - x[:, :-1]).abs().mean()


def log_cosh(x: Tensor, y: Tensor) -> Tensor:
    away = x - y
    return (away + F.softplus(-2 * away) - 0.6931).mean()


def of_each_class() -> Tensor:
    return torch.tensor([0.5, 2.0, 1.0, 0.3, 1.5])


LOSSES: dict[str, Make] = {
    "L1Loss": lambda: of_numbers(nn.L1Loss()),
    "MSELoss_sum": lambda: of_numbers(nn.MSELoss(reduction="sum")),
    "SmoothL1Loss": lambda: of_numbers(nn.SmoothL1Loss(beta=0.5)),
    "HuberLoss": lambda: of_numbers(nn.HuberLoss(delta=0.7)),
    "CrossEntropyLoss_weighted": lambda: of_classes(
        nn.CrossEntropyLoss(of_each_class(), ignore_index=1, label_smoothing=0.1)
    ),
    "CrossEntropyLoss_soft": lambda: of_classes(nn.CrossEntropyLoss(), shares()),
    "NLLLoss_weighted": lambda: of_classes(
        lambda x, y: F.nll_loss(x.log_softmax(1), y, of_each_class(), ignore_index=2)
    ),
    "BCELoss": lambda: of_classes(
        lambda x, y: F.binary_cross_entropy(x.sigmoid(), y), bits(ROWS, CLASSES)
    ),
    "BCEWithLogitsLoss_weighted": lambda: of_classes(
        nn.BCEWithLogitsLoss(pos_weight=of_each_class()), bits(ROWS, CLASSES)
    ),
    "KLDivLoss": lambda: of_classes(
        lambda x, y: F.kl_div(x.log_softmax(1), y, reduction="batchmean"), shares()
    ),
    "KLDivLoss_of_logs": lambda: of_classes(
        lambda x, y: F.kl_div(x.log_softmax(1), y, log_target=True, reduction="sum"), shares().log()
    ),
    "PoissonNLLLoss": lambda: of_numbers(
        nn.PoissonNLLLoss(), torch.poisson(torch.ones(ROWS, CLASSES))
    ),
    "PoissonNLLLoss_full": lambda: of_numbers(
        nn.PoissonNLLLoss(log_input=True, full=True), torch.poisson(torch.ones(ROWS, CLASSES) * 2)
    ),
    "GaussianNLLLoss": lambda: halves(
        lambda o, y: F.gaussian_nll_loss(o[0], y, o[1].exp()), torch.randn(8, 4)
    ),
    "CosineEmbeddingLoss": lambda: halves(
        lambda o, y: F.cosine_embedding_loss(o[0], o[1], y, margin=0.1), signs(8)
    ),
    "MarginRankingLoss": lambda: halves(
        lambda o, y: F.margin_ranking_loss(o[0], o[1], y, margin=0.2), signs(8, 4)
    ),
    "TripletMarginLoss": lambda: halves(
        lambda o, y: F.triplet_margin_loss(o[0], o[1], y, swap=True), torch.randn(8, 4)
    ),
    "TripletMarginWithDistanceLoss": lambda: halves(
        lambda o, y: nn.TripletMarginWithDistanceLoss(distance_function=nn.PairwiseDistance())(
            *o, y
        ),
        torch.randn(8, 4),
    ),
    "HingeEmbeddingLoss": lambda: of_numbers(nn.HingeEmbeddingLoss(), signs(ROWS, CLASSES)),
    "SoftMarginLoss": lambda: of_numbers(nn.SoftMarginLoss(), signs(ROWS, CLASSES)),
    "MultiMarginLoss": lambda: of_classes(nn.MultiMarginLoss(margin=0.7)),
    "MultiMarginLoss_squared": lambda: of_classes(nn.MultiMarginLoss(p=2, weight=of_each_class())),
    "MultiLabelMarginLoss": lambda: of_classes(
        nn.MultiLabelMarginLoss(), torch.tensor([[3, 0, -1, 1, 1]] * 4 + [[2, -1, 0, 0, 0]] * 3)
    ),
    "MultiLabelSoftMarginLoss": lambda: of_classes(
        nn.MultiLabelSoftMarginLoss(), bits(ROWS, CLASSES)
    ),
    "focal": lambda: of_classes(focal),
    "dice": lambda: of_classes(dice, bits(ROWS, CLASSES)),
    "tversky": lambda: of_classes(tversky, bits(ROWS, CLASSES)),
    "sorted_hinge": lambda: of_classes(sorted_hinge, bits(ROWS, CLASSES)),
    "overlap_of_boxes": lambda: of_classes(overlap_of_boxes, boxes()),
    "structure": lambda: Given(
        mlp(WIDTH, 25), structure, (torch.randn(ROWS, WIDTH), torch.rand(ROWS, 25))
    ),
    "pairs_among_all": lambda: Given(
        mlp(WIDTH, 8, 4), pairs_among_all, (torch.randn(8, WIDTH), torch.zeros(8))
    ),
    "images_and_words": lambda: halves(images_and_words, torch.arange(8)),
    "same_class_together": lambda: of_classes(same_class_together),
    "twins": lambda: halves(twins, torch.zeros(8)),
    "variance_and_covariance": lambda: halves(variance_and_covariance, torch.zeros(8)),
    "margin_of_angles": lambda: of_classes(margin_of_angles),
    "quantiles": lambda: of_numbers(quantiles),
    "wing": lambda: of_numbers(wing),
    "distillation": lambda: of_classes(distillation, shares()),
    "ranks": lambda: of_numbers(ranks),
    "smooth_total": lambda: of_numbers(smooth_total),
    "log_cosh": lambda: of_numbers(log_cosh),
}
