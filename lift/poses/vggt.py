"""VGGT, through its authors' package."""

from typing import Annotated, Any

import torch
from annotated_types import Interval
from jaxtyping import UInt8
from torch import Tensor, nn

from lift.depths import DepthEstimator
from lift.geometry import rigid
from lift.poses import poses
from lift.poses.sfm.feedforward import FeedForwardPoses, WindowPrediction
from lift.poses.sfm.hub import build_network, load_checkpoint
from lift.registry.ranges import PointCount, Tolerance
from lift.types import Depth


@poses.register("vggt")
class Vggt(FeedForwardPoses):
    """Predict cameras and depth of many frames with VGGT.

    Nothing is matched or adjusted. Frames are processed in windows. Every window contains the
    input, whose depth gives the scale. The network also estimates the focal lengths of all frames
    but the input, whose camera is the plan's. Where the network is not confident, aligned monocular
    depth is used.

    Reference:
        Wang et al., "VGGT: Visual geometry grounded transformer", CVPR 2025.

    Args:
        model: Name on the Hugging Face Hub, or a folder with config.json and model.safetensors.
            Weights of facebook/VGGT-1B are CC-BY-NC-4.0: no commercial use. Weights of
            facebook/VGGT-1B-Commercial have Meta's own licence, and Meta must grant access.
        size: Longer side of the network's images in pixels, rounded to its patches of 14 pixels.
        window: Number of frames per window, the input included.
        tolerance: Relative depth error at which the confidence is a half.
        max_points: Largest number of points of the merged cloud.
    """

    licence = "CC-BY-NC-4.0 (weights), Meta's own (code)"
    requires = ("vggt", "einops")
    install = (
        "pip install einops, then VGGT's code, whose licence is Meta's own: either "
        "git clone https://github.com/facebookresearch/vggt with it on PYTHONPATH, "
        "or pip install --no-deps instantsplat, which carries it"
    )

    def __init__(
        self,
        model: str = "facebook/VGGT-1B",
        size: Annotated[int, Interval(ge=28, le=8192)] = 518,
        window: Annotated[int, Interval(ge=2, le=1_000_000)] = 32,
        tolerance: Tolerance = 0.05,
        max_points: PointCount = 2_000_000,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        device: torch.device,
    ) -> None:
        super().__init__(size, window, tolerance, max_points, depth, estimator, device)
        settings, weights = load_checkpoint(model)
        self.network: Any = build_network(model, "VGGT", lambda: create_network(settings), weights)

    @torch.inference_mode()
    def predict(self, images: UInt8[Tensor, "frame height width 3"]) -> WindowPrediction:
        """Predict cameras and depth of a window. See `FeedForwardPoses`."""
        from vggt.utils.pose_enc import (  # pyright: ignore[reportMissingImports]
            pose_encoding_to_extri_intri,
        )

        # Only now, because the video generator needs the memory before.
        self.network.to(self.device)
        picture = images.to(self.device).permute(0, 3, 1, 2)[None].float() / 255
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            tokens, start = self.network.aggregator(picture)
        tokens = [None if layer is None else layer.float() for layer in tokens]
        encoded = self.network.camera_head(tokens)[-1]
        depth, confidence = self.network.depth_head(tokens, images=picture, patch_start_idx=start)
        world, intrinsics = pose_encoding_to_extri_intri(encoded, tuple(picture.shape[-2:]))
        return WindowPrediction(
            rigid(world[0, :, :3, :3], world[0, :, :3, 3]),
            intrinsics[0],
            depth[0, ..., 0],
            confidence[0],
        )


def create_network(settings: dict[str, Any]) -> nn.Module:
    """Create the authors' network with random weights, without heads for points and tracks.

    Args:
        settings: Content of config.json.

    Returns:
        The network.
    """
    from vggt.models.vggt import VGGT  # pyright: ignore[reportMissingImports]

    keys = ("img_size", "patch_size", "embed_dim")
    sizes = {key: settings[key] for key in keys if key in settings}
    return VGGT(**sizes, enable_point=False, enable_track=False).eval().requires_grad_(False)
