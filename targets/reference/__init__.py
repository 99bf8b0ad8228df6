"""The ``reference`` target: the plain meaning of every op, in NumPy."""
