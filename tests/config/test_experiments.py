import subprocess
import sys
from pathlib import Path

import pytest

from lift.config.experiments import Change, experiment_summaries, read_experiment
from lift.config.folders import config_files, use_config_folders
from lift.registry import ComponentError
from tests.helpers.commands import here
from tests.helpers.own_configs import write_experiment, write_group_file

with use_config_folders([]):
    BUILT_IN = sorted(config_files("experiment"))

MAX_SUMMARY = 100


def changes_of(name: str, folder: Path) -> dict[str, Change]:
    with use_config_folders([f"--config-dir={folder}"]):
        return {change.key: change for change in read_experiment(name).changes}


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_change_of_a_built_in_experiment_has_a_reason(name: str) -> None:
    with use_config_folders([]):
        experiment = read_experiment(name)
    assert experiment.changes or name == "laptop"
    assert [change.key for change in experiment.changes if not change.reason] == []


def test_every_built_in_experiment_has_a_summary() -> None:
    with use_config_folders([]):
        summaries = experiment_summaries()
    assert [file.name for file, _ in summaries] == BUILT_IN
    assert all(summary.endswith(".") and len(summary) <= MAX_SUMMARY for _, summary in summaries)


def test_changes_have_their_default_and_their_reason(tmp_path: Path) -> None:
    write_experiment(tmp_path, "tiny")
    changes = changes_of("tiny", tmp_path)
    assert list(changes) == ["distortion", "preprocess.size", "fit.steps", "fit.loss.ssim"]
    assert changes["distortion"] == Change(
        "distortion", "composed", "identity", "nothing to correct"
    )
    assert changes["preprocess.size"].before == "null"
    assert changes["fit.steps"].reason == "Few steps, because nobody looks at the result."
    ssim = changes["fit.loss.ssim"]
    assert (ssim.before, ssim.after, ssim.reason) == ("0.2", "0.0", "SSIM takes time")


def test_settings_are_compared_with_the_chosen_component(tmp_path: Path) -> None:
    text = (
        "# @package _global_\n# Svd.\ndefaults:\n  - override /prior: svd\n"
        "prior:\n  num_inference_steps: 9\n"
    )
    write_experiment(tmp_path, "mine", text)
    changes = changes_of("mine", tmp_path)
    assert list(changes) == ["prior", "prior.num_inference_steps"]
    assert changes["prior.num_inference_steps"].before == "25"


def test_the_reason_of_a_component_is_not_repeated(tmp_path: Path) -> None:
    text = (
        "# @package _global_\n# Bend.\ndefaults:\n"
        "  - override /distortion: rigid  # the bend alone\n"
        "distortion:\n  weight: 3.0\n"
    )
    write_experiment(tmp_path, "mine", text)
    reasons = {key: change.reason for key, change in changes_of("mine", tmp_path).items()}
    assert reasons["distortion"] == "the bend alone"
    assert reasons["distortion.weight"] == ""


def test_what_an_experiment_inherits_is_shown_with_its_reason(tmp_path: Path) -> None:
    write_experiment(tmp_path, "tiny")
    write_group_file(tmp_path, "export", "short", "film:\n  seconds: 9.0  # long seen\n")
    text = (
        "# @package _global_\n# On top of tiny.\ndefaults:\n  - tiny\n  - /export: short\n"
        "  - _self_\n\nfit:\n  steps: 30  # ten more\nseed: 0\nname: x-${seed}\n"
    )
    write_experiment(tmp_path, "more", text)
    changes = changes_of("more", tmp_path)
    assert (changes["fit.steps"].after, changes["fit.steps"].reason) == ("30", "ten more")
    assert changes["preprocess.size"].reason == "the smallest size that shows something"
    assert changes["export.film.seconds"] == Change(
        "export.film.seconds", "3.0", "9.0", "long seen"
    )
    assert (changes["export"].before, changes["export"].after) == ("not set", "short")
    assert (changes["name"].before, changes["name"].after) == ("null", "x-${seed}")
    with use_config_folders([f"--config-dir={tmp_path}"]):
        assert read_experiment("more").repeated == ("seed",)


def test_the_commands_list_and_show_experiments(tmp_path: Path) -> None:
    write_experiment(tmp_path / "my conf", "tiny")
    listed = here("list", "experiment", "--config-dir", "my conf", cwd=tmp_path)
    assert listed.returncode == 0 and listed.stdout.startswith("experiment\n  demo   ")
    assert f"  tiny             A small run for tests.  ({tmp_path / 'my conf'})" in listed.stdout
    shown = here("show", "experiment", "tiny", "--config-dir=my conf", cwd=tmp_path)
    assert shown.returncode == 0
    assert "A small run for tests.\nIt has a second line.\n" in shown.stdout
    assert "fit.steps                   null -> 20\n      Few steps, because" in shown.stdout
    laptop = here("show", "experiment", "laptop", cwd=tmp_path)
    assert "set to their defaults: planner, prior, depth," in laptop.stdout
    assert not [path for path in tmp_path.iterdir() if path.name != "my conf"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "experiment", "no"), "experiment is 'no'; choose one of demo, fast, gpu"),
        (("list", "experimnt"), "no slot 'experimnt'; choose one of planner, prior, depth, pose"),
        (("list", "experimnt"), "dataset, experiment"),
        (("list", "experiment", "--config-dir", "no"), "--config-dir is 'no', but the folder"),
        (("show", "experiment", "gpu", "--config-dir=no"), "--config-dir is 'no', but the folder"),
    ],
)
def test_a_wrong_name_is_told(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = here(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and message in done.stderr


def test_a_list_of_everything_has_the_experiments(tmp_path: Path) -> None:
    done = here("list", cwd=tmp_path)
    assert "\nexperiment\n  demo  " in done.stdout


def test_experiments_are_listed_without_torch() -> None:
    script = (
        "import sys; from lift.cli import main; main(['list']);"
        "main(['show', 'experiment', 'gpu']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_broken_file_is_told(tmp_path: Path) -> None:
    write_experiment(tmp_path, "tiny", "# @package _global_\nfit:\n  stps: 3\n")
    done = here("show", "experiment", "tiny", f"--config-dir={tmp_path}", cwd=tmp_path)
    assert done.returncode == 2 and "experiment/tiny" in done.stderr and "stps" in done.stderr
    with (
        use_config_folders([f"--config-dir={tmp_path}"]),
        pytest.raises(ComponentError, match="experiment is 'x'"),
    ):
        read_experiment("x")
