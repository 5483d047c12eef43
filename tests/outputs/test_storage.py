"""What is kept of the frames gives back what the fit was given."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from lift.distortions.identity import Identity
from lift.geometry import pinhole
from lift.io.capture import Capture
from lift.io.image import Picture
from lift.outputs import storage
from lift.outputs.quality import RunResult
from lift.outputs.storage import RunFiles, read_frames, read_views, write_views
from lift.runtime.atomic_io import copy_path, publish_folder
from lift.runtime.integrity import MANIFEST, write_manifest
from lift.types import (
    Cameras,
    Clip,
    Depth,
    Frames,
    Gaussians,
    PointCloud,
    Reconstruction,
    Trajectory,
)
from tests.helpers.damage import KINDS, damage

COUNT = 4


@pytest.fixture
def result(tmp_path: Path) -> RunResult:
    rng = torch.Generator().manual_seed(0)
    start = pinhole(24, 16, 20.0)
    cameras = Cameras.cat([start] * COUNT)
    images = torch.randint(0, 256, (COUNT, 16, 24, 3), generator=rng, dtype=torch.uint8)
    depth = 100 * torch.rand(COUNT, 16, 24, generator=rng) + 1
    depth[0, :4] = 0
    confidence = torch.rand(COUNT, 16, 24, generator=rng)
    confidence[2] = 0
    confidence[1] = 1e-4
    points = PointCloud(torch.randn(500, 3, generator=rng), torch.rand(500, 3, generator=rng))
    none = torch.zeros(0)
    return RunResult(
        picture=Picture("clip", Frames(images[:1]), start, "0" * 64, ("a note",), False, (48, 32)),
        depth=Depth(depth[0], depth[0] > 0, "scale"),
        trajectory=Trajectory(start, (Clip("forward", 0, cameras[1:]),), "sequence"),
        frames=Frames(images),
        reconstruction=Reconstruction(cameras, points, depth, confidence),
        gaussians=Gaussians(
            none.view(0, 3), none.view(0, 4), none.view(0, 3), none, none.view(0, 1, 3)
        ),
        distortion=Identity(),
        fit_folder=tmp_path,
    )


def test_frames_come_back_with_the_precision_that_is_told(tmp_path, result):
    write_views(tmp_path, result)
    picture, views, capture = read_views(tmp_path, result.frames)
    expected = result.reconstruction
    found = views.reconstruction
    assert torch.equal(found.cameras.intrinsics, expected.cameras.intrinsics)
    assert torch.equal(found.depth == 0, expected.depth == 0)
    assert torch.allclose(found.depth, expected.depth, rtol=6e-4)
    assert torch.equal(found.confidence > 0, expected.confidence > 0)
    assert torch.allclose(found.confidence, expected.confidence, atol=1 / 255)
    assert torch.equal(found.points.points, expected.points.points)
    assert torch.equal(views.depth.depth, result.depth.depth)
    assert views.trajectory.hint == "sequence" and views.trajectory.clips[0].name == "forward"
    assert picture.notes == ("a note",) and not picture.focal_known and capture is None
    assert views.frames.depth is None and not views.multiview_consistent


def test_the_kind_of_the_frames_comes_back(tmp_path, result):
    frames = replace(result.frames, depth=result.reconstruction.depth)
    cameras = result.reconstruction.cameras
    consistent = replace(result, frames=frames, multiview_consistent=True, true_cameras=cameras)
    write_views(tmp_path, consistent)
    views = read_views(tmp_path, Frames(frames.images))[1]
    assert views.frames.depth is not None and views.multiview_consistent
    assert torch.equal(views.true_cameras.intrinsics, cameras.intrinsics)


def test_recorded_frames_keep_their_names(tmp_path, result):
    capture = Capture(
        picture=result.picture,
        frames=result.frames,
        trajectory=result.trajectory,
        names=("c.jpg", "a.jpg", "b.jpg", "d.jpg"),
        source_index=(2, 0, 1, 3),
        ordered=False,
        kind="pictures",
        digest="1" * 64,
    )
    write_views(tmp_path, replace(result, capture=capture))
    found = read_views(tmp_path, result.frames)[2]
    for name in ("names", "source_index", "ordered", "kind", "digest"):
        assert getattr(found, name) == getattr(capture, name)
    assert found.held_out(2) == capture.held_out(2)


def test_a_large_cloud_is_thinned_within_its_bounds(tmp_path, result, monkeypatch):
    monkeypatch.setattr(storage, "MAX_POINTS", 50)
    write_views(tmp_path, result)
    points = read_views(tmp_path, result.frames)[1].reconstruction.points
    assert 50 <= len(points) <= 56
    bounds = torch.stack(points.points.aminmax(dim=0))
    assert torch.equal(bounds, torch.stack(result.reconstruction.points.points.aminmax(dim=0)))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A file and a folder of a run, with the run's manifest."""
    (tmp_path / "metrics.json").write_text('{"input_psnr": 30.0}')
    (tmp_path / "frames").mkdir()
    for number in range(2):
        Image.new("RGB", (8, 8)).save(tmp_path / "frames" / f"{number:06d}.png")
    write_manifest(tmp_path, {})
    return tmp_path


