"""`lift run -m`: options anywhere, literal values, and a folder for each job."""

from pathlib import Path

import pytest

from lift.cli.run import split_options
from tests.helpers.commands import here, lift
from tests.helpers.own_configs import write_experiment

pytestmark = pytest.mark.slow

SMALL = (
    "image=coffee",
    "preprocess.size=96",
    "planner.levels=1",
    "planner.num_frames=3",
    "fit.steps=5",
    "fit.initial_gaussians=500",
    "export.film.seconds=0.05",
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-m", "name=x", "seed=1,2"],
            "2 of 2 jobs would write to one folder in outputs/coffee/x:",
        ),
        (["name=x", "seed=1,2", "-m"], "name is 'x' in each; leave name out, which gives each a"),
        (["name=x", "--multirun", "seed=1,2"], "in a YAML file of your own (docs/configuration): "),
        (["name=x", "hydra.mode=MULTIRUN", "seed=1,2"], "name: x-${seed}"),
        (["-m", "name=x,y", "prior=warp,synthetic"], "of 4 jobs would write to one folder in"),
        (["-m", "name=x,y", "prior=warp,synthetic"], "name: x-${prior.name}"),
        (["-m", "name='x,y'", "seed=range(1,4)"], "3 of 3 jobs would write to one folder in"),
        (["-m", "name=x", "image=a/one.jpg,b/one.jpg"], "folder in outputs/one/x"),
        (["-m", "name=x", "output=out,./out"], "2 of 2 jobs would write to one folder in out/"),
        (["-m", "export.film.fps=12,24"], "only in settings that do not change the scene;"),
        (["-m", "export.film.fps=12,24"], "name: x-${export.film.fps}"),
        (["-m", "seed=1,1"], "2 of 2 jobs would write to one folder in outputs/coffee:"),
        (["-m", "device=cpu,auto"], "2 of 2 jobs would write to one folder in outputs/coffee:"),
        (["-m", "--plan", "name=x", "seed=1,2"], "2 of 2 jobs would write to one folder"),
        (["-m", "prior=frames", "prior.path=f", "pose.max_points=9,9"], "2 of 2 jobs would write"),
    ],
)
def test_jobs_with_one_folder_are_refused_before_anything_is_made(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = here("run", *SMALL, *arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_planners_that_are_not_used_do_not_tell_jobs_apart(tmp_path: Path) -> None:
    settings = ("image=coffee", "prior=frames", "prior.path=f", "planner=orbit,spiral")
    done = here("run", *settings, "-m", cwd=tmp_path)
    assert "2 of 2 jobs would write to one folder" in done.stderr


def test_sweeps_of_an_own_primary_configuration_are_known(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "defaults:\n  - lift\n  - _self_\nname: x\n"
        "hydra:\n  sweeper:\n    params:\n      seed: 1,2\n"
    )
    own = ("--config-dir=.", "--config-name=mine", "-m")
    done = here("run", *SMALL, *own, cwd=tmp_path)
    assert "2 of 2 jobs would write to one folder in outputs/coffee/x" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "name=x", "image=coffee,astronaut"],
        ["name=x,y", "-m", "image=coffee"],
        ["name=x", "output=one,two", "--multirun"],
        ["-m", "distortion=identity,rigid"],
        ["-m", "name='a, b',a${b}"],
        ["-m", "name=2024_11_29,20241129"],
        ["-m", "seed=1,2", "hydra.sweeper.max_batch_size=1"],
    ],
)
def test_jobs_with_folders_of_their_own_are_planned(tmp_path: Path, arguments: list[str]) -> None:
    done = here("run", "--plan", *SMALL, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" pixels, on ") == 2
    assert not list(tmp_path.iterdir()), "a plan leaves no files"


def test_a_wrong_job_does_not_stop_the_others(tmp_path: Path) -> None:
    images = "image='no, such.jpg',coffee"
    done = here("run", "--plan", *SMALL[1:], images, "name=x", "-m", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout.count(" pixels, on ") == 1
    assert "image is 'no, such.jpg'; there is no such file" in done.stderr


def test_a_name_in_an_own_file_varies_with_a_setting(tmp_path: Path) -> None:
    write_experiment(tmp_path / "my conf", "named", "# @package _global_\nname: x-${seed}\n")
    own = ("--config-dir", "my conf", "experiment=named")
    done = here("run", *SMALL, *own, "seed=1,2", "-m", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["outputs/coffee/x-1", "outputs/coffee/x-2"]
    saved = (tmp_path / "outputs/coffee/x-2/config.yaml").read_text()
    assert "name: x-2" in saved and "seed: 2" in saved


def test_the_second_job_does_not_overwrite_the_first(tmp_path: Path) -> None:
    """Settings that are written differently have one key, which is not known in advance."""
    done = here("run", *SMALL, "fit.sh_degree=null,0", "-m", cwd=tmp_path)
    assert done.returncode == 2
    assert "has the result of job 0 of this multirun" in done.stderr
    (folder,) = (tmp_path / "outputs/coffee").glob("[!.]*")
    assert "sh_degree: null" in (folder / "config.yaml").read_text()
    alone = here("run", *SMALL, "fit.sh_degree=0", cwd=tmp_path)
    assert alone.returncode == 0 and "sh_degree: 0" in (folder / "config.yaml").read_text()


@pytest.mark.slow
def test_jobs_in_other_processes_keep_apart(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    write_experiment(tmp_path / "my conf", "named", "# @package _global_\nname: x-${seed}\n")
    own = ("--config-dir", "my conf", "experiment=named", "hydra/launcher=submitit_local")
    done = lift("run", *SMALL, *own, "seed=1,2", "-m", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "outputs/coffee").glob("[!.]*")} == {"x-1", "x-2"}


@pytest.mark.parametrize(
    ("arguments", "options", "name", "overrides"),
    [
        (["a=1", "-m", "b=2"], ["--multirun"], "lift", ["a=1", "b=2"]),
        (["-c", "job", "a=1"], ["--cfg=job"], "lift", ["a=1"]),
        (["a=1", "--config-name", "mine"], ["--config-name=mine"], "mine", ["a=1"]),
        (["a=1", "--info"], ["--info=all"], "lift", ["a=1"]),
        (["~a", "+b=-1", "--resolve", "--cfg", "all"], None, "lift", ["~a", "+b=-1"]),
        (["name=-m"], [], "lift", ["name=-m"]),
    ],
)
def test_options_may_stand_anywhere(
    arguments: list[str], options: list[str] | None, name: str, overrides: list[str]
) -> None:
    split = split_options(arguments)
    assert split == (split[0] if options is None else options, name, overrides)
    assert options is not None or set(split[0]) == {"--resolve", "--cfg=all"}
