"""Fit canonical Gaussians to frames that contradict one another."""

CHECKPOINT = "checkpoint.ckpt"
"""File name of a fit's checkpoint in its folder."""
