"""Calibrated captures of the built-in room."""

from dataclasses import replace

import torch

from lift.camera_paths import orbit_cameras
from lift.evaluation.datasets import CalibratedCapture
from lift.geometry import pinhole, rotation_from_vector, transform_cameras, unproject
from lift.synthetic.scenes import render
from lift.types import Cameras, Frames, PointCloud

SIZE = 192


def room_capture(
    similarity: tuple[float, torch.Tensor, torch.Tensor] | None = None, measured: bool = True
) -> CalibratedCapture:
    """Nine views of the built-in room in a transformed world, with exact depth or points."""
    camera = pinhole(SIZE, SIZE * 3 // 4, 0.9 * SIZE)
    start = render("room", camera)
    typical = float(start.depth.median())
    angles = torch.linspace(-12, 12, 8)
    own = Cameras.cat(
        [
            camera,
            orbit_cameras(
                camera, torch.stack([angles, 0.4 * angles.flip(0), torch.zeros(8)], -1), typical
            ),
        ]
    )
    scale, rotation, shift = similarity or (1.0, torch.eye(3), torch.zeros(3))
    cameras = transform_cameras(own, scale, rotation, shift)

    def look(view: int, target: Cameras) -> Frames:
        made = render(
            "room",
            replace(
                own[view], intrinsics=target.intrinsics, width=target.width, height=target.height
            ),
        )
        return Frames(made.images, scale * made.depth if measured else None)

    points = None
    if not measured:
        at = unproject(start.depth, camera)[0].reshape(-1, 3)[::37]
        points = PointCloud(scale * at @ rotation.T + shift, torch.zeros_like(at))
    return CalibratedCapture(
        "room",
        tuple(f"{k:03d}.png" for k in range(9)),
        cameras,
        lambda view, side: cameras[view].resized(side, side * 3 // 4),
        look,
        points,
    )


SIMILARITY = (
    2.5,
    rotation_from_vector(torch.tensor([0.4, -0.8, 0.3])),
    torch.tensor([3.0, -1.0, 7.0]),
)
