"""Render single views of a finished run."""

import torch

from lift.distortions import Distortion
from lift.renderers import Renderer
from lift.types import Cameras, Gaussians, Render


def check_frame(frame: int | None, count: int) -> None:
    """Check the index of a frame.

    Args:
        frame: The setting `distortion_of`. None: no frame.
        count: Number of frames.

    Raises:
        ValueError: There is no such frame.
    """
    if frame is not None and not 0 <= frame < count:
        raise ValueError(f"distortion_of is {frame}; the run has {count} frames, 0 to {count - 1}")


@torch.no_grad()
def render_view(
    renderer: Renderer,
    gaussians: Gaussians,
    camera: Cameras,
    distortion: Distortion | None = None,
    frame: int | None = None,
) -> Render:
    """Render one view over black.

    Args:
        renderer: The renderer.
        gaussians: The scene, on the renderer's device.
        camera: One view.
        distortion: The distortion of all frames, on the same device. None: the scene as it is.
        frame: Index of the frame whose distortion is applied.

    Returns:
        The picture on the CPU.
    """
    camera = camera.to(renderer.device)
    if distortion is None:
        render = renderer(gaussians, camera)
    else:
        view = torch.tensor([frame], device=renderer.device)
        render = renderer(distortion.gaussians(gaussians, view), camera)
        render = distortion.image(render, view)
    return Render(render.rgb.cpu(), render.alpha.cpu(), render.depth.cpu())
