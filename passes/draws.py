"""Random numbers in a step, where passes of users import them from; see ``parts/draws.py``."""

from .parts.draws import seed_and_step, with_seed

__all__ = ["seed_and_step", "with_seed"]
