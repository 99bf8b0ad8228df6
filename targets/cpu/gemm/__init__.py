"""GEMMs on vectors: what a kernel is made of, from the spec to the loops around a dot."""
