"""Fit canonical Gaussians to frames that contradict one another."""

CHECKPOINT = "checkpoint.ckpt"
"""File name of a fit's checkpoint in its folder."""

PREVIOUS_CHECKPOINT = "previous.ckpt"
"""File name of the checkpoint before it, while the fit goes on."""

LOG_RECORD = "logs.json"
"""File name of the record of a fit's loggers: the step at which each began, and W&B's run."""
