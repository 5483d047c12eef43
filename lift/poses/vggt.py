"""VGGT, through its authors' package."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Interval
from jaxtyping import UInt8
from torch import Tensor, nn

from lift.depths import DepthEstimator
from lift.geometry import rigid
from lift.io.names import user_path
from lift.poses import poses
from lift.poses.sfm.feedforward import FeedForwardPoses, WindowPrediction
from lift.poses.sfm.hub import FILES, build_network, load_checkpoint
from lift.poses.sfm.padding import Padding
from lift.registry.ranges import PointCount, Tolerance
from lift.runtime.kept_networks import files_stamp, load_once
from lift.types import Depth
from lift.weights import HubFiles, Weights, is_local

COMMERCIAL_FILE = "vggt_1B_commercial.pt"
"""The only file of facebook/VGGT-1B-Commercial. It has no configuration: sizes are the default."""
_LICENCE = "CC-BY-NC-4.0"
_COMMERCIAL_LICENCE = "VGGT Licence of Meta (commercial use allowed, see its terms)"


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
        model: Name on the Hugging Face Hub, a folder with config.json and model.safetensors or with
            vggt_1B_commercial.pt, or a file of weights (.pt). Weights of facebook/VGGT-1B are
            CC-BY-NC-4.0: no commercial use. Those of facebook/VGGT-1B-Commercial have Meta's own
            licence, and Meta must grant access. `licence` of the built component is that of the
            chosen model.
        size: Longer side of the network's images in pixels with their padding, rounded to its
            patches of 14 pixels.
        window: Number of frames per window, the input included.
        tolerance: Relative depth error at which the confidence is a half.
        max_points: Largest number of points of the merged cloud.
        pad: Whether frames that are higher than wide get white columns at both sides, because the
            network was trained with pictures that are at least as wide as high. The columns are cut
            off again.
    """

    licence = "CC-BY-NC-4.0 (weights), Meta's own (code)"
    requires = ("vggt", "einops")
    install = (
        "pip install --no-deps einops "
        "git+https://github.com/facebookresearch/vggt@a288dd0f14786c93483e45524328726ab7b1b4ce"
    )

    def __init__(
        self,
        model: str = "facebook/VGGT-1B",
        size: Annotated[int, Interval(ge=28, le=8192)] = 518,
        window: Annotated[int, Interval(ge=2, le=1_000_000)] = 32,
        tolerance: Tolerance = 0.05,
        max_points: PointCount = 2_000_000,
        pad: bool = True,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        device: torch.device,
    ) -> None:
        super().__init__(size, window, tolerance, max_points, depth, estimator, device)
        self.pad = pad
        files, self.licence = _choose_files(model)

        def load() -> Any:
            settings, weights = load_checkpoint(model, files)
            return build_network(model, "VGGT", lambda: create_network(settings), weights)

        self.network: Any = load_once("pose", ("vggt", files_stamp(model)), load)

    @classmethod
    def required_weights(cls, settings: Mapping[str, Any], half: bool) -> tuple[Weights, ...]:
        """List the files that are downloaded. See `PoseEstimator.required_weights`."""
        model = settings["model"]
        if is_local(model):
            return ()
        files, licence = _choose_files(model)
        return (HubFiles("pose.model", model, files, licence),)

    @staticmethod
    def import_packages() -> None:
        """Import the authors' code, to see whether it works."""
        from vggt.models.vggt import VGGT  # noqa: F401  # pyright: ignore[reportMissingImports]

    def padding(self, height: int, width: int) -> Padding:
        """Return the padding of frames. See `FeedForwardPoses`."""
        return Padding.to_landscape(height, width) if self.pad else Padding()

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


def _choose_files(model: str) -> tuple[tuple[str, ...], str]:
    """Return the files of a model, and the licence of its weights.

    Args:
        model: The setting `pose.model`.
    """
    path = user_path(model)
    if path.is_file() and path.suffix in (".pt", ".pth"):
        is_commercial = path.name == COMMERCIAL_FILE
        return (path.name,), _COMMERCIAL_LICENCE if is_commercial else _LICENCE
    if path.is_dir():
        is_commercial = (path / COMMERCIAL_FILE).is_file()
    else:
        is_commercial = "commercial" in model.lower()
    return ((COMMERCIAL_FILE,), _COMMERCIAL_LICENCE) if is_commercial else (FILES, _LICENCE)


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
