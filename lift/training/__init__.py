"""Fits canonical Gaussians to frames that contradict one another."""

CHECKPOINT = "checkpoint.ckpt"
"""A fit's file in its folder."""
