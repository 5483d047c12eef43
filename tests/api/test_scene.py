"""A loaded run has all that the run computed, wherever its folder is."""

import json
import shutil

import pytest
import torch

import lift
from lift.evaluation.metrics import psnr
from lift.io.splats import read_ply
from lift.io.video import read_frames
from lift.renderers import renderers
from lift.runtime.serialization import load as load_stage
from tests.helpers.python_runs import tiny_settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def moved(finished_run, tmp_path_factory):
    """A copy of the run without its cache, in another place."""
    folder = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(finished_run, folder)
    return folder


@pytest.fixture(scope="module")
def distorted(tmp_path_factory):
    """A scene whose distortion learned something."""
    parts = ["rigid", "appearance", "blur"]
    return lift.run(
        "room",
        **tiny_settings(
            tmp_path_factory.mktemp("distorted"),
            prior={"name": "synthetic", "severity": 3},
            depth="known",
            distortion={"name": "composed", "parts": parts, "prune_after": 0},
        ),
    )


def test_a_moved_run_has_everything(moved, finished_run):
    scene = lift.load(moved)
    assert len(scene.gaussians) == scene.metrics["gaussians"]
    assert scene.frames.images.shape == (13, 64, 96, 3) and len(scene.cameras) == 13
    assert len(scene.trajectory.clips) == 4 and scene.held_out
    assert scene.verdict.level == scene.metrics["verdict"]
    assert set(scene.distortion.summary()["parts"]) == set(scene.metrics["distortion"]["parts"])
    assert scene.settings["fit"]["steps"] == 30
    assert scene.folder == moved and str(moved) in repr(scene)
    assert scene.verdict.level in repr(scene) and "dB" in repr(scene)


def test_depth_and_cameras_are_those_of_the_run(moved, finished_run):
    scene = lift.load(str(moved))
    keys = {stage["stage"]: stage["key"] for stage in scene.provenance["stages"]}
    cache = finished_run.parents[1] / "cache"
    truth = load_stage(cache / f"reconstruct-{keys['reconstruct']}")["reconstruction"]
    assert torch.equal(scene.estimated_cameras.world_to_camera, truth.cameras.world_to_camera)
    assert torch.equal(scene.depth > 0, truth.depth > 0)
    assert torch.allclose(scene.depth, truth.depth, rtol=1e-3)
    confidence = scene.views.reconstruction.confidence
    assert torch.equal(confidence > 0, truth.confidence > 0)
    assert (confidence - truth.confidence).abs().max() <= 1 / 255
    bounds = scene.views.reconstruction.points.points.aminmax(dim=0)
    assert torch.equal(torch.stack(bounds), torch.stack(truth.points.points.aminmax(dim=0)))


def test_what_is_kept_of_the_frames_is_small(moved):
    pixels = lift.load(moved).depth.numel()
    size = sum(file.stat().st_size for file in (moved / "views").iterdir())
    assert size < 3.5 * pixels + 15 * 60_000 + 100_000


@pytest.mark.parametrize("missing", ["metrics.json", "frames", "gaussians.ply"])
def test_what_is_missing_is_named(moved, tmp_path, missing):
    shutil.copytree(moved, tmp_path / "run")
    path = tmp_path / "run" / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FileNotFoundError, match=f"no finished run at .*it has no {missing}$"):
        lift.load(tmp_path / "run")


def test_a_folder_of_runs_names_them(moved):
    with pytest.raises(FileNotFoundError, match="it has runs, give one of them: copy"):
        lift.load(moved.parent)
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        lift.load(moved / "nowhere")
    with pytest.raises(FileNotFoundError, match="it is a file; give the run's folder"):
        lift.load(moved / "gaussians.ply")


def test_a_run_without_views_still_renders(moved, tmp_path):
    shutil.copytree(moved, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "views")
    scene = lift.load(tmp_path / "run")
    assert scene.render(scene.cameras[0]).rgb.isfinite().all()
    with pytest.raises(FileNotFoundError, match="has no views, which depth, distortions"):
        _ = scene.depth


def test_renders_are_those_of_the_renderer(moved):
    scene = lift.load(moved)
    render = scene.render(scene.cameras[[0, 5]])
    own = renderers.build({"name": "reference"}, device=torch.device("cpu"))
    expected = own(read_ply(moved / "gaussians.ply"), scene.cameras[[0, 5]])
    assert (render.rgb - expected.rgb).abs().max() < 2e-3
    assert render.alpha.shape == render.depth.shape == (2, 64, 96)
    reference = lift.load(moved, renderer="reference").render(scene.cameras[[0, 5]])
    assert torch.allclose(reference.rgb, expected.rgb, atol=1e-5)


def test_cameras_may_be_a_file_or_left_out(moved):
    scene = lift.load(moved)
    from_file = scene.render(moved / "transforms.json", size=48)
    assert from_file.rgb.shape == (13, 32, 48, 3)
    assert scene.render(size=24).rgb.shape == (6, 16, 24, 3)
    with pytest.raises(ValueError, match="size is 8; choose at least 16 pixels"):
        scene.render(size=8)


