"""A renderer for the CPU, compiled by numba."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from lift.geometry import pinhole
from lift.renderers import Renderer, Sums, renderers
from lift.renderers.cpu import harmonics
from lift.renderers.cpu.gradients import pair_sums, unfinish, unproject
from lift.renderers.cpu.kernels import bin_by_tile, composite, finish, project
from lift.runtime import jit
from lift.spherical_harmonics import seen_from
from lift.types import Cameras, Gaussians


@renderers.register("numba")
class Numba(Renderer):
    """Compiled loops on all cores of the CPU, float32, with analytic gradients of everything.

    Deterministic: bit for bit the same for any number of threads. The kernels are compiled once a machine (a minute) and
    then loaded from numba's cache, which lies beside the source or where NUMBA_CACHE_DIR says.
    """

    requires = ("numba",)
    own_threads = True

    def __init__(self) -> None:
        pass

    def rasterize(
        self, gaussians: Gaussians, colors: Float[Tensor, "view gaussian 3"], cameras: Cameras
    ) -> Sums:
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
                given = f"{value.dtype} on {value.device}"
                raise ValueError(
                    f"renderer.name is numba, which takes float32 on the CPU, not {given}; choose reference"
                )
        rgb, alpha, depth_sum, radii = _Rasterize.apply(*inputs, cameras.width, cameras.height)
        return rgb, alpha, depth_sum, {"radii": radii}

    @staticmethod
    def colors(sh_coeffs: Tensor, means: Tensor, centers: Tensor) -> Tensor:
        plain = all(
            value.dtype == torch.float32 and value.device.type == "cpu"
            for value in (sh_coeffs, means, centers)
        )
        if sh_coeffs.shape[-2] == 1 or not plain:  # `rasterize` says what is wrong with these
            return seen_from(sh_coeffs, means, centers)
        return harmonics.seen_from(sh_coeffs, means, centers)

    @staticmethod
    def finish(
        rgb: Tensor, alpha: Tensor, depth_sum: Tensor, background: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        background = rgb.new_zeros(3) if background is None else background
        rgb, depth = _Finish.apply(rgb, alpha, depth_sum, background.to(rgb).expand(len(rgb), 3))
        return rgb, alpha, depth

    def warm_up(self) -> None:
        """Compiles every kernel, or loads it from the cache, on a scene of two Gaussians."""
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
            jit.array(value)
            for value in (means, quats, scales, opacities, colors, world_to_camera, intrinsics)
        ]
        with jit.one_at_a_time:
            splats, boxes, radii, touched = project(*inputs, width, height)
            ends = touched.reshape(-1).cumsum()
            slots = (ends - touched.reshape(-1)).reshape(touched.shape)
            starts, entries = bin_by_tile(
                splats, boxes, radii, int(ends[-1]) if len(ends) else 0, width, height
            )
            rgb, alpha, depth, seen = composite(splats, boxes, starts, entries, width, height)
        outputs = [torch.from_numpy(array) for array in (rgb, alpha, depth, radii)]
        ctx.save_for_backward(
            means, quats, scales, opacities, colors, world_to_camera, intrinsics, *outputs
        )
        ctx.lists = splats, boxes, slots, touched, starts, entries, seen
        ctx.mark_non_differentiable(outputs[3])
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        arrays = [jit.array(value) for value in ctx.saved_tensors]
        means, quats, scales, _, _, world_to_camera, intrinsics, rgb, alpha, depth, radii = arrays
        splats, boxes, slots, touched, starts, entries, seen = ctx.lists
        height, width = alpha.shape[1:]
        with_cameras = ctx.needs_input_grad[5] or ctx.needs_input_grad[6]
        with jit.one_at_a_time:
            sums = pair_sums(
                splats,
                boxes,
                slots,
                starts,
                entries,
                seen,
                rgb,
                alpha,
                depth,
                *(jit.array(value) for value in gradients[:3]),
            )
            *inputs, d_cameras = unproject(
                means,
                quats,
                scales,
                radii,
                splats,
                slots,
                touched,
                sums,
                world_to_camera,
                intrinsics,
                width,
                height,
                with_cameras,
            )
        d_world_to_camera, d_intrinsics = (
            _camera_gradients(d_cameras.sum(0)) if with_cameras else (None, None)
        )
        return (
            *(torch.from_numpy(array) for array in inputs),
            d_world_to_camera,
            d_intrinsics,
            None,
            None,
        )


class _Finish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rgb, alpha, depth_sum, background):
        with jit.one_at_a_time:
            over, depth = (
                torch.from_numpy(array)
                for array in finish(*(jit.array(v) for v in (rgb, alpha, depth_sum, background)))
            )
        ctx.save_for_backward(alpha, depth, background)
        return over, depth

    @staticmethod
    @once_differentiable
    def backward(ctx, by_rgb, by_depth):
        alpha, depth, background = ctx.saved_tensors
        with jit.one_at_a_time:
            d_alpha, d_depth = unfinish(
                *(jit.array(v) for v in (alpha, depth, background, by_rgb, by_depth))
            )
        d_background = (
            torch.einsum("vhw,vhwc->vc", 1 - alpha, by_rgb) if ctx.needs_input_grad[3] else None
        )
        return by_rgb, torch.from_numpy(d_alpha), torch.from_numpy(d_depth), d_background


def _camera_gradients(sums: np.ndarray) -> tuple[Tensor, Tensor]:
    """world_to_camera's and intrinsics' gradients from their sixteen entries that matter."""
    sums = torch.from_numpy(sums).float()
    world_to_camera, intrinsics = sums.new_zeros(len(sums), 4, 4), sums.new_zeros(len(sums), 3, 3)
    world_to_camera[:, :3, :3] = sums[:, :9].unflatten(1, (3, 3))
    world_to_camera[:, :3, 3] = sums[:, 9:12]
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = sums[:, 12], sums[:, 13]
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = sums[:, 14], sums[:, 15]
    return world_to_camera, intrinsics
