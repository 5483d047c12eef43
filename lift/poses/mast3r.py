"""MASt3R, through its authors' package."""

import argparse
import ast
import contextlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from torch.nn.functional import normalize, pixel_shuffle

from lift.depths import DepthEstimator
from lift.poses import poses, resolve_focal
from lift.poses.sfm.hub import fill, held
from lift.poses.sfm.pointmaps import PairMaps, PairNetwork, PointMapPoses
from lift.types import Depth

PATCH = 16
SHARE = 0.7
"""Of the memory that is free, what pairs may take."""
MOST = 32
"""Pairs at once: more are no faster."""


@poses.register("mast3r")
class Mast3r(PointMapPoses):
    """MASt3R (Leroy et al., ECCV 2024): points and descriptors of pairs of frames, and `lift`'s own alignment of what they say, or the published one.

    Code and weights are CC-BY-NC-SA-4.0: not for commercial use. Pairs are chosen along the planned tree and between branches; each is looked at once, with
    every frame's features computed once, in half precision on a GPU, in batches that suit its memory. The input's depth says how long everything is.
    Where the network is not sure, depth is the depth estimator's, aligned to what it is sure of.

    model: an id on the Hugging Face hub, a folder with config.json and model.safetensors, or a checkpoint of the authors (.pth).
    size: pixels of the longer side of the pictures that the network sees, rounded to its patches (16).
    alignment: bundle (matches and depth, adjusted), or published (DUSt3R's global alignment of a star of pairs, as LiftImage3D has it; `focal` and `trust`
        do not matter, nor which pairs are planned).
    monocular: the depth estimator's part: where the network is `unsure`, aligned in inverse depth to what it is sure of; `published`: everywhere, its inverse taken to be affine in
        depth, as LiftImage3D has it; or `off`.
    exhaustive: up to so many frames all pairs are looked at that the plan has overlap; closures: beyond it, other branches that each frame is paired with.
    focal: the input's (`fixed`), one for all frames (`shared`), one a frame (`each`), or `auto`: fixed where it was measured. trust: in the plan, as for `matching`.
    least: share of frames that must be placed. tolerance, most_points: as for `planned`.
    """

    licence = "CC-BY-NC-SA-4.0"
    requires = ("mast3r", "dust3r", "roma", "einops")
    install = (
        "pip install roma einops, then MASt3R's code, whose licence (CC-BY-NC-SA-4.0) forbids commercial use: either "
        "git clone --recursive https://github.com/naver/mast3r with it and its dust3r on PYTHONPATH, or pip install --no-deps instantsplat, which carries both"
    )

    def __init__(
        self,
        model: str = "naver/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric",
        size: int = 512,
        alignment: Literal["bundle", "published"] = "bundle",
        monocular: Literal["unsure", "published", "off"] = "unsure",
        exhaustive: int = 16,
        closures: int = 4,
        focal: Literal["auto", "fixed", "shared", "each"] = "auto",
        trust: float = 1.0,
        least: float = 0.5,
        tolerance: float = 0.05,
        most_points: int = 2_000_000,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        focal_known: bool = True,
        device: torch.device,
    ) -> None:
        focal = resolve_focal(focal, focal_known)
        super().__init__(
            Network(_loaded(model), device),
            size,
            PATCH,
            alignment,
            monocular,
            exhaustive,
            closures,
            focal,
            trust,
            least,
            tolerance,
            most_points,
            depth,
            estimator,
            device,
        )


