"""Depth-based rendering from new views, and filling of the holes that appear."""
