"""Whole runs of a single picture, as a user starts them."""

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from PIL import Image

from lift import pipeline
from lift.geometry import pinhole
from lift.io.cameras import read_cameras
from lift.io.nerfstudio import write_transforms
from lift.io.splats import read_ply
from lift.io.video import read_frames
from lift.types import Cameras
from tests.helpers.commands import here, lift
from tests.helpers.runs import RUN_FILES
from tests.helpers.settings import TINY


def test_a_run_leaves_everything(finished_run):
    assert RUN_FILES | {"gaussians.spz"} <= {path.name for path in finished_run.iterdir()}
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert (
        metrics["frames"] == 13
        and metrics["clips"] == 4
        and metrics["input_psnr"] > 18
        and metrics["gaussians"] >= 1000
    )
    assert {part["verdict"] for part in metrics["distortion"]["parts"].values()} == {
        "not needed"
    }, "warp is multi-view consistent"
    assert "are multi-view consistent" in " ".join(
        json.loads((finished_run / "provenance.json").read_text())["notes"]
    )
    gaussians = read_ply(finished_run / "gaussians.ply")
    assert len(gaussians) == metrics["gaussians"] and gaussians.means.isfinite().all()
    cameras = read_cameras(finished_run / "transforms.json")
    assert len(cameras) == 13 and (cameras.world_to_camera[0] - torch.eye(4)).abs().max() < 1e-6
    assert len(read_cameras(finished_run / "colmap")) == 13
    assert len(read_frames(finished_run / "video.mp4")) == 6
    assert Image.open(finished_run / "fly_through.jpg").size == (4 * 192 + 3 * 4, 2 * 128 + 4)
    first = [
        "verdict",
        "reasons",
        "evidence",
        "findings",
        "input_psnr",
        "held_out_psnr",
        "held_out_psnr_distorted",
        "coverage",
    ]
    assert list(metrics)[:8] == first, "the most important come first"
    assert metrics["verdict"] in ("fair", "poor"), "30 steps are too few for a good scene"
    assert (
        0.5 < metrics["coverage"]["min"] <= metrics["coverage"]["mean"] <= 1
        and 0 <= metrics["fly_through_scale"] <= 1
    )
    assert Image.open(finished_run / "frames" / "000012.png").size == (96, 64)
    provenance = json.loads((finished_run / "provenance.json").read_text())
    assert {s["stage"] for s in provenance["stages"]} == {
        "depth",
        "plan",
        "clip",
        "reconstruct",
        "fit",
    }
    assert provenance["licences"]["prior warp"] and provenance["packages"]["torch"]
    assert all(s["seconds"] >= 0 and s["peak_bytes"] > 0 for s in provenance["stages"])
    assert "<html" in (finished_run / "report.html").read_text()


