"""Watching a step: numbers about the tensors that it rounds, over time, to rows and files."""
