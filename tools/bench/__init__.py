"""``quatrain bench``: times beside PyTorch."""