def test_files_of_a_run_are_read(run):
    files = RunFiles(run)
    assert files.read_json("metrics.json") == {"input_psnr": 30.0}
    assert len(files.read("frames", lambda path: read_frames(path.parent))) == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["metrics.json", "frames/000001.png"])
def test_damaged_files_of_a_run_are_named(run, name, kind):
    damage(run / name, kind)
    with pytest.raises(ValueError, match="is damaged .* repeat the command") as caught:
        RunFiles(run).read(name.split("/")[0], lambda path: None)
    assert Path(name).name in str(caught.value) and str(run / MANIFEST) in str(caught.value)


def test_a_change_of_the_user_is_accepted_without_manifest(run):
    (run / "metrics.json").write_text('{"input_psnr": 31.0}')
    (run / MANIFEST).unlink()
    assert RunFiles(run).read_json("metrics.json") == {"input_psnr": 31.0}
    (run / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match=r"metrics\.json is damaged"):
        RunFiles(run).read_json("metrics.json")


def test_results_of_two_deliveries_are_not_mixed(run):
    files = RunFiles(run)
    files.verify("frames")
    (run / "metrics.json").write_text('{"input_psnr": 10.0}')
    write_manifest(run, {})
    with pytest.raises(ValueError, match="another result than when it was loaded"):
        files.read_json("metrics.json")
    assert files.read("frames", lambda path: path.name) == "frames"  # they are the same
    assert RunFiles(run).read_json("metrics.json") == {"input_psnr": 10.0}


def replace_metrics(run: Path, psnr: float) -> None:
    """Deliver another result to a run's folder."""
    new = run.with_name("new")
    shutil.copytree(run, new)
    (new / "metrics.json").write_text(json.dumps({"input_psnr": psnr}))
    write_manifest(new, {})
    publish_folder(new, run)


@pytest.mark.parametrize("moment", ["read_manifest", "verify_files", "reader"])
def test_a_delivery_while_a_file_is_read_is_no_damage(run, monkeypatch, moment):
    run = shutil.copytree(run, run / "inner")
    waiting = [1000.0, 2000.0]

    def deliver_after(function):
        def call(*arguments, **options):
            value = function(*arguments, **options)
            if waiting:
                replace_metrics(run, waiting.pop(0))
            return value

        return call

    def read(path: Path):
        return json.loads(path.read_text())

    if moment == "reader":
        read = deliver_after(read)
    else:
        monkeypatch.setattr(storage, moment, deliver_after(getattr(storage, moment)))
    assert RunFiles(run).read("metrics.json", read) == {"input_psnr": 2000.0}


@pytest.mark.parametrize("name", ["metrics.json", "frames"])
def test_files_of_a_run_are_copied(run, tmp_path, name):
    target = tmp_path / "target"
    target.mkdir()
    files = RunFiles(run)
    assert files.copy(name, target) and not files.copy("nothing", target)
    source = sorted(path for path in [run / name, *(run / name).rglob("*")] if path.is_file())
    assert [(target / path.relative_to(run)).read_bytes() for path in source] == [
        path.read_bytes() for path in source
    ]


@pytest.mark.parametrize("name", ["metrics.json", "frames/000001.png"])
def test_a_file_that_changes_while_it_is_copied_is_named(run, tmp_path, monkeypatch, name):
    target = tmp_path / "target"
    target.mkdir()
    files = RunFiles(run)
    item = name.split("/")[0]
    files.verify(item)

    def change_and_copy(source: Path, copy: Path) -> None:
        damage(run / name, "flipped bit")
        copy_path(source, copy)

    monkeypatch.setattr(storage, "copy_path", change_and_copy)
    with pytest.raises(ValueError, match=f"{run / name} is damaged"):
        files.copy(item, target)


def test_a_folder_that_never_rests_is_one_line(run):
    run = shutil.copytree(run, run / "inner")
    numbers = iter(range(1000))
    files = RunFiles(run)
    with pytest.raises(ValueError, match="a run has delivered to it meanwhile; load it again"):
        files.read("metrics.json", lambda path: replace_metrics(run, next(numbers)))
