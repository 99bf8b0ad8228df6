"""The plan of a compiled program: which ops fuse, how values lie in memory, and where."""