def test_missing_package_is_reported_before_any_stage(tmp_path, monkeypatch):
    from lift.config import store_schemas
    from lift.registry import Entry

    store_schemas()
    monkeypatch.setattr(
        Entry, "missing", property(lambda entry: ["mast3r"] if entry.name == "mast3r" else [])
    )
    with initialize_config_module("lift.configs", version_base=None):
        config = compose("lift", ["image=coffee", "pose=mast3r", f"output={tmp_path}"])
    with pytest.raises(
        ImportError,
        match="pose 'mast3r' needs mast3r, which is not installed: pip install --no-deps",
    ):
        pipeline.run(config)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_wrong_pose_settings_are_reported_before_frames(tmp_path):
    done = lift(
        "run",
        "image=coffee",
        *TINY,
        "pose=matching",
        "pose.min_registered=2",
        f"output={tmp_path}",
        cwd=tmp_path,
    )
    assert (
        done.returncode != 0
        and "pose.min_registered is 2; choose 0 to 1" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert not list(tmp_path.glob("cache/clip-*"))


@pytest.mark.slow
def test_pose_warnings_are_cached_and_repeated(tmp_path):
    rng = torch.Generator().manual_seed(0)
    (tmp_path / "made").mkdir()
    for k in range(3):  # nothing in common
        image = torch.randint(0, 256, (64, 96, 3), generator=rng, dtype=torch.uint8)
        Image.fromarray(image.numpy()).save(tmp_path / "made" / f"{k}.png")
    matrices = torch.eye(4).repeat(4, 1, 1)
    matrices[:, 0, 3] = -0.05 * torch.arange(4)
    lens = pinhole(96, 64, 90.0).intrinsics.repeat(4, 1, 1)
    write_transforms(tmp_path / "path.json", Cameras(matrices, lens, 96, 64), [""] * 4)
    command = [
        "run",
        "image=coffee",
        *TINY,
        "planner=path",
        f"planner.path={tmp_path / 'path.json'}",
        "planner.num_frames=null",
        "prior=frames",
        f"prior.path={tmp_path / 'made'}",
        "prior.includes_input=false",
        f"output={tmp_path}",
    ]
    command.remove("planner.levels=1")
    command.remove("planner.num_frames=3")
    for _ in range(2):
        done = lift(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("the planned cameras are used, because pose=matching failed") == 1
        folder = Path(done.stdout.strip().split("\n")[-1])
        assert any(
            "the planned cameras are used" in note
            for note in json.loads((folder / "provenance.json").read_text())["notes"]
        )


def test_the_input_view_of_the_scene_is_the_picture(finished_run):
    """Rendered from the delivered files alone, through the delivered camera 0."""
    from lift.evaluation.metrics import psnr
    from lift.renderers.reference import Reference

    cameras = read_cameras(finished_run / "transforms.json")[0]
    rendered = Reference()(read_ply(finished_run / "gaussians.ply"), cameras.to(torch.float32)).rgb[
        0
    ]
    import numpy

    picture = (
        torch.from_numpy(numpy.array(Image.open(finished_run / "frames" / "000000.png"))).float()
        / 255
    )
    assert psnr(rendered, picture) == pytest.approx(
        json.loads((finished_run / "metrics.json").read_text())["input_psnr"], abs=0.1
    )


@pytest.mark.slow
def test_running_again_finds_every_stage(finished_run, tmp_path):
    again = here(
        "run",
        "image=coffee",
        *TINY,
        "export.formats=[ply,spz]",
        f"output={finished_run.parents[1]}",
        "--redeliver",
        cwd=tmp_path,
    )
    assert again.returncode == 0 and Path(again.stdout.strip()) == finished_run
    assert again.stderr.count("found") == 4 + 4  # depth, plan, four clips, reconstruct, fit


@pytest.mark.slow
def test_another_distortion_makes_only_the_fit_anew(finished_run, tmp_path):
    other = here(
        "run",
        "image=coffee",
        *TINY,
        "distortion=rigid",
        f"output={finished_run.parents[1]}",
        cwd=tmp_path,
    )
    assert other.returncode == 0 and other.stderr.count("found") == 3 + 4
    assert Path(other.stdout.strip()) != finished_run


@pytest.mark.slow
def test_render_and_export_write_files_or_name_the_formats(finished_run, tmp_path):
    done = here(
        "render",
        str(finished_run),
        "--path",
        str(finished_run / "transforms.json"),
        "--to",
        str(tmp_path / "png"),
        "--size",
        "32",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    pictures = sorted((tmp_path / "png").glob("*.png"))
    assert len(pictures) == 13 and Image.open(pictures[0]).size == (48, 32)
    assert (
        here("render", str(finished_run), "--to", "x.mp4", cwd=tmp_path).returncode == 0
        and (tmp_path / "x.mp4").stat().st_size > 1000
    )
    for suffix in ("ply", "splat", "spz"):
        assert here("export", str(finished_run), f"x.{suffix}", cwd=tmp_path).returncode == 0
        assert (tmp_path / f"x.{suffix}").stat().st_size > 1000
    wrong = here("export", str(finished_run), "x.obj", cwd=tmp_path)
    assert (
        wrong.returncode == 2
        and "obj" in wrong.stderr
        and "splat" in wrong.stderr
        and wrong.stderr.count("\n") == 1
    )


@pytest.mark.slow
def test_several_jobs_by_hydra(tmp_path):
    done = here(
        "run",
        "-m",
        "image=coffee",
        "distortion=identity,rigid",
        *TINY,
        "fit.steps=5",
        f"output={tmp_path}",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    runs = [Path(line) for line in done.stdout.strip().split("\n")]
    assert len(runs) == 2 and all((run / "gaussians.ply").exists() for run in runs)


SYNTHETIC = (
    "experiment=synthetic",
    "pose=planned",
    "distortion=identity",
    "preprocess.size=128",
    "planner.levels=1",
    "planner.num_frames=4",
    "fit.steps=200",
    "fit.initial_gaussians=8000",
    "export.film.seconds=0.33",
)


@pytest.mark.slow
def test_canonical_views_of_a_known_scene_match_the_truth(tmp_path):
    """Severity 0 gives at least 28 dB from new cameras.

    Severity 1 is measurably worse without a distortion model.
    """
    scores = {}
    for severity in (0, 1):
        done = here(
            "run", *SYNTHETIC, f"prior.severity={severity}", f"output={tmp_path}", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        truth = json.loads(
            (Path(done.stdout.strip().split("\n")[-1]) / "metrics.json").read_text()
        )["truth"]
        assert truth["depth"]["scale"] == pytest.approx(1, abs=1e-4)
        scores[severity] = truth["psnr"]
    assert scores[0] >= 28, scores
    assert scores[1] < scores[0] - 2, scores
