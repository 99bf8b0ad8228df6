"""Plain networks that make samples, or decide: autoencoders, flows, mixtures, agents."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .given import CLASSES, Do, Given, Make, fitted, mlp, rows, tokens


def autoencoder() -> Given:
    """With a penalty on how far units are from seldom."""

    def loss(made: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        y, h = made
        often, wanted = h.mean(0), 0.05
        rare = wanted * (wanted / often).log() + (1 - wanted) * ((1 - wanted) / (1 - often)).log()
        return F.mse_loss(y, x) + 0.1 * rare.sum()

    def run(enc: nn.Module, dec: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.sigmoid(enc(x))
        return dec(h), h

    x = torch.randn(7, 9)
    return Given(Do(run, nn.Linear(9, 5), nn.Linear(5, 9)), loss, (x, x.clone()))


def variational() -> Given:
    def run(enc: nn.Module, dec: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log = enc(x).chunk(2, -1)
        return dec(mean + torch.randn_like(mean) * (0.5 * log).exp()), mean, log

    def loss(made: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        y, mean, log = made
        lost = F.binary_cross_entropy_with_logits(y, x, reduction="sum")
        return lost - 0.5 * (1 + log - mean.square() - log.exp()).sum()

    x = torch.rand(7, 9)
    return Given(Do(run, mlp(9, 8, 4), mlp(2, 8, 9)), loss, (x, x.clone()))


def codebook() -> Given:
    """The nearest row of a table, straight through."""

    def run(enc: nn.Module, table: nn.Embedding, dec: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
        z = enc(x)
        q = table(torch.cdist(z, table.weight).argmin(1))
        return dec(z + (q - z).detach()), z, q

    def loss(made: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        y, z, q = made
        return F.mse_loss(y, x) + F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(z, q.detach())

    x = torch.randn(7, 9)
    return Given(Do(run, mlp(9, 8, 4), nn.Embedding(6, 4), mlp(4, 8, 9)), loss, (x, x.clone()))


def categories_by_gumbel() -> Given:
    def run(enc: nn.Module, dec: nn.Module, x: Tensor) -> Tensor:
        made: Tensor = dec(F.gumbel_softmax(enc(x), tau=0.7, hard=True))
        return made

    return fitted(Do(run, mlp(9, 8, 4), mlp(4, 8, 9)), torch.randn(7, 9), torch.randn(7, 9))


def denoising() -> Given:
    """Noise at a random moment of a schedule, and a network that tells it."""
    kept = torch.linspace(0.99, 0.1, 10)

    def run(net: nn.Module, at: nn.Module, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        share = kept[t][:, None]
        mixed = share.sqrt() * x + (1 - share).sqrt() * noise
        made: Tensor = net(torch.cat([mixed, at(t)], 1))
        return made

    noise = torch.randn(7, 6)
    batch = torch.randn(7, 6), tokens(10, 7), noise, noise.clone()
    return Given(Do(run, mlp(10, 16, 6), nn.Embedding(10, 4)), nn.MSELoss(), batch)


def coupled_flow() -> Given:
    def run(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, 1)
        log, shift = net(a).chunk(2, 1)
        log = torch.tanh(log)
        return torch.cat([a, b * log.exp() + shift], 1), log.sum(1)

    def loss(made: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        z, logdet = made
        return (0.5 * (z - target).square().sum(1) + 0.5 * math.log(2 * math.pi) - logdet).mean()

    return Given(Do(run, mlp(3, 8, 6)), loss, (torch.randn(7, 6), torch.zeros(7, 6)))


def mixture_of_normals() -> Given:
    def loss(made: Tensor, y: Tensor) -> Tensor:
        logits, mean, log = made.chunk(3, 1)
        each = -0.5 * ((y - mean) / log.exp()).square() - log - 0.5 * math.log(2 * math.pi)
        return -torch.logsumexp(logits.log_softmax(1) + each, 1).mean()

    return Given(mlp(4, 8, 9), loss, (torch.randn(7, 4), torch.randn(7, 1)))


def experts() -> Given:
    """A router, the two best of four networks for each row."""

    def run(router: nn.Module, *parts: nn.Module | Tensor) -> Tensor:
        *nets, x = parts
        assert isinstance(x, Tensor)
        best, which = router(x).topk(2, -1)
        shares = torch.zeros(x.shape[0], 4).scatter(1, which, best.softmax(-1))
        every = torch.stack([net(x) for net in nets], 1)  # type: ignore[operator]
        return (every * shares[..., None]).sum(1)

    model = Do(run, nn.Linear(6, 4), *(mlp(6, 8, CLASSES) for _ in range(4)))
    return Given(model, nn.CrossEntropyLoss(), rows(6))


def values_of_actions() -> Given:
    def loss(q: Tensor, target: Tensor) -> Tensor:
        action, wanted = target[:, :1].long(), target[:, 1]
        return F.smooth_l1_loss(q.gather(1, action)[:, 0], wanted)

    target = torch.stack([tokens(4, 7).float(), torch.randn(7)], 1)
    return Given(mlp(6, 16, 4), loss, (torch.randn(7, 6), target))


def actor_and_critic() -> Given:
    def loss(made: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        logits, value = made
        logs, wanted = logits.log_softmax(1), target[:, 1]
        taken = logs.gather(1, target[:, :1].long())[:, 0]
        gain = (wanted - value[:, 0]).detach()
        entropy = -(logs.exp() * logs).sum(1)
        return (-taken * gain + 0.5 * (value[:, 0] - wanted).square() - 0.01 * entropy).mean()

    def run(body: nn.Module, act: nn.Module, value: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(body(x))
        return act(h), value(h)

    target = torch.stack([tokens(4, 7).float(), torch.randn(7)], 1)
    model = Do(run, nn.Linear(6, 8), nn.Linear(8, 4), nn.Linear(8, 1))
    return Given(model, loss, (torch.randn(7, 6), target))


def policy_within_bounds() -> Given:
    """The clipped ratio of two policies of normal actions."""

    def loss(made: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        mean, log = made
        action, old, gain = target[:, :2], target[:, 2], target[:, 3]
        new = (-0.5 * ((action - mean) / log.exp()).square() - log).sum(1)
        ratio = (new - old).exp()
        return -torch.min(ratio * gain, ratio.clamp(0.8, 1.2) * gain).mean()

    model = Do(lambda m, s, x: (m(x), s(x).clamp(-2, 1)), mlp(6, 8, 2), nn.Linear(6, 2))
    return Given(model, loss, (torch.randn(7, 6), torch.randn(7, 4)))


GENERATORS: dict[str, Make] = {
    f.__name__: f
    for f in (
        *(autoencoder, variational, codebook, categories_by_gumbel, denoising),
        *(coupled_flow, mixture_of_normals, experts, values_of_actions, actor_and_critic),
        *(policy_within_bounds,),
    )
}
