"""MASt3R, through its authors' package."""

import argparse
import ast
import contextlib
import io
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from jaxtyping import UInt8
from torch import Tensor, nn
from torch.nn.functional import normalize, pixel_shuffle

from lift.depths import DepthEstimator
from lift.errors import summarize_error
from lift.io.names import user_path
from lift.poses import poses, resolve_focal
from lift.poses.sfm.correspondence import PairMaps, PairNetwork
from lift.poses.sfm.hub import FILES, build_network, load_checkpoint
from lift.poses.sfm.padding import Padding
from lift.poses.sfm.pointmaps import PointMapPoses
from lift.registry.bundled import add_bundled
from lift.registry.ranges import Count, Fraction, PointCount, Tolerance, Weight
from lift.runtime.kept_networks import files_stamp, load_once
from lift.types import Depth
from lift.weights import HubFiles, Weights, is_local
from lift.weights.files import load_pickle

PATCH = 16
"""Side of a patch in pixels."""
MIN_ASPECT = 4 / 3
"""Smallest ratio of the longer to the shorter side of the pictures of its training, 512 x 384."""
MAX_ASPECT = 512 / 160
"""Largest ratio of the pictures of its training."""
_COMPILED_KERNELS = ("models.curope", "curope")
"""Modules of the compiled rotary embedding, which packages bring for one version of CUDA."""

Precision = Literal["auto", "float16", "bfloat16", "float32"]
"""Type of the network's computation."""
MEMORY_FRACTION = 0.7
"""Fraction of the free memory that pairs may take."""
MAX_BATCH = 32
"""Largest number of pairs at once; more are not faster."""


@poses.register("mast3r")
class Mast3r(PointMapPoses):
    """Predict points and descriptors of pairs with MASt3R and align them.

    Code and weights are CC-BY-NC-SA-4.0: no commercial use. Pairs are chosen along the planned tree
    and between branches. The network runs once per pair, in batches that fit its memory. The
    input's depth gives the scale. Where the network is not confident, aligned monocular depth is
    used.

    Reference:
        Leroy et al., "Grounding image matching in 3D with MASt3R", ECCV 2024.

    Args:
        model: Name on the Hugging Face Hub, a folder with config.json and model.safetensors, or a
            checkpoint of the authors (.pth).
        size: Longer side of the network's images in pixels with their padding, rounded to its
            patches of 16 pixels.
        alignment: `bundle_adjustment` of matches and depth, or `global_alignment`, which is
            DUSt3R's for a star of pairs, as in LiftImage3D. There `focal`, `plan_weight` and the
            choice of pairs have no effect.
        monocular: Where monocular depth is used. `low_confidence`: where the network is not
            confident, aligned in inverse depth. `everywhere`: as in LiftImage3D. `nowhere`: not
            used.
        exhaustive_limit: Number of frames up to which all pairs with planned overlap are predicted.
        loop_closures: Number of other branches with which a frame is paired beyond that limit.
        focal: Focal length: the input's (`fixed`), one unknown (`shared`), one unknown per frame
            (`per_frame`), or `auto`: fixed if it is measured, else shared.
        plan_weight: Weight of the plan, as for `matching`.
        min_registered: Smallest fraction of frames that must be registered.
        tolerance: Relative depth error at which the confidence is a half.
        max_points: Largest number of points of the merged cloud.
        precision: Type of the computation. `auto` is float16 on a GPU. LiftImage3D has float32,
            which takes twice the memory.
        pad: Whether frames that are nearly square, or wider than 3.2:1, are padded by their mirror
            image, because the network was trained with 4:3 to 3.2:1. The padding is cut off again.
        focal_known: Whether the focal length is measured (EXIF, calibration or given cameras).
    """

    licence = "CC-BY-NC-SA-4.0"
    requires = ("mast3r", "dust3r", "einops")
    install = "pip install --no-deps vismatch==1.4.0 einops"
    bundled = ("vismatch/third_party/mast3r", "vismatch/third_party/mast3r/dust3r")

    def __init__(
        self,
        model: str = "naver/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric",
        size: Annotated[int, Interval(ge=32, le=8192)] = 512,
        alignment: Literal["bundle_adjustment", "global_alignment"] = "bundle_adjustment",
        monocular: Literal["low_confidence", "everywhere", "nowhere"] = "low_confidence",
        exhaustive_limit: Count = 16,
        loop_closures: Count = 4,
        focal: Literal["auto", "fixed", "shared", "per_frame"] = "auto",
        plan_weight: Weight = 1.0,
        min_registered: Fraction = 0.5,
        tolerance: Tolerance = 0.05,
        max_points: PointCount = 2_000_000,
        precision: Literal["auto", "float16", "bfloat16", "float32"] = "auto",
        pad: bool = True,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        focal_known: bool = True,
        device: torch.device,
    ) -> None:
        super().__init__(
            Mast3rNetwork(
                load_once("pose", ("mast3r", files_stamp(model)), lambda: _load_network(model)),
                device,
                precision,
                pad,
            ),
            size,
            PATCH,
            alignment,
            monocular,
            exhaustive_limit,
            loop_closures,
            resolve_focal(focal, focal_known),
            plan_weight,
            min_registered,
            tolerance,
            max_points,
            depth,
            estimator,
            device,
        )

    @classmethod
    def required_weights(cls, settings: Mapping[str, Any], half: bool) -> tuple[Weights, ...]:
        """List the files that are downloaded. See `PoseEstimator.required_weights`."""
        model = settings["model"]
        return () if is_local(model) else (HubFiles("pose.model", model, FILES, cls.licence),)

    @staticmethod
    def import_packages() -> None:
        """Import the authors' code, to see whether it works."""
        _import_mast3r()


