"""Products as targets are asked for them: operands, directions, taps; without TVM."""
