"""``quatrain study``: recipes, layers, passes and options compared under one script."""
