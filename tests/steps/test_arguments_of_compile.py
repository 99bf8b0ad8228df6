"""What a user gives ``compile`` and a step: each wrong number is named as it was written."""

import math
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from safetensors.numpy import load, save
from torch import nn
from torch.nn.functional import mse_loss

import quatrain
from quatrain.compiler.errors import FileError, InputError
from quatrain.runtime.state import stored_seed
from quatrain.runtime.step import Step

pytestmark = pytest.mark.torch


def made(recipe: str = "fp32", kind: Any = torch.optim.SGD, **options: Any) -> Step:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = kind(model.parameters(), lr=0.1)
    step = quatrain.compile(
        model, mse_loss, batch(), optimizer, recipe=recipe, target="reference", **options
    )
    step.test_optimizer = optimizer  # type: ignore[attr-defined]
    return step


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 4, generator=generator), torch.randn(8, 2, generator=generator)


WRONG: list[tuple[str, object]] = [
    *(("accumulate", v) for v in (0, -1, 1.5, "2", None, True, math.nan)),
    *((name, v) for name in ("clip_norm", "clip_value") for v in (-1.0, math.inf, math.nan, "1")),
    *(("average", v) for v in (1.0, 1.5, -0.1, math.nan, "0.9")),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_numbers_of_the_update(name: str, value: Any) -> None:
    with pytest.raises(quatrain.QuatrainError, match=f"^{name} is {value!r}; it is a"):
        made("fp32", torch.optim.SGD, **{name: value})


@pytest.mark.parametrize("recipe", quatrain.recipes())
@pytest.mark.parametrize("seed", [1.5, 2**64, -(2**63) - 1, "7", None, True])
def test_seeds_that_are_none(recipe: str, seed: object) -> None:
    with pytest.raises(InputError, match=r"^seed is "):
        made(recipe, seed=seed)


def test_all_64_bits_of_a_seed_count() -> None:
    seeds = [0, 1, -1, 2**63, *(1 << bit for bit in range(1, 63))]
    assert len({int(stored_seed(seed)) for seed in seeds}) == len(seeds)
    assert all(0 <= int(stored_seed(seed)) < 2**32 for seed in seeds)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e39])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (torch.optim.SGD, "lr"),
        (torch.optim.SGD, "momentum"),
        (torch.optim.SGD, "weight_decay"),
        (torch.optim.Adam, "eps"),
        (torch.optim.RMSprop, "alpha"),
    ],
)
def test_hyper_parameters_that_are_no_numbers(kind: Any, name: str, value: float) -> None:
    step = made(kind=kind)
    before = step.state
    step.test_optimizer.param_groups[0][name] = value  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=f"^group0.{name} is "):
        step(*batch())
    assert all(torch.equal(v, before[k]) for k, v in step.state.items())


@pytest.mark.parametrize("recipe", ["fp32", "fp16_amp", "ultra_low_4bit", "sbm8", "dfp16"])
def test_a_file_that_lacks_any_state_is_refused(recipe: str, tmp_path: Path) -> None:
    step = made(recipe)
    step.save(tmp_path / "whole.qtn")
    with zipfile.ZipFile(tmp_path / "whole.qtn") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    tensors = load(entries["state.safetensors"])
    for lost in tensors.keys() - {"skipped"}:
        rest = {name: t for name, t in tensors.items() if name != lost}
        with zipfile.ZipFile(tmp_path / "part.qtn", "w") as archive:
            for name, data in {**entries, "state.safetensors": save(rest)}.items():
                archive.writestr(name, data)
        with pytest.raises(FileError, match=rf"part.qtn: .* lacks {lost}$"):
            quatrain.load(tmp_path / "part.qtn", target="reference")
