"""Hostile values of settings give a sane configuration or one line, and nothing hangs.

Case N is always the same setting and value. A failure names both.
"""

import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from lift.contracts.samples import CAMERA, tilted_depth
from lift.depths import depths
from lift.distortions import distortions
from lift.errors import format_error, is_user_error
from lift.evaluation.datasets import datasets
from lift.planners import planners
from lift.priors import priors
from lift.registry import SLOTS, ComponentError
from tests.helpers.commands import here
from tests.helpers.distortions import SUPPLIED
from tests.helpers.fuzzing import limits
from tests.helpers.setting_fuzz import (
    HOSTILE,
    FuzzedSetting,
    all_settings,
    apply_override,
    assert_sane,
    values_in_range,
)
from tests.helpers.settings import TINY

FAST_CASES = 200
SLOW_CASES = 8000 if os.environ.get("LIFT_ALL_CASES") else 1000
COMMAND_CASES = 60 if os.environ.get("LIFT_ALL_CASES") else 30
"""Cases that go through the command line, within this process."""

BUILT = {
    "planner": ("articulated", "dolly", "orbit", "single", "spiral"),
    "prior": ("synthetic", "warp"),
    "depth": ("ramp",),
    "distortion": ("appearance", "blur", "field", "image_warp", "rigid"),
    "dataset": ("ray_cast",),
}
"""Components that are built with the values: they need neither weights nor files."""

SMALLEST = ("preprocess.size=64", "fit.steps=8", "fit.checkpoint_every=4", "stereo.size=64")

EXTREMES = (
    *("preprocess.size=64", "preprocess.field_of_view=5", "preprocess.field_of_view=150"),
    *("edges.width=0", "edges.width=20", "stereo.size=0", "motion_limit.max_unseen=0"),
    *("fit.steps=1", "fit.input_fraction=1", "fit.input_fraction=0", "fit.loss.ssim=1"),
    *("fit.loss.depth=1000000", "fit.robust.frames=1000000", "fit.densify.every=1"),
    *("fit.densify.growth_until=0", "fit.densify.min_opacity=0.49", "fit.densify.noise_scale=1e6"),
    *("fit.learning_rate.means=0", "fit.learning_rate.means=100", "fit.sh_degree=3"),
    *("fit.importance_power=100", "fit.initial_gaussians=1", "export.film.seconds=0.05"),
    *(
        "export.film.fps=1000",
        "seed=2147483647",
        "distortion.prune_after=1",
        "prior.edge_threshold=1e6",
    ),
    *("prior.edge_threshold=1e-6", "depth.far=1e6", "pose.max_points=1", "planner.angle=360"),
)
"""Settings at the ends of their ranges, for whole small runs."""
CHOSEN_EXTREMES = EXTREMES if os.environ.get("LIFT_ALL_CASES") else EXTREMES[::6]
"""Those that are tried: a sixth, or all with LIFT_ALL_CASES=1."""


def cases(seed: int) -> list[tuple[FuzzedSetting, str]]:
    rng = random.Random(seed)
    found = [
        (setting, value)
        for setting in all_settings()
        for value in (*HOSTILE, *values_in_range(setting, rng, 4))
    ]
    rng.shuffle(found)
    return found


def build(setting: FuzzedSetting, config) -> None:
    """Build the component with the setting; planners also plan."""
    if setting.component not in BUILT.get(setting.slot or "", ()):
        return
    settings: Any = OmegaConf.to_container(config[setting.slot], resolve=True)
    depth = tilted_depth()
    device = torch.device("cpu")
    if setting.slot == "planner":
        planners.build(settings)(CAMERA, depth, None)
    elif setting.slot == "prior":
        priors.build(settings, depth=depth, image="room", device=device)
    elif setting.slot == "depth":
        depths.build(settings, device=device)
    elif setting.slot == "distortion":
        distortions.build(settings, **SUPPLIED)
    else:
        datasets.build(settings)


def failure_of(setting: FuzzedSetting, value: str) -> str | None:
    """Run a case; return what is wrong with its end, if anything is."""
    name = f"{setting.component or ''} {setting.key}={value[:60]!r}"
    try:
        with limits(), apply_override(setting, value) as config:
            assert_sane(setting, config)
            build(setting, config)
    except AssertionError as error:
        return f"{name}: accepted with {error}"
    except Exception as error:
        message = format_error(error)
        if not is_user_error(error) or "\n" in message or not message:
            return f"{name}: {type(error).__name__}: {message[:200]}"
    return None


def run_cases(chosen: list[tuple[FuzzedSetting, str]]) -> None:
    failures = [failure for case in chosen if (failure := failure_of(*case))]
    assert not failures, f"{len(failures)} failures:\n" + "\n".join(failures[:30])


@pytest.mark.slow
def test_hostile_values_end_in_one_line() -> None:
    run_cases(cases(0)[:FAST_CASES])


@pytest.mark.slow
def test_thousands_of_hostile_values_end_in_one_line() -> None:
    chosen = cases(1)
    assert len(chosen) >= SLOW_CASES
    run_cases(chosen[:SLOW_CASES])


@pytest.mark.slow
def test_the_command_refuses_hostile_values(tmp_path: Path) -> None:
    failures = []
    chosen = [case for case in cases(2) if case[0].slot in (None, *SLOTS)]
    chosen = [case for case in chosen if case[0].key.split(".")[0] != "protocol"]
    for setting, value in chosen[:COMMAND_CASES]:
        component = [f"{setting.slot}={setting.component}"] if setting.slot else []
        words = ["image=coffee", *component, f"{setting.key}={value}", "--plan"]
        with limits():
            done = here("run", *words, cwd=tmp_path)
        lines = done.stderr.strip().splitlines()
        is_line = done.returncode == 2 and len(lines) == 1 and lines[0].startswith("lift: ")
        if not is_line and (done.returncode or not done.stdout):
            failures.append(f"{words}: {done.returncode} {done.stderr[-300:]}")
    assert not failures, "\n".join(failures[:30])


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of all runs of this module, which share a cache."""
    return tmp_path_factory.mktemp("extremes")


@pytest.mark.slow
@pytest.mark.parametrize("override", CHOSEN_EXTREMES)
def test_a_run_with_extremes_ends_with_a_scene_or_a_line(override: str, output: Path) -> None:
    name = f"name=run-{EXTREMES.index(override)}"
    done = here("run", "image=coffee", *TINY, *SMALLEST, override, name, cwd=output)
    if done.returncode == 0:
        assert (output / done.stdout.split()[-1] / "gaussians.ply").stat().st_size > 0
        return
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and lines[-1].startswith("lift: "), done.stderr[-2000:]
    assert "Traceback" not in done.stderr


def test_a_missing_value_is_refused() -> None:
    steps = FuzzedSetting("fit.steps", int | None)
    is_refused = pytest.raises(ComponentError, match="fit.steps is not set")
    with is_refused, apply_override(steps, "???"):
        pass
