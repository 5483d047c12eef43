"""Whole runs, as a user starts them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
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
from lift.types import Cameras, Depth
from tests.helpers.commands import here, lift
from tests.helpers.settings import TINY

LEFT = {
    "gaussians.ply",
    "transforms.json",
    "colmap",
    "video.mp4",
    "report.html",
    "metrics.json",
    "config.yaml",
    "provenance.json",
    "checkpoint.ckpt",
    "tensorboard",
    "frames",
    "distortion.safetensors",
    "fly_through.json",
    "fly_through.jpg",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    done = lift(
        "run", "image=coffee", *TINY, "export.formats=[ply,spz]", f"output={folder}", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.strip().split("\n")[-1])
    assert run.is_dir() and run.parent == folder / "coffee"
    assert re.search(r"^(POOR SCENE|Fair scene): .+ dB", done.stderr, re.MULTILINE), (
        "the verdict is printed"
    )
    return run


def test_a_run_leaves_everything(finished):
    assert LEFT | {"gaussians.spz"} <= {path.name for path in finished.iterdir()}
    metrics = json.loads((finished / "metrics.json").read_text())
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
        json.loads((finished / "provenance.json").read_text())["notes"]
    )
    gaussians = read_ply(finished / "gaussians.ply")
    assert len(gaussians) == metrics["gaussians"] and gaussians.means.isfinite().all()
    cameras = read_cameras(finished / "transforms.json")
    assert len(cameras) == 13 and (cameras.world_to_camera[0] - torch.eye(4)).abs().max() < 1e-6
    assert len(read_cameras(finished / "colmap")) == 13
    assert len(read_frames(finished / "video.mp4")) == 6
    assert Image.open(finished / "fly_through.jpg").size == (4 * 96 + 3 * 4, 2 * 64 + 4)
    first = [
        "verdict",
        "reasons",
        "input_psnr",
        "held_out_psnr",
        "held_out_psnr_distorted",
        "coverage",
    ]
    assert list(metrics)[:6] == first, "the most important come first"
    assert metrics["verdict"] in ("fair", "poor"), "30 steps are too few for a good scene"
    assert (
        0.5 < metrics["coverage"]["min"] <= metrics["coverage"]["mean"] <= 1
        and 0 <= metrics["fly_through_scale"] <= 1
    )
    assert Image.open(finished / "frames" / "000012.png").size == (96, 64)
    provenance = json.loads((finished / "provenance.json").read_text())
    assert {s["stage"] for s in provenance["stages"]} == {
        "depth",
        "plan",
        "clip",
        "reconstruct",
        "fit",
    }
    assert provenance["licences"]["prior warp"] and provenance["packages"]["torch"]
    assert all(s["seconds"] >= 0 and s["peak_bytes"] > 0 for s in provenance["stages"])
    assert "<html" in (finished / "report.html").read_text()


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
        ImportError, match="pose 'mast3r' needs mast3r, which is not installed: pip install roma"
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
        and "pose.min_registered is 2.0; choose 0 to 1" in done.stderr
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
        "planner.frames=null",
        "prior=frames",
        f"prior.path={tmp_path / 'made'}",
        "prior.includes_input=false",
        f"output={tmp_path}",
    ]
    command.remove("planner.depth=1")
    command.remove("planner.frames=3")
    for _ in range(2):
        done = lift(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("the planned cameras are used, because pose=matching failed") == 1
        folder = Path(done.stdout.strip().split("\n")[-1])
        assert any(
            "the planned cameras are used" in note
            for note in json.loads((folder / "provenance.json").read_text())["notes"]
        )


def test_the_input_view_of_the_scene_is_the_picture(finished):
    """Rendered from the delivered files alone, through the delivered camera 0."""
    from lift.evaluation.metrics import psnr
    from lift.renderers.reference import Reference

    cameras = read_cameras(finished / "transforms.json")[0]
    rendered = Reference()(read_ply(finished / "gaussians.ply"), cameras.to(torch.float32)).rgb[0]
    import numpy

    picture = (
        torch.from_numpy(numpy.array(Image.open(finished / "frames" / "000000.png"))).float() / 255
    )
    assert psnr(rendered, picture) == pytest.approx(
        json.loads((finished / "metrics.json").read_text())["input_psnr"], abs=0.1
    )


@pytest.mark.slow
def test_running_again_finds_every_stage(finished, tmp_path):
    again = here(
        "run",
        "image=coffee",
        *TINY,
        "export.formats=[ply,spz]",
        f"output={finished.parents[1]}",
        cwd=tmp_path,
    )
    assert again.returncode == 0 and Path(again.stdout.strip()) == finished
    assert again.stderr.count("found") == 4 + 4  # depth, plan, four clips, reconstruct, fit


@pytest.mark.slow
def test_another_distortion_makes_only_the_fit_anew(finished, tmp_path):
    other = here(
        "run",
        "image=coffee",
        *TINY,
        "distortion=rigid",
        f"output={finished.parents[1]}",
        cwd=tmp_path,
    )
    assert other.returncode == 0 and other.stderr.count("found") == 3 + 4
    assert Path(other.stdout.strip()) != finished


@pytest.mark.slow
def test_render_export_and_their_errors(finished, tmp_path):
    done = here(
        "render",
        str(finished),
        "--path",
        str(finished / "transforms.json"),
        "--to",
        str(tmp_path / "png"),
        "--size",
        "48",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    pictures = sorted((tmp_path / "png").iterdir())
    assert len(pictures) == 13 and Image.open(pictures[0]).size == (48, 32)
    assert (
        here("render", str(finished), "--to", "x.mp4", cwd=tmp_path).returncode == 0
        and (tmp_path / "x.mp4").stat().st_size > 1000
    )
    for suffix in ("ply", "splat", "spz"):
        assert here("export", str(finished), f"x.{suffix}", cwd=tmp_path).returncode == 0
        assert (tmp_path / f"x.{suffix}").stat().st_size > 1000
    wrong = here("export", str(finished), "x.obj", cwd=tmp_path)
    assert (
        wrong.returncode == 2
        and "obj" in wrong.stderr
        and "splat" in wrong.stderr
        and wrong.stderr.count("\n") == 1
    )


# A plugin that dies at a chosen point of an ordinary run of the program.
SABOTAGE = """
import os, signal
from pathlib import Path
from lift.runtime import cache
from lift.training import fit