def test_a_frames_distortion_explains_the_frame(distorted):
    scene = distorted
    train = [view for view in range(1, len(scene.frames)) if view not in scene.held_out]
    values = {True: [], False: []}
    for view in train:
        for is_distorted in values:
            render = scene.render(scene.cameras[view], distortion_of=view if is_distorted else None)
            values[is_distorted].append(psnr(render.rgb[0], scene.frames.rgb[view]))
    means = {key: sum(value) / len(value) for key, value in values.items()}
    assert means[True] == pytest.approx(scene.metrics["frames_psnr_distorted"], abs=0.02)
    assert means[True] > means[False] + 0.1


def test_the_inputs_distortion_changes_nothing(distorted):
    cameras = distorted.cameras[[0, 3]]
    plain = distorted.render(cameras).rgb
    assert torch.equal(distorted.render(cameras, distortion_of=0).rgb, plain)
    with pytest.raises(ValueError, match="distortion_of is 13; the run has 13 frames, 0 to 12"):
        distorted.render(cameras, distortion_of=13)


def test_cameras_have_the_learned_corrections(distorted):
    corrected = distorted.distortion.cameras(distorted.estimated_cameras, torch.arange(13))
    assert (corrected.centers - distorted.cameras.centers).abs().max() < 1e-5
    assert (distorted.estimated_cameras.centers - distorted.cameras.centers).abs().max() > 1e-5


def test_an_unregistered_distortion_leaves_the_rest(moved, tmp_path):
    shutil.copytree(moved, tmp_path / "run")
    (tmp_path / "run" / "manifest.json").unlink()  # the change is intended
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("name: composed", "name: elsewhere"))
    scene = lift.load(tmp_path / "run")
    assert scene.depth.isfinite().all()
    with pytest.raises(ValueError, match="distortion is 'elsewhere'; choose one of"):
        _ = scene.distortion


def test_exports_by_suffix(moved, tmp_path):
    scene = lift.load(moved)
    path = scene.export(tmp_path / "new" / "scene.splat")
    assert path.stat().st_size == 32 * len(scene.gaussians)
    with pytest.raises(ValueError, match=r"'scene.obj' ends with none of \.ply, .*\.sog"):
        scene.export(tmp_path / "scene.obj")


def test_films_are_saved_in_the_chosen_frame(moved, tmp_path):
    scene = lift.load(moved)
    path = scene.save_film(tmp_path / "a.mp4", "orbit", aspect="1:1", seconds=0.5, fps=10, size=40)
    assert read_frames(path).images.shape == (5, 40, 40, 3)
    assert len(list(scene.save_film(tmp_path / "a", cameras=scene.cameras[:2]).glob("*.png"))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "a.avi"}, r"choose a name that ends with \.mp4, \.webm, \.gif, \.webp, or a"),
        ({"preset": "circle"}, "preset is 'circle'; choose one of fly-through, orbit"),
        ({"length": 3}, "'length' is no option of a film; choose from preset, aspect"),
        ({"cameras": True, "preset": "orbit"}, "preset is 'orbit', but there is a path"),
        ({"cameras": True, "seconds": 3}, "seconds does not go with a path of cameras"),
    ],
)
def test_a_wrong_film_is_refused(moved, tmp_path, options, message):
    scene = lift.load(moved)
    if options.get("cameras"):
        options = options | {"cameras": scene.cameras[:2]}
    with pytest.raises(ValueError, match=message):
        scene.save_film(**{"path": tmp_path / "a.mp4"} | options)


def test_the_view_region_is_delivered_and_measured_alike(moved, tmp_path):
    delivered = lift.load(moved).view_region
    shutil.copytree(moved, tmp_path / "old")
    (tmp_path / "old" / "manifest.json").unlink()  # the change is intended
    (tmp_path / "old" / "view_region.json").unlink()
    measured = lift.load(tmp_path / "old").view_region
    assert measured.target == pytest.approx(delivered.target, rel=0.05, abs=0.05)
    assert measured.azimuth == pytest.approx(delivered.azimuth, abs=6)
    assert delivered.azimuth[0] < -2 and delivered.azimuth[1] > 2, "the clips went left and right"


def test_texts_in_settings_survive(moved, tmp_path):
    shutil.copytree(moved, tmp_path / "run")
    (tmp_path / "run" / "manifest.json").unlink()  # the change is intended
    (tmp_path / "run" / "config.yaml").write_text("image: 'a\\${b}, (1).jpg'\nname: '007'\n")
    settings = lift.load(tmp_path / "run").settings
    assert settings == {"image": "a${b}, (1).jpg", "name": "007"}


def test_an_interrupted_delivery_leaves_the_old_result(finished_run, tmp_path, monkeypatch):
    from lift.outputs import delivery

    settings = tiny_settings(finished_run.parents[1])
    settings |= {"name": "interrupted", "export.formats": ["ply"]}
    scene = lift.run("coffee", **settings)
    monkeypatch.setattr(delivery, "evaluate_frames", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        lift.run("coffee", redeliver=True, **settings)
    assert lift.load(scene.folder).metrics == scene.metrics
    assert not list(scene.folder.parent.glob(".*.draft"))


def test_metrics_are_the_file(moved):
    assert lift.load(moved).metrics == json.loads((moved / "metrics.json").read_text())
