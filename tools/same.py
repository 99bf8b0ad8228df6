"""Whether two ``.qtn`` files are of one network, in words of the person who compiled them."""

from __future__ import annotations

from itertools import zip_longest

from ..compiler.ir.difference import difference as programs_differ
from ..runtime.bundle import Bundle
from .update import GIVEN_AS


def difference(network: Bundle, other: Bundle) -> str:
    """In what ``other`` is not the network, its batch and recipe; empty where in nothing."""
    for what, ours, found in (
        ("network", network.train.name, other.train.name),
        ("batch", _batch(network), _batch(other)),
        ("recipe", network.recipe.name, other.recipe.name),
    ):
        if ours != found:
            return f"its {what} is {found}, not {ours}"
    if said := programs_differ(network.train, other.train):
        return said
    for ours, found in zip_longest(_settings(network), _settings(other), fillvalue="nothing"):
        if ours != found:
            return f"it has {found!r} where the network has {ours!r}"
    alike = network.recipe.to_dict() == other.recipe.to_dict()
    return "" if alike else "its passes are of another file or version"


def _batch(bundle: Bundle) -> str:
    return ", ".join("x".join(map(str, v.type.shape)) for v in bundle.train.inputs if v.type.shape)


def _settings(bundle: Bundle) -> list[str]:
    """All settings of the recipe's passes."""
    return [
        f"{GIVEN_AS.get((p.name, key), f'{p.name}.{key}')}={value}"
        for p in bundle.recipe.passes
        for key, value in p.settings.items() or [("", "")]
    ]
