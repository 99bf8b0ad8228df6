"""Kernels: the reference interpreter and the TVM targets."""
