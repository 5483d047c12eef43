"""Depth Anything V2."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Interval
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from lift.depths import DepthEstimator, depths
from lift.depths.inverse import from_relative, resize
from lift.errors import model_not_loaded_error
from lift.io.sizing import round_to_multiple
from lift.registry.ranges import FarDepth
from lift.runtime.kept_networks import files_stamp, load_once
from lift.types import Depth
from lift.weights import HubPipeline, Weights, is_local
from lift.weights.files import with_mapping

_LICENCES = {384: "Apache-2.0", 768: "CC-BY-NC-4.0", 1024: "CC-BY-NC-4.0", 1536: "CC-BY-NC-4.0"}
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


@depths.register("depth_anything")
class DepthAnything(DepthEstimator):
    """Estimate depth with Depth Anything V2 through transformers.

    The Small models are Apache-2.0. Base, Large and Giant are CC-BY-NC-4.0, not for commercial use.
    The backbone's width tells which: see `licence` of the built component. Relative models give
    inverse depth up to scale and shift. Their depth runs from 1 to `far`. Metric models give
    metres.

    Args:
        model: An id on the Hugging Face hub, or a folder with config.json and the weights.
        size: Shorter side in pixels of the network's input, rounded to its patch size (14).
        far: Depth of the farthest pixel in units of the nearest, above 1. For relative models.
        device: Device of the network.

    Reference:
        Yang et al., "Depth Anything V2", NeurIPS 2024.
    """

    requires = ("transformers",)
    extra = "depth"
    licence = "Apache-2.0 (Small) or CC-BY-NC-4.0 (Base, Large)"
    example_settings = None
    """A test needs weights."""

    def __init__(
        self,
        model: str = "depth-anything/Depth-Anything-V2-Small-hf",
        size: Annotated[int, Interval(ge=14, le=4096)] = 518,
        far: FarDepth = 10.0,
        *,
        device: torch.device,
    ) -> None:
        from transformers import AutoModelForDepthEstimation

        def load() -> Any:
            return with_mapping(
                lambda mapped: AutoModelForDepthEstimation.from_pretrained(
                    model, **({} if mapped else {"disable_mmap": True})
                ),
                f"depth.model {model}",
            )

        try:
            network: Any = load_once("depth", (type(self), files_stamp(model)), load)
        except (OSError, ValueError) as error:
            raise model_not_loaded_error("depth.model", model, error) from None
        if network.config.model_type != "depth_anything":
            raise ValueError(
                f"depth.model is {model!r}, a {network.config.model_type!r} network; "
                "choose a Depth Anything V2 model"
            )
        self.network = network.eval().to(device)
        self.device = device
        self.far = far
        self.patch = network.config.patch_size
        if size < self.patch:
            raise ValueError(f"depth.size is {size}; choose at least {self.patch}")
        self.size = size
        self.metric = network.config.depth_estimation_type == "metric"
        self.licence = _LICENCES.get(
            network.config.backbone_config.hidden_size, "unknown: see the model's page"
        )

    @classmethod
    def required_weights(cls, settings: Mapping[str, Any], half: bool) -> tuple[Weights, ...]:
        """List the files that are downloaded. See `DepthEstimator.required_weights`."""
        model = settings["model"]
        if is_local(model):
            return ()
        licence = "Apache-2.0" if "-small" in model.lower() else "CC-BY-NC-4.0"
        return (HubPipeline("depth.model", model, licence),)

    @torch.inference_mode()
    def __call__(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
        """Estimate depth. See `DepthEstimator`."""
        height, width = image.shape[:2]
        factor = self.size / min(height, width)
        sides = [round_to_multiple(side * factor, self.patch) for side in (height, width)]
        pixels = image.to(self.device).permute(2, 0, 1)[None].float() / 255
        pixels = interpolate(
            pixels, size=sides, mode="bicubic", align_corners=False, antialias=True
        ).clamp(0, 1)
        mean = pixels.new_tensor(_MEAN)[:, None, None]
        std = pixels.new_tensor(_STD)[:, None, None]
        raw = self.network(pixel_values=(pixels - mean) / std).predicted_depth[0].float()
        raw = resize(raw, width, height)
        depth = raw if self.metric else from_relative(raw, self.far)
        valid = depth.isfinite() & (depth > 0)
        # Clone outside of inference mode: inference tensors cannot take part in training.
        with torch.inference_mode(False):
            depth = depth.where(valid, 0).clone().to(image.device)
            valid = valid.clone().to(image.device)
        return Depth(depth, valid, "metric" if self.metric else "affine-invariant")