class Network(PairNetwork):
    """The authors' network, asked for what is needed: its heads for points and for descriptors are asked one by one."""

    describes = True

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network, self.device, self.pair_bytes = network.eval().requires_grad_(False), device, 0

    def _half(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda")

    @torch.inference_mode()
    def encode(self, images: UInt8[Tensor, "frame height width 3"]) -> list[Any]:
        self.network.to(
            self.device
        )  # only now: while frames are made, the memory is the generator's
        size = tuple(images.shape[1:3])
        picture = images.to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        with self._half():
            features, at, _ = self.network._encode_image(
                picture, torch.tensor([size] * len(images))
            )
        dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        return [(features[k].to(dtype), at[k], size) for k in range(len(images))]

    @torch.inference_mode()
    def pairs(self, first: Sequence[Any], second: Sequence[Any], both: bool) -> PairMaps:
        from dust3r.heads.postprocess import reg_dense_conf
        from mast3r.catmlp_dpt_head import postprocess

        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
        size = first[0][2]
        (one, one_at), (two, two_at) = [
            [torch.stack([some[part] for some in side]) for part in (0, 1)]
            for side in (first, second)
        ]
        with self._half():
            decoded = self.network._decoder(one, one_at, two, two_at)
        sides = [[tokens.float() for tokens in side] for side in decoded]
        heads = (self.network.downstream_head1, self.network.downstream_head2)

        def points(side: int) -> tuple[Tensor, Tensor]:
            out = postprocess(
                heads[side].dpt(sides[side], image_size=size),
                heads[side].depth_mode,
                heads[side].conf_mode,
            )
            return out["pts3d"], out["conf"]

        def described(side: int) -> tuple[Tensor, Tensor]:
            numbers = heads[side].head_local_features(
                torch.cat([sides[side][0], sides[side][-1]], -1)
            )
            rows, columns = size[0] // PATCH, size[1] // PATCH
            spread = pixel_shuffle(numbers.mT.unflatten(-1, (rows, columns)), PATCH).permute(
                0, 2, 3, 1
            )
            channels = heads[side].local_feat_dim
            sure = (
                reg_dense_conf(spread[..., channels], heads[side].desc_conf_mode)
                if heads[side].two_confs
                else torch.ones_like(spread[..., 0])
            )
            return normalize(spread[..., :channels], dim=-1), sure

        own, other = points(0), points(1) if both else (None, None)
        if both:  # matched by their points, or not at all
            out = PairMaps(*own, *other)
        else:
            (here, here_sure), (there, there_sure) = described(0), described(1)
            out = PairMaps(*own, None, None, (here, there), (here_sure, there_sure))
        if self.device.type == "cuda":
            self.pair_bytes = (torch.cuda.max_memory_allocated(self.device) - before) // len(first)
        return out

    def batch(self) -> int:
        if not self.pair_bytes:
            return 1
        free = (
            torch.cuda.mem_get_info(self.device)[0]
            + torch.cuda.memory_reserved(self.device)
            - torch.cuda.memory_allocated(self.device)
        )
        return max(1, min(MOST, int(SHARE * free / self.pair_bytes)))


def made(settings: dict[str, Any]) -> nn.Module:
    """The authors' network with random weights. It takes pictures of any shape: those that are higher than wide, too."""
    with contextlib.redirect_stdout(
        io.StringIO()
    ):  # it says that it does without a kernel of its own
        import dust3r.heads  # noqa: F401  (first: mast3r looks for dust3r beside itself otherwise)
        from mast3r.model import AsymmetricMASt3R

        return AsymmetricMASt3R(
            **{**settings, "patch_embed_cls": "PatchEmbedDust3R", "landscape_only": False}
        )


def _loaded(model: str) -> nn.Module:
    path = Path(model).expanduser()
    if path.is_file():
        return _checkpoint(path)
    settings, weights = held(model)
    return _filled(model, {key: _tuples(value) for key, value in settings.items()}, weights)


def _checkpoint(path: Path) -> nn.Module:
    """A file of the authors: a pickle, of which nothing is run."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            kept = torch.load(path, map_location="cpu", weights_only=True)
        text, weights = kept["args"].model, kept["model"]
        call = ast.parse(text.replace("inf", "1e999"), mode="eval").body
        if not (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id == "AsymmetricMASt3R"
        ):
            raise ValueError(f"it was made by {text[:40]!r}")
        settings = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    except Exception as error:  # a file of another kind can raise whatever it likes
        raise ValueError(
            f"pose.model is {path}, which is not a checkpoint of MASt3R's: {' '.join(str(error).split())}"
        ) from None
    return _filled(str(path), settings, weights)


def _filled(model: str, settings: dict[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    try:
        network = made(settings)
        if not hasattr(network.downstream_head1, "head_local_features"):
            raise ValueError(f"it has a head {settings.get('head_type')!r} without descriptors")
        fill(network, weights, ("mask_token",))
    except Exception as error:
        raise ValueError(
            f"pose.model is {model!r}, which is not MASt3R: {' '.join(str(error).split())}"
        ) from None
    return network


def _tuples(value: Any) -> Any:
    """Lists as the network's constructor wants them; infinities as numbers."""
    if isinstance(value, list):
        return tuple(_tuples(each) for each in value)
    return (
        {"inf": math.inf, "-inf": -math.inf}.get(value, value) if isinstance(value, str) else value
    )
