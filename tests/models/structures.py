"""Plain networks of sets, graphs and tables, and others of few layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .given import CLASSES, Around, Do, Given, Make, classified, fitted, mlp, rows, tokens

EDGES = torch.tensor([[0, 1, 2, 3, 4, 5, 1, 2], [1, 2, 3, 4, 5, 0, 0, 1]])
NODES = 6


def perceptron() -> Given:
    layers = nn.Linear(9, 12), nn.BatchNorm1d(12), nn.Mish(), nn.Linear(12, CLASSES)
    return classified(*layers, shape=(7, 9))


def self_normalizing() -> Given:
    layers = nn.Linear(9, 12), nn.SELU(), nn.AlphaDropout(0.0), nn.Linear(12, CLASSES)
    return classified(*layers, shape=(7, 9))


def highway() -> Given:
    def run(gate: nn.Module, change: nn.Module, x: Tensor) -> Tensor:
        open_ = torch.sigmoid(gate(x))
        return open_ * F.relu(change(x)) + (1 - open_) * x

    layer = Do(run, nn.Linear(9, 9), nn.Linear(9, 9))
    return classified(layer, nn.Linear(9, CLASSES), shape=(7, 9))


def sines() -> Given:
    wave = Do(lambda x: torch.sin(30 * x))
    model = nn.Sequential(nn.Linear(2, 8), wave, nn.Linear(8, 8), wave, nn.Linear(8, 1))
    return fitted(model, torch.rand(7, 2), torch.rand(7, 1))


def radiance_field() -> Given:
    """Positions as waves, a density and a colour at each, and what a ray sees of them."""

    def run(net: nn.Module, x: Tensor) -> Tensor:
        rates = 2.0 ** torch.arange(3)
        waves = (x[..., None] * rates).flatten(-2)
        made = net(torch.cat([x, waves.sin(), waves.cos()], -1))
        alpha = 1 - torch.exp(-F.softplus(made[..., :1]) * 0.25)
        clear = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha + 1e-6], 1), 1)
        return (alpha * clear[:, :-1] * torch.sigmoid(made[..., 1:])).sum(1)

    return fitted(Do(run, mlp(21, 16, 4)), torch.rand(5, 8, 3), torch.rand(5, 3))


def operator_network() -> Given:
    model = Do(lambda b, t, u, y: torch.einsum("bi,ni->bn", b(u), t(y)), mlp(9, 8, 6), mlp(1, 8, 6))
    return Given(model, nn.MSELoss(), (torch.randn(5, 9), torch.rand(7, 1), torch.randn(5, 7)))


def siamese() -> Given:
    def loss(made: tuple[Tensor, Tensor], same: Tensor) -> Tensor:
        away = F.pairwise_distance(*made)
        return (same * away.square() + (1 - same) * F.relu(1 - away).square()).mean()

    model = Do(lambda m, a, b: (m(a), m(b)), mlp(9, 8, 4))
    same = torch.randint(2, (7,)).float()
    return Given(model, loss, (torch.randn(7, 9), torch.randn(7, 9), same))


def set_of_numbers() -> Given:
    def run(each: nn.Module, out: nn.Module, x: Tensor) -> Tensor:
        made: Tensor = out(each(x).sum(1))
        return made

    return classified(Do(run, mlp(3, 8, 8), mlp(8, 8, CLASSES)), shape=(3, 7, 3))


def points() -> Given:
    model = Do(
        lambda e, out, x: out(e(x.transpose(1, 2)).max(dim=2)[0]), nn.Conv1d(3, 16, 1), mlp(16, 5)
    )
    return classified(model, shape=(3, 9, 3))


def points_with_neighbours() -> Given:
    def run(edge: nn.Module, out: nn.Module, x: Tensor) -> Tensor:
        near = torch.cdist(x, x).topk(4, largest=False).indices
        index = near.flatten(1)[..., None].expand(-1, -1, 3)
        around = x.gather(1, index).view(x.shape[0], -1, 4, 3)
        middle = x[:, :, None].expand_as(around)
        made: Tensor = out(edge(torch.cat([middle, around - middle], -1)).amax(2).mean(1))
        return made

    return classified(Do(run, mlp(6, 8), mlp(8, CLASSES)), shape=(3, 9, 3))


def graph_convolutions() -> Given:
    def run(one: nn.Module, two: nn.Module, x: Tensor) -> Tensor:
        degree = torch.zeros(NODES).index_add(0, EDGES[1], torch.ones(EDGES.shape[1])).clamp(min=1)

        def spread(h: Tensor) -> Tensor:
            total = torch.zeros_like(h).index_add(0, EDGES[1], h[EDGES[0]])
            return total / degree[:, None]

        made: Tensor = spread(two(F.relu(spread(one(x)))))
        return made

    x, y = torch.randn(NODES, 4), torch.randint(CLASSES, (NODES,))
    return Given(Do(run, nn.Linear(4, 8), nn.Linear(8, CLASSES)), nn.CrossEntropyLoss(), (x, y))


def graph_attention() -> Given:
    def run(w: nn.Module, a: nn.Module, x: Tensor) -> Tensor:
        h = w(x)
        score = F.leaky_relu(a(torch.cat([h[EDGES[0]], h[EDGES[1]]], -1)), 0.2).exp()[:, 0]
        total = torch.zeros(NODES).scatter_add(0, EDGES[1], score)
        share = score / total[EDGES[1]]
        return torch.zeros_like(h).index_add(0, EDGES[1], h[EDGES[0]] * share[:, None])

    x, y = torch.randn(NODES, 4), torch.randint(CLASSES, (NODES,))
    return Given(Do(run, nn.Linear(4, 5), nn.Linear(10, 1)), nn.CrossEntropyLoss(), (x, y))


def graph_by_maxima() -> Given:
    def run(w: nn.Module, x: Tensor) -> Tensor:
        h = w(x)
        index = EDGES[1][:, None].expand(-1, h.shape[1])
        return torch.zeros_like(h).scatter_reduce(0, index, h[EDGES[0]], "amax", include_self=False)

    x, y = torch.randn(NODES, 4), torch.randint(CLASSES, (NODES,))
    return Given(Do(run, nn.Linear(4, CLASSES)), nn.CrossEntropyLoss(), (x, y))


def graph_by_matrices() -> Given:
    matrix = torch.zeros(NODES, NODES).index_put((EDGES[1], EDGES[0]), torch.tensor(1.0))

    def run(one: nn.Module, two: nn.Module, x: Tensor) -> Tensor:
        made: Tensor = matrix @ two(torch.relu(matrix @ one(x)))
        return made

    x, y = torch.randn(NODES, 4), torch.randint(CLASSES, (NODES,))
    return Given(Do(run, nn.Linear(4, 8), nn.Linear(8, CLASSES)), nn.CrossEntropyLoss(), (x, y))


def wide_and_deep() -> Given:
    def run(wide: nn.Module, deep: nn.Module, table: nn.Module, x: Tensor, c: Tensor) -> Tensor:
        made: Tensor = wide(x) + deep(torch.cat([x, table(c).flatten(1)], 1))
        return made.squeeze(1)

    parts = nn.Linear(4, 1), mlp(16, 8, 1), nn.Embedding(11, 4)
    batch = torch.randn(7, 4), tokens(11, 7, 3), torch.randint(2, (7,)).float()
    return Given(Do(run, *parts), nn.BCEWithLogitsLoss(), batch)


def factorization_machine() -> Given:
    def run(first: nn.Module, table: nn.Module, c: Tensor) -> Tensor:
        v = table(c)
        pairs = (v.sum(1).square() - v.square().sum(1)).sum(1) / 2
        made: Tensor = pairs + first(c).sum((1, 2))
        return made

    model = Do(run, nn.Embedding(11, 1), nn.Embedding(11, 4))
    return Given(model, nn.BCEWithLogitsLoss(), (tokens(11, 7, 3), torch.randint(2, (7,)).float()))


def crossed_features() -> Given:
    """Products of all pairs of tables and numbers, below the diagonal."""

    def run(bottom: nn.Module, table: nn.Module, top: nn.Module, x: Tensor, c: Tensor) -> Tensor:
        z = torch.cat([bottom(x)[:, None], table(c)], 1)
        i, j = torch.tril_indices(4, 4, -1)
        pairs = (z @ z.transpose(1, 2))[:, i, j]
        made: Tensor = top(torch.cat([z[:, 0], pairs], 1))
        return made.sigmoid()[:, 0]

    parts = mlp(4, 8), nn.Embedding(11, 8), mlp(14, 8, 1)
    batch = torch.randn(7, 4), tokens(11, 7, 3), torch.randint(2, (7,)).float()
    return Given(Do(run, *parts), nn.BCELoss(), batch)


def matrix_factors() -> Given:
    model = Do(
        lambda u, i, bias, x: (u(x[:, 0]) * i(x[:, 1])).sum(-1) + bias(x[:, 1])[:, 0],
        *(nn.Embedding(11, 4), nn.Embedding(11, 4), nn.Embedding(11, 1)),
    )
    return fitted(model, tokens(11, 7, 2), torch.rand(7))


def related_pairs() -> Given:
    def run(pair: nn.Module, both: nn.Module, out: nn.Module, a: Tensor, b: Tensor) -> Tensor:
        made: Tensor = out(torch.tanh(pair(a, b) + both(torch.cat([a, b], 1))))
        return made

    model = Do(run, nn.Bilinear(4, 4, 6), nn.Linear(8, 6), nn.Linear(6, CLASSES))
    batch = torch.randn(7, 4), torch.randn(7, 4), torch.randint(CLASSES, (7,))
    return Given(model, nn.CrossEntropyLoss(), batch)


def steps_of_an_equation() -> Given:
    """Runge and Kutta's method over a network."""

    def run(net: nn.Module, x: Tensor) -> Tensor:
        h = 0.1
        for _ in range(2):
            a = net(x)
            b = net(x + h / 2 * a)
            c = net(x + h / 2 * b)
            x = x + h / 6 * (a + 2 * b + 2 * c + net(x + h * c))
        return x

    return fitted(Do(run, mlp(3, 8, 3)), torch.randn(7, 3), torch.randn(7, 3))


