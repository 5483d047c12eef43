"""Triton kernels around gsplat."""
