"""`lift run --plan` predicts a run and writes nothing."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from lift.geometry import pinhole
from lift.runtime.serialization import save
from lift.types import Depth, Frames, PointCloud, Reconstruction
from tests.helpers.commands import here, lift
from tests.helpers.settings import TINY


def test_dry_run_lists_stages_and_costs_and_writes_nothing(tmp_path):
    done = lift(
        "run",
        "image=coffee",
        "prior=svd",
        "prior.batch_size=2",
        "planner.levels=1",
        "--plan",
        f"output={tmp_path}",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.strip().split("\n")}
    assert "384x256 pixels" in lines["coffee:"]
    assert "lite (Apache-2.0)" in lines["depth"] and "4 clips, 97 frames" in lines["plan"]
    clip = lines["clip"]
    assert (
        "stabilityai/stable-video-diffusion-img2vid-xt" in clip
        and "Stability AI Community Licence" in clip
        and "GiB of GPU memory" in clip
        and "on an H200" in clip
    )
    assert "3000 steps of 1 views" in lines["fit"] and "on " in lines["fit"]
    assert not list(tmp_path.iterdir())


def test_memory_is_of_the_clips_that_are_made_together(tmp_path):
    from hydra import compose, initialize_config_module

    from lift.config import store_schemas
    from lift.runtime.dry_run import dry_run

    store_schemas()
    reports = {}
    for name, batch_size in itertools.product(("svd", "vace"), (1, 3)):
        with initialize_config_module("lift.configs", version_base="1.3"):
            config = compose(
                "lift",
                [
                    "image=room",
                    f"prior={name}",
                    f"prior.batch_size={batch_size}",
                    f"output={tmp_path}",
                ],
            )
        reports[name, batch_size] = float(
            re.search(r"about (\d+) GiB of GPU memory", dry_run(config))[1]
        )
    assert reports["svd", 3] > reports["svd", 1] + 2 and reports["vace", 3] == reports["vace", 1], (
        "vace's pipeline always makes one clip a call"
    )


def test_frames_with_exact_depth_take_fewer_steps(tmp_path):
    done = lift("run", "image=coffee", "prior=warp", "--plan", f"output={tmp_path}", cwd=tmp_path)
    assert "1000 steps of 1 views" in done.stdout, done.stderr


def store_stage(folder: Path, by: str, seconds: float, value: Any) -> None:
    """Write a stage as the cache of an earlier run has it."""
    folder.mkdir(parents=True)
    save(value, folder)
    stage, _, key = folder.name.partition("-")
    manifest = {"stage": stage, "by": by, "key": key, "seconds": seconds, "peak_bytes": 1}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def clip(count: int, height: int = 256, width: int = 384) -> Frames:
    return Frames(torch.zeros(count, height, width, 3, dtype=torch.uint8))


def reconstruction(count: int) -> dict:
    """What the stage keeps."""
    depth = torch.ones(count, 40, 64)
    cameras = pinhole(64, 40, 50.0).map(lambda value: value.expand(count, *value.shape[1:]))
    points = PointCloud(torch.zeros(1, 3), torch.zeros(1, 3))
    return {"reconstruction": Reconstruction(cameras, points, depth, depth), "notes": []}


def test_times_are_those_of_earlier_runs_of_the_same_components(tmp_path):
    cache = tmp_path / "cache"
    store_stage(cache / "clip-1", "warp", 2.0, clip(8))
    store_stage(cache / "clip-2", "warp", 3.0, clip(8))
    store_stage(cache / "clip-3", "synthetic", 500.0, clip(8))
    pixels = torch.ones(256, 384)
    store_stage(cache / "depth-1", "lite", 0.5, Depth(pixels, pixels > 0, "scale"))
    for name, content in (("clip-4", ""), ("clip-5", '{"by": "warp"}'), ("clip-6", "[1]")):
        (cache / name).mkdir()
        (cache / name / "manifest.json").write_text(content)  # damaged
    done = here("run", "image=coffee", "--plan", f"output={tmp_path}", cwd=tmp_path)
    assert "about 40 s, as it took 2.5 s each before" in done.stdout, done.stdout
    assert "about 0.5 s, as it took 0.5 s before" in done.stdout


def test_no_time_is_taken_from_other_sizes_counts_or_priors(tmp_path):
    cache = tmp_path / "cache"
    settings = ("image=coffee", "preprocess.size=64", "planner=single", "planner.num_frames=4")
    store_stage(cache / "clip-1", "warp", 2.0, clip(5, 40, 64))
    store_stage(cache / "clip-2", "warp", 2.0, clip(4, 32, 64))
    store_stage(cache / "reconstruct-1", "auto svd", 2.0, reconstruction(5))
    store_stage(cache / "reconstruct-2", "auto warp", 2.0, reconstruction(4))
    done = here("run", *settings, "--plan", f"output={tmp_path}", cwd=tmp_path)
    lines = {line.split()[0]: line for line in done.stdout.strip().split("\n")}
    assert lines["clip"].endswith("; time unknown"), done.stdout
    assert lines["reconstruct"].endswith("; time unknown"), done.stdout
    store_stage(cache / "reconstruct-3", "auto warp", 2.0, reconstruction(5))
    done = here("run", *settings, "--plan", f"output={tmp_path}", cwd=tmp_path)
    assert "auto (Apache-2.0); about 2.0 s, as it took 2.0 s before" in done.stdout


@pytest.mark.slow
def test_finished_stages_are_named(finished_run):
    output = finished_run.parents[1]
    run = ("run", "image=coffee", *TINY, "export.formats=[ply,spz]", f"output={output}", "--plan")
    plan = here(*run, cwd=output).stdout.splitlines()[1:]
    assert [line.rpartition("; ")[2] for line in plan] == ["found in the cache"] * 5, plan
    plan = here(*run, "fit.steps=77", cwd=output).stdout.splitlines()[1:]
    assert [line.endswith("found in the cache") for line in plan] == [True] * 4 + [False]


@pytest.mark.slow
def test_dry_run_reports_invalid_settings(tmp_path):
    for setting, message in (
        ("prior.num_inference_steps=0", "prior.num_inference_steps is 0; choose 1"),
        ("prior.frames=1", "prior.frames is 1"),
        ("prior.model=/nope", "prior.model is /nope, which does not exist"),
    ):
        done = lift("run", "image=coffee", "prior=svd", setting, "--plan", cwd=tmp_path)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_dry_run_reports_missing_packages(tmp_path, monkeypatch):
    from lift import registry

    monkeypatch.setattr(
        registry.Entry,
        "missing",
        property(lambda entry: ["gsplat"] if entry.name == "gsplat" else []),
    )
    done = lift(
        "run", "image=coffee", "renderer=gsplat", "--plan", f"output={tmp_path}", cwd=tmp_path
    )
    assert (
        done.returncode == 0
        and "not installed: renderer gsplat: pip install 'lift[gpu]'" in done.stdout
    )


@pytest.mark.slow
def test_every_experiment_has_a_dry_run(tmp_path):
    """The published method by its parts, among them."""
    from importlib.resources import files

    from hydra import compose, initialize_config_module

    from lift.config import store_schemas, validate_config
    from lift.runtime.dry_run import dry_run

    store_schemas()
    reports = {}
    for path in sorted((files("lift.configs") / "experiment").iterdir()):
        name = path.name.removesuffix(".yaml")
        with initialize_config_module("lift.configs", version_base="1.3"):
            config = compose("lift", [f"experiment={name}", "image=room", f"output={tmp_path}"])
        validate_config(config)
        reports[name] = dry_run(config)
        assert all(
            f"\n{stage}" in reports[name]
            for stage in ("depth", "plan", "clip", "reconstruct", "fit")
        )
    assert {"laptop", "liftimage3d", "quality"} <= set(reports)
    published = reports["liftimage3d"]
    for part in (
        "motionctrl, stabilityai/stable-video-diffusion-img2vid (",
        "16 clips, 241 frames",
        "mast3r, naver/MASt3R",
        "CC-BY-NC-SA-4.0",
        "hexplane",
        "17000 steps of 2 views",
    ):
        assert part in published, part
    assert (
        "viewcrafter, Drexubery/ViewCrafter_25 (Apache-2.0)" in reports["quality"]
        and "warp (Apache-2.0)" in reports["laptop"]
    )
