"""`lift check` runs the contract checks of what a module registers."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import here, lift

pytestmark = pytest.mark.slow

GOOD = """
import torch

from lift.planners import Planner, planners
from lift.types import Cameras, Clip, Trajectory


def slide(camera, count, distance):
    poses = camera.world_to_camera.repeat(count, 1, 1)
    poses[:, 0, 3] -= torch.arange(1, count + 1) / count * distance
    intrinsics = camera.intrinsics.repeat(count, 1, 1)
    cameras = Cameras(poses, intrinsics, camera.width, camera.height)
    return Trajectory(camera, (Clip("right", 0, cameras),))


@planners.register("good")
class Good(Planner):
    "Move to the right."

    def __call__(self, camera, depth, clip_length, magnitude=1.0):
        return slide(camera, clip_length or 4, magnitude)
"""

BAD = f"""{GOOD}

@planners.register("bad")
class Bad(Planner):
    "Plan for a prior with a clip length only."

    def __call__(self, camera, depth, clip_length, magnitude=1.0):
        return slide(camera, clip_length + 0, 1)
"""


def test_a_component_that_keeps_its_contract_passes(tmp_path: Path):
    (tmp_path / "good.py").write_text(GOOD)
    done = lift("check", "good.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "planner good   good.Good"
    assert "  pass  Plan the same trajectory for the same arguments" in lines
    assert (
        "  skip  Refuse `num_frames` that contradicts the prior's clip length: "
        "has no setting num_frames"
    ) in lines
    assert lines[-1] == "4 passed, 0 failed, 2 skipped"


def test_a_broken_promise_fails_with_its_reason(tmp_path: Path):
    (tmp_path / "both.py").write_text(BAD)
    done = lift("check", "both", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    line = BAD.splitlines().index("        return slide(camera, clip_length + 0, 1)") + 1
    assert (
        "  FAIL  Choose the number of frames if the prior makes any number: TypeError: "
        "unsupported operand type(s) for +: 'NoneType' and 'int' "
        f"(both.py:{line})"
    ) in done.stdout
    assert "set supports_magnitude = False if it cannot be scaled" in done.stdout
    assert done.stdout.splitlines()[-1] == "6 passed, 2 failed, 4 skipped"
    chosen = lift("check", "both", "--slot", "planner", "--name", "good", cwd=tmp_path)
    assert chosen.returncode == 0
    assert "bad" not in chosen.stdout


def test_a_package_counts_with_its_modules(tmp_path: Path):
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package/__init__.py").write_text("from my_package import good\n")
    (tmp_path / "my_package/good.py").write_text(GOOD)
    for module in ("my_package", "my_package.good", "my_package/good.py", "my_package/"):
        done = lift("check", module, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith("planner good   my_package.good.Good\n")


def test_a_plugin_that_is_loaded_already_is_checked(tmp_path: Path):
    (tmp_path / "good.py").write_text(GOOD)
    done = lift("check", "good.py", cwd=tmp_path, LIFT_PLUGINS="good")
    assert done.returncode == 0 and done.stdout.startswith("planner good"), done.stderr


def test_built_in_components_can_be_checked(tmp_path: Path):
    done = here("check", "lift.planners.orbit", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("planner orbit   lift.planners.orbit.Orbit\n")


def test_pytest_is_not_needed(tmp_path: Path):
    code = "import sys; sys.modules['pytest'] = None; from lift.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "check", "lift.planners.orbit"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing_there",), "there is no module 'nothing_there', neither in the current folder"),
        (("nothing.py",), "there is no file 'nothing.py'; give a Python file or an import path"),
        (("broken.py",), "the import of broken.py fails: RuntimeError: a mistake"),
        (("needs.py",), "the import of needs.py fails: ModuleNotFoundError: No module named 'nop"),
        (("empty.py",), "empty.py registers no component; it registers nothing"),
        (("my-own.py",), "my-own.py cannot be imported, because 'my-own' is no name of a module"),
        (("own/json.py",), "own/json.py has the name of another module"),
        (
            ("lift.planners.orbit", "--name", "x"),
            "lift.planners.orbit registers no x; it registers planner orbit",
        ),
        (("lift.planners.orbit", "--slot", "plan"), "there is no slot 'plan'; choose one of"),
    ],
)
def test_a_wrong_module_ends_with_one_line(tmp_path: Path, arguments, message: str):
    (tmp_path / "broken.py").write_text("raise RuntimeError('a mistake')")
    (tmp_path / "needs.py").write_text("import nope_not_there")
    (tmp_path / "own").mkdir()
    for name in ("empty.py", "my-own.py", "own/json.py"):
        (tmp_path / name).write_text("")
    done = lift("check", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"lift: {message}"), done.stderr
    assert done.stderr.count("\n") == 1


NEEDY = """
import torch

from lift.priors import VideoPrior, priors
from lift.types import Frames


@priors.register("needy")
class Needy(VideoPrior):
    "Repeat the frame that a clip continues, with one change."

    context = "ancestors"
    example_settings = None

    def __init__(self, model: str, shift: int = 0):
        self.shift = shift
        self.model = model

    def __call__(self, frames, cameras, clip, seed):
        assert self.model == "a b"
        image = frames.images[clip.source]
        return Frames(image[None].repeat(len(clip.cameras) + self.shift, 1, 1, 1))
"""


def test_settings_let_a_component_without_examples_be_checked(tmp_path: Path):
    (tmp_path / "needy.py").write_text(NEEDY)
    done = lift("check", "needy.py", cwd=tmp_path)
    assert "add prior.KEY=VALUE of its settings without default" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 passed, 0 failed, 6 skipped"
    done = lift("check", "needy.py", "prior.model=a b", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "5 passed, 0 failed, 1 skipped"
    done = lift("check", "needy.py", "prior.model=a b", "prior.shift=1", cwd=tmp_path)
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("prior.modle=x", "prior.modle is not a setting of 'needy'; it has model, shift"),
        ("prior.shift=many", "prior.shift is 'many'"),
        ("pose.model=x", "'pose.model=x' is no setting of what is checked; give prior.KEY=VALUE"),
        ("model", "'model' is no setting of what is checked"),
    ],
)
def test_a_wrong_setting_of_a_check_is_one_line(tmp_path: Path, setting: str, message: str):
    (tmp_path / "needy.py").write_text(NEEDY)
    done = lift("check", "needy.py", setting, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1
