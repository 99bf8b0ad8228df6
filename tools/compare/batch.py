"""The first batch of a data set, as inputs of a network by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...compiler.errors import UsageError
from ..batches import train_batches
from ..data import load_any
from ..dataset import Dataset, Text
from ..fit import batch_values, fit, takes
from .network import Named
from .start import GivenArray


def first_batch(
    word: str, data_dir: Path | None, network: Named, seed: int
) -> dict[str, GivenArray]:
    """What the first step of a training on the data would get."""
    if network.evaluation is None:
        raise UsageError(f"--data is for networks; {network.word} is a text: give --state FILE")
    return next(named_batches(load_any(word, data_dir), network, seed))


def named_batches(
    data: Dataset | Text, network: Named, seed: int
) -> Iterator[dict[str, GivenArray]]:
    """The batches of the first epoch of a training on the data; the network has an evaluation."""
    assert network.evaluation is not None, "the caller looks"
    hyper = {v.name for v in network.train.inputs if not v.type.shape}
    fitted, size = fit(data, takes(network.train, network.evaluation, hyper))
    names = [v.name for v in batch_values(network.train, hyper)]
    for batch in train_batches(fitted, size, seed=seed):
        yield dict(zip(names, batch, strict=True))
