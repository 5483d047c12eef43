"""Depth Anything 3, through its authors' package."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from annotated_types import Interval
from jaxtyping import UInt8
from torch import Tensor, nn

from lift.depths import DepthEstimator
from lift.geometry import rigid
from lift.poses import poses
from lift.poses.sfm.feedforward import FeedForwardPoses, WindowPrediction
from lift.poses.sfm.hub import FILES, build_network, load_checkpoint
from lift.registry.ranges import PointCount, Tolerance
from lift.runtime.kept_networks import files_stamp, load_once
from lift.types import Depth
from lift.weights import HubFiles, Weights, is_local

DEPRECATED = (
    "depth-anything/DA3-LARGE",
    "depth-anything/DA3-GIANT",
    "depth-anything/DA3NESTED-GIANT-LARGE",
)
"""Models that their authors replaced by ones of the same name with -1.1.

The first ones were trained with an error.
"""
_LICENCES = {"da3-small": "Apache-2.0", "da3-base": "Apache-2.0"}
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_SEED = 0
"""Seed of the samples that the authors' code draws from torch's global generators."""


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
            Weights of DA3-SMALL and DA3-BASE are Apache-2.0. Weights of DA3-LARGE-1.1,
            DA3-GIANT-1.1 and DA3NESTED-GIANT-LARGE-1.1 are CC-BY-NC-4.0: no commercial use.
            `licence` of the built component is that of the chosen model. The nested model runs a
            metric network, too, and sets the depth of the sky. The metric and the monocular models
            do not estimate cameras.
        size: Longer side of the network's images in pixels, rounded to its patches of 14 pixels.
        window: Number of frames per window, the input included.
        tolerance: Relative depth error at which the confidence is a half.
        max_points: Largest number of points of the merged cloud.
        use_ray_pose: Whether cameras are fitted to the rays that the network predicts, instead of
            those of its camera head. Its authors find the rays slower and mostly more accurate.
            Principal points are then estimated, too.
    """

    licence = "Apache-2.0 (Small, Base) or CC-BY-NC-4.0 (Large, Giant, nested)"
    requires = ("depth_anything_3", "addict", "einops")
    # Its dependencies would downgrade numpy to 1, and it excludes Python 3.13.1 and later.
    install = "pip install --no-deps --ignore-requires-python depth-anything-3==0.1.1 addict einops"

    def __init__(
        self,
        model: str = "depth-anything/DA3-BASE",
        size: Annotated[int, Interval(ge=28, le=8192)] = 504,
        window: Annotated[int, Interval(ge=2, le=1_000_000)] = 32,
        tolerance: Tolerance = 0.05,
        max_points: PointCount = 2_000_000,
        use_ray_pose: bool = False,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        device: torch.device,
    ) -> None:
        super().__init__(size, window, tolerance, max_points, depth, estimator, device)
        if model in DEPRECATED:
            logging.getLogger(__name__).warning(
                "pose.model is %s, which its authors replaced: choose %s-1.1", model, model
            )
        self.use_ray_pose = use_ray_pose
        self.network = load_once(
            "pose", ("depth_anything_3", files_stamp(model)), lambda: _load_network(model)
        )
        self.licence = _LICENCES.get(self.network.model_name, "CC-BY-NC-4.0")

    @classmethod
    def required_weights(cls, settings: Mapping[str, Any], half: bool) -> tuple[Weights, ...]:
        """List the files that are downloaded. See `PoseEstimator.required_weights`."""
        model = settings["model"]
        if is_local(model):
            return ()
        licence = _LICENCES.get(model.rsplit("/", 1)[-1].lower(), "CC-BY-NC-4.0")
        return (HubFiles("pose.model", model, FILES, licence),)

    @staticmethod
    def import_packages() -> None:
        """Import the authors' code, to see whether it works."""
        from depth_anything_3.model.da3 import (  # pyright: ignore[reportMissingImports]
            DepthAnything3Net,  # noqa: F401
        )

    @torch.inference_mode()
    def predict(self, images: UInt8[Tensor, "frame height width 3"]) -> WindowPrediction:
        """Predict cameras and depth of a window. See `FeedForwardPoses`.

        Raises:
            ValueError: If the nested model sees nothing but sky.
        """
        # Only now, because the video generator needs the memory before.
        self.network.to(self.device)
        mean, std = (
            torch.tensor(numbers, device=self.device)[:, None, None] for numbers in (_MEAN, _STD)
        )
        picture = (images.to(self.device).permute(0, 3, 1, 2).float() / 255 - mean) / std
        is_cuda = self.device.type == "cuda"
        with _seeded(), torch.autocast(self.device.type, torch.bfloat16, enabled=is_cuda):
            try:
                output: Any = self.network(
                    picture[None], use_ray_pose=self.use_ray_pose, ref_view_strategy="first"
                )
            except AssertionError as error:
                raise ValueError(
                    f"pose.model cannot scale these frames ({error}); choose a model that is not "
                    "nested, such as depth-anything/DA3-LARGE-1.1"
                ) from None
        world = output["extrinsics"][0].float()
        return WindowPrediction(
            rigid(world[:, :3, :3], world[:, :3, 3]),
            output["intrinsics"][0].float(),
            output["depth"][0].float(),
            output["depth_conf"][0].float(),
        )


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed torch's global generators, and restore them. The network draws samples from them."""
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        yield


def _load_network(model: str) -> Any:
    """Load the network. Its attribute `model_name` is its name among the published ones."""
    settings, weights = load_checkpoint(model)
    name = str(settings.get("model_name", ""))
    network: Any = build_network(
        model,
        "a network of Depth Anything 3 that knows cameras",
        lambda: create_network(name),
        {key.removeprefix("model."): value for key, value in weights.items()},
    )
    network.model_name = name
    return network


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
    config = load_config(MODEL_REGISTRY[name])
    # Gaussians are not predicted. Their part alone needs the package e3nn.
    for branch in (config, config.get("anyview") or {}):
        for part in ("gs_head", "gs_adapter"):
            branch.pop(part, None)
    network = create_object(config).eval().requires_grad_(False)
    if getattr(getattr(network, "da3", network), "cam_dec", None) is None:
        raise ValueError(f"{name} has no head for cameras")
    return network
