"""Connectionist temporal classification: all alignments of a sequence, one step of time a turn.

Graves et al., ICML 2006: the recursion over a target with blanks between its labels, in logarithms.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEVER = -1e30  # the logarithm of no alignment; differences of infinities would be NaN
BEYOND = 1e29
Lengths = list[int] | Tensor


def ctc_loss(
    logs: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: int = 1,
    zero_infinity: bool = False,
) -> Tensor:
    """As torch documents it, for log probabilities as ``log_softmax`` makes them."""
    if logs.dim() == 2:
        made = _lost(logs[:, None], targets[None], input_lengths, target_lengths, blank)
    else:
        made = _lost(logs, targets, input_lengths, target_lengths, blank)
    made = torch.where(made > BEYOND, 0.0 if zero_infinity else float("inf"), made)
    if reduction == 1:
        return (made / _tensor(target_lengths).clamp(min=1)).mean()
    if reduction == 2:
        return made.sum()
    return made.squeeze(0) if logs.dim() == 2 else made


def _tensor(lengths: Lengths) -> Tensor:
    return lengths.reshape(-1) if isinstance(lengths, Tensor) else torch.tensor(lengths)


def _lost(
    logs: Tensor, targets: Tensor, input_lengths: Lengths, target_lengths: Lengths, blank: int
) -> Tensor:
    """The loss of each sample."""
    ends, counts = _tensor(input_lengths), _tensor(target_lengths)
    labels = _padded(targets, target_lengths).clamp(min=0)
    rows = torch.stack([torch.full_like(labels, blank), labels], 2).flatten(1)
    rows = torch.cat([rows, torch.full_like(labels[:, :1], blank)], 1)
    emitted = logs.gather(2, rows.expand(len(logs), -1, -1))
    alpha = _alignments(emitted, _jumps(rows, blank), ends)
    last = alpha.gather(1, 2 * counts[:, None])
    label = alpha.gather(1, (2 * counts[:, None] - 1).clamp(min=0))
    both = torch.where(counts[:, None] > 0, torch.logaddexp(last, label), last)
    return -both.squeeze(1)


def _padded(targets: Tensor, lengths: Lengths) -> Tensor:
    """A row for each sample, also of targets that stand one behind the other."""
    if targets.dim() == 2:
        return targets
    counts = _tensor(lengths)
    most = len(targets) if isinstance(lengths, Tensor) else max(lengths)
    starts = counts.cumsum(0) - counts
    index = starts[:, None] + torch.arange(most)
    return targets[index.clamp(max=len(targets) - 1)]


def _jumps(rows: Tensor, blank: int) -> Tensor:
    """0 where a label may follow the one ahead of the last blank, else NEVER."""
    differ = (rows[:, 2:] != rows[:, :-2]) & (rows[:, 2:] != blank)
    free = torch.where(differ, 0.0, NEVER)
    return torch.nn.functional.pad(free, (2, 0), value=NEVER)


def _alignments(emitted: Tensor, jumps: Tensor, ends: Tensor) -> Tensor:
    """The logarithm of all alignments that end at each place, when a sample's time is over."""
    width = emitted.shape[2]
    outside = emitted.new_full((emitted.shape[1], width - min(width, 2)), NEVER)
    alpha = torch.cat([emitted[0, :, :2], outside], 1)
    for t in range(1, len(emitted)):
        stay = torch.nn.functional.pad(alpha, (2, 0), value=NEVER)
        ways = torch.stack([alpha, stay[:, 1:-1], stay[:, :-2] + jumps])
        moved = torch.logsumexp(ways, 0) + emitted[t]
        alpha = torch.where((ends > t)[:, None], moved, alpha)
    return alpha
