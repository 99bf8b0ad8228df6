"""Plain networks of text, sound and other sequences: embeddings, attention, recurrence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .given import CLASSES, Around, Do, Given, Make, classified, each, fitted, mlp, tokens

V = 23  # of words
LENGTHS = torch.tensor([7, 4, 2])


def padding(length: int = 7) -> Tensor:
    """True behind the end of each of three sequences."""
    return torch.arange(length) >= LENGTHS[:, None]


def text(model: nn.Module, *shape: int, classes: int = CLASSES) -> Given:
    x = tokens(V, *(shape or (3, 7)))
    return Given(model, nn.CrossEntropyLoss(), (x, torch.randint(classes, (3,))))


def text_convolutions() -> Given:
    def run(table: nn.Module, *rest: nn.Module | Tensor) -> Tensor:
        *convs, out, x = rest
        rows = table(x).transpose(1, 2)
        best = [F.relu(c(rows)).max(dim=2).values for c in convs]  # type: ignore[operator]
        made: Tensor = out(torch.cat(best, 1))  # type: ignore[operator]
        return made

    convs = [nn.Conv1d(8, 6, k) for k in (2, 3, 4)]
    return text(Do(run, nn.Embedding(V, 8, padding_idx=0), *convs, nn.Linear(18, CLASSES)))


def bag_of_words() -> Given:
    return text(nn.Sequential(nn.EmbeddingBag(V, 8, mode="mean"), nn.Linear(8, CLASSES)))


def bags_by_offsets() -> Given:
    bag = nn.EmbeddingBag(V, 8, mode="sum")
    model = Do(lambda b, out, x: out(b(x, torch.tensor([0, 3, 5]))), bag, nn.Linear(8, CLASSES))
    return text(model, 9)


def skip_grams() -> Given:
    def run(one: nn.Module, two: nn.Module, x: Tensor) -> Tensor:
        word, around = one(x[:, :1]), two(x[:, 1:])
        made: Tensor = (word * around).sum(-1)
        return made

    model, x = Do(run, nn.Embedding(V, 8), nn.Embedding(V, 8)), tokens(V, 3, 6)
    return Given(model, nn.BCEWithLogitsLoss(), (x, torch.randint(2, (3, 5)).float()))


def neighbours_predict_a_word() -> Given:
    model = nn.Sequential(nn.Embedding(V, 8), Do(lambda x: x.mean(1)), nn.Linear(8, V))
    return text(model, classes=V)


def lstm_language_model() -> Given:
    model = Do(
        lambda table, lstm, out, x: out(lstm(table(x))[0]),
        *(nn.Embedding(V, 8), nn.LSTM(8, 8, 2, batch_first=True), nn.Linear(8, V)),
    )
    return Given(model, each, (tokens(V, 3, 5), tokens(V, 3, 5)))


def gru_both_ways() -> Given:
    gru = nn.GRU(8, 6, bidirectional=True, batch_first=True)
    parts = nn.Embedding(V, 8), gru, nn.Linear(12, CLASSES)
    return text(Do(lambda table, gru, out, x: out(gru(table(x))[0].mean(1)), *parts), 3, 5)


def lstm_cell_unrolled() -> Given:
    def run(cell: nn.Module, out: nn.Module, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[0], 6)
        for t in range(x.shape[1]):
            h, c = cell(x[:, t], (h, c))
        made: Tensor = out(h)
        return made

    model = Do(run, nn.LSTMCell(4, 6), nn.Linear(6, 1))
    return fitted(model, torch.randn(3, 4, 4), torch.randn(3, 1))


def attention_over_steps() -> Given:
    """A recurrent cell's states, weighted by what each is worth."""

    def run(cell: nn.Module, score: nn.Module, out: nn.Module, x: Tensor) -> Tensor:
        h, every = x.new_zeros(x.shape[0], 6), []
        for t in range(x.shape[1]):
            h = cell(x[:, t], h)
            every.append(h)
        states = torch.stack(every, 1)
        shares = score(torch.tanh(states)).softmax(1)
        made: Tensor = out((shares * states).sum(1))
        return made

    model = Do(run, nn.GRUCell(4, 6), nn.Linear(6, 1), nn.Linear(6, CLASSES))
    return Given(model, nn.CrossEntropyLoss(), (torch.randn(3, 4, 4), torch.randint(5, (3,))))


