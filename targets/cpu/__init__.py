"""The ``cpu`` target: TVM kernels on packed storage for the CPU it runs on."""
