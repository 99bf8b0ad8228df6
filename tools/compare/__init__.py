"""``quatrain compare``: two programs on one batch, and where their numbers part."""
