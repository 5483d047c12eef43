"""What the cache has for a run is found without any computation."""

import json
from pathlib import Path

import torch

from lift.config import compose_run
from lift.io.image import load_picture
from lift.priors import priors
from lift.runtime.cached_stages import earlier_seconds, find_stages
from lift.runtime.serialization import save
from lift.runtime.session import Session
from lift.stages.depth import build_depth_estimator, estimate_depth
from lift.stages.plan import constant_depth
from lift.types import Depth


def compose(output: Path):
    settings = ["image=coffee", "preprocess.size=64", "depth=ramp", f"output={output}"]
    return compose_run(settings)


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
    folder = tmp_path / "cache/reconstruct-1"
    folder.mkdir(parents=True)
    depth = Depth(torch.ones(2, 3), torch.ones(2, 3) > 0, "scale")
    save({"reconstruction": {"depth": depth.depth[None]}}, folder)
    manifest = {"stage": "reconstruct", "by": "auto", "key": "1", "seconds": 4, "peak_bytes": 1}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    works = {"reconstruct": (1, 2, 3)}
    config = compose(tmp_path)
    assert earlier_seconds(config, works) == {}
    assert earlier_seconds(config, works, unused=("planner", "prior")) == {"reconstruct": [4.0]}
    assert earlier_seconds(config, {"reconstruct": (2, 2, 3)}, ("planner", "prior")) == {}
