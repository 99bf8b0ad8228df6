"""The ``cuda`` target: TVM kernels on packed storage for NVIDIA's GPUs."""
