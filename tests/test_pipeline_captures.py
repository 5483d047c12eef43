"""Whole runs of frames that exist already."""

import json
import re
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module

from lift import pipeline
from lift.geometry import pinhole
from lift.io.cameras import read_cameras
from lift.io.nerfstudio import write_transforms
from lift.types import Cameras, Depth
from tests.helpers.commands import here
from tests.helpers.runs import RUN_FILES

SMALL = (
    "preprocess.size=64",
    "fit.steps=20",
    "fit.initial_gaussians=800",
    "export.film.seconds=0.17",
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


@pytest.mark.slow
def test_folder_with_cameras_needs_no_planner_or_prior(tmp_path):
    cameras = write_views(tmp_path)
    done = here(
        "run", "image=views", f"cameras={cameras}", *SMALL, f"output={tmp_path}", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.strip().split("\n")[-1])
    assert run.parent == tmp_path / "views" and run.name.startswith("pictures-composed-")
    assert {path.name for path in run.iterdir()} >= RUN_FILES
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
    page = re.sub(r"base64,[\w+/=]+", "", (run / "report.html").read_text())
    assert "warp" not in page.split("Provenance")[0]
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
        *SMALL,
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
        (("image=[]",), "image is []; give one name"),
        (
            ("image=views", "frames.max_count=1"),
            "frames.max_count is 1; choose 2 to 100000",
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
    planner = pipeline.build_planner(session, picture)
    trajectory, _ = pipeline.plan(session, picture, depth, planner, session.build(priors), "before")
    assert trajectory.hint == "sequence" and [len(clip.cameras) for clip in trajectory.clips] == [4]
    assert torch.equal(
        trajectory.cameras.world_to_camera, picture.cameras.world_to_camera.repeat(5, 1, 1)
    )


def test_known_cameras_reject_estimators_that_ignore_them(tmp_path):
    cameras = write_views(tmp_path)
    few = [setting for setting in SMALL if not setting.startswith("pose")]
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
