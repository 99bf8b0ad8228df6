"""Arithmetic that the reference and the kernels take from one definition."""
