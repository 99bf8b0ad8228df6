"""Names of new values and state, where passes of users import them from; see ``parts/names.py``."""

from .parts.names import part

__all__ = ["part"]
