"""Measure lifted scenes against the truth."""
