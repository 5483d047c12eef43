"""Mistakes of a planner are told before the first stage of a run."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from lift import pipeline
from lift.config import compose_run
from lift.io.image import Picture, load_picture
from lift.planners import Planner, planners
from lift.priors import VideoPrior
from lift.registry import catalogue
from lift.runtime.session import Session
from lift.stages.plan import build_planner, constant_depth, plan
from lift.types import Cameras, Clip, Depth, Frames, Trajectory


def picture_of(config: DictConfig) -> Picture:
    return load_picture(config.image, config.preprocess.size, config.preprocess.field_of_view)


def config_of(folder: Path, *settings: str) -> DictConfig:
    return compose_run(["image=coffee", "preprocess.size=64", f"output={folder}", *settings])


class Keyframes(Planner):
    """Move to the right by the distances in a JSON file, which is read when it plans."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        distances = torch.tensor(json.loads(self.file.read_text()))
        matrices = camera.world_to_camera.repeat(len(distances), 1, 1)
        matrices[:, 0, 3] -= magnitude * depth.typical * distances
        intrinsics = camera.intrinsics.repeat(len(distances), 1, 1)
        cameras = Cameras(matrices, intrinsics, camera.width, camera.height)
        return Trajectory(camera, (Clip("right", 0, cameras),))


@pytest.fixture
def keyframes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the planner `keyframes` for one test."""
    entries = catalogue().entries
    monkeypatch.setitem(entries, "planner", dict(entries["planner"]))
    planners.register("keyframes")(Keyframes)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, FileNotFoundError, "planner.path is .*path.json', and there is no camera file"),
        ("{", ValueError, "planner.path: .*path.json' is no camera path"),
        ('{"frames": []}', ValueError, "planner.path: .*path.json'"),
    ],
)
def test_a_wrong_camera_file_is_told_before_the_depth(
    tmp_path: Path, content: str | None, error: type[Exception], message: str
) -> None:
    if content is not None:
        (tmp_path / "path.json").write_text(content)
    config = config_of(tmp_path, "planner=path", f"planner.path={tmp_path / 'path.json'}")
    with pytest.raises(error, match=message):
        pipeline.generate_views(Session(config), picture_of(config))
    assert not list(tmp_path.glob("cache/*"))


def test_a_file_without_permission_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(file))

    (tmp_path / "path.json").touch()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ValueError, match="planner.path: .*Permission denied: .*path.json"):
        planners.build({"name": "path", "path": str(tmp_path / "path.json")})


@pytest.mark.usefixtures("keyframes")
def test_a_file_that_is_read_late_is_told_before_the_depth(tmp_path: Path) -> None:
    config = config_of(tmp_path, "planner=keyframes", f"planner.file={tmp_path / 'keys.json'}")
    with pytest.raises(FileNotFoundError, match="keys.json"):
        pipeline.generate_views(Session(config), picture_of(config))
    assert not list(tmp_path.glob("cache/*"))


@pytest.mark.usefixtures("keyframes")
def test_a_planner_with_a_good_file_is_built(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("[0.1, 0.2]")
    config = config_of(tmp_path, "planner=keyframes", f"planner.file={tmp_path / 'keys.json'}")
    assert isinstance(build_planner(Session(config), picture_of(config)), Keyframes)


def test_a_motion_that_cannot_be_planned_is_told_before_the_depth(tmp_path: Path) -> None:
    config = config_of(tmp_path, "planner=orbit", "planner.elevation=85")
    with pytest.raises(ValueError, match="85 degrees; choose at most 80"):
        pipeline.generate_views(Session(config), picture_of(config))
    assert not list(tmp_path.glob("cache/*"))


def test_constant_depth_has_the_size_of_the_picture(tmp_path: Path) -> None:
    camera = picture_of(config_of(tmp_path)).cameras
    depth = constant_depth(camera)
    assert depth.depth.shape == (camera.height, camera.width)
    assert bool(depth.valid.all()) and depth.typical == 1


class Follower(VideoPrior):
    """A prior that is only asked for what it declares."""

    clip_length = 3

    def __init__(self, multiview_consistent: bool) -> None:
        self.multiview_consistent = multiview_consistent

    def __call__(self, frames: Frames, cameras: Cameras, clip: Clip, seed: int) -> Frames:
        raise NotImplementedError


@pytest.mark.parametrize(("consistent", "hint"), [(False, "requested"), (True, "planned")])
def test_requests_count_as_a_plan_for_a_prior_that_obeys(
    tmp_path: Path, consistent: bool, hint: str
) -> None:
    config = config_of(tmp_path, "planner=liftimage3d", "motion_limit.max_unseen=0.01")
    session = Session(config)
    picture = picture_of(config)
    planner = build_planner(session, picture)
    depth = constant_depth(picture.cameras)
    found, _ = plan(session, picture, depth, planner, Follower(consistent), "key")
    assert found.hint == hint and len(found.clips) == 16 and session.notes == []


def test_requests_are_refused_as_cameras_before_frames_are_made(tmp_path: Path) -> None:
    config = config_of(tmp_path, "planner=liftimage3d", "pose=planned")
    session = Session(config)
    picture = picture_of(config)
    planner = build_planner(session, picture)
    depth = constant_depth(picture.cameras)
    with pytest.raises(ValueError, match="pose is 'planned', but the cameras of planner=liftimag"):
        plan(session, picture, depth, planner, Follower(False), "key")
