"""Tests of the pose estimator `new_pose`.

Keep `test_it_keeps_the_contract`. The other tests are for the code of the template: replace them
together with it.
"""

import pytest
import torch

from lift.contracts import contract_checks
from lift.geometry import pinhole
from lift.planners import planners
from lift.registry import catalogue
from lift.templates.pose import NewPose
from lift.types import Depth, Frames

CAMERA = pinhole(64, 48, 60.0)
DEPTH = Depth(torch.full((48, 64), 3.0), torch.ones(48, 64, dtype=torch.bool), "scale")


@pytest.mark.parametrize("check", contract_checks("pose"), ids=str)
def test_it_keeps_the_contract(check, tmp_path):
    """It keeps the promises of its slot. `lift check` runs the same checks."""
    result = check.run("new_pose", tmp_path)
    if result.status == "skip":
        pytest.skip(result.reason)
    assert result.status == "pass", result.reason


def test_frames_move_by_the_fraction():
    """`motion` scales the translation of every camera."""
    trajectory = planners.build({"name": "single"})(CAMERA, DEPTH, 3)
    images = torch.zeros(4, 48, 64, 3, dtype=torch.uint8)
    pose = NewPose(motion=0.5, depth=DEPTH)
    found = pose(Frames(images, DEPTH.depth.repeat(4, 1, 1)), trajectory).cameras
    planned = trajectory.cameras.world_to_camera
    torch.testing.assert_close(found.world_to_camera[:, :3, 3], 0.5 * planned[:, :3, 3])


def test_a_wrong_motion_is_refused():
    """The message names the setting and its range."""
    with pytest.raises(ValueError, match=r"pose.motion is 3.0; choose 0 to 2"):
        catalogue()("pose", "new_pose").check({"motion": 3.0})
