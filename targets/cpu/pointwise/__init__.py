"""Pointwise kernels: fused ops over the rows of a tensor, with the reductions that end in them."""
