"""Triton kernels that the gsplat renderer uses on CUDA."""
