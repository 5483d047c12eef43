"""Rigid motion, projection and alignment.

Axes and units follow `lift.types`. Every function is differentiable and batched.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize, pad

from lift.types import Cameras


def quat_to_rotation(quats: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Convert quaternions to rotation matrices.

    Args:
        quats: Quaternions w x y z of any length above 0.

    Returns:
        Rotation matrices.
    """
    w, x, y, z = normalize(quats, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def rotation_to_quat(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Convert rotation matrices to unit quaternions w x y z with w >= 0.

    The result is accurate at every angle, because the largest of the four components leads.

    Args:
        rotation: Rotation matrices.

    Returns:
        Unit quaternions.
    """
    m = rotation
    d0 = m[..., 0, 0]
    d1 = m[..., 1, 1]
    d2 = m[..., 2, 2]
    a = m[..., 2, 1] - m[..., 1, 2]
    b = m[..., 0, 2] - m[..., 2, 0]
    c = m[..., 1, 0] - m[..., 0, 1]
    d = m[..., 1, 0] + m[..., 0, 1]
    e = m[..., 0, 2] + m[..., 2, 0]
    f = m[..., 2, 1] + m[..., 1, 2]
    # Row k is 4 q_k (w, x, y, z). The rows are parallel. The longest is the best conditioned.
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
    quats = rows.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    quats = normalize(quats, dim=-1)
    return torch.where(quats[..., :1] < 0, -quats, quats)


def rotation_from_vector(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotate about a vector by its length (the exponential map of SO(3)). Smooth at zero.

    Args:
        vector: Rotation axis times angle in radians.

    Returns:
        Rotation matrices.
    """
    square = (vector * vector).sum(-1)[..., None, None]
    small = square < 1e-8
    # The branch that is not selected must not have an infinite gradient.
    angle = torch.where(small, torch.ones_like(square), square).sqrt()
    sine_term = torch.where(small, 1 - square / 6, angle.sin() / angle)
    cosine_term = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / (angle * angle))
    x, y, z = vector.unbind(-1)
    o = torch.zeros_like(x)
    cross = torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).unflatten(-1, (3, 3))
    return (
        torch.eye(3, dtype=vector.dtype, device=vector.device)
        + sine_term * cross
        + cosine_term * cross @ cross
    )


def rigid(
    rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """Build the 4x4 matrix that rotates and then translates.

    Args:
        rotation: Rotation matrices.
        translation: Translation vectors.

    Returns:
        Homogeneous transforms.
    """
    matrix = pad(torch.cat([rotation, translation[..., None]], dim=-1), (0, 0, 0, 1))
    matrix[..., 3, 3] = 1  # set in place: a constant row would be copied from the host
    return matrix


def look_at(
    eye: Float[Tensor, "*batch 3"],
    target: Float[Tensor, "*batch 3"],
    down: Float[Tensor, "*batch 3"],
) -> Float[Tensor, "*batch 4 4"]:
    """Build world_to_camera of cameras at `eye` that look at `target`.

    Args:
        eye: Camera centres in the world.
        target: World points on the z axes of the cameras.
        down: World directions towards which the y axes lean.

    Returns:
        Homogeneous transforms.
    """
    forward = normalize(target - eye, dim=-1)
    right = normalize(torch.linalg.cross(down, forward), dim=-1)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=-2)
    return rigid(rotation, -(rotation @ eye[..., None])[..., 0])


def pinhole(width: int, height: int, focal: float) -> Cameras:
    """Create one camera at the origin that looks along z.

    Args:
        width: Picture width in pixels.
        height: Picture height in pixels.
        focal: Focal length in pixels.

    Returns:
        A camera whose principal point is the picture's centre.
    """
    intrinsics = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    return Cameras(torch.eye(4)[None], intrinsics[None], width, height)


def pixel_centers(
    width: int, height: int, device: torch.device | str = "cpu"
) -> Float[Tensor, "height width 2"]:
    """Return (x, y) of every pixel's centre.

    Args:
        width: Picture width in pixels.
        height: Picture height in pixels.
        device: Device of the result.

    Returns:
        Pixel positions.
    """
    y, x = torch.meshgrid(
        torch.arange(height, device=device) + 0.5,
        torch.arange(width, device=device) + 0.5,
        indexing="ij",
    )
    return torch.stack([x, y], dim=-1)


def project(
    points: Float[Tensor, "point 3"], cameras: Cameras
) -> tuple[Float[Tensor, "view point 2"], Float[Tensor, "view point"]]:
    """Project world points into cameras.

    Args:
        points: World points.
        cameras: The cameras.

    Returns:
        Pixel positions, and z-depths. Points at or behind a camera's plane have NaN pixels.
    """
    rotation = cameras.world_to_camera[:, :3, :3]
    translation = cameras.world_to_camera[:, :3, 3]
    local = points @ rotation.mT + translation[:, None]
    depth = local[..., 2]
    image = local @ cameras.intrinsics.mT
    pixels = image[..., :2] / depth.where(depth > 0, torch.nan)[..., None]
    return pixels, depth


def inverse_intrinsics(cameras: Cameras) -> Float[Tensor, "view 3 3"]:
    """Invert the intrinsics, which are upper triangular. It does not wait for a GPU.

    Args:
        cameras: The cameras.

    Returns:
        Matrices from homogeneous pixels to points at a z-depth of 1.
    """
    matrices = cameras.intrinsics
    identity = torch.eye(3, dtype=matrices.dtype, device=matrices.device).expand_as(matrices)
    return torch.linalg.solve_triangular(matrices, identity, upper=True)


