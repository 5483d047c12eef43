"""Hole filling and picture extension on tensors, for CUDA devices."""
