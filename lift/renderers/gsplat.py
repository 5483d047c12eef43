"""gsplat's CUDA rasteriser (Ye et al., "gsplat: An Open-Source Library for Gaussian Splatting", JMLR 2025)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from lift.geometry import pinhole
from lift.renderers import BLUR, NEAR, Renderer, Sums, renderers
from lift.runtime.jit import fused
from lift.types import Cameras, Gaussians

TILE = 16
"""Pixels across that gsplat's rasteriser composes together."""


@renderers.register("gsplat")
class Gsplat(Renderer):
    """gsplat's kernels on a CUDA device, float32, behind a projection of our own (`projection_triton`) where Triton is, as with torch on Linux.

    gsplat compiles its kernels on first use (about a minute, with nvcc and ninja).
    """

    licence = "Apache-2.0"
    requires = ("gsplat",)
    extra = "gpu"

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise ValueError(
                "renderer.name is gsplat, which needs a CUDA device, and torch finds none; choose numba or reference"
            )
        import gsplat

        self._gsplat = gsplat
        self.device = torch.device("cuda", torch.cuda.current_device())

    def rasterize(
        self, gaussians: Gaussians, colors: Float[Tensor, "view gaussian 3"], cameras: Cameras
    ) -> Sums:
        if colors.device.type != "cuda" or colors.dtype != torch.float32:
            raise ValueError(
                f"renderer.name is gsplat, which takes float32 on a CUDA device, not {colors.dtype} on {colors.device}"
            )
        if colors.shape[1] == 0:  # its kernels want something to draw
            empty = colors.new_zeros(len(colors), cameras.height, cameras.width, 5)
            return (
                empty[..., :3],
                empty[..., 3],
                empty[..., 4],
                {"radii": colors.new_zeros(len(colors), 0)},
            )
        every = (
            gaussians.means,
            gaussians.quats,
            gaussians.scales,
            gaussians.opacities,
            colors,
            cameras.world_to_camera,
            cameras.intrinsics,
        )
        sums, alpha, radii = (self._drawn if fused(*every) else self._drawn_by_gsplat)(
            gaussians, colors, cameras
        )
        rgb, depth_sum = _Channels.apply(sums)
        return rgb, alpha[..., 0], depth_sum, {"radii": radii}

    def _drawn(
        self, gaussians: Gaussians, colors: Tensor, cameras: Cameras
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sums of colour and z-depth, coverage, and radii."""
        from lift.renderers.cuda.projection import project

        width, height = cameras.width, cameras.height
        places, conics, features, covers, depths, boxes, radii = project(
            gaussians.means,
            gaussians.quats,
            gaussians.scales,
            gaussians.opacities,
            colors,
            cameras.world_to_camera,
            cameras.intrinsics,
            width,
            height,
        )
        tiles = -(-width // TILE), -(-height // TILE)
        _, keys, order = self._gsplat.isect_tiles(places, boxes, depths, TILE, *tiles)
        starts = self._gsplat.isect_offset_encode(keys, len(colors), *tiles)
        return *self._gsplat.rasterize_to_pixels(
            places, conics, features, covers, width, height, TILE, starts, order
        ), radii

    def _drawn_by_gsplat(
        self, gaussians: Gaussians, colors: Tensor, cameras: Cameras
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same without Triton."""
        per_view, count = gaussians.means.ndim == 3, colors.shape[1]
        viewmats, intrinsics = cameras.world_to_camera, cameras.intrinsics
        if intrinsics.requires_grad:
            viewmats, intrinsics = _Intrinsics.apply(viewmats, intrinsics), intrinsics.detach()
        if per_view:  # a batch of scenes, each with one camera
            viewmats, intrinsics = viewmats[:, None], intrinsics[:, None]
            gaussians, colors = _padded(gaussians, -count % 32), pad(colors, (0, 0, 0, -count % 32))
        shown, alpha, info = self._gsplat.rasterization(
            gaussians.means,
            gaussians.quats,
            gaussians.scales,
            gaussians.opacities,
            colors,
            viewmats,
            intrinsics,
            cameras.width,
            cameras.height,
            near_plane=NEAR,
            eps2d=BLUR,
            packed=False,
            render_mode="RGB+D",
        )
        radii = info["radii"]
        if per_view:
            shown, alpha, radii = shown[:, 0], alpha[:, 0], radii[:, 0, :count]
        return shown, alpha, radii.amax(-1)

    def warm_up(self) -> None:
        """Compiles gsplat's kernels, or loads them, by drawing one Gaussian."""
        quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
        one = Gaussians(
            torch.tensor([[0.0, 0.0, 1.0]]),
            quats,
            torch.full((1, 3), 0.1),
            torch.ones(1),
            torch.zeros(1, 1, 3),
        )
        self(one.to(self.device), pinhole(16, 16, 16.0).to(self.device))


class _Intrinsics(torch.autograd.Function):
    """viewmats themselves, through which `intrinsics` get the gradient that gsplat does not give them.

    It does give one for whatever linear map takes the world to the camera, and K x = K0 (K0^-1 K) x, where K0 is K as a constant: so K0^-1 K,
    which is the identity, is that map's part, and K has its gradient from there.
    """

    @staticmethod
    def forward(ctx, viewmats: Tensor, intrinsics: Tensor) -> Tensor:
        ctx.save_for_backward(viewmats, intrinsics)
        return viewmats.view_as(viewmats)

    @staticmethod
    @once_differentiable
    def backward(ctx, outer: Tensor) -> tuple[Tensor, Tensor]:
        viewmats, intrinsics = ctx.saved_tensors
        by_change = (outer @ viewmats.mT)[:, :3, :3]
        every = (
            torch.linalg.inv_ex(intrinsics)[0].mT @ by_change
        )  # its plain twin would wait for the device, to look for errors
        pinhole = torch.zeros_like(
            every
        )  # a pinhole has focal lengths and a principal point, nothing else
        pinhole[:, :2, 2], pinhole[:, 0, 0], pinhole[:, 1, 1] = (
            every[:, :2, 2],
            every[:, 0, 0],
            every[:, 1, 1],
        )
        return outer, pinhole


class _Channels(torch.autograd.Function):
    """Colour and depth of one picture, not copied; backwards they are joined at once, where slices would each fill a picture with zeros."""

    @staticmethod
    def forward(ctx, shown: Tensor) -> tuple[Tensor, Tensor]:
        return shown[..., :3], shown[..., 3]

    @staticmethod
    def backward(ctx, by_rgb: Tensor, by_depth: Tensor) -> Tensor:
        return torch.cat([by_rgb, by_depth[..., None]], dim=-1)


def _padded(gaussians: Gaussians, extra: int) -> Gaussians:
    """With `extra` invisible ones a view. gsplat 1.5.3 sums camera gradients over warps of 32 threads that it tells apart by camera but
    not by batch, so a warp that spans two views gives the one's gradient to the other.
    """
    means = pad(gaussians.means, (0, 0, 0, extra), value=-1.0)
    quats, scales = (
        pad(gaussians.quats, (0, 0, 0, extra), value=1.0),
        pad(gaussians.scales, (0, 0, 0, extra), value=1e-6),
    )
    return Gaussians(
        means,
        quats,
        scales,
        pad(gaussians.opacities, (0, extra)),
        pad(gaussians.sh_coeffs, (0, 0, 0, 0, 0, extra)),
    )
