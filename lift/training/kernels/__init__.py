"""Compiled kernels of the fit, for CPU and CUDA."""
