"""The hyper-parameters of a step, as a person may set them: checked before a step reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..compiler.errors import InputError, closest, shown
from .telling import LOG

MOST = float(np.finfo(np.float32).max)


def check_hyper(hyper: object, names: Sequence[str], known: Sequence[str]) -> list[float]:
    """The numbers of ``names``, which are among the ``known`` ones.

    InputError for one that is missing, unknown or no finite f32.
    """
    if not isinstance(hyper, Mapping):
        raise InputError(f"step.hyper is {shown(hyper)}; it is a dictionary of numbers by name")
    for name in hyper:
        if name not in known:
            raise InputError(f"step.hyper has no {name!r}; {closest(str(name), known)}")
    for name in names:
        if name not in hyper:
            raise InputError(f"step.hyper lacks {name}; set it to a number")
    return [_number(name, hyper[name]) for name in names]


def remark_ignored(hyper: object, read: Mapping[str, float]) -> None:
    """Warn where a person has set ``hyper`` of a step that reads its optimizer at every call."""
    if hyper != read:
        LOG.warning(
            "step.hyper is set and ignored: the step reads its optimizer, so set "
            "optimizer.param_groups; a loaded step reads step.hyper"
        )


def _number(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        number = float("nan")
    if isinstance(value, str) or not abs(number) <= MOST:
        raise InputError(f"{name} is {shown(value)}; it must be a finite number of f32")
    return number
