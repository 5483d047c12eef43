"""Hydra configuration of `lift`."""