stage, log = os.environ.get("DIE_IN"), os.environ["LOG"]
draft, finish = cache.Store._draft, cache.Store._finish
keep = fit.CheckpointCallback.on_train_epoch_end

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def _draft(self, final, resumable):
    Path(log).open("a").write(final.name + "\\n")
    return draft(self, final, resumable)

def _finish(self, folder, final, name, *args):
    if name == stage:
        die()
    finish(self, folder, final, name, *args)

def on_train_epoch_end(self, trainer, module):
    keep(self, trainer, module)
    if stage == "fit" and trainer.current_epoch == 1:
        die()

cache.Store._draft, cache.Store._finish = _draft, _finish
fit.CheckpointCallback.on_train_epoch_end = on_train_epoch_end
"""


@pytest.fixture
def sabotage(tmp_path) -> Path:
    (tmp_path / "sabotage.py").write_text(SABOTAGE)
    return tmp_path


def started(folder: Path, **environment: str) -> subprocess.Popen:
    more = [environment.pop("MORE")] if "MORE" in environment else []
    command = [
        sys.executable,
        "-m",
        "lift",
        "run",
        "image=coffee",
        *TINY,
        *more,
        f"output={folder / 'out'}",
    ]
    env = {**os.environ, "LIFT_PLUGINS": "sabotage", "LOG": str(folder / "log"), **environment}
    return subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_run_killed_in_any_stage_is_resumed(sabotage, finished):
    for stage in (
        "plan",
        "clip",
        "fit",
    ):  # one of each kind: a value, one of several values, what goes on from a checkpoint
        killed = started(sabotage, DIE_IN=stage)
        killed.communicate(timeout=300)
        assert killed.returncode == -signal.SIGKILL, stage
        assert not list((sabotage / "out" / "cache").glob(f"{stage}-*")), (
            "a half-made stage looks finished"
        )
    last = started(sabotage)
    out, err = last.communicate(timeout=300)
    assert last.returncode == 0, err
    made = (sabotage / "log").read_text().split()
    assert Counter(name.split("-")[0] for name in made) == {
        "depth": 1,
        "plan": 2,
        "clip": 4 + 1,
        "reconstruct": 1,
        "fit": 2,
    }
    # The killed and resumed fit equals the uninterrupted one.
    # Without export of other formats, the scenes are equal bit for bit.
    run = Path(out.strip().split("\n")[-1])
    assert (run / "gaussians.ply").read_bytes() == (finished / "gaussians.ply").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGINT is POSIX")
def test_interrupted_run_explains_how_to_resume(sabotage):
    process = started(sabotage, MORE="fit.steps=100000")
    for _ in range(600):
        if list((sabotage / "out" / "cache").glob(".fit-*.draft/checkpoint.ckpt")):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        # A process that ignores SIGINT, as in a background shell, would block the other tests.
        process.kill()
    assert (
        process.returncode == 130 and "run the same command again" in err and "Traceback" not in err
    )


@pytest.mark.slow
def test_two_runs_that_want_the_same_make_every_stage_once(sabotage):
    both = [started(sabotage) for _ in range(2)]
    results = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert results[0][0] == results[1][0]
    made = (sabotage / "log").read_text().split()
    assert len(made) == len(set(made)) == 4 + 4


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


FEW = (
    "preprocess.size=64",
    "fit.steps=20",
    "fit.initial_gaussians=800",
    "export.video_frames=4",
    "fit.test_every=4",
    "pose=planned",
)


def write_views(folder: Path, count: int = 6) -> str:
    """PNG files of a ray-cast room from cameras in a row, and the file with their cameras."""
    from lift.io.image import save_image
    from lift.synthetic.scenes import render

    lens = pinhole(64, 48, 60.0)
    matrices = torch.eye(4).repeat(count, 1, 1)
    matrices[:, 0, 3] = -0.1 * torch.arange(count)
    cameras = Cameras(matrices, lens.intrinsics.repeat(count, 1, 1), 64, 48)
    (folder / "views").mkdir()
    for index, image in enumerate(render("room", cameras).images):
        save_image(folder / "views" / f"{index}.png", image)
    write_transforms(
        folder / "transforms.json", cameras, [f"views/{index}.png" for index in range(count)]
    )
    return str(folder / "transforms.json")


def test_folder_with_cameras_needs_no_planner_or_prior(tmp_path):
    cameras = write_views(tmp_path)
    done = here(
        "run", "image=views", f"cameras={cameras}", *FEW, f"output={tmp_path}", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.strip().split("\n")[-1])
    assert run.parent == tmp_path / "views" and run.name.startswith("pictures-composed-")
    assert {path.name for path in run.iterdir()} >= LEFT
    provenance = json.loads((run / "provenance.json").read_text())
    assert set(provenance["components"]) == {"depth", "pose", "distortion", "renderer"}
    assert [stage["stage"] for stage in provenance["stages"]] == [
        "depth",
        "depth",
        "reconstruct",
        "fit",
    ]
    order = provenance["source"]["frames"]
    assert provenance["source"]["hint"] == "known" and len(order) == 6
    held_out = json.loads((run / "split.json").read_text())["held_out"]
    assert [order[frame] for frame in held_out] == ["0.png", "4.png"]
    assert "warp" not in (run / "report.html").read_text().split("Provenance")[0]
    centers = read_cameras(run / "transforms.json").centers
    first = int(order[0].split(".")[0])
    torch.testing.assert_close(
        centers[1:, 0],
        torch.tensor([0.1 * (int(name[0]) - first) for name in order[1:]]),
        atol=1e-5,
        rtol=0,
    )


def test_dry_run_of_a_capture_lists_its_stages(tmp_path):
    write_views(tmp_path, 4)
    done = here(
        "run",
        "image=[views/0.png,views/1.png,views/3.png]",
        "--plan",
        *FEW,
        f"output={tmp_path}",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "0-and-2-more: 3 frames of 64x48 pixels, in no order" in done.stdout
    assert "clip" not in done.stdout and "planned (Apache-2.0)" in done.stdout


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("image=views", "prior=frames", "prior.path=views"),
            "has its frames already, so prior=frames has none to add",
        ),
        (
            ("image=views/0.png", "cameras=transforms.json"),
            "cameras is 'transforms.json', but image is a single picture",
        ),
        (("image=coffee", "input=1"), "input is '1', but image is a single picture"),
        (("image=[]",), "image is an empty list"),
        (
            ("image=views", "frames.max_count=1"),
            "frames.max_count is 1; choose a value of at least 2",
        ),
    ],
)
def test_settings_that_do_not_fit_the_source_are_named(tmp_path, settings, message):
    write_views(tmp_path, 2)
    done = here("run", *settings, f"output={tmp_path}", cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("cache/*"))


def test_frames_made_elsewhere_need_no_path(tmp_path):
    from lift.config import store_schemas
    from lift.io.image import load_picture
    from lift.priors import priors
    from lift.runtime.session import Session

    write_views(tmp_path, 5)
    store_schemas()
    with initialize_config_module("lift.configs", version_base="1.3"):
        config = compose(
            "lift",
            [
                f"image={tmp_path}/views/0.png",
                "prior=frames",
                f"prior.path={tmp_path}/views",
                f"output={tmp_path}",
            ],
        )
    session, picture = Session(config), load_picture(config.image, 64, 55.0)
    depth = Depth(torch.ones(48, 64), torch.ones(48, 64, dtype=torch.bool), "scale")
    trajectory, _ = pipeline.plan(session, picture, depth, session.build(priors), "before")
    assert trajectory.hint == "sequence" and [len(clip.cameras) for clip in trajectory.clips] == [4]
    assert torch.equal(
        trajectory.cameras.world_to_camera, picture.cameras.world_to_camera.repeat(5, 1, 1)
    )


SYNTHETIC = (
    "experiment=synthetic",
    "pose=planned",
    "distortion=identity",
    "preprocess.size=160",
    "planner.depth=1",
    "planner.frames=6",
    "fit.steps=300",
    "fit.initial_gaussians=15000",
    "export.video_frames=8",
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


def test_clip_key_depends_on_content_not_on_cost(tmp_path, monkeypatch):
    from lift.config import store_schemas
    from lift.runtime.session import Session

    store_schemas()
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()

    def key(*settings: str) -> str:
        with initialize_config_module("lift.configs", version_base=None):
            return Session(
                compose("lift", ["image=room", f"output={tmp_path}", "prior=vace", *settings])
            ).key("clip", slots=("prior",))

    plain = key()
    assert (
        plain
        == key("prior.offload=model", "prior.batch_size=4", "prior.compile=true")
        != key("prior.num_inference_steps=9")
    )
    assert plain != key(f"prior.prompt='{'a room with a table, ' * 40}'"), (
        "a text that is too long for a file's name"
    )
    before = key("prior.model='~/model'")
    (tmp_path / "model" / "weights").write_text("other")
    assert key("prior.model='~/model'") != before, "what is in the folder"


def test_an_edited_part_of_a_distortion_makes_the_fit_anew(tmp_path, monkeypatch):
    from lift.config import store_schemas
    from lift.registry import catalogue
    from lift.runtime.session import Session

    store_schemas()
    with initialize_config_module("lift.configs", version_base="1.3"):
        session = Session(
            compose("lift", ["image=room", f"output={tmp_path}", "distortion.parts=[blur]"])
        )
    keys = [session.key("fit", number, slots=("distortion",)) for number in (1, 2)]
    (tmp_path / "blur.py").write_text("'''Another.'''")
    monkeypatch.setattr(catalogue()("distortion", "blur"), "source", tmp_path / "blur.py")
    keys += [session.key("fit", number, slots=("distortion",)) for number in (1, 2)]
    assert len(set(keys)) == 4


def test_known_cameras_reject_estimators_that_ignore_them(tmp_path):
    cameras = write_views(tmp_path)
    few = [setting for setting in FEW if not setting.startswith("pose")]
    done = here(
        "run",
        "image=views",
        f"cameras={cameras}",
        "pose=colmap",
        *few,
        f"output={tmp_path}",
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "pose is 'colmap', which finds cameras of its own" in done.stderr
    assert "choose one of auto, matching, planned" in done.stderr
