"""Depth Anything 3, through its authors' package."""

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

_LICENCES = {"da3-small": "Apache-2.0", "da3-base": "Apache-2.0"}
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


@poses.register("depth_anything_3")
class DepthAnything3(FeedForwardPoses):
    """Predict cameras and depth of many frames with Depth Anything 3.

    Nothing is matched or adjusted. Frames are processed in windows. Every window contains the
    input, whose depth gives the scale. The network also estimates the focal lengths of all frames
    but the input, whose camera is the plan's. Where the network is not confident, aligned monocular
    depth is used.

    Reference:
        Lin et al., "Depth Anything 3: Recovering the visual space from any views", 2025.

    Args:
        model: Name on the Hugging Face Hub, or a folder with config.json and model.safetensors.
            Weights of Small and Base are Apache-2.0. Weights of Large and Giant are CC-BY-NC-4.0:
            no commercial use. `licence` of the built component is that of the chosen model. The
            metric and the monocular models do not estimate cameras.
        size: Longer side of the network's images in pixels, rounded to its patches of 14 pixels.
        window: Number of frames per window, the input included.
        tolerance: Relative depth error at which the confidence is a half.
        max_points: Largest number of points of the merged cloud.
    """

    licence = "Apache-2.0 (Small, Base) or CC-BY-NC-4.0 (Large, Giant)"
    requires = ("depth_anything_3", "addict", "e3nn", "einops")
    install = (
        "pip install addict e3nn einops, then pip install --no-deps depth-anything-3 "
        "(with its dependencies it downgrades numpy to 1)"
    )

    def __init__(
        self,
        model: str = "depth-anything/DA3-BASE",
        size: Annotated[int, Interval(ge=28, le=8192)] = 504,
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
        name = str(settings.get("model_name", ""))
        weights = {key.removeprefix("model."): value for key, value in weights.items()}
        self.network = build_network(
            model,
            "a network of Depth Anything 3 that knows cameras",
            lambda: create_network(name),
            weights,
        )
        self.licence = _LICENCES.get(name, "CC-BY-NC-4.0")

    @torch.inference_mode()
    def predict(self, images: UInt8[Tensor, "frame height width 3"]) -> WindowPrediction:
        """Predict cameras and depth of a window. See `FeedForwardPoses`."""
        # Only now, because the video generator needs the memory before.
        self.network.to(self.device)
        mean, std = (
            torch.tensor(numbers, device=self.device)[:, None, None] for numbers in (_MEAN, _STD)
        )
        picture = (images.to(self.device).permute(0, 3, 1, 2).float() / 255 - mean) / std
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            output: Any = self.network(picture[None], ref_view_strategy="first")
        world = output["extrinsics"][0].float()
        return WindowPrediction(
            rigid(world[:, :3, :3], world[:, :3, 3]),
            output["intrinsics"][0].float(),
            output["depth"][0].float(),
            output["depth_conf"][0].float(),
        )


def create_network(name: str) -> nn.Module:
    """Create the authors' network with random weights.

    Args:
        name: Name of the network in the authors' package.

    Returns:
        The network.

    Raises:
        ValueError: If there is no such network, or if it does not estimate cameras.
    """
    from depth_anything_3.cfg import (  # pyright: ignore[reportMissingImports]
        create_object,
        load_config,
    )
    from depth_anything_3.registry import (  # pyright: ignore[reportMissingImports]
        MODEL_REGISTRY,
    )

    if name not in MODEL_REGISTRY:
        raise ValueError(
            f"config.json has model_name {name!r}; choose one of {', '.join(MODEL_REGISTRY)}"
        )
    network = create_object(load_config(MODEL_REGISTRY[name])).eval().requires_grad_(False)
    if getattr(network, "cam_dec", None) is None:
        raise ValueError(f"{name} has no head for cameras")
    return network
