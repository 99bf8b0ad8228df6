"""Lowering: the joint graph becomes f32 programs of the IR, one small function per torch op."""
