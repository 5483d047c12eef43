"""Whole evaluations by `lift eval`."""

import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lift import cli
from lift.batch.records import read_summary
from lift.evaluation import evaluate as evaluation
from lift.evaluation.datasets import ray_cast
from lift.runtime import session
from tests.helpers.commands import here, lift, start_lift
from tests.helpers.engines import InlineEngine

QUICK = [
    "dataset=ray_cast",
    "dataset.scenes=[plain,thin]",
    "protocol.input=first",
    "protocol.max_targets=2",
    "prior=synthetic",
    "prior.severity=0",
    "depth=known",
    "preprocess.size=64",
    "planner.levels=1",
    "planner.num_frames=2",
    "fit.steps=40",
    "fit.initial_gaussians=2000",
    "motion_limit.on_exceed=ignore",
    "export.film.seconds=0.05",
]


@pytest.fixture(autouse=True)
def offline(tmp_path_factory, monkeypatch) -> None:
    """No test downloads weights, or finds those of the user."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))


def evaluate(folder: Path, *more: str) -> list[str]:
    return ["eval", *QUICK, f"output={folder}", "name=table", *more]


def figures_of(folder: Path) -> tuple[str, list]:
    """Without what clocks and memory say."""
    content = json.loads((folder / "table.json").read_text())
    text = (folder / "table.md").read_text().split("| stage |")[0]
    return [line.rsplit("|", 3)[0] for line in text.splitlines()], [
        [row["scene"], row["seed"], row["views"], row["alignment"], row["depth"]]
        for row in content["rows"]
    ]


@pytest.mark.slow
def test_killed_evaluation_resumes_to_the_same_table(tmp_path):
    both = evaluate(
        tmp_path / "whole",
        "--processes",
        "2",
        "--",
        "distortion=identity",
        "name=without",
        "--",
        "name=with",
    )
    done = lift(*both)
    assert done.returncode == 0, done.stderr
    whole = tmp_path / "whole/eval/table"
    assert done.stdout.strip().splitlines()[-1] == str(whole / "table.md")
    stages = [
        json.loads(file.read_text())["stage"]
        for file in (tmp_path / "whole/cache").glob("*/manifest.json")
    ]
    assert (stages.count("depth"), stages.count("reconstruct"), stages.count("fit")) == (2, 2, 4), (
        "what two evaluations share is made once"
    )
    assert done.stderr.count("LPIPS is not measured") == 2, "told once, and tabled"
    records = {record.title: record for record in read_summary(whole / "summary.jsonl")}
    assert set(records) == {
        f"{row}: {scene}, seed 0" for row in ("with", "without") for scene in ("plain", "thin")
    }
    assert all(record.state == "finished" and record.stages for record in records.values())
    joint = (whole / "table.md").read_text()
    assert joint in done.stderr and "Alignment `median_depth`" in joint
    assert [row.split("|")[1].strip() for row in joint.splitlines() if "| 2 " in row] == [
        "without",
        "with",
    ]
    whole /= "with"
    text = (whole / "table.md").read_text()
    assert "| plain | 0 | 2 |" in text and "| mean | all | 4 |" in text
    killed = start_lift(*evaluate(tmp_path / "killed"))
    while "plain-0.json" not in killed.output():  # the first scene is not made yet
        time.sleep(0.1)
    time.sleep(0.5)
    assert killed.kill().returncode == -signal.SIGKILL
    assert not (tmp_path / "killed/eval/table/table.md").exists()
    kept = (tmp_path / "killed/eval/table/plain-0.json").stat().st_mtime_ns
    again = lift(*evaluate(tmp_path / "killed", "--json"))
    assert again.returncode == 0, again.stderr
    events = [json.loads(line) for line in again.stderr.splitlines()]
    assert [event["event"] for event in events] == ["note", *2 * ["started", "done"]]
    assert {event["state"] for event in events if event["event"] == "done"} == {
        "passed over",
        "finished",
    }
    log = tmp_path / "killed/eval/table/.batch/thin, seed 0.log"
    assert "fit" in log.read_text()
    assert (tmp_path / "killed/eval/table/plain-0.json").stat().st_mtime_ns == kept, (
        "what was finished is not made again"
    )
    assert figures_of(tmp_path / "killed/eval/table") == figures_of(whole)
    rows = json.loads((whole / "table.json").read_text())["rows"]
    for one in rows:
        assert (
            all(view["psnr"] > 14 and 0 < view["visible"] <= 1 for view in one["views"])
            and one["depth"]["abs_rel"] < 0.1
            and one["alignment"]["scale"] == pytest.approx(1, abs=0.1)
        )
        assert one["cameras"]["rotation"] < 1e-3 and one["cameras"]["position"] < 1e-4, (
            "a generator without corruptions"
        )
        assert (whole / f"{one['scene']}-0.png").is_file() and {
            "depth",
            "fit",
        } <= set(one["stages"])


@pytest.mark.slow
def test_cached_results_are_reused_only_if_unchanged(tmp_path, monkeypatch, capsys):
    made = []
    monkeypatch.setattr("lift.batch.jobs.LocalEngine", InlineEngine)
    lifted = evaluation.run
    monkeypatch.setattr(evaluation, "run", lambda *given: made.append(given) or lifted(*given))
    folder = tmp_path / "eval/table"

    def again(*more: str, status: int = 0) -> str:
        made.clear()
        assert (
            cli.main(
                [
                    "eval",
                    *QUICK,
                    "dataset.scenes=[plain]",
                    f"output={tmp_path}",
                    "name=table",
                    *more,
                ]
            )
            == status
        )
        return (folder / "table.md").read_text()

    first = again()
    assert len(made) == 1 and again() == first and not made
    assert (
        "| 0 to 0.01 |" not in again("protocol.bins=[0.01]").split("| distance |")[0] and not made
    ), "bins are arithmetic on what there is"
    sweep_table = again("protocol.align=sweep")
    assert (
        len(made) == 1
        and "Alignment `sweep`" in sweep_table
        and "| alignment | seed | scale | factor |" in sweep_table
    )
    whole = json.loads((folder / "plain-0.json").read_text())
    for broken in ('{"key": "ab', "[1]", json.dumps({"key": whole["key"]})):
        (folder / "plain-0.json").write_text(broken)
        assert again("protocol.align=sweep") == sweep_table and len(made) == 1, (
            "half a file is none"
        )
    (folder / "plain-0.png").unlink()
    assert (
        again("protocol.align=sweep") == sweep_table
        and len(made) == 1
        and (folder / "plain-0.png").is_file()
    ), "pictures that are gone"
    with monkeypatch.context() as changed:
        changed.setitem(session.STAGE_VERSIONS, "plan", -1)
        again("protocol.align=sweep")
        assert len(made) == 1, "another version of a stage"
    sweep_table = again("protocol.align=sweep")
    with monkeypatch.context() as changed:
        cast = ray_cast.render
        changed.setattr(
            ray_cast,
            "render",
            lambda scene, camera: replace(right := cast(scene, camera), images=255 - right.images),
        )
        assert again("protocol.align=sweep") != sweep_table and len(made) == 1, "other pictures"
    (tmp_path / "weights").mkdir()
    assert (
        cli.main(
            [
                "eval",
                *QUICK,
                "dataset.scenes=[plain]",
                f"output={tmp_path}",
                "name=table",
                f"protocol.weights={tmp_path / 'weights'}",
            ]
        )
        == 1
    )
    assert "plain, seed 0 failed: there is no alexnet" in capsys.readouterr().err


def test_wrong_arguments_give_one_line_with_choices(capsys, tmp_path):
    for arguments, says in (
        (["photo.jpg"], "'photo.jpg' is no setting; lift eval takes dataset=NAME"),
        (["image=coffee"], "the dataset has the pictures"),
        (["seed=3"], "choose --seeds N or protocol.seeds="),
        (
            ["dataset=ray_cast", "++protocol.align=sweep"],
            "'++protocol.align=sweep': lift eval takes KEY=VALUE; leave out '++'",
        ),
        (["dataset=ray_cast", "name=../x"], "name is '../x'; choose the name of one folder"),
        (["dataset=ray_cast", "name=inputs"], "name is 'inputs'"),
        (["dataset=lllf"], "dataset is 'lllf'; choose one of dl3dv, folder, llff"),
        (["protocol.alin=none"], "did you mean protocol.align?"),
        (
            ["dataset=ray_cast", "--", "fit.steps=5", "--", "fit.steps=5"],
            "give each a name=NAME of its own",
        ),
        (["dataset=ray_cast", "--", "fit.steps=5", "--", "fit.stesp=5"], "fit.stesp"),
        (
            ["dataset=ray_cast", "protocol.align=best"],
            "protocol.align is 'best'; choose one of none, median_depth, similarity, sweep",
        ),
        (
            ["dataset=ray_cast", "protocol.bins=[0.3,0.1]"],
            "protocol.bins is [0.3, 0.1]; choose distances that rise",
        ),
        (
            ["dataset=ray_cast", "protocol.seeds=[]"],
            "protocol.seeds has 0 values; choose 1 to 1000",
        ),
        (
            ["dataset=ray_cast", "protocol.seeds=[3000000000]"],
            "choose 0 to 2147483647",
        ),
        (
            ["dataset=ray_cast", "protocol.reference=onnx"],
            "protocol.reference is 'onnx', which needs path; choose one that needs no settings",
        ),
        (["dataset=ray_cast", "protocol.reference=known"], "protocol.reference is 'known'"),
        (["dataset=ray_cast", "protocol.reference=lte"], "depth is 'lte'"),
        (
            ["dataset=ray_cast", "dataset.scnes=[room]"],
            "dataset.scnes is not a setting of 'ray_cast'; did you mean dataset.scenes?",
        ),
        (["dataset=ray_cast", "dataset.scenes=[rom]"], "dataset.scenes has 'rom'; choose among"),
        (["dataset=folder", f"dataset.path={tmp_path / 'none'}"], str(tmp_path / "none")),
    ):
        assert cli.main(["eval", *arguments]) == 2
        message = capsys.readouterr().err
        assert says in message and message.count("\n") == 1, (arguments, message)


@pytest.mark.slow
def test_the_last_shard_completes_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr("lift.batch.jobs.LocalEngine", InlineEngine)
    table = tmp_path / "eval/table/table.json"
    for number in range(2):
        done = here(*evaluate(tmp_path, f"--shard={number}/2"), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        content = json.loads(table.read_text())
        assert [row["scene"] for row in content["rows"]] == ["plain", "thin"][: number + 1]
        assert content["unmeasured"] == ([] if number else ["thin-0"]) and not content["failed"]
    done = here(*evaluate(tmp_path, "--shard=0/2", "fit.steps=50"), cwd=tmp_path)
    content = json.loads(table.read_text())
    assert [row["scene"] for row in content["rows"]] == ["plain"], "the other has other settings"
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_lossy_delivery_is_measured_anew_with_nearly_the_same_figures(tmp_path, monkeypatch):
    monkeypatch.setattr("lift.batch.jobs.LocalEngine", InlineEngine)
    rows, runs = {}, set()
    for keep in ("full", "minimal", "minimal", "scene"):
        command = evaluate(tmp_path, "dataset.scenes=[plain]", f"deliver.keep={keep}")
        done = here(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        # The figures of `full` and `scene` are the same. The result is replaced in between.
        found = "measured before" in done.stderr
        assert found == (keep in rows), done.stderr
        (rows[keep],) = json.loads((tmp_path / "eval/table/table.json").read_text())["rows"]
        runs.add(rows[keep]["run"])
        assert (Path(rows[keep]["run"]) / "gaussians.sog").exists() == (keep == "minimal")
    assert len(runs) == 1, "a delivery replaces the other one"
    psnr = {keep: [view["psnr"] for view in row["views"]] for keep, row in rows.items()}
    assert psnr["scene"] == psnr["full"] != psnr["minimal"]
    assert psnr["minimal"] == pytest.approx(psnr["full"], abs=0.1)
