"""Network, schedule and windows of Stable Virtual Camera.

Reference:
    Zhou et al., "Stable Virtual Camera: Generative View Synthesis with Diffusion Models", ICCV
    2025. The layout is that of `seva` in Stability-AI/stable-virtual-camera.
"""
