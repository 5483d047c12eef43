"""Fit canonical Gaussians to frames that contradict one another."""

CHECKPOINT = "checkpoint.ckpt"
"""File name of a fit's checkpoint in its folder."""

LOG_RECORD = "logs.json"
"""File name of the record of a fit's loggers: the step at which each began, and W&B's run."""
