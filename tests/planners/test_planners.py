"""Where planners send the camera: on paper, for a scene five units away."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lift.geometry import pinhole, project, rotation_angle
from lift.planners import planners
from lift.planners.articulated import Articulated
from lift.planners.dolly import Dolly
from lift.planners.orbit import Orbit
from lift.planners.single import Single
from lift.planners.spiral import Spiral
from lift.types import Cameras, Depth, Trajectory

CAMERA = pinhole(64, 48, 60.0)
DEPTH = Depth(torch.full((48, 64), 5.0), torch.ones(48, 64, dtype=torch.bool), "scale")
CENTER = torch.tensor([[0.0, 0.0, 5.0]])


def parents(trajectory: Trajectory) -> list[tuple[Cameras, Cameras]]:
    """Every clip's frames, and for each the one it continues."""
    cameras = trajectory.cameras
    pairs = zip(trajectory.clips, trajectory.spans, strict=True)
    return [(cameras[list(span)], cameras[[clip.source, *span[:-1]]]) for clip, span in pairs]


def test_tree_has_no_clip_that_undoes_its_parent() -> None:
    plan = Articulated(num_frames=3)(CAMERA, DEPTH, None)
    names = [clip.name for clip in plan.clips]
    assert len(names) == len(set(names)) == 16
    assert names[:4] == ["right", "left", "up", "down"]
    assert not {"right/left", "left/right", "up/down", "down/up"} & set(names)
    assert len(plan.cameras) == 1 + 16 * 3


@pytest.mark.parametrize(
    ("levels", "directions", "clips"),
    [(1, ("in",), 1), (3, ("left", "right"), 6), (3, ("left", "up", "in"), 39)],
)
def test_tree_counts(levels: int, directions: tuple[str, ...], clips: int) -> None:
    assert len(Articulated(levels, directions, num_frames=1)(CAMERA, DEPTH, None).clips) == clips


def test_a_child_continues_the_last_frame_of_its_parent() -> None:
    plan = Articulated(levels=3, num_frames=2)(CAMERA, DEPTH, None)
    last = {clip.name: span[-1] for clip, span in zip(plan.clips, plan.spans, strict=True)} | {
        "": 0
    }
    for clip in plan.clips:
        assert clip.source == last[clip.name.rpartition("/")[0]]


def test_tree_ends_where_the_angles_say() -> None:
    plan = Articulated(num_frames=4, angle=10.0)(CAMERA, DEPTH, None)
    ends = {clip.name: clip.cameras[-1] for clip in plan.clips}
    angle = torch.deg2rad(torch.tensor(20.0))
    right = torch.stack([5 * angle.sin(), torch.tensor(0.0), 5 - 5 * angle.cos()])
    assert torch.allclose(ends["right/right"].centers[0], right, atol=1e-5)
    assert float(ends["up"].centers[0, 1]) < 0  # y is down
    assert torch.allclose(
        ends["right/up"].world_to_camera, ends["up/right"].world_to_camera, atol=1e-5
    )
    near = Articulated(1, ("in", "out"), angle=0.0, distance=0.2)(CAMERA, DEPTH, None)
    assert torch.allclose(
        near.clips[0].cameras.centers[-1], torch.tensor([0.0, 0.0, 1.0]), atol=1e-5
    )
    assert torch.allclose(
        near.clips[1].cameras.centers[-1], torch.tensor([0.0, 0.0, -1.0]), atol=1e-5
    )


@pytest.mark.parametrize(
    "name", ["right", "left/left", "up/right", "down/left", "in/up", "out/out"]
)
def test_single_ends_where_the_tree_does(name: str) -> None:
    tree = Articulated(directions=("right", "left", "up", "down", "in", "out"), num_frames=4)(
        CAMERA, DEPTH, None
    )
    end = next(clip for clip in tree.clips if clip.name == name).cameras[-1]
    alone = Single(name)(CAMERA, DEPTH, None)
    assert len(alone.clips) == 1
    assert torch.allclose(alone.cameras.world_to_camera[-1:], end.world_to_camera, atol=1e-5)


PLANNERS = [
    Articulated(),
    Articulated(1, ("in", "up")),
    Single("left/up"),
    Orbit(elevation=15.0),
    Spiral(),
    Dolly(),
    Dolly(-0.4, zoom=True),
]


@pytest.mark.parametrize("planner", PLANNERS)
def test_motion_is_smooth_and_looks_at_the_center(planner: object) -> None:
    plan = planner(CAMERA, DEPTH, None)
    assert plan.start is CAMERA
    for frames, before in parents(plan):
        steps = (frames.centers - before.centers).norm(dim=-1)
        assert float(steps.min()) > 0
        assert float(steps.max()) < 0.6  # of a scene 5 away: no jump, at the source neither
        turns = rotation_angle(frames.world_to_camera[:, :3, :3], before.world_to_camera[:, :3, :3])
        assert float(turns.max()) < 4
        pixels, _ = project(CENTER, frames)
        assert torch.allclose(pixels[:, 0], torch.tensor([32.0, 24.0]), atol=1e-3)
        right, down = frames.camera_to_world[:, :3, 0], frames.camera_to_world[:, :3, 1]
        assert float(right[:, 1].abs().max()) < 1e-5  # upright
        assert float(down[:, 1].min()) > 0


