"""What the README promises."""

import re
from pathlib import Path

import pytest

from lift.registry import catalogue
from tests.test_pipeline import TINY
from tests.test_registry import lift

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_table_of_components_is_complete():
    for slot, entries in catalogue().entries.items():
        row = re.search(rf"^\| `{slot}` \|(.*)\|$", README, re.M)
        assert row and set(re.findall(r"`(\w+)`", row[1])) == {
            name for name, entry in entries.items() if entry.module.startswith("lift.")
        }


@pytest.mark.slow
def test_the_custom_distortion_runs_as_written(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    (tmp_path / "exposure.py").write_text(code)
    run = (
        "run",
        "image=coffee",
        *TINY,
        "distortion=exposure",
        "distortion.learning_rate=0.02",
        f"output={tmp_path / 'out'}",
    )
    done = lift(*run, cwd=tmp_path, LIFT_PLUGINS="exposure")
    assert done.returncode == 0, done.stderr
    assert "exposure" in done.stdout and Path(done.stdout.strip(), "gaussians.ply").exists()


def test_its_commands_exist():
    for command in re.findall(r"^lift (\w+)", README, re.M):
        assert command == "run" or lift(command, "--help").returncode == 0


def test_nothing_was_left_to_fill_in():
    assert not re.findall(r"\b[A-Z]+_TABLE\b", README)
