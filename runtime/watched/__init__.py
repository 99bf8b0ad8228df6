"""What was watched: rows of a step's tensors, as they are read and told, without what measures."""
