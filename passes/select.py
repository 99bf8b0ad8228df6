"""Which layers are meant, where passes of users import it from; see ``parts/select.py``."""

from .parts.select import selected

__all__ = ["selected"]
