"""gsplat's CUDA rasteriser."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from lift.geometry import pinhole
from lift.renderers import EPS2D, NEAR_PLANE, Renderer, Sums, renderers
from lift.runtime.jit import can_use_triton
from lift.types import Cameras, Gaussians

TILE = 8
"""Side of gsplat's tiles in pixels.

A pixel looks at all Gaussians of its tile. With half a million of them, of a pixel or two each, a
step takes a sixth less time than with gsplat's own 16 pixels.
"""


@renderers.register("gsplat")
class Gsplat(Renderer):
    """Render with gsplat's kernels on a CUDA device in float32.

    Where Triton is installed, as with torch on Linux, the projection is that of
    `lift.renderers.cuda.projection`. gsplat compiles its kernels on first use, which takes about
    a minute and needs nvcc and ninja.

    Raises:
        ValueError: If torch finds no CUDA device.

    Reference:
        Ye et al., "gsplat: An Open-Source Library for Gaussian Splatting", JMLR 2025.
    """

    licence = "Apache-2.0"
    requires = ("gsplat",)
    extra = "gpu"

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise ValueError(
                "renderer.name is gsplat, which needs a CUDA device, and torch finds none; "
                "choose numba or reference"
            )
        import gsplat

        self._gsplat: Any = gsplat
        self.device = torch.device("cuda", torch.cuda.current_device())

    def rasterize(
        self, gaussians: Gaussians, colors: Float[Tensor, "view gaussian 3"], cameras: Cameras
    ) -> Sums:
        """Sum colour, coverage and z-depth over black.

        Args:
            gaussians: The scene, shared by the views or one set a view.
            colors: Colours of the Gaussians in every view.
            cameras: The cameras, one a view.

        Returns:
            The sums, and a dictionary with `radii` in pixels.

        Raises:
            ValueError: If the colours are not float32 on a CUDA device.
        """
        if colors.device.type != "cuda" or colors.dtype != torch.float32:
            raise ValueError(
                "renderer.name is gsplat, which takes float32 on a CUDA device, "
                f"not {colors.dtype} on {colors.device}"
            )
        if colors.shape[1] == 0:  # its kernels cannot draw nothing
            empty = colors.new_zeros(len(colors), cameras.height, cameras.width, 5)
            return (
                empty[..., :3],
                empty[..., 3],
                empty[..., 4],
                {"radii": colors.new_zeros(len(colors), 0)},
            )
        inputs = (
            gaussians.means,
            gaussians.quats,
            gaussians.scales,
            gaussians.opacities,
            colors,
            cameras.world_to_camera,
            cameras.intrinsics,
        )
        draw = self._draw if can_use_triton(*inputs) else self._draw_without_triton
        sums, alpha, radii = draw(gaussians, colors, cameras)
        rgb, depth_sum = _SplitChannels.apply(sums)
        return rgb, alpha[..., 0], depth_sum, {"radii": radii}

    def _draw(
        self, gaussians: Gaussians, colors: Tensor, cameras: Cameras
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return sums of colour and z-depth, coverage, and radii."""
        from lift.renderers.cuda.projection import project

        width = cameras.width
        height = cameras.height
        means2d, conics, features, opacities, depths, boxes, radii = project(
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
        _, keys, order = self._gsplat.isect_tiles(means2d, boxes, depths, TILE, *tiles)
        starts = self._gsplat.isect_offset_encode(keys, len(colors), *tiles)
        return *self._gsplat.rasterize_to_pixels(
            means2d, conics, features, opacities, width, height, TILE, starts, order
        ), radii

    def _draw_without_triton(
        self, gaussians: Gaussians, colors: Tensor, cameras: Cameras
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `_draw` does, with the projection of gsplat."""
        per_view = gaussians.means.ndim == 3
        count = colors.shape[1]
        viewmats = cameras.world_to_camera
        intrinsics = cameras.intrinsics
        if intrinsics.requires_grad:
            viewmats = _IntrinsicsGradient.apply(viewmats, intrinsics)
            intrinsics = intrinsics.detach()
        if per_view:  # a batch of scenes, each with one camera
            viewmats = viewmats[:, None]
            intrinsics = intrinsics[:, None]
            gaussians = _pad(gaussians, -count % 32)
            colors = pad(colors, (0, 0, 0, -count % 32))
        sums, alpha, info = self._gsplat.rasterization(
            gaussians.means,
            gaussians.quats,
            gaussians.scales,
            gaussians.opacities,
            colors,
            viewmats,
            intrinsics,
            cameras.width,
            cameras.height,
            near_plane=NEAR_PLANE,
            eps2d=EPS2D,
            packed=False,
            render_mode="RGB+D",
        )
        radii = info["radii"]
        if per_view:
            sums = sums[:, 0]
            alpha = alpha[:, 0]
            radii = radii[:, 0, :count]
        return sums, alpha, radii.amax(-1)

    def warm_up(self) -> None:
        """Compile gsplat's kernels, or load them, by rendering one Gaussian."""
        quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
        gaussians = Gaussians(
            torch.tensor([[0.0, 0.0, 1.0]]),
            quats,
            torch.full((1, 3), 0.1),
            torch.ones(1),
            torch.zeros(1, 1, 3),
        )
        self(gaussians.to(self.device), pinhole(16, 16, 16.0).to(self.device))


class _IntrinsicsGradient(torch.autograd.Function):
    """Return viewmats unchanged, and give `intrinsics` the gradient that gsplat does not compute.

    gsplat computes the gradient of any linear map from world to camera. With K0 equal to K but
    constant, K x = K0 (K0^-1 K) x. The factor K0^-1 K, which is the identity, is part of that map,
    and through it K gets its gradient.
    """

    @staticmethod
    def forward(ctx, viewmats: Tensor, intrinsics: Tensor) -> Tensor:
        ctx.save_for_backward(viewmats, intrinsics)
        return viewmats.view_as(viewmats)

    @staticmethod
    @once_differentiable
    def backward(ctx, outer: Tensor) -> tuple[Tensor, Tensor]:
        viewmats, intrinsics = ctx.saved_tensors
        by_map = (outer @ viewmats.mT)[:, :3, :3]
        # `inv` would wait for the device to look for errors.
        by_intrinsics = torch.linalg.inv_ex(intrinsics)[0].mT @ by_map
        # A pinhole camera has focal lengths and a principal point, nothing else.
        free = torch.zeros_like(by_intrinsics)
        free[:, :2, 2] = by_intrinsics[:, :2, 2]
        free[:, 0, 0] = by_intrinsics[:, 0, 0]
        free[:, 1, 1] = by_intrinsics[:, 1, 1]
        return outer, free


class _SplitChannels(torch.autograd.Function):
    """Return colour and depth of one picture as views.

    The backward pass joins them at once. Slices would each fill a picture with zeros.
    """

    @staticmethod
    def forward(ctx, sums: Tensor) -> tuple[Tensor, Tensor]:
        return sums[..., :3], sums[..., 3]

    @staticmethod
    def backward(ctx, by_rgb: Tensor, by_depth: Tensor) -> Tensor:
        return torch.cat([by_rgb, by_depth[..., None]], dim=-1)


def _pad(gaussians: Gaussians, extra: int) -> Gaussians:
    """Add `extra` invisible Gaussians to every view.

    gsplat 1.5.3 sums camera gradients over warps of 32 threads. It tells threads apart by camera
    but not by batch, so a warp that spans two views gives one's gradient to the other.
    """
    return Gaussians(
        pad(gaussians.means, (0, 0, 0, extra), value=-1.0),
        pad(gaussians.quats, (0, 0, 0, extra), value=1.0),
        pad(gaussians.scales, (0, 0, 0, extra), value=1e-6),
        pad(gaussians.opacities, (0, extra)),
        pad(gaussians.sh_coeffs, (0, 0, 0, 0, 0, extra)),
    )
