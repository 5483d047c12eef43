"""Measure how well a file of Gaussians shows a scene."""

from collections.abc import Callable

import numpy as np

from lift.types import Cameras, Gaussians, Render

MIN_PSNR = 35.0
"""Least PSNR in dB of a file's render of the input view against that of the scene."""

MAX_PSNR = 200.0
"""PSNR in dB that stands for equal pictures."""

_SIZE = 256
"""Longer side in pixels of the pictures that are compared."""


def compare_renders(
    render: Callable[[Gaussians, Cameras], Render],
    expected: Gaussians,
    decoded: Gaussians,
    camera: Cameras,
) -> float:
    """Measure the PSNR of a render of Gaussians that were read back against that of the scene.

    Args:
        render: Renders Gaussians to a picture.
        expected: The scene.
        decoded: What was read back.
        camera: The view. Its picture is made smaller.

    Returns:
        PSNR in dB, at most `MAX_PSNR`.
    """
    factor = min(1, _SIZE / max(camera.width, camera.height))
    camera = camera.resized(round(camera.width * factor), round(camera.height * factor))
    pictures = [
        render(gaussians, camera).rgb.clamp(0, 1).cpu().double()
        for gaussians in (expected, decoded)
    ]
    error = float((pictures[0] - pictures[1]).square().mean())
    return MAX_PSNR if error == 0 else min(MAX_PSNR, float(-10 * np.log10(error)))
