"""Rules of pointwise ops: what each computes for one element, as TIR."""
