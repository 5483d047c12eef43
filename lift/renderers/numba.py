"""A renderer for the CPU, compiled by numba."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from lift.geometry import pinhole
from lift.renderers import Renderer, Sums, renderers
from lift.renderers.cpu import spherical_harmonics
from lift.renderers.cpu.compositing import compose, composite
from lift.renderers.cpu.compositing_gradient import compose_gradient, composite_gradient
from lift.renderers.cpu.projection import project
from lift.renderers.cpu.projection_gradient import project_gradient
from lift.renderers.cpu.tiling import bin_by_tile
from lift.runtime import jit
from lift.spherical_harmonics import evaluate_from
from lift.types import Cameras, Gaussians


@renderers.register("numba")
class Numba(Renderer):
    """Render on all CPU cores in float32, with compiled loops and exact gradients.

    Results are the same to the last bit for any number of threads. The kernels are compiled once
    a machine, which takes a minute. After that they are loaded from numba's cache, which is
    beside the source or in the folder NUMBA_CACHE_DIR.
    """

    requires = ("numba",)
    has_thread_pool = True

    def __init__(self) -> None:
        pass

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
            ValueError: If an input is not float32 on the CPU.
        """
        shared = gaussians.means.ndim == 2
        means, quats, scales, opacities = (
            value[None] if shared else value
            for value in (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities)
        )
        inputs = (
            means,
            quats,
            scales,
            opacities,
            colors,
            cameras.world_to_camera,
            cameras.intrinsics,
        )
        for value in inputs:
            if value.dtype != torch.float32 or value.device.type != "cpu":
                raise ValueError(
                    "renderer.name is numba, which takes float32 on the CPU, "
                    f"not {value.dtype} on {value.device}; choose reference"
                )
        rgb, alpha, depth_sum, radii = _Rasterize.apply(*inputs, cameras.width, cameras.height)
        return rgb, alpha, depth_sum, {"radii": radii}

    @staticmethod
    def evaluate_colors(sh_coeffs: Tensor, means: Tensor, centers: Tensor) -> Tensor:
        """Evaluate view-dependent colours, with compiled loops where these apply.

        Args:
            sh_coeffs: [*view gaussian basis 3].
            means: [*view gaussian 3].
            centers: Positions of the cameras, [view 3].

        Returns:
            [view gaussian 3].
        """
        compiled = all(
            value.dtype == torch.float32 and value.device.type == "cpu"
            for value in (sh_coeffs, means, centers)
        )
        # `rasterize` reports inputs of another type or device.
        if sh_coeffs.shape[-2] == 1 or not compiled:
            return evaluate_from(sh_coeffs, means, centers)
        return spherical_harmonics.evaluate_from(sh_coeffs, means, centers)

    @staticmethod
    def compose(
        rgb: Tensor, alpha: Tensor, depth_sum: Tensor, background: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compose sums with a background, as `lift.renderers.compose` does.

        Args:
            rgb: Alpha-weighted sum of colour, [view height width 3].
            alpha: Coverage, [view height width].
            depth_sum: Alpha-weighted sum of z-depth, [view height width].
            background: Colour behind everything, [*view 3]; None is black.

        Returns:
            Colour over the background, coverage, and expected z-depth.
        """
        background = rgb.new_zeros(3) if background is None else background
        rgb, depth = _NumbaCompose.apply(
            rgb, alpha, depth_sum, background.to(rgb).expand(len(rgb), 3)
        )
        return rgb, alpha, depth

    def warm_up(self) -> None:
        """Compile every kernel, or load it from the cache, by rendering two Gaussians."""
        quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(2, 4)
        means = torch.tensor([[0.0, 0.0, 1.0], [0.1, 0.0, 2.0]], requires_grad=True)
        gaussians = Gaussians(
            means, quats, torch.full((2, 3), 0.1), torch.full((2,), 0.5), torch.zeros(2, 4, 3)
        )
        with torch.enable_grad():
            self(gaussians, pinhole(16, 16, 16.0)).rgb.sum().backward()


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, means, quats, scales, opacities, colors, world_to_camera, intrinsics, width, height
    ):
        inputs = [
            jit.to_numpy(value)
            for value in (means, quats, scales, opacities, colors, world_to_camera, intrinsics)
        ]
        with jit.parallel_lock:
            splats, boxes, radii, num_tiles = project(*inputs, width, height)
            pair_ends = num_tiles.reshape(-1).cumsum()
            pair_starts = (pair_ends - num_tiles.reshape(-1)).reshape(num_tiles.shape)
            num_pairs = int(pair_ends[-1]) if len(pair_ends) else 0
            tile_starts, entries = bin_by_tile(splats, boxes, radii, num_pairs, width, height)
            rgb, alpha, depth, num_processed = composite(
                splats, boxes, tile_starts, entries, width, height
            )
        outputs = [torch.from_numpy(array) for array in (rgb, alpha, depth, radii)]
        ctx.save_for_backward(
            means, quats, scales, opacities, colors, world_to_camera, intrinsics, *outputs
        )
        ctx.lists = splats, boxes, pair_starts, num_tiles, tile_starts, entries, num_processed
        ctx.mark_non_differentiable(outputs[3])
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        arrays = [jit.to_numpy(value) for value in ctx.saved_tensors]
        means, quats, scales, _, _, world_to_camera, intrinsics, rgb, alpha, depth, radii = arrays
        splats, boxes, pair_starts, num_tiles, tile_starts, entries, num_processed = ctx.lists
        height, width = alpha.shape[1:]
        with_cameras = ctx.needs_input_grad[5] or ctx.needs_input_grad[6]
        with jit.parallel_lock:
            sums = composite_gradient(
                splats,
                boxes,
                pair_starts,
                tile_starts,
                entries,
                num_processed,
                rgb,
                alpha,
                depth,
                *(jit.to_numpy(value) for value in gradients[:3]),
            )
            *inputs, d_cameras = project_gradient(
                means,
                quats,
                scales,
                radii,
                splats,
                pair_starts,
                num_tiles,
                sums,
                world_to_camera,
                intrinsics,
                width,
                height,
                with_cameras,
            )
        d_world_to_camera, d_intrinsics = (
            _camera_gradients(torch.from_numpy(d_cameras.sum(0)).float())
            if with_cameras
            else (None, None)
        )
        d_inputs = (torch.from_numpy(array) for array in inputs)
        return *d_inputs, d_world_to_camera, d_intrinsics, None, None


class _NumbaCompose(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rgb, alpha, depth_sum, background):
        arrays = [jit.to_numpy(value) for value in (rgb, alpha, depth_sum, background)]
        with jit.parallel_lock:
            composed, depth = (torch.from_numpy(array) for array in compose(*arrays))
        ctx.save_for_backward(alpha, depth, background)
        return composed, depth

    @staticmethod
    @once_differentiable
    def backward(ctx, by_rgb, by_depth):
        alpha, depth, background = ctx.saved_tensors
        arrays = [jit.to_numpy(value) for value in (alpha, depth, background, by_rgb, by_depth)]
        with jit.parallel_lock:
            d_alpha, d_depth = compose_gradient(*arrays)
        d_background = (
            torch.einsum("vhw,vhwc->vc", 1 - alpha, by_rgb) if ctx.needs_input_grad[3] else None
        )
        return by_rgb, torch.from_numpy(d_alpha), torch.from_numpy(d_depth), d_background


def _camera_gradients(
    sums: Float[Tensor, "view 16"],
) -> tuple[Float[Tensor, "view 4 4"], Float[Tensor, "view 3 3"]]:
    """Return the gradients of world_to_camera and intrinsics from their sixteen free entries."""
    world_to_camera = sums.new_zeros(len(sums), 4, 4)
    world_to_camera[:, :3, :3] = sums[:, :9].unflatten(1, (3, 3))
    world_to_camera[:, :3, 3] = sums[:, 9:12]
    intrinsics = sums.new_zeros(len(sums), 3, 3)
    intrinsics[:, 0, 0] = sums[:, 12]
    intrinsics[:, 1, 1] = sums[:, 13]
    intrinsics[:, 0, 2] = sums[:, 14]
    intrinsics[:, 1, 2] = sums[:, 15]
    return world_to_camera, intrinsics
