"""Triton kernels of the distortions, and what they share with the PyTorch code."""

RADIUS_IN_SIGMAS = 5
"""Radius of a blur's kernel, in standard deviations."""
