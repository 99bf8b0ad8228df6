"""What a training was layer by layer: formats of each product, and how far weights have moved."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ...passes.parts.select import layers
from ...runtime.report.bill import Bill
from ...runtime.step import Step

WeightsByLayer = Mapping[str, NDArray[np.float32]]


def weights(step: Step) -> WeightsByLayer:
    """A copy of the weight of each layer that has one."""
    program, state = step.source.train, step.state
    own = {v.name for v in program.state}
    named = {n: op.inputs[1].name for n, op in layers(program).items()}
    return {n: state[w].numpy().copy() for n, w in named.items() if w in own}


def by_layer(bill: Bill, before: WeightsByLayer, step: Step) -> dict[str, dict[str, object]]:
    """By layer the formats of each direction, its MACs, and of its weight the root mean square.

    ``moved`` is that of the difference to the start over it.
    """
    found: dict[str, dict[str, object]] = {}
    for gemm in bill.gemms:
        layer = found.setdefault(gemm.layer, {"exempt": gemm.exempt})
        layer[gemm.direction] = {"formats": gemm.formats, "macs": gemm.macs}
    after = weights(step)
    for name in found.keys() & before.keys():
        rms, moved = _rms(after[name]), _rms(after[name] - before[name])
        share = float(f"{moved / rms:.4g}") if rms and moved is not None else None
        found[name] |= {"weight_rms": rms, "moved": share}
    return found


def _rms(numbers: NDArray[np.float32]) -> float | None:
    """To four digits; None where weights have diverged."""
    found = float(np.sqrt(np.mean(numbers.astype(np.float64) ** 2)))
    return float(f"{found:.4g}") if np.isfinite(found) else None
