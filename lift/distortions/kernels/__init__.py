"""Triton kernels of the distortions, and what they share with the PyTorch code."""

SIGMAS = 5
"""Radius of a blur, in standard deviations."""