@pytest.mark.parametrize("planner", PLANNERS)
def test_lengths_follow_the_depth(planner: object) -> None:
    far = Depth(3 * DEPTH.depth, DEPTH.valid, "scale")
    near, wide = (planner(CAMERA, depth, None).cameras for depth in (DEPTH, far))
    assert torch.allclose(3 * near.centers, wide.centers, atol=1e-4)
    assert torch.allclose(
        near.world_to_camera[:, :3, :3], wide.world_to_camera[:, :3, :3], atol=1e-5
    )


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(PLANNERS), st.floats(0.05, 1.0))
def test_magnitude_shrinks_the_motion(planner: object, magnitude: float) -> None:
    full, part = planner(CAMERA, DEPTH, None), planner(CAMERA, DEPTH, None, magnitude)
    assert [(clip.name, clip.source, len(clip.cameras)) for clip in full.clips] == [
        (c.name, c.source, len(c.cameras)) for c in part.clips
    ]
    far, near = (float(plan.cameras.centers.norm(dim=-1).max()) for plan in (full, part))
    assert near == pytest.approx(magnitude * far, rel=0.05)


def test_orbit_closes_its_circle_and_climbs_to_its_cone() -> None:
    circle = Orbit(360.0, side="right", num_frames=36)(CAMERA, DEPTH, None).cameras
    assert torch.allclose(circle.world_to_camera[-1], circle.world_to_camera[0], atol=1e-4)
    assert torch.allclose((circle.centers - CENTER).norm(dim=-1), torch.tensor(5.0), atol=1e-4)
    cone = Orbit(90.0, elevation=30.0, side="left", num_frames=20)(
        CAMERA, DEPTH, None
    ).cameras.centers
    assert torch.allclose(cone[6:, 1], torch.tensor(-2.5), atol=1e-4)
    assert [clip.source for clip in Orbit()(CAMERA, DEPTH, None).clips] == [0, 0]


def test_dolly_zoom_keeps_the_center_at_its_size() -> None:
    size = torch.tensor([[-0.5, 0.0, 5.0], [0.5, 0.0, 5.0]])
    for zoom in (True, False):
        pixels, _ = project(size, Dolly(0.5, zoom=zoom)(CAMERA, DEPTH, None).cameras)
        widths = pixels[:, 1, 0] - pixels[:, 0, 0]
        assert float(widths[-1] / widths[0]) == pytest.approx(1.0 if zoom else 2.0, rel=1e-4)


@pytest.mark.parametrize("name", ["articulated", "single", "orbit", "spiral", "dolly"])
def test_frames_a_clip(name: str) -> None:
    lengths = {
        len(clip.cameras) for clip in planners.build({"name": name})(CAMERA, DEPTH, 14).clips
    }
    assert lengths == {14}
    chosen = planners.build({"name": name, "num_frames": 5})
    assert {len(clip.cameras) for clip in chosen(CAMERA, DEPTH, None).clips} == {5}
    assert chosen(CAMERA, DEPTH, 5) is not None
    with pytest.raises(
        ValueError, match=r"planner\.num_frames is 5, but the prior makes clips of 14"
    ):
        chosen(CAMERA, DEPTH, 14)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("articulated", {"levels": 0}, "planner.levels is 0"),
        ("articulated", {"directions": ["right", "east"]}, "'east'; choose from right, left"),
        ("articulated", {"directions": ["up", "up"]}, "each once"),
        ("articulated", {"levels": 10**30}, "choose 1 to 5"),
        ("articulated", {"levels": 5, "num_frames": 10_000}, "makes 484 clips of 10000 frames"),
        ("articulated", {"angle": 50.0}, "100 degrees; choose at most 80"),
        ("articulated", {"directions": ["in"], "distance": 0.5}, "moves in by 1 "),
        ("articulated", {"num_frames": 0}, "planner.num_frames is 0"),
        ("single", {"direction": "right/forward"}, "planner.direction is 'right/forward'"),
        ("single", {"direction": "right/left"}, "does not move"),
        ("orbit", {"angle": 0.0}, "planner.angle is 0"),
        ("orbit", {"elevation": 85.0}, "85 degrees; choose at most 80"),
        ("spiral", {"swing": 1.0}, "planner.swing is 1.0; choose 0 or more, less than 1"),
        ("dolly", {"distance": 1.0}, "planner.distance is 1"),
    ],
)
def test_wrong_settings_are_named(name: str, wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        planners.build({"name": name, **wrong})(CAMERA, DEPTH, None)