class Mast3rNetwork(PairNetwork):
    """Runs the parts of the authors' network that are needed, each head on its own.

    Args:
        network: The authors' network.
        device: Device to run on.
        precision: Type of the computation. `auto` is float16 on a GPU.
        pad: Whether frames of an untrained aspect ratio are padded.
    """

    has_descriptors = True

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        precision: Precision = "auto",
        pad: bool = True,
    ) -> None:
        self.network: Any = network.eval().requires_grad_(False)
        self.device = device
        self.pad = pad
        self.pair_bytes = 0
        if precision == "auto":
            precision = "float16" if device.type == "cuda" else "float32"
        self.dtype: torch.dtype = getattr(torch, precision)

    def _autocast(self) -> torch.autocast:
        """Compute in half precision, unless float32 is chosen."""
        is_half = self.dtype != torch.float32
        dtype = self.dtype if is_half else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=is_half)

    def padding(self, height: int, width: int) -> Padding:
        """Return the padding of frames. See `PairNetwork`."""
        return Padding.to_aspect(height, width, MIN_ASPECT, MAX_ASPECT) if self.pad else Padding()

    @torch.inference_mode()
    def encode(self, images: UInt8[Tensor, "frame height width 3"]) -> list[Any]:
        """Encode frames. See `PairNetwork`."""
        # Only now, because the video generator needs the memory before.
        self.network.to(self.device)
        padding = self.padding(*images.shape[1:3]).rounded(PATCH)
        padded = padding.apply(images.to(self.device), "mirror")
        size = tuple(padded.shape[1:3])
        picture = padded.permute(0, 3, 1, 2).float() / 127.5 - 1
        with self._autocast():
            features, positions, _ = self.network._encode_image(
                picture, torch.tensor([size] * len(images))
            )
        return [
            (features[k].to(self.dtype), positions[k], (size, padding)) for k in range(len(images))
        ]

    @torch.inference_mode()
    def predict(self, first: Sequence[Any], second: Sequence[Any], both: bool) -> PairMaps:
        """Predict pairs: with points of both frames, or with descriptors. See `PairNetwork`."""
        before = 0
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
        size, padding = first[0][2]
        (one, one_positions), (two, two_positions) = [
            [torch.stack([frame[part] for frame in side]) for part in (0, 1)]
            for side in (first, second)
        ]
        with self._autocast():
            decoded = self.network._decoder(one, one_positions, two, two_positions)
        sides = [[tokens.float() for tokens in side] for side in decoded]
        points, confidence = (padding.crop(m) for m in self._points(0, sides[0], size))
        if both:
            second_maps = [padding.crop(m) for m in self._points(1, sides[1], size)]
            maps = PairMaps(points, confidence, second_maps[0], second_maps[1])
        else:
            described = [
                [padding.crop(m) for m in self._descriptors(side, sides[side], size)]
                for side in (0, 1)
            ]
            descriptors = (described[0][0], described[1][0])
            descriptor_confidence = (described[0][1], described[1][1])
            maps = PairMaps(points, confidence, None, None, descriptors, descriptor_confidence)
        if self.device.type == "cuda":
            self.pair_bytes = (torch.cuda.max_memory_allocated(self.device) - before) // len(first)
        return maps

    def _head(self, side: int) -> Any:
        """Return the head of the first (0) or the second (1) frames."""
        return (self.network.downstream_head1, self.network.downstream_head2)[side]

    def _points(
        self, side: int, tokens: list[Tensor], size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return points and confidence of one side."""
        from mast3r.catmlp_dpt_head import (  # pyright: ignore[reportMissingImports]
            postprocess,
        )

        head = self._head(side)
        output = postprocess(head.dpt(tokens, image_size=size), head.depth_mode, head.conf_mode)
        return output["pts3d"], output["conf"]

    def _descriptors(
        self, side: int, tokens: list[Tensor], size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return unit descriptors and their confidence of one side."""
        from dust3r.heads.postprocess import (  # pyright: ignore[reportMissingImports]
            reg_dense_conf,
        )

        head = self._head(side)
        features = head.head_local_features(torch.cat([tokens[0], tokens[-1]], -1))
        rows = size[0] // PATCH
        columns = size[1] // PATCH
        features = pixel_shuffle(features.mT.unflatten(-1, (rows, columns)), PATCH)
        features = features.permute(0, 2, 3, 1)
        channels = head.local_feat_dim
        if head.two_confs:
            confidence = reg_dense_conf(features[..., channels], head.desc_conf_mode)
        else:
            confidence = torch.ones_like(features[..., 0])
        return normalize(features[..., :channels], dim=-1), confidence

    def batch_size(self) -> int:
        """Return the number of pairs that fit into the free memory."""
        if not self.pair_bytes:
            return 1
        free = (
            torch.cuda.mem_get_info(self.device)[0]
            + torch.cuda.memory_reserved(self.device)
            - torch.cuda.memory_allocated(self.device)
        )
        return max(1, min(MAX_BATCH, int(MEMORY_FRACTION * free / self.pair_bytes)))


def create_network(settings: dict[str, Any]) -> nn.Module:
    """Create the authors' network with random weights, for images of any aspect ratio.

    Args:
        settings: Arguments of the authors' class.

    Returns:
        The network.
    """
    return _import_mast3r()(
        **{**settings, "patch_embed_cls": "PatchEmbedDust3R", "landscape_only": False}
    )


def _import_mast3r() -> Any:
    """Import the class of the authors' network, without its compiled rotary embedding.

    Packages bring that kernel for one version of CUDA. Torch's own computation is the same.
    """
    add_bundled(("mast3r", "dust3r"), Mast3r.bundled)
    # It prints that a compiled kernel is missing.
    with contextlib.redirect_stdout(io.StringIO()), _blocked(_COMPILED_KERNELS):
        # First, or mast3r would look for dust3r beside itself.
        import dust3r.heads  # noqa: F401  # pyright: ignore[reportMissingImports]
        from mast3r.model import AsymmetricMASt3R  # pyright: ignore[reportMissingImports]
    return AsymmetricMASt3R


@contextlib.contextmanager
def _blocked(modules: Sequence[str]) -> Iterator[None]:
    """Let imports of modules fail, as if they were not installed."""
    before = {name: sys.modules[name] for name in modules if name in sys.modules}
    sys.modules.update(dict.fromkeys(modules))  # pyright: ignore[reportCallIssue, reportArgumentType]
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
        sys.modules.update(before)


def _load_network(model: str) -> nn.Module:
    """Create the network and load its weights from a checkpoint, a folder or the Hub."""
    path = user_path(model)
    if path.is_file():
        return _load_pickle(path)
    settings, weights = load_checkpoint(model)
    return _build_network(
        model, {key: _to_python(value) for key, value in settings.items()}, weights
    )


def _load_pickle(path: Path) -> nn.Module:
    """Load a checkpoint of the authors, a pickle, without running its code."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = load_pickle(path)
        text = checkpoint["args"].model
        weights = checkpoint["model"]
        call = ast.parse(text.replace("inf", "1e999"), mode="eval").body
        if not (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id == "AsymmetricMASt3R"
        ):
            raise ValueError(f"it was made by {text[:40]!r}")
        settings = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    except Exception as error:  # A file of another kind can raise anything.
        raise ValueError(
            f"pose.model is {path}, which is not a checkpoint of MASt3R's: {summarize_error(error)}"
        ) from None
    return _build_network(str(path), settings, weights)


def _build_network(model: str, settings: dict[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    """Create the network and load its weights."""

    def create() -> nn.Module:
        network = create_network(settings)
        if not hasattr(network.downstream_head1, "head_local_features"):
            raise ValueError(f"it has a head {settings.get('head_type')!r} without descriptors")
        return network

    return build_network(model, "MASt3R", create, weights, ("mask_token",))


def _to_python(value: Any) -> Any:
    """Convert lists of JSON to tuples, and the strings of infinities to numbers."""
    if isinstance(value, list):
        return tuple(_to_python(item) for item in value)
    infinities = {"inf": math.inf, "-inf": -math.inf}
    return infinities.get(value, value) if isinstance(value, str) else value