def memory_of_patterns() -> Given:
    keys = nn.Parameter(torch.randn(6, 9))

    class Memory(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.keys, self.out = keys, nn.Linear(9, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(2):
                x = (2.0 * x @ self.keys.T).softmax(-1) @ self.keys
            made: Tensor = self.out(x)
            return made

    return Given(Memory(), nn.CrossEntropyLoss(), rows(9))


def adapted() -> Given:
    """A frozen matrix with a trained product of two thin ones."""

    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base, self.out = nn.Linear(9, 8).requires_grad_(False), nn.Linear(8, CLASSES)
            self.down = nn.Parameter(torch.randn(9, 2) * 0.3)
            self.up = nn.Parameter(torch.randn(2, 8) * 0.3)

        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = self.out(F.relu(self.base(x) + (x @ self.down) @ self.up * 2))
            return made

    return Given(Adapted(), nn.CrossEntropyLoss(), rows(9))


def splines() -> Given:
    """A learned curve on each edge, of bumps at fixed places."""
    places = torch.linspace(-1, 1, 5)

    class Curves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scales = nn.Parameter(torch.randn(4, 5, CLASSES) * 0.3)
            self.base = nn.Linear(4, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            bumps = torch.exp(-((x[..., None] - places) * 2).square())
            made: Tensor = self.base(F.silu(x)) + torch.einsum("bik,iko->bo", bumps, self.scales)
            return made

    return Given(Curves(), nn.CrossEntropyLoss(), rows(4))


def residual_rows() -> Given:
    blocks = [Around(nn.Sequential(nn.RMSNorm(8), mlp(8, 16, 8))) for _ in range(2)]
    return classified(nn.Linear(9, 8), *blocks, nn.Linear(8, CLASSES), shape=(7, 9))


STRUCTURES: dict[str, Make] = {
    f.__name__: f
    for f in (
        *(perceptron, self_normalizing, highway, sines, radiance_field, operator_network),
        *(siamese, set_of_numbers, points, points_with_neighbours, graph_convolutions),
        *(graph_attention, graph_by_maxima, graph_by_matrices, wide_and_deep),
        *(factorization_machine, crossed_features, matrix_factors, related_pairs),
        *(steps_of_an_equation, memory_of_patterns, adapted, splines, residual_rows),
    )
}
