"""Shared machinery of the priors that sample a video diffusion model."""
