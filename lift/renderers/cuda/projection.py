"""CUDA kernels that project Gaussians to splats in every view, with analytic gradients.

Each direction takes one launch. In the forward pass a thread handles a Gaussian in one view. In
the backward pass it handles a Gaussian in all views, so Gaussians need no atomic additions. The
gradients of cameras are summed block by block: gsplat's own kernel spends a millisecond on adding
half a million threads' parts to the sixteen numbers of a camera.
"""

# Triton has incomplete type stubs.
# pyright: reportGeneralTypeIssues=false

import torch
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from lift.renderers import MIN_ALPHA, NEAR_PLANE
from lift.renderers.cuda.geometry import (
    BLOCK,
    combine,
    covariance,
    dot,
    load_camera,
    load_rotation,
    load_vector,
    multiply,
    project_axis,
    transform,
)
from lift.renderers.cuda.projection_gradient import project_gradient
from lift.runtime.jit import cdiv, triton_jit

_NEAR_PLANE = tl.constexpr(NEAR_PLANE)
_MIN_ALPHA = tl.constexpr(MIN_ALPHA)


def project(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    world_to_camera: Tensor,
    intrinsics: Tensor,
    width: int,
    height: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Project Gaussians as `lift.renderers.reference.project` does; float32 on a CUDA device.

    A Gaussian with NaN or infinite numbers is culled, and its gradients are zero.

    Args:
        means: Centres in scene units, [gaussian 3]. Means, quats, scales and opacities are shared
            by the views, or all have a leading axis `view`.
        quats: Quaternions w x y z of any length, [gaussian 4].
        scales: Standard deviations along the axes, in scene units, [gaussian 3].
        opacities: Opacities in [0, 1], [gaussian].
        colors: Colours in every view, [view gaussian 3].
        world_to_camera: World-to-camera matrices, [view 4 4].
        intrinsics: Intrinsic matrices in pixels, [view 3 3].
        width: Width of the pictures in pixels.
        height: Height of the pictures in pixels.

    Returns:
        Of each view and Gaussian: mean [2] in pixels, inverse covariance xx, xy, yy, colour and
        z-depth [4], and opacity, which are differentiable; z-depth, half the sides [2] of its box
        in pixels (0 if it is not visible) and the longer of these, which are not.

    Raises:
        ValueError: If the number of sets of Gaussians is neither one nor that of the views.
    """
    if means.ndim == 3 and len(means) != len(colors):
        raise ValueError(
            f"there are {len(means)} sets of Gaussians for {len(colors)} views; "
            "choose one without a leading axis, or one a view"
        )
    inputs = (means, quats, scales, opacities, colors, world_to_camera, intrinsics)
    return _Project.apply(*(value.contiguous() for value in inputs), width, height)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, means, quats, scales, opacities, colors, world_to_camera, intrinsics, width, height
    ):
        views, count = colors.shape[:2]
        means2d, conics, features, splat_opacities, depths = (
            colors.new_empty(views, count, *size) for size in ((2,), (3,), (4,), (), ())
        )
        boxes, radii = (
            torch.empty(views, count, *size, dtype=torch.int32, device=colors.device)
            for size in ((2,), ())
        )
        stride = count if means.ndim == 3 else 0
        _project[cdiv(count, BLOCK), views](
            means,
            quats,
            scales,
            opacities,
            colors,
            world_to_camera,
            intrinsics,
            means2d,
            conics,
            features,
            splat_opacities,
            depths,
            boxes,
            radii,
            count,
            stride,
            width,
            height,
        )
        ctx.save_for_backward(means, quats, scales, world_to_camera, intrinsics, radii)
        ctx.size = width, height
        ctx.mark_non_differentiable(depths, boxes, radii)
        ctx.set_materialize_grads(False)  # zeros would be filled in for these, too
        return means2d, conics, features, splat_opacities, depths, boxes, radii

    @staticmethod
    @once_differentiable
    def backward(ctx, by_means2d, by_conics, by_features, by_opacities, *_):
        means, quats, scales, world_to_camera, intrinsics, radii = ctx.saved_tensors
        views, count = radii.shape
        gradients = zip(
            (by_means2d, by_conics, by_features, by_opacities), ((2,), (3,), (4,), ()), strict=False
        )
        outer = [
            means.new_zeros(views, count, *size) if value is None else value.contiguous()
            for value, size in gradients
        ]
        d_means, d_quats, d_scales = (torch.empty_like(value) for value in (means, quats, scales))
        d_opacities = means.new_empty(means.shape[:-1])
        d_colors = means.new_empty(views, count, 3)
        groups = views if means.ndim == 3 else 1
        blocks = cdiv(count, BLOCK)
        with_cameras = any(ctx.needs_input_grad[5:7])
        partial_sums = (
            [means.new_empty(views, blocks, 4, 4), means.new_empty(views, blocks, 3, 3)]
            if with_cameras
            else [means, means]
        )
        project_gradient[blocks, groups](
            means,
            quats,
            scales,
            world_to_camera,
            intrinsics,
            radii,
            *outer,
            d_means,
            d_quats,
            d_scales,
            d_opacities,
            d_colors,
            *partial_sums,
            count,
            views // groups,
            *ctx.size,
            with_cameras,
        )
        d_cameras = [sums.sum(1) for sums in partial_sums] if with_cameras else [None, None]
        return d_means, d_quats, d_scales, d_opacities, d_colors, *d_cameras, None, None


@triton_jit
def _project(
    means,
    quats,
    scales,
    opacities,
    colors,
    world_to_camera,
    intrinsics,
    means2d,
    conics,
    features,
    splat_opacities,
    depths,
    boxes,
    radii,
    count,
    stride,
    width,
    height,
):
    """Project a block of Gaussians to splats of one view."""
    v = tl.program_id(1)
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = n < count
    source = v * stride + n
    out = v * count + n
    _, _, rotation0, rotation1, rotation2 = load_rotation(quats + 4 * source, mask)
    s = load_vector(scales + 3 * source, mask)
    mean = load_vector(means + 3 * source, mask)
    row0, row1, row2, translation, fx, fy, cx, cy = load_camera(world_to_camera, intrinsics, v)
    depth = dot(row2, mean) + translation[2]
    in_front = depth >= _NEAR_PLANE
    z = tl.where(in_front, depth, 1.0)
    px, ox, _ = project_axis(dot(row0, mean) + translation[0], z, fx, cx, width)
    py, oy, _ = project_axis(dot(row1, mean) + translation[1], z, fy, cy, height)
    axes0 = multiply(rotation0, s)
    axes1 = multiply(rotation1, s)
    axes2 = multiply(rotation2, s)
    x = transform(combine(fx / z, row0, -ox / z, row2), axes0, axes1, axes2)
    y = transform(combine(fy / z, row1, -oy / z, row2), axes0, axes1, axes2)
    xx, xy, yy, det = covariance(x, y)
    opacity = tl.load(opacities + source, mask, 0.0)
    cutoff = tl.sqrt(2.0 * tl.log(tl.maximum(opacity / _MIN_ALPHA, 1.0)))  # in standard deviations
    # A rounding error must not cut off a pixel. The bound is wider than any picture.
    across = tl.minimum(cutoff * tl.sqrt(xx) * (1.0 + 1e-5) + 1e-3, 1e9)
    down = tl.minimum(cutoff * tl.sqrt(yy) * (1.0 + 1e-5) + 1e-3, 1e9)
    start_x = tl.maximum(tl.ceil(px - across - 0.5), 0.0)
    stop_x = tl.minimum(tl.floor(px + across - 0.5), width - 1.0)
    start_y = tl.maximum(tl.ceil(py - down - 0.5), 0.0)
    stop_y = tl.minimum(tl.floor(py + down - 0.5), height - 1.0)
    # These comparisons are also false for NaN.
    finite = (xx < 1e30) & (yy < 1e30) & (tl.abs(px) < 1e30) & (tl.abs(py) < 1e30)
    opaque = opacity >= _MIN_ALPHA
    visible = in_front & finite & opaque & (start_x <= stop_x) & (start_y <= stop_y)
    across = tl.where(visible, tl.ceil(across), 0.0).to(tl.int32)
    down = tl.where(visible, tl.ceil(down), 0.0).to(tl.int32)
    tl.store(boxes + 2 * out, across, mask)
    tl.store(boxes + 2 * out + 1, down, mask)
    tl.store(radii + out, tl.maximum(across, down), mask)
    tl.store(means2d + 2 * out, px, mask)
    tl.store(means2d + 2 * out + 1, py, mask)
    tl.store(conics + 3 * out, yy / det, mask)
    tl.store(conics + 3 * out + 1, -xy / det, mask)
    tl.store(conics + 3 * out + 2, xx / det, mask)
    for c in tl.static_range(3):
        tl.store(features + 4 * out + c, tl.load(colors + 3 * out + c, mask, 0.0), mask)
    tl.store(features + 4 * out + 3, z, mask)
    tl.store(depths + out, z, mask)
    tl.store(splat_opacities + out, opacity, mask)