def pixel_rays(cameras: Cameras) -> Float[Tensor, "view height width 3"]:
    """Return the points in camera coordinates that the pixel centres show at a z-depth of 1.

    Args:
        cameras: The cameras.
    """
    matrices = cameras.intrinsics
    pixels = pixel_centers(cameras.width, cameras.height, matrices.device).to(matrices.dtype)
    pixels = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)
    return pixels @ inverse_intrinsics(cameras)[:, None].mT


def unproject(
    depth: Float[Tensor, "view height width"], cameras: Cameras
) -> Float[Tensor, "view height width 3"]:
    """Lift every pixel's centre to the world at its z-depth. The exact inverse of `project`.

    Args:
        depth: z-depth of every pixel.
        cameras: One camera per depth map, of the same size.

    Returns:
        World points.
    """
    local = pixel_rays(cameras) * depth[..., None]
    to_world = cameras.camera_to_world
    return local @ to_world[:, None, :3, :3].mT + to_world[:, None, None, :3, 3]


def unproject_pixels(
    pixels: Float[Tensor, "point 2"], depth: Float[Tensor, "point"], camera: Cameras
) -> Float[Tensor, "point 3"]:
    """Lift some pixels of one view to the world at their z-depths. See `unproject`.

    Args:
        pixels: Positions (x, y). A pixel's centre is at half a pixel.
        depth: z-depth of each position.
        camera: The view's camera.

    Returns:
        World points.
    """
    rays = torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=-1)
    local = (rays @ inverse_intrinsics(camera)[0].mT) * depth[:, None]
    to_world = camera.camera_to_world[0]
    return local @ to_world[:3, :3].mT + to_world[:3, 3]


def align_similarity(
    source: Float[Tensor, "point 3"],
    target: Float[Tensor, "point 3"],
    weights: Float[Tensor, "point"] | None = None,
) -> tuple[float, Float[Tensor, "3 3"], Float[Tensor, "3"]]:
    """Find scale s, rotation R and translation t that minimise sum w |s R source + t - target|^2.

    Args:
        source: Points to move.
        target: Their counterparts.
        weights: Weight of each pair, at least 0. None: all equal.

    Returns:
        Scale, rotation, translation.

    Raises:
        ValueError: If there are fewer than three points or they lie on one line. The rotation would
            be arbitrary.

    Reference:
        Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
        PAMI 1991.
    """
    if len(source) < 3:
        raise ValueError(f"a similarity needs at least 3 points, not {len(source)}")
    w = (
        torch.ones(len(source), dtype=source.dtype, device=source.device)
        if weights is None
        else weights
    )
    w = (w / w.sum())[:, None]
    source_mean = (w * source).sum(0)
    target_mean = (w * target).sum(0)
    a = source - source_mean
    b = target - target_mean
    covariance = (w * b).T @ a
    u, singular_values, vt = torch.linalg.svd(covariance)
    tolerance = max(1e-9, 10 * torch.finfo(covariance.dtype).eps)
    if not singular_values[1] > tolerance * singular_values[0]:
        raise ValueError("a similarity needs points that do not lie on one line")
    sign = torch.ones(3, dtype=source.dtype, device=source.device)
    sign[2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vt))
    rotation = (u * sign) @ vt
    scale = float((singular_values * sign).sum() / (w * a * a).sum())
    return scale, rotation, target_mean - scale * rotation @ source_mean


def transform_cameras(
    cameras: Cameras, scale: float, rotation: Float[Tensor, "3 3"], translation: Float[Tensor, "3"]
) -> Cameras:
    """Move cameras along with a world in which x becomes scale * rotation @ x + translation.

    Args:
        cameras: The cameras.
        scale: Scale of the similarity.
        rotation: Rotation of the similarity.
        translation: Translation of the similarity.

    Returns:
        The same cameras in the new world.
    """
    to_world = cameras.camera_to_world
    rotated = rotation @ to_world[:, :3, :3]
    centers = scale * to_world[:, :3, 3] @ rotation.T + translation
    new_translation = -(rotated.mT @ centers[..., None])[..., 0]
    return Cameras(
        rigid(rotated.mT, new_translation), cameras.intrinsics, cameras.width, cameras.height
    )


def rotation_angle(
    a: Float[Tensor, "*batch 3 3"], b: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch"]:
    """Measure the angle between two rotations in degrees.

    Args:
        a: Rotation matrices.
        b: Rotation matrices.

    Returns:
        Angles in [0, 180].
    """
    quats = rotation_to_quat(a.mT @ b)
    return torch.rad2deg(2 * torch.atan2(quats[..., 1:].norm(dim=-1), quats[..., 0]))


def inside(pixels: Float[Tensor, "*batch 2"], cameras: Cameras) -> Bool[Tensor, "*batch"]:
    """Test whether pixel positions lie in the picture. NaN does not.

    Args:
        pixels: Positions (x, y).
        cameras: Cameras with the picture's size.

    Returns:
        A mask.
    """
    x, y = pixels.unbind(-1)
    return (x >= 0) & (x < cameras.width) & (y >= 0) & (y < cameras.height)
