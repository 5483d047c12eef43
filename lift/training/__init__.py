"""Fits canonical Gaussians to frames that contradict one another."""
