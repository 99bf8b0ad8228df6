"""GEMMs that add up in a narrow float, in chunks."""