def transformer_encoder() -> Given:
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
    body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    hidden = padding()

    def run(table: nn.Module, body: nn.Module, out: nn.Module, x: Tensor) -> Tensor:
        rows = body(table(x), src_key_padding_mask=hidden)
        shares = (~hidden).float() / LENGTHS[:, None]
        made: Tensor = out((rows * shares[..., None]).sum(1))
        return made

    return text(Do(run, nn.Embedding(V, 8), body, nn.Linear(8, CLASSES)))


def encoder_of_time_ahead() -> Given:
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, norm_first=True, activation="gelu")
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    body = nn.TransformerEncoder(layer, 1, nn.LayerNorm(8), enable_nested_tensor=False)

    def run(table: nn.Module, body: nn.Module, out: nn.Module, x: Tensor) -> Tensor:
        made: Tensor = out(body(table(x), mask=mask, is_causal=True))
        return made

    parts = nn.Embedding(V, 8), body, nn.Linear(8, V)
    return Given(Do(run, *parts), each, (tokens(V, 5, 3), tokens(V, 5, 3)))


def translation() -> Given:
    """nn.Transformer with masks of all kinds."""
    model = nn.Transformer(8, 2, 1, 1, 16, 0.0, batch_first=True)
    later, hidden = torch.ones(5, 5).triu(1).bool(), padding()

    def run(net: nn.Module, table: nn.Module, out: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        masks = {"src_key_padding_mask": hidden, "memory_key_padding_mask": hidden}
        made: Tensor = out(net(table(x), table(y), tgt_mask=later, **masks))
        return made

    parts = model, nn.Embedding(V, 8), nn.Linear(8, V)
    return Given(Do(run, *parts), each, (tokens(V, 3, 7), tokens(V, 3, 5), tokens(V, 3, 5)))


def decoder_layers() -> Given:
    layer = nn.TransformerDecoderLayer(8, 2, 16, 0.0, batch_first=True)
    memory = nn.Parameter(torch.randn(1, 4, 8))

    class Decoding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.body = nn.Embedding(V, 8), nn.TransformerDecoder(layer, 2)
            self.memory, self.out = memory, nn.Linear(8, V)

        def forward(self, x: Tensor) -> Tensor:
            mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
            rows = self.body(self.table(x), self.memory.expand(len(x), -1, -1), tgt_mask=mask)
            made: Tensor = self.out(rows)
            return made

    return Given(Decoding(), each, (tokens(V, 3, 5), tokens(V, 3, 5)))


def attention_with_its_weights() -> Given:
    def run(attend: nn.Module, x: Tensor) -> Tensor:
        made, weights = attend(x, x, x, key_padding_mask=padding(), average_attn_weights=False)
        both: Tensor = made + weights.mean((1, 3))[..., None]
        return both

    x = torch.randn(3, 7, 8)
    model = Do(run, nn.MultiheadAttention(8, 2, batch_first=True))
    return fitted(model, x, torch.randn(3, 7, 8))


def attention_across_widths() -> Given:
    attend = nn.MultiheadAttention(8, 2, kdim=6, vdim=5, add_bias_kv=True, add_zero_attn=True)
    model = Do(lambda m, q, k, v: m(q, k, v, need_weights=False)[0], attend)
    inputs = torch.randn(4, 3, 8), torch.randn(7, 3, 6), torch.randn(7, 3, 5)
    return Given(model, nn.MSELoss(), (*inputs, torch.randn(4, 3, 8)))


def attention_in_groups() -> Given:
    def run(q: nn.Module, kv: nn.Module, x: Tensor) -> Tensor:
        queries = q(x).unflatten(-1, (4, 4)).transpose(1, 2)
        keys, values = kv(x).unflatten(-1, (2, 2, 4)).unbind(2)
        made = F.scaled_dot_product_attention(
            *(queries, keys.transpose(1, 2), values.transpose(1, 2)),
            is_causal=True,
            enable_gqa=True,
        )
        return made.transpose(1, 2).flatten(2)

    return fitted(
        Do(run, nn.Linear(8, 16), nn.Linear(8, 16)), torch.randn(3, 5, 8), torch.randn(3, 5, 16)
    )


class Block(nn.Module):
    """A transformer's block with one matrix for queries, keys and values."""

    def __init__(self, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.one, self.two = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = mlp(width, 4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.one(x)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        shares = scores.masked_fill(later, float("-inf")).softmax(-1)
        x = x + self.out(torch.einsum("bhqk,bkhd->bqhd", shares, v).flatten(2))
        made: Tensor = x + self.mlp(self.two(x))
        return made


class Gpt(nn.Module):
    """A small one; the table of words is the last layer too where it is ``tied``."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.table, self.at = nn.Embedding(V, 8), nn.Embedding(16, 8)
        self.body, self.out = nn.Sequential(Block(), Block()), nn.Linear(8, V, bias=False)
        if tied:
            self.out.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        rows = self.table(x) + self.at(torch.arange(x.shape[1]))
        made: Tensor = self.out(self.body(rows))
        return made


def gpt() -> Given:
    return Given(Gpt(), each, (tokens(V, 3, 7), tokens(V, 3, 7)))


def words_that_are_masked() -> Given:
    x = tokens(V, 3, 7)
    wanted = torch.where(torch.rand(3, 7) < 0.4, x, -100)
    return Given(Gpt(tied=False), each, (x, wanted))


def rotary() -> Given:
    def run(qkv: nn.Module, x: Tensor) -> Tensor:
        q, k, v = qkv(x).chunk(3, -1)
        rate = 100.0 ** -(torch.arange(4) / 4)
        angle = torch.arange(x.shape[1])[:, None] * rate
        sin, cos = angle.sin(), angle.cos()

        def turned(t: Tensor) -> Tensor:
            a, b = t[..., ::2], t[..., 1::2]
            return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)

        return F.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True)

    return fitted(Do(run, nn.Linear(8, 24)), torch.randn(3, 5, 8), torch.randn(3, 5, 8))


def linear_biases() -> Given:
    def run(qkv: nn.Module, x: Tensor) -> Tensor:
        q, k, v = qkv(x).chunk(3, -1)
        at = torch.arange(x.shape[1])
        bias = -(at[:, None] - at).abs() * 0.5
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)

    return fitted(Do(run, nn.Linear(8, 24)), torch.randn(3, 5, 8), torch.randn(3, 5, 8))


def linear_attention() -> Given:
    def run(qkv: nn.Module, x: Tensor) -> Tensor:
        q, k, v = qkv(x).chunk(3, -1)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        sums = torch.cumsum(k[..., :, None] * v[..., None, :], 1)
        made = torch.einsum("btd,btde->bte", q, sums)
        return made / (q * k.cumsum(1)).sum(-1, keepdim=True)

    return fitted(Do(run, nn.Linear(6, 18)), torch.randn(3, 5, 6), torch.randn(3, 5, 6))


def state_space() -> Given:
    """A selective scan, step by step."""

    def run(rates: nn.Module, gate: nn.Module, x: Tensor) -> Tensor:
        delta = F.softplus(rates(x))
        h, made = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            h = torch.exp(-delta[:, t]) * h + delta[:, t] * x[:, t]
            made.append(h)
        return torch.stack(made, 1) * F.silu(gate(x))

    return fitted(
        Do(run, nn.Linear(6, 6), nn.Linear(6, 6)), torch.randn(3, 4, 6), torch.randn(3, 4, 6)
    )


def decay_of_keys() -> Given:
    """Weighted means of all steps so far, with weights that decay, in the logarithm."""

    def run(kv: nn.Module, gate: nn.Module, x: Tensor) -> Tensor:
        k, v = kv(x).chunk(2, -1)
        bottom = torch.logcumsumexp(k, 1)
        top = torch.cumsum(torch.exp(k) * v, 1)
        return torch.sigmoid(gate(x)) * top * torch.exp(-bottom)

    return fitted(
        Do(run, nn.Linear(6, 12), nn.Linear(6, 6)), torch.randn(3, 5, 6), torch.randn(3, 5, 6)
    )


def temporal_convolutions() -> Given:
    def run(conv: nn.Module, x: Tensor) -> Tensor:
        made: Tensor = conv(x)[..., : x.shape[-1]]
        return F.relu(made)

    norm = nn.utils.parametrizations.weight_norm
    blocks = [Around(Do(run, norm(nn.Conv1d(4, 4, 3, padding=2 * d, dilation=d)))) for d in (1, 2)]
    layers = *blocks, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, CLASSES)
    return classified(*layers, shape=(3, 4, 11))


def speech_by_ctc() -> Given:
    body = nn.Sequential(nn.Conv1d(6, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 7, 1))
    model = Do(lambda m, x: m(x).permute(2, 0, 1).log_softmax(-1), body)
    steps = torch.tensor([12, 11, 9])

    def loss(logs: Tensor, target: Tensor) -> Tensor:
        return F.ctc_loss(logs, target, steps, torch.tensor([4, 3, 1]))

    return Given(model, loss, (torch.randn(3, 6, 12), torch.randint(1, 7, (3, 4))))


def tags_by_a_random_field() -> Given:
    """The likelihood of a linear chain: a recursion of logarithms of sums."""
    moves = nn.Parameter(torch.randn(5, 5) * 0.3)

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.out, self.moves = nn.Embedding(V, 8), nn.Linear(8, 5), moves

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.out(self.table(x)), self.moves + 0.0

    def loss(made: tuple[Tensor, Tensor], tags: Tensor) -> Tensor:
        scores, moves = made
        total = scores[:, 0]
        for t in range(1, scores.shape[1]):
            total = torch.logsumexp(total[:, :, None] + moves, 1) + scores[:, t]
        path = scores.gather(2, tags[..., None]).sum((1, 2))
        path = path + moves[tags[:, :-1], tags[:, 1:]].sum(1)
        return (total.logsumexp(1) - path).mean()

    return Given(Chain(), loss, (tokens(V, 3, 5), tokens(5, 3, 5)))


def words_chosen_by_a_pointer() -> Given:
    def run(table: nn.Module, key: nn.Module, query: nn.Module, x: Tensor) -> Tensor:
        rows = table(x)
        made: Tensor = torch.tanh(key(rows) + query(rows[:, -1:])).sum(-1)
        return made

    parts = nn.Embedding(V, 8), nn.Linear(8, 6), nn.Linear(8, 6, bias=False)
    return text(Do(run, *parts), classes=7)


def forecast() -> Given:
    """Differences of a moving mean, each with a linear layer."""

    def run(slow: nn.Module, fast: nn.Module, x: Tensor) -> Tensor:
        mean = F.avg_pool1d(F.pad(x, (2, 2), mode="replicate"), 5, 1)
        made: Tensor = slow(mean) + fast(x - mean)
        return made

    return fitted(
        Do(run, nn.Linear(12, 4), nn.Linear(12, 4)), torch.randn(3, 2, 12), torch.randn(3, 2, 4)
    )


SEQUENCES: dict[str, Make] = {
    f.__name__: f
    for f in (
        *(text_convolutions, bag_of_words, bags_by_offsets, skip_grams, neighbours_predict_a_word),
        *(lstm_language_model, gru_both_ways, lstm_cell_unrolled, attention_over_steps),
        *(transformer_encoder, encoder_of_time_ahead, translation, decoder_layers),
        *(attention_with_its_weights, attention_across_widths, attention_in_groups, gpt),
        *(words_that_are_masked, rotary, linear_biases, linear_attention, state_space),
        *(decay_of_keys, temporal_convolutions, speech_by_ctc, tags_by_a_random_field),
        *(words_chosen_by_a_pointer, forecast),
    )
}
