"""What steps are bound with, as environment and options say."""

from __future__ import annotations

from ..targets.registry import BindOptions
from . import env


def bind_options() -> BindOptions:
    """Build options from the environment."""
    env.check_names()
    return BindOptions(cache_dir=env.cache_dir(), threads=env.threads())
