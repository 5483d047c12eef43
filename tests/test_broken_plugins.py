"""The contract tests fail for a plugin that breaks its promises, and name what is wrong."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lift.contracts import contract_checks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]

PLANNER = """
    import torch

    from lift.planners import Planner, planners
    from lift.types import Cameras, Clip, Trajectory


    def slide(camera, count, distance):
        poses = camera.world_to_camera.repeat(count, 1, 1)
        poses[:, 0, 3] -= torch.arange(1, count + 1) / count * distance
        intrinsics = camera.intrinsics.repeat(count, 1, 1)
        return Trajectory(
            camera, (Clip("right", 0, Cameras(poses, intrinsics, camera.width, camera.height)),)
        )
"""

PLUGINS = {
    "fails_on_import": """
        raise RuntimeError("a mistake in the plugin")
    """,
    "ignores_clip_length": """
        @planners.register("ignores_clip_length")
        class IgnoresClipLength(Planner):
            "Always plan seven frames."

            def __call__(self, camera, depth, clip_length, magnitude=1.0):
                return slide(camera, 7, magnitude)
    """,
    "needs_clip_length": """
        @planners.register("needs_clip_length")
        class NeedsClipLength(Planner):
            "Plan only for a prior with a clip length."

            def __call__(self, camera, depth, clip_length, magnitude=1.0):
                return slide(camera, clip_length, magnitude)
    """,
    "ignores_magnitude": """
        @planners.register("ignores_magnitude")
        class IgnoresMagnitude(Planner):
            "Keep the full motion."

            def __call__(self, camera, depth, clip_length, magnitude=1.0):
                return slide(camera, clip_length or 4, 1.0)
    """,
    "hides_contradiction": """
        @planners.register("hides_contradiction")
        class HidesContradiction(Planner):
            "Drop the setting for a prior with a clip length."

            def __init__(self, num_frames: int = 4) -> None:
                self.num_frames = num_frames

            def __call__(self, camera, depth, clip_length, magnitude=1.0):
                return slide(camera, clip_length or self.num_frames, magnitude)
    """,
    "has_no_example": """
        @planners.register("has_no_example")
        class HasNoExample(Planner):
            "Needs a setting, and declares no example of it."

            def __init__(self, distance: float) -> None:
                self.distance = distance

            def __call__(self, camera, depth, clip_length, magnitude=1.0):
                return slide(camera, clip_length or 4, magnitude * self.distance)
    """,
    "has_an_example": """
        @planners.register("has_an_example")
        class HasAnExample(Planner):
            "Needs a setting, and declares an example of it."

            @classmethod
            def example_settings(cls, folder):
                return {"distance": 0.5}

            def __init__(self, distance: float) -> None:
                self.distance = distance

            def __call__(self, camera, depth, clip_length, magnitude=1.0):
                return slide(camera, clip_length or 4, magnitude * self.distance)
    """,
}

BROKEN = {
    "fails_on_import": "RuntimeError: a mistake in the plugin",
    "ignores_clip_length": "starts_at_the_input_and_obeys_clip_length",
    "needs_clip_length": "chooses_the_clip_length_if_the_prior_has_none",
    "ignores_magnitude": "moves_less_at_a_smaller_magnitude",
    "hides_contradiction": "refuses_clips_of_another_length_than_the_priors",
    "has_no_example": "declare example_settings in has_no_example.HasNoExample",
}
"""Name of a broken plugin -> the check that fails for it, or its message."""

CHECKS = {str(check) for check in contract_checks("planner")}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Run the contract tests of all plugins above once, and return what pytest prints."""
    folder = tmp_path_factory.mktemp("plugins")
    for name, code in PLUGINS.items():
        text = "" if name == "fails_on_import" else textwrap.dedent(PLANNER)
        (folder / f"{name}.py").write_text(text + textwrap.dedent(code))
    selected = " or ".join([*PLUGINS, "test_every_plugin_can_be_imported"])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-rA", "tests/test_contracts.py"]
        + ["-k", selected],
        cwd=ROOT,
        env={**os.environ, "LIFT_PLUGINS": ",".join(PLUGINS), "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("name", "finding"), BROKEN.items())
def test_contracts_fail_for_a_broken_plugin(report: str, name: str, finding: str) -> None:
    if finding in CHECKS:
        assert re.search(rf"^FAILED .*\[{name}-planner-{finding}\]", report, re.M), report
    else:
        assert finding in report


def test_contracts_pass_for_a_correct_plugin(report: str) -> None:
    assert re.search(r"^PASSED .*\[has_an_example-planner-repeats_itself\]", report, re.M)
    assert not re.search(r"^(FAILED|ERROR) .*\[has_an_example-", report, re.M)
