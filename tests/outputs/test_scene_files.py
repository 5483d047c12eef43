"""The files of a scene are small, and show it, whatever it is."""

import json
from dataclasses import replace

import pytest
import torch

from lift.config import compose_run
from lift.evaluation.metrics import psnr
from lift.io.cameras import read_cameras
from lift.io.image import read_image
from lift.io.splats import read_splats
from lift.outputs import scene_files
from lift.outputs.scene_files import write_scene_files
from lift.renderers import renderers
from tests.helpers.reports import build_result
from tests.helpers.splats import photographed_scene


@pytest.fixture(scope="module")
def renderer():
    return renderers.build({"name": "numba"}, device=torch.device("cpu"))


@pytest.fixture
def result(tmp_path):
    """A run of seven frames, of which the last was not registered."""
    (tmp_path / "fit").mkdir()
    result = build_result(tmp_path / "fit")
    split = {"train": [1, 2, 3, 4], "held_out": [5]}
    (tmp_path / "fit" / "split.json").write_text(json.dumps(split))
    confidence = result.reconstruction.confidence.clone()
    confidence[6] = 0
    return replace(result, reconstruction=replace(result.reconstruction, confidence=confidence))


@pytest.fixture
def deliver(result, tmp_path, renderer):
    """Write the files with settings, and return their folder and the notes."""

    def write(*settings, cameras=None, **changes):
        folder = tmp_path / "run"
        folder.mkdir()
        notes = []
        config = compose_run(["image=coffee", *settings])
        views = result.trajectory.cameras if cameras is None else cameras
        changed = replace(result, **changes)
        write_scene_files(folder, config, changed, renderer, views, notes.append)
        return folder, notes

    return write


@pytest.mark.parametrize("degree", [0, 1])
def test_a_minimal_scene_of_default_size_is_small_and_good(deliver, renderer, degree):
    gaussians, camera = photographed_scene(60_000, degree)
    folder, notes = deliver("deliver.keep=minimal", gaussians=gaussians, cameras=camera[[0] * 7])
    names = {path.name for path in folder.iterdir()}
    assert names == {"gaussians.sog", "input.jpg", "transforms.json", "split.json"}
    assert not notes
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size < 2.5e6
    decoded = read_splats(folder / "gaussians.sog")
    assert len(decoded) == 60_000
    expected = renderer(gaussians, camera).rgb[0].clamp(0, 1)
    assert float(expected.std()) > 0.1, "there is something to see"
    assert psnr(renderer(decoded, camera).rgb[0].clamp(0, 1), expected) > 40


@pytest.mark.parametrize(
    ("refused", "kept"), [(["sog"], "compressed.ply"), (["sog", "compressed.ply"], "ply")]
)
def test_a_scene_that_a_format_cannot_hold_is_kept_in_the_next_one(
    deliver, monkeypatch, refused, kept
):
    export = scene_files.export

    def limited(source, path, format, check):
        if format in refused:
            raise ValueError(f"{format} does not give back what was written")
        return export(source, path, format, check)

    monkeypatch.setattr(scene_files, "export", limited)
    folder, notes = deliver("deliver.keep=minimal")
    assert [path.name for path in folder.glob("gaussians.*")] == [f"gaussians.{kept}"]
    (note,) = notes
    assert all(f"{name} cannot keep the scene" in note for name in refused)
    assert note.endswith(f"it is kept as {kept}")


def test_a_file_that_shows_another_scene_is_not_kept(deliver, monkeypatch):
    monkeypatch.setattr(scene_files, "compare_renders", lambda *_: 34.9)
    folder, notes = deliver("deliver.keep=minimal")
    assert [path.name for path in folder.glob("gaussians.*")] == ["gaussians.ply"]
    assert "with 34.9 dB against the scene" in notes[0]


def test_minimal_writes_the_formats_that_are_named_but_no_ply(deliver):
    folder, _ = deliver("deliver.keep=minimal", "export.formats=[ply,spz,sog]")
    names = {path.name for path in folder.glob("gaussians.*")}
    assert names == {"gaussians.sog", "gaussians.spz"}


@pytest.mark.parametrize(("keep", "picture"), [("scene", "input.png"), ("minimal", "input.jpg")])
def test_cameras_and_input_stay_without_the_frames(result, deliver, keep, picture):
    folder, _ = deliver(f"deliver.keep={keep}")
    assert not (folder / "frames").exists() and not (folder / "views").exists()
    cameras = read_cameras(folder / "transforms.json")
    expected = result.trajectory.cameras.world_to_camera
    assert torch.allclose(cameras.world_to_camera.float(), expected, atol=1e-5)
    frames = json.loads((folder / "transforms.json").read_text())["frames"]
    assert [frame["file_path"] for frame in frames] == [picture, *[""] * 6]
    image = read_image(folder / picture)
    assert image.shape == result.frames.images[0].shape
    if keep == "scene":
        assert torch.equal(image, result.frames.images[0])
    split = json.loads((folder / "split.json").read_text())
    assert split["held_out"] == [5] and split["registered"] == [0, 1, 2, 3, 4, 5]


def test_full_keeps_frames_and_what_the_fit_left(deliver, tmp_path):
    (tmp_path / "fit" / "checkpoint.ckpt").write_text("state")
    folder, _ = deliver("deliver.keep=full")
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "gaussians.ply", "transforms.json", "colmap", "frames", "views", "distortion.safetensors",
        "checkpoint.ckpt", "split.json", "tensorboard",
    }  # fmt: skip
