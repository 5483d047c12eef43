"""The arguments of `lift eval`."""

import pytest

from lift.cli.evaluate import plan_evaluations
from lift.evaluation.settings import compose_evaluation
from lift.registry import ComponentError
from tests.helpers.commands import here


def planned(*arguments: str) -> dict[str, list[str]]:
    plan = plan_evaluations(arguments)
    labels = [variant.label for variant in plan.variants]
    return dict(zip(labels, plan.settings, strict=True))


def test_without_grids_there_is_one_evaluation():
    plan = plan_evaluations(["dataset=ray_cast", "name=mine"])
    assert not plan.is_joint and plan.settings == [["dataset=ray_cast", "name=mine"]]


def test_grid_makes_a_row_for_each_combination():
    rows = planned("fit.steps=5", "name=mine", "--grid", "a=1,2", "prior=warp", "--grid=b=[3,4],5")
    shared = ["fit.steps=5", "prior=warp"]
    assert rows == {
        "a=1,b=[3,4]": [*shared, "a=1", "b=[3,4]"],
        "a=1,b=5": [*shared, "a=1", "b=5"],
        "a=2,b=[3,4]": [*shared, "a=2", "b=[3,4]"],
        "a=2,b=5": [*shared, "a=2", "b=5"],
    }
    assert plan_evaluations(["name=mine", "--grid", "a=1"]).name == "mine"


def test_parts_after_dashes_are_rows_with_grids_of_their_own():
    rows = planned("a=1", "--grid", "p=w,s", "--", "a=2", "name=x", "--", "c=3", "--grid", "d=4,5")
    assert rows == {
        "x,p=w": ["a=2", "p=w"],
        "x,p=s": ["a=2", "p=s"],
        "c=3,p=w,d=4": ["a=1", "c=3", "p=w", "d=4"],
        "c=3,p=w,d=5": ["a=1", "c=3", "p=w", "d=5"],
        "c=3,p=s,d=4": ["a=1", "c=3", "p=s", "d=4"],
        "c=3,p=s,d=5": ["a=1", "c=3", "p=s", "d=5"],
    }
    assert list(planned("a=1", "--", "--", "a=2")) == ["defaults", "a=2"]


def test_seeds_are_counted_from_zero():
    assert planned("--seeds", "3", "--grid", "a=1,2")["a=2"] == ["protocol.seeds=[0,1,2]", "a=2"]
    assert planned("--seeds=1") == {"defaults": ["protocol.seeds=[0]"]}


def test_options_may_stand_anywhere(tmp_path):
    plan = plan_evaluations(["a=0", "--", "a=1", "--baseline=a=2", "--", "a=2", "--seeds", "2"])
    assert plan.baseline == "a=2"
    folder = f"--config-dir={tmp_path}"
    rows = planned("--grid", "a=1,2", "--config-dir", str(tmp_path))
    assert rows == {"a=1": [folder, "a=1"], "a=2": [folder, "a=2"]}


def test_own_experiments_are_composed(tmp_path):
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nfit:\n  steps: 7\n"
    (tmp_path / "experiment/mine.yaml").write_text(text)
    plan = plan_evaluations(
        [
            "dataset=ray_cast",
            "--grid",
            "name=plain | experiment=mine",
            "--grid",
            "prior.fill=smooth,network",
            f"--config-dir={tmp_path}",
        ]
    )
    configs = plan.compose()
    assert [run.fit.steps for run, _ in configs] == [None, None, 7, 7]
    assert [run.prior.fill for run, _ in configs] == ["smooth", "network"] * 2
    assert compose_evaluation(["dataset=ray_cast"])[1].protocol.align == "median_depth"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--grid"], "--grid has no value"),
        (["--grid", "--"], "--grid has no value"),
        (["--seeds", "0"], "--seeds is '0'; choose a number of at least 1"),
        (["--seeds=2", "protocol.seeds=[1]"], "give it or protocol.seeds, not both"),
        (["--grid", "a=1,1"], "two rows of the table are 'a=1'; give each a name=NAME of its own"),
        (["--", "seed=1", "--", "seed=2"], "all rows have the same seeds"),
        (["--baseline", "a=1"], "there is one evaluation; give rows by --grid or after --"),
        (["--grid", "a=1,2", "--baseline", "a=3"], "--baseline is 'a=3'; choose a row: a=1, a=2"),
        (["name=a/b", "--grid", "a=1,2"], "name is 'a/b'; choose the name of one folder"),
        (["--", "name=inputs", "a=1"], "name is 'inputs'"),
    ],
)
def test_wrong_options_are_refused(arguments, message):
    with pytest.raises(ComponentError) as caught:
        plan_evaluations(arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["--grid", "distortion=identity,rgid"],
            "in the row 'distortion=rgid': distortion is 'rgid'; choose one of",
        ),
        (
            ["--grid", "distortion=identity,composed", "--grid", "distortion.prune_after=0,0.3"],
            "in the row 'distortion=identity,distortion.prune_after=0': distortion.prune_after is "
            "not a setting of 'identity'",
        ),
        (["--grid", "fit.steps=5,-1"], "in the row 'fit.steps=-1': fit.steps is -1"),
        (["prior=warp,svd"], "'prior=warp,svd' has several values; --grid 'prior=warp,svd'"),
        (["-m", "prior=warp,svd"], "'-m': lift eval takes --grid"),
        (["--gird", "a=1"], "'--gird' is not an option of lift eval"),
        (["--config-dir", "none", "--grid", "prior=warp"], "--config-dir is 'none'"),
        (
            ["output=o", "--grid", "export.film.fps=24,25"],
            "the rows 'export.film.fps=24' and 'export.film.fps=25' have the same settings",
        ),
    ],
)
def test_wrong_row_is_refused_before_anything_is_made(tmp_path, arguments, message):
    done = here("eval", "dataset=ray_cast", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and not list(tmp_path.iterdir())
