"""VGGT, through its authors' package."""

from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from lift.depths import DepthEstimator
from lift.geometry import rigid
from lift.poses import poses
from lift.poses.sfm.feedforward import FeedForward, Told
from lift.poses.sfm.hub import fill, held
from lift.types import Depth


@poses.register("vggt")
class Vggt(FeedForward):
    """VGGT (Wang et al., CVPR 2025): cameras and depth of many frames in one look; nothing is matched or adjusted.

    Frames are shown a window at a time, always with the input, whose depth says how long everything is. Every frame has the lens that the network finds, but the input, whose
    camera is the plan's. Where the network is not sure, depth is the depth estimator's, aligned to what it is sure of.

    model: an id on the Hugging Face hub, or a folder with config.json and model.safetensors. Weights of facebook/VGGT-1B are CC-BY-NC-4.0, not for commercial
        use; those of facebook/VGGT-1B-Commercial, which Meta has to grant, have a licence of Meta's.
    size: pixels of the longer side of the pictures that the network sees, rounded to its patches (14). window: frames at once, the input included.
    tolerance, most_points: as for `planned`.
    """

    licence = "CC-BY-NC-4.0 (weights), Meta's own (code)"
    requires = ("vggt", "einops")
    install = (
        "pip install einops, then VGGT's code, whose licence is Meta's own: either git clone https://github.com/facebookresearch/vggt with it on PYTHONPATH, "
        "or pip install --no-deps instantsplat, which carries it"
    )

    def __init__(
        self,
        model: str = "facebook/VGGT-1B",
        size: int = 518,
        window: int = 32,
        tolerance: float = 0.05,
        most_points: int = 2_000_000,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        device: torch.device,
    ) -> None:
        super().__init__(size, window, tolerance, most_points, depth, estimator, device)
        self.network = _loaded(model)

    @torch.inference_mode()
    def look(self, images: UInt8[Tensor, "frame height width 3"]) -> Told:
        from vggt.utils.pose_enc import pose_encoding_to_extri_intri

        self.network.to(
            self.device
        )  # only now: while frames are made, the memory is the generator's
        picture = images.to(self.device).permute(0, 3, 1, 2)[None].float() / 255
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            tokens, start = self.network.aggregator(picture)
        tokens = [None if some is None else some.float() for some in tokens]
        encoded = self.network.camera_head(tokens)[-1]
        depth, sure = self.network.depth_head(tokens, images=picture, patch_start_idx=start)
        world, intrinsics = pose_encoding_to_extri_intri(encoded, tuple(picture.shape[-2:]))
        return Told(
            rigid(world[0, :, :3, :3], world[0, :, :3, 3]), intrinsics[0], depth[0, ..., 0], sure[0]
        )


def _loaded(model: str) -> nn.Module:
    settings, weights = held(model)
    try:
        network = made(settings)
        fill(network, weights)
    except Exception as error:
        raise ValueError(
            f"pose.model is {model!r}, which is not VGGT: {' '.join(str(error).split())[:200]}"
        ) from None
    return network


def made(settings: dict[str, Any]) -> nn.Module:
    """The authors' network with random weights; its heads for points and tracks are left out."""
    from vggt.models.vggt import VGGT

    known = {
        key: settings[key] for key in ("img_size", "patch_size", "embed_dim") if key in settings
    }
    return VGGT(**known, enable_point=False, enable_track=False).eval().requires_grad_(False)
