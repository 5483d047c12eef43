"""Rigid motion, projection and alignment. Axes and units as in `lift.types`; every function is differentiable and batched."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize, pad

from lift.types import Cameras


def quat_to_rotation(quats: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of quaternions w x y z, which need not have unit length."""
    w, x, y, z = normalize(quats, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def rotation_to_quat(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternions w x y z, w >= 0, of rotation matrices; accurate at every angle (the largest of the four components leads)."""
    m = rotation
    d0, d1, d2 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    # Row k is 4 q_k (w, x, y, z): the four rows are parallel, and the longest is the best conditioned.
    rows = torch.stack(
        [
            torch.stack([1 + d0 + d1 + d2, a, b, c], -1),
            torch.stack([a, 1 + d0 - d1 - d2, d, e], -1),
            torch.stack([b, d, 1 - d0 + d1 - d2, f], -1),
            torch.stack([c, e, f, 1 - d0 - d1 + d2], -1),
        ],
        dim=-2,
    )
    best = rows.diagonal(dim1=-2, dim2=-1).argmax(-1)
    chosen = rows.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    quats = normalize(chosen, dim=-1)
    return torch.where(quats[..., :1] < 0, -quats, quats)


def rotation_from_vector(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation about `vector` by its length in radians (the exponential map of SO(3)); smooth at zero."""
    square = (vector * vector).sum(-1)[..., None, None]
    small = square < 1e-8
    angle = torch.where(
        small, torch.ones_like(square), square
    ).sqrt()  # the untaken branch must not have an infinite slope
    first = torch.where(small, 1 - square / 6, angle.sin() / angle)
    second = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / (angle * angle))
    x, y, z = vector.unbind(-1)
    o = torch.zeros_like(x)
    cross = torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).unflatten(-1, (3, 3))
    return (
        torch.eye(3, dtype=vector.dtype, device=vector.device)
        + first * cross
        + second * cross @ cross
    )


def rigid(
    rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """The 4x4 matrix that rotates, then translates."""
    matrix = pad(torch.cat([rotation, translation[..., None]], dim=-1), (0, 0, 0, 1))
    matrix[..., 3, 3] = 1  # filled in place: a constant row would be copied from the host
    return matrix


def look_at(
    eye: Float[Tensor, "*batch 3"],
    target: Float[Tensor, "*batch 3"],
    down: Float[Tensor, "*batch 3"],
) -> Float[Tensor, "*batch 4 4"]:
    """world_to_camera of a camera at `eye` whose z axis points at `target` and whose y axis leans towards `down`."""
    forward = normalize(target - eye, dim=-1)
    right = normalize(torch.linalg.cross(down, forward), dim=-1)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=-2)
    return rigid(rotation, -(rotation @ eye[..., None])[..., 0])


def pinhole(width: int, height: int, focal: float) -> Cameras:
    """One camera at the origin that looks along z; focal length in pixels, principal point in the middle."""
    intrinsics = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    return Cameras(torch.eye(4)[None], intrinsics[None], width, height)


def pixel_centers(
    width: int, height: int, device: torch.device | str = "cpu"
) -> Float[Tensor, "height width 2"]:
    """(x, y) of every pixel's centre."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device) + 0.5,
        torch.arange(width, device=device) + 0.5,
        indexing="ij",
    )
    return torch.stack([x, y], dim=-1)


def project(
    points: Float[Tensor, "point 3"], cameras: Cameras
) -> tuple[Float[Tensor, "view point 2"], Float[Tensor, "view point"]]:
    """Pixel positions and z-depths of world points. Points at or behind a camera's plane get NaN pixels."""
    rotation, translation = cameras.world_to_camera[:, :3, :3], cameras.world_to_camera[:, :3, 3]
    local = points @ rotation.mT + translation[:, None]
    depth = local[..., 2]
    image = local @ cameras.intrinsics.mT
    pixels = image[..., :2] / depth.where(depth > 0, torch.nan)[..., None]
    return pixels, depth


def unproject(
    depth: Float[Tensor, "view height width"], cameras: Cameras
) -> Float[Tensor, "view height width 3"]:
    """World points of every pixel's centre at its z-depth; exact inverse of `project`."""
    pixels = pixel_centers(cameras.width, cameras.height, depth.device).to(depth.dtype)
    rays = (
        torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)
        @ torch.linalg.inv(cameras.intrinsics)[:, None].mT
    )
    local = rays * depth[..., None]
    to_world = cameras.camera_to_world
    return local @ to_world[:, None, :3, :3].mT + to_world[:, None, None, :3, 3]


def align_similarity(
    source: Float[Tensor, "point 3"],
    target: Float[Tensor, "point 3"],
    weights: Float[Tensor, "point"] | None = None,
) -> tuple[float, Float[Tensor, "3 3"], Float[Tensor, "3"]]:
    """Scale s, rotation R, translation t that minimise sum w |s R source + t - target|^2.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991.
    Raises ValueError with fewer than three points or without spread: the rotation would be arbitrary.
    """
    if len(source) < 3:
        raise ValueError(f"a similarity needs at least 3 points, not {len(source)}")
    w = (
        torch.ones(len(source), dtype=source.dtype, device=source.device)
        if weights is None
        else weights
    )
    w = (w / w.sum())[:, None]
    from_mean, to_mean = (w * source).sum(0), (w * target).sum(0)
    a, b = source - from_mean, target - to_mean
    covariance = (w * b).T @ a
    u, spread, vt = torch.linalg.svd(covariance)
    if not spread[1] > 1e-9 * spread[0]:
        raise ValueError("a similarity needs points that do not lie on one line")
    sign = torch.ones(3, dtype=source.dtype, device=source.device)
    sign[2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vt))
    rotation = (u * sign) @ vt
    scale = float((spread * sign).sum() / (w * a * a).sum())
    return scale, rotation, to_mean - scale * rotation @ from_mean


def transform_cameras(
    cameras: Cameras, scale: float, rotation: Float[Tensor, "3 3"], translation: Float[Tensor, "3"]
) -> Cameras:
    """The same cameras in a world where x became scale * rotation @ x + translation."""
    to_world = cameras.camera_to_world
    turned = rotation @ to_world[:, :3, :3]
    centers = scale * to_world[:, :3, 3] @ rotation.T + translation
    moved = -(turned.mT @ centers[..., None])[..., 0]
    return Cameras(rigid(turned.mT, moved), cameras.intrinsics, cameras.width, cameras.height)


def rotation_angle(
    a: Float[Tensor, "*batch 3 3"], b: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch"]:
    """Angle in degrees between two rotations."""
    quats = rotation_to_quat(a.mT @ b)
    return torch.rad2deg(2 * torch.atan2(quats[..., 1:].norm(dim=-1), quats[..., 0]))


def inside(pixels: Float[Tensor, "*batch 2"], cameras: Cameras) -> Bool[Tensor, "*batch"]:
    """Whether pixel positions lie in the picture; NaN does not."""
    x, y = pixels.unbind(-1)
    return (x >= 0) & (x < cameras.width) & (y >= 0) & (y < cameras.height)
