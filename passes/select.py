"""Which layers are meant, where passes of users import it from; see ``parts/select.py``."""

from .parts.select import quantized, selected

__all__ = ["quantized", "selected"]
