"""Flat parameters: the tensors of a script's models as views of a few contiguous arrays."""
