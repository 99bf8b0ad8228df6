"""The page: a step as one HTML file that loads nothing and holds no data."""
