"""The first batch of a data set, as inputs of a network by name."""

from __future__ import annotations

from pathlib import Path

from ...compiler.errors import UsageError
from ..batches import train_batches
from ..data import load_any
from ..fit import batch_values, fit, takes
from .network import Named
from .start import GivenArray


def first_batch(
    word: str, data_dir: Path | None, network: Named, seed: int
) -> dict[str, GivenArray]:
    """What the first step of a training on the data would get."""
    if network.evaluation is None:
        raise UsageError(f"--data is for networks; {network.word} is a text: give --state FILE")
    hyper = {v.name for v in network.train.inputs if not v.type.shape}
    data, size = fit(load_any(word, data_dir), takes(network.train, network.evaluation, hyper))
    batch = next(train_batches(data, size, seed=seed))
    names = (v.name for v in batch_values(network.train, hyper))
    return dict(zip(names, batch, strict=True))
