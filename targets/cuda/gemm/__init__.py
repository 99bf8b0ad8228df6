"""GEMM kernels on a GPU: ways to make a product, of which the fastest that takes it is chosen."""
