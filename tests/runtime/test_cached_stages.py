"""What the cache has for a run is found without any computation."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from lift.config import compose_run
from lift.io.image import load_picture
from lift.priors import priors
from lift.runtime.cache import Store
from lift.runtime.cached_stages import earlier_seconds, find_stages
from lift.runtime.serialization import save
from lift.runtime.session import Session
from lift.runtime.stage_times import stage_method
from lift.stages.depth import build_depth_estimator, estimate_depth
from lift.stages.plan import constant_depth
from tests.helpers.stored_stages import (
    HEIGHT,
    TINY_PICTURE,
    WIDTH,
    clip,
    depth,
    reconstruction,
    store_stage,
)


def compose(output: Path):
    settings = ["image=coffee", "preprocess.size=64", "depth=ramp", f"output={output}"]
    return compose_run(settings)


@pytest.fixture(scope="module")
def tiny_config():
    return compose_run(list(TINY_PICTURE))


def test_stages_are_found_up_to_the_first_that_is_missing(tmp_path):
    config = compose(tmp_path)
    picture = load_picture("coffee", 64, config.preprocess.field_of_view)
    prior = priors.build(
        {"name": "warp"}, depth=constant_depth(picture.cameras), camera=picture.cameras
    )
    assert find_stages(config, picture, prior) == {}
    assert not list(tmp_path.iterdir()), "nothing is written"
    session = Session(config)
    estimate_depth(session, picture, build_depth_estimator(session, picture))
    assert find_stages(config, picture, prior) == {"depth": 1}


def test_times_of_recorded_frames_do_not_count_for_generated_ones(tmp_path):
    config = compose(tmp_path)
    folder = tmp_path / "cache/reconstruct-1"
    folder.mkdir(parents=True)
    save({"reconstruction": {"depth": torch.ones(1, 2, 3)}}, folder)
    unused = ("planner", "prior")
    method = stage_method(config, "reconstruct", torch.device("cpu"), 1, unused)
    manifest = {"stage": "reconstruct", "key": "1", "seconds": 4, "peak_bytes": 1}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "method": method}))
    works = {"reconstruct": (1, 2, 3)}
    assert earlier_seconds(config, works) == {}
    assert earlier_seconds(config, works, unused) == {"reconstruct": [4.0]}
    assert earlier_seconds(config, {"reconstruct": (2, 2, 3)}, unused) == {}


@pytest.mark.parametrize(
    ("stage", "value", "frames", "change"),
    [
        ("clip", clip(5), 5, {}),
        ("clip", clip(4, 32), 5, {}),
        ("clip", clip(), 5, {"prior": {"name": "synthetic"}}),
        ("clip", clip(), 5, {"prior": {"edge_threshold": 0.2}}),
        ("reconstruct", reconstruction(4), 5, {}),
        ("reconstruct", reconstruction(), 5, {"pose": {"name": "planned"}}),
        ("depth", depth(32), 5, {}),
        ("plan", 0, 5, {"preprocess": {"size": 65}}),
        ("fit", 0, 6, {}),
        ("fit", 0, 5, {"fit": {"steps": 7}}),
        ("fit", 0, 5, {"distortion": {"name": "rigid"}}),
        ("fit", 0, 5, {"trainer": {"devices": 2}}),
    ],
)
def test_other_sizes_counts_and_settings_predict_no_time(
    tiny_config, tmp_path, stage, value, frames, change
):
    config = tiny_config.copy()
    config.output = str(tmp_path)
    works = {"depth": (1, HEIGHT, WIDTH), "clip": (4, HEIGHT, WIDTH)}
    works |= dict.fromkeys(("reconstruct", "fit"), (5, HEIGHT, WIDTH))
    OmegaConf.set_struct(config, False)
    other = OmegaConf.merge(config, change)
    assert isinstance(other, DictConfig)
    store_stage(tmp_path, other, stage, 2.0, value, frames)
    assert earlier_seconds(config, works) == {}


def test_damaged_manifests_predict_no_time(tiny_config, tmp_path):
    config = tiny_config.copy()
    config.output = str(tmp_path)
    for name, content in (("clip-4", ""), ("clip-5", '{"stage": "clip"}'), ("clip-6", "[1]")):
        (tmp_path / "cache" / name).mkdir(parents=True)
        (tmp_path / "cache" / name / "manifest.json").write_text(content)
    assert earlier_seconds(config, {"clip": (4, HEIGHT, WIDTH)}) == {}


def test_a_stage_that_ran_predicts_its_time(tmp_path):
    config = compose(tmp_path)
    picture = load_picture("coffee", 64, config.preprocess.field_of_view)
    session = Session(config)
    estimate_depth(session, picture, build_depth_estimator(session, picture))
    works = {"depth": (1, picture.cameras.height, picture.cameras.width)}
    assert earlier_seconds(config, works) == {"depth": [session.stages[0].seconds]}


def test_a_resumed_stage_predicts_no_time(tmp_path):
    store = Store(tmp_path, method=lambda name: "method")
    for key, resumed in (("1", False), ("2", True)):
        if resumed:
            (tmp_path / f".fit-{key}.draft").mkdir()
            (tmp_path / f".fit-{key}.draft" / "checkpoint.ckpt").touch()
        store.folder("fit", key, lambda draft: (draft / "file").touch(), resumable=True)
        manifest = json.loads((tmp_path / f"fit-{key}" / "manifest.json").read_text())
        assert manifest.get("method") == (None if resumed else "method")


def test_a_run_for_another_machine_has_no_times(tmp_path):
    config = compose(tmp_path)
    config.trainer.devices = 10**4
    assert earlier_seconds(config, {"depth": (1, 40, 64)}) == {}
