"""Pointwise kernels on a GPU: a thread keeps its channels and goes down the rows."""
