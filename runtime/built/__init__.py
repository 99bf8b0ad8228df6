"""Steps built ahead of time: ``load(DIR)`` runs one without torch, TVM's compiler or any other."""

from .step import BuiltStep, load

__all__ = ["BuiltStep", "load"]
