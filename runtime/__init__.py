"""Running a compiled step: binding, state, checkpoints, edges to torch."""
