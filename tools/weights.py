"""Checkpoints of models: ``.safetensors``, in one file or several, and PyTorch's ``state_dict``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..compiler.errors import FileError, UsageError
from .files import read_text

INDEX = ".safetensors.index.json"
PICKLED = (".pt", ".pth", ".bin")
SHOWN = 3  # of what differs


def load_weights(model: nn.Module, path: Path) -> None:
    """Put the weights of ``path`` into ``model``, all of them and by name.

    Raises FileError for a file that is missing or damaged, and UsageError, with the model as it
    was, where names or shapes differ. Tensors that the model ties need one of their names.
    """
    found = read_weights(path)
    wanted = model.state_dict(keep_vars=True)
    if said := _difference(found, wanted):
        raise UsageError(f"{path} does not fit {type(model).__name__}: {said}")
    with torch.no_grad():
        for name, value in found.items():
            wanted[name].copy_(value)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name."""
    if not path.is_file():
        raise FileError(f"there is no file {path}; --weights names a checkpoint of the model")
    if path.name.endswith(INDEX):
        return _sharded(path)
    if path.suffix in PICKLED:
        return _pickled(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise FileError(f"{path} is damaged, or no .safetensors; fetch it again") from error


def _sharded(path: Path) -> dict[str, Tensor]:
    """The files that an index names, each of them once."""
    try:
        content = json.loads(read_text(path))
        places = content["weight_map"].items()
        files = {str(name): path.with_name(Path(file).name) for name, file in places}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{path} is no index of checkpoints: it has no weight_map") from error
    parts = {file: read_weights(file) for file in sorted(set(files.values()))}
    if lost := [name for name, file in files.items() if name not in parts[file]]:
        raise FileError(f"{path}: {files[lost[0]].name} lacks {lost[0]}; fetch it again")
    return {name: parts[file][name] for name, file in files.items()}


def _pickled(path: Path) -> dict[str, Tensor]:
    """A ``state_dict`` that ``torch.save`` wrote; code in it is not run."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises what its bytes happen to spell
        raise FileError(
            f"{path} is damaged, or holds more than tensors; save model.state_dict()"
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        raise FileError(f"{path} is no state_dict; save model.state_dict()")
    return {str(name): value for name, value in found.items()}


def _difference(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """What keeps the weights from fitting, in words; empty where they do."""
    given = {id(wanted[name]) for name in found if name in wanted}
    lost = [name for name, value in wanted.items() if name not in found and id(value) not in given]
    more = [name for name in found if name not in wanted]
    both = [name for name in found if name in wanted]
    shapes = [
        f"{name} is {_kind(found[name])}, not {_kind(wanted[name])}"
        for name in both
        if found[name].shape != wanted[name].shape or _unlike(found[name], wanted[name])
    ]
    said = [f"it lacks {_some(lost)}"] if lost else []
    said += [f"it has {_some(more)} more"] if more else []
    return "; ".join([*said, _some(shapes)] if shapes else said)


def _unlike(found: Tensor, wanted: Tensor) -> bool:
    return found.is_floating_point() != wanted.is_floating_point()


def _kind(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')}{list(x.shape)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} others" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
