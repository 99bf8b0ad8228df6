"""Kernels of ops that stay alone: reductions, shapes, pooling, losses, updates."""
