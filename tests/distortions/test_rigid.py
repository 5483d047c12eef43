"""Corrections of cameras."""

import torch

from lift.distortions.rigid import Rigid
from lift.geometry import project
from tests.helpers.distortions import CAMERA, HEIGHT, SUPPLIED, WIDTH, build_distortion


@torch.no_grad()
def test_camera_parameters_move_the_picture_equally_far():
    rigid: Rigid = build_distortion("rigid", chained=False)
    moved = []
    for number in range(7):
        rigid.motions.values.zero_()
        rigid.motions.values[1, number] = 1e-3
        camera = rigid.cameras(CAMERA, torch.tensor([1]))
        seen, _ = project(SUPPLIED["points"].points, CAMERA)
        inner = ((seen[0] > 0) & (seen[0] < torch.tensor([WIDTH, HEIGHT]))).all(-1)
        moved.append(
            (project(SUPPLIED["points"].points, camera)[0][0][inner] - seen[0][inner])
            / WIDTH
            / 1e-3
        )
    products = torch.tensor([[float((a * b).sum(-1).mean()) for a in moved] for b in moved])
    sizes = products.diag()
    assert (
        float(sizes.max()) < 1.1 and float(sizes.min()) > 0.2
    )  # the damping leaves what hardly shows smaller
    alike = products / (sizes[:, None] * sizes).sqrt() - torch.eye(7)
    assert float(alike.abs().max()) < 0.9  # a turn and a shift as they are: 0.98
    assert float(camera.intrinsics[0, 0, 2]) == float(CAMERA.intrinsics[0, 0, 2])
