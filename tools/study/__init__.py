"""``quatrain study``: recipes compared, and what cyclic precision saves."""
