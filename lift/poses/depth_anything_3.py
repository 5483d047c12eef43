"""Depth Anything 3, through its authors' package."""

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

_LICENCES = {"da3-small": "Apache-2.0", "da3-base": "Apache-2.0"}
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@poses.register("depth_anything_3")
class DepthAnything3(FeedForward):
    """Depth Anything 3 (Lin et al., 2025): cameras and depth of many frames in one look; nothing is matched or adjusted.

    Frames are shown a window at a time, always with the input, whose depth says how long everything is. Every frame has the lens that the network finds, but the input, whose
    camera is the plan's. Where the network is not sure, depth is the depth estimator's, aligned to what it is sure of.

    model: an id on the Hugging Face hub, or a folder with config.json and model.safetensors. Small and Base are Apache-2.0; Large and Giant CC-BY-NC-4.0, not for
        commercial use: `licence` of the built component tells. The metric and monocular ones know no cameras.
    size: pixels of the longer side of the pictures that the network sees, rounded to its patches (14). window: frames at once, the input included.
    tolerance, most_points: as for `planned`.
    """

    licence = "Apache-2.0 (Small, Base) or CC-BY-NC-4.0 (Large, Giant)"
    requires = ("depth_anything_3", "addict", "e3nn", "einops")
    install = "pip install addict e3nn einops, then pip install --no-deps depth-anything-3 (with what it asks for it takes numpy back to 1)"

    def __init__(
        self,
        model: str = "depth-anything/DA3-BASE",
        size: int = 504,
        window: int = 32,
        tolerance: float = 0.05,
        most_points: int = 2_000_000,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        device: torch.device,
    ) -> None:
        super().__init__(size, window, tolerance, most_points, depth, estimator, device)
        settings, weights = held(model)
        name = str(settings.get("model_name", ""))
        try:
            network = made(name)
            fill(network, {key.removeprefix("model."): value for key, value in weights.items()})
        except Exception as error:
            raise ValueError(
                f"pose.model is {model!r}, which is not a network of Depth Anything 3 that knows cameras: {' '.join(str(error).split())[:200]}"
            ) from None
        self.network, self.licence = network, _LICENCES.get(name, "CC-BY-NC-4.0")

    @torch.inference_mode()
    def look(self, images: UInt8[Tensor, "frame height width 3"]) -> Told:
        self.network.to(
            self.device
        )  # only now: while frames are made, the memory is the generator's
        mean, std = (
            torch.tensor(numbers, device=self.device)[:, None, None] for numbers in (_MEAN, _STD)
        )
        picture = (images.to(self.device).permute(0, 3, 1, 2).float() / 255 - mean) / std
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            out: Any = self.network(picture[None], ref_view_strategy="first")
        world = out["extrinsics"][0].float()
        return Told(
            rigid(world[:, :3, :3], world[:, :3, 3]),
            out["intrinsics"][0].float(),
            out["depth"][0].float(),
            out["depth_conf"][0].float(),
        )


def made(name: str) -> nn.Module:
    """The authors' network of that name with random weights."""
    from depth_anything_3.cfg import create_object, load_config
    from depth_anything_3.registry import MODEL_REGISTRY

    if name not in MODEL_REGISTRY:
        raise ValueError(
            f"config.json has model_name {name!r}; choose one of {', '.join(MODEL_REGISTRY)}"
        )
    network = create_object(load_config(MODEL_REGISTRY[name])).eval().requires_grad_(False)
    if getattr(network, "cam_dec", None) is None:
        raise ValueError(f"{name} has no head for cameras")
    return network
