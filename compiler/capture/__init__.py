"""Capture: a PyTorch model, its loss, an example batch and an optimizer become f32 programs."""
