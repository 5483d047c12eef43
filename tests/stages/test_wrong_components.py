"""A run with a component that breaks its protocol ends with one line, and can go on after a fix."""

import re
from pathlib import Path

import pytest

from tests.helpers.commands import lift

pytestmark = pytest.mark.slow

SETTINGS = (
    "image=coffee",
    "preprocess.size=64",
    "planner=single",
    "planner.num_frames=2",
    "fit.steps=4",
    "fit.initial_gaussians=300",
    "fit.test_every=0",
    "export.film.seconds=0.05",
)

PRIOR = """
from lift.priors import VideoPrior, priors
from lift.types import Frames


@priors.register("mine")
class Mine(VideoPrior):
    "Repeat the frame that a clip continues."

    def __call__(self, frames, cameras, clip, seed):
        images = frames.images[[clip.source] * len(clip.cameras)]
        return Frames(images{change})
"""

DISTORTION = """
from dataclasses import replace

from lift.distortions import Distortion, distortions


@distortions.register("mine")
class Mine(Distortion):
    "Lose the last row of each render."

    def image(self, render, view):
        return replace(render, rgb=render.rgb[:, :-1])
"""

LATE_NAN = """
from dataclasses import replace

from lift.distortions import Distortion, distortions


@distortions.register("mine")
class Mine(Distortion):
    "Return NaN in the second half of the fit."

    def image(self, render, view):
        return replace(render, rgb=render.rgb / {divisor}) if 0 < self.progress < 1 else render
"""

DEPTH = """
import torch

from lift.depths import DepthEstimator, depths
from lift.types import Depth


@depths.register("mine")
class Mine(DepthEstimator):
    "Return numbers that are no depth."

    def __call__(self, image):
        depth = torch.full(image.shape[:2], torch.nan)
        return Depth(depth, depth.isnan(), "scale")
"""


def run(folder: Path, code: str, *settings: str):
    (folder / "mine.py").write_text(code, encoding="utf-8")
    arguments = ("run", *SETTINGS, *settings, f"output={folder / 'out'}")
    return lift(*arguments, cwd=folder, LIFT_PLUGINS="mine")


def test_float_frames_end_the_run_and_a_fix_lets_it_go_on(tmp_path):
    failed = run(tmp_path, PRIOR.format(change=".float() / 255"), "prior=mine")
    assert failed.returncode == 2, failed.stderr
    assert "Traceback" not in failed.stderr
    assert failed.stderr.splitlines()[-1] == (
        "lift: prior mine (mine.Mine) returned frames.images as float32 [2, 40, 64, 3]; "
        "expected uint8 [2, 40, 64, 3]"
    )
    cache = tmp_path / "out/cache"
    assert not list(cache.glob("clip-*"))
    assert list(cache.glob("plan-*"))
    fixed = run(tmp_path, PRIOR.format(change=""), "prior=mine")
    assert fixed.returncode == 0, fixed.stderr
    assert re.search(r"^depth +found$", fixed.stderr, re.M)
    assert Path(fixed.stdout.strip().splitlines()[-1], "gaussians.ply").is_file()


@pytest.mark.parametrize(
    ("code", "setting", "message", "missing"),
    [
        (
            DEPTH,
            "depth=mine",
            "depth mine (mine.Mine) returned depth.depth with 2560 of 2560 values NaN or infinite",
            "depth",
        ),
        (
            DISTORTION,
            "distortion=mine",
            "distortion mine (mine.Mine) returned rgb as float32 [2, 39, 64, 3]; expected float32 "
            "[2, 40, 64, 3]",
            "fit",
        ),
    ],
)
def test_a_wrong_result_is_not_kept(tmp_path, code, setting, message, missing):
    learning_rate = code.replace('renders."\n', 'renders."\n\n    learning_rate = 0.1\n')
    failed = run(tmp_path, learning_rate, setting)
    assert failed.returncode == 2, failed.stderr
    assert f"lift: {message}" in failed.stderr.splitlines()[-1]
    assert not list((tmp_path / "out/cache").glob(f"{missing}-*"))


def test_a_nan_during_the_fit_names_step_and_component(tmp_path):
    failed = run(tmp_path, LATE_NAN.format(divisor="0.0"), "distortion=mine")
    assert failed.returncode == 2, failed.stderr
    assert failed.stderr.splitlines()[-1].startswith(
        "lift: the loss is NaN or infinite at step 2 of the fit: distortion mine (mine.Mine) "
        "returned rgb with "
    )


def test_a_distortion_that_changes_the_input_is_refused(tmp_path):
    code = LATE_NAN.format(divisor="2").replace("0 < self.progress < 1", "True")
    failed = run(tmp_path, code, "distortion=mine")
    assert failed.returncode == 2, failed.stderr
    assert "returned rgb with a change of view 0, the input, by up to" in failed.stderr
