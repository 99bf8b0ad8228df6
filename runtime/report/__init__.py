"""The bill and what it is drawn up from."""
