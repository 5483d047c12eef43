"""Ablations: grids of settings, and joint tables of their evaluations."""
