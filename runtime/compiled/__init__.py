"""A model under torch.compile: its forward and backward as halves of a program."""
