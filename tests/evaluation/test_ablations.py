"""Ablations by `lift eval --grid`: shared stages, failures, resumption, log lines."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from lift import cli
from lift.evaluation import evaluate as evaluation
from lift.io.splats import write_ply
from lift.types import Gaussians
from lift.weights import CachedUrl
from tests.helpers.engines import InlineEngine

pytestmark = pytest.mark.slow

TINY = (
    "dataset=ray_cast",
    "dataset.scenes=[plain]",
    "protocol.input=first",
    "protocol.max_targets=2",
    "protocol.align=none",
    "depth=known",
    "pose=planned",
    "planner=single",
    "planner.num_frames=2",
    "preprocess.size=64",
    "fit.steps=3",
    "fit.initial_gaussians=500",
    "motion_limit.on_exceed=ignore",
    "export.film.seconds=0.05",
)
GRID = ("--grid", "distortion=identity,rigid", "--grid", "prior=warp,synthetic", "--seeds", "2")
FIRST = "distortion=identity,prior=warp"
BROKEN = "distortion=rigid,prior=synthetic"
LABELS = [FIRST, "distortion=identity,prior=synthetic", "distortion=rigid,prior=warp", BROKEN]


@pytest.fixture(autouse=True)
def inline(monkeypatch) -> None:
    """Scenes are made in this process."""
    monkeypatch.setattr("lift.batch.jobs.LocalEngine", InlineEngine)


@pytest.fixture
def offline(monkeypatch) -> list[str]:
    """The addresses that were asked for in vain."""
    addresses: list[str] = []

    def refuse(source: CachedUrl) -> None:
        addresses.append(source.url)
        raise OSError("no network")

    monkeypatch.setattr("lift.evaluation.perceptual.ensure_file", refuse)
    return addresses


@pytest.fixture
def runs(monkeypatch, offline) -> list[str]:
    """Runs that were made: each is grey, and its brightness depends on the settings."""
    labels: list[str] = []

    def grey_run(config, title: str, label: str) -> Path:
        labels.append(label)
        folder = Path(config.output) / title / config.name
        folder.mkdir(parents=True, exist_ok=True)
        grey = -0.3 + 0.1 * config.seed + 0.2 * (config.prior.name == "warp")
        rng = torch.Generator().manual_seed(0)
        gaussians = Gaussians(
            torch.randn(50, 3, generator=rng) + torch.tensor([0.0, 0.0, 3.0]),
            torch.tensor([[1.0, 0, 0, 0]]).expand(50, 4),
            torch.full((50, 3), 0.5),
            torch.full((50,), 0.9),
            torch.full((50, 1, 3), grey),
        )
        write_ply(folder / "gaussians.ply", gaussians)
        (folder / "provenance.json").write_text('{"stages": []}')
        (folder / "metrics.json").write_text("{}")
        return folder

    monkeypatch.setattr(evaluation, "run", grey_run)
    return labels


def fail_once(monkeypatch, label: str, error: Exception) -> None:
    """Let the first run with this label fail."""
    run = evaluation.run
    failures: list[str] = []

    def failing_run(config, title: str, own_label: str) -> Path:
        if own_label == label and not failures:
            failures.append(label)
            raise error
        return run(config, title, own_label)

    monkeypatch.setattr(evaluation, "run", failing_run)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "table.csv").open() as file:
        return list(csv.DictReader(file))


def test_grid_gives_one_table_with_paired_differences(tmp_path, runs, capsys):
    assert cli.main(["eval", *TINY, *GRID, f"output={tmp_path}", "name=mine"]) == 0
    folder = tmp_path / "eval/mine"
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == str(folder / "table.md")
    assert (folder / "table.md").read_text() in captured.err
    assert {path.name for path in folder.glob("[!.]*") if path.is_file()} == {
        "summary.jsonl",
        "table.md",
        "table.csv",
        "table.json",
        "sheet.png",
    }
    assert runs == [f"{label}: plain, seed {seed}" for label in LABELS for seed in (0, 1)]
    rows = rows_of(folder)
    assert [row["row"] for row in rows] == LABELS
    assert [(row["n"], row["pairs"]) for row in rows] == [("2", ""), *[("2", "2")] * 3]
    means = []
    for seed in (0, 1):
        values = []
        for label in (BROKEN, FIRST):
            views = json.loads((folder / label / f"plain-{seed}.json").read_text())["views"]
            values.append(sum(view["psnr"] for view in views) / len(views))
        means.append(values[0] - values[1])
    assert float(rows[3]["psnr_difference"]) == pytest.approx(sum(means) / 2)
    assert float(rows[3]["psnr_difference_error"]) == pytest.approx(abs(means[0] - means[1]) / 2)
    assert float(rows[2]["psnr_difference"]) == 0, "the colours depend on the prior alone"


def test_failed_cell_stops_no_other_and_is_made_the_next_time(tmp_path, runs, monkeypatch, capsys):
    grid = ["--grid", "distortion=rigid,identity", "--seeds", "2"]
    command = ["eval", *TINY, *grid, f"output={tmp_path}", "name=mine"]
    fail_once(monkeypatch, "distortion=rigid: plain, seed 0", ValueError("out of luck"))
    assert cli.main(command) == 1
    message = capsys.readouterr().err
    assert message.splitlines()[-1] == "  distortion=rigid: plain, seed 0: out of luck"
    assert "[1/4] distortion=rigid: plain, seed 0\n" in message
    folder = tmp_path / "eval/mine"
    broken, whole = rows_of(folder)
    assert (broken["n"], broken["failed"], broken["error"]) == ("1", "1", "out of luck")
    assert (whole["n"], whole["pairs"]) == ("2", "1")
    text = (folder / "table.md").read_text()
    assert "- distortion=rigid: 1 of 2 failed: out of luck (plain-0)" in text
    assert "| 1 of 2 |" in text

    runs.clear()
    assert cli.main([*command, "--baseline", "distortion=identity"]) == 0
    assert runs == ["distortion=rigid: plain, seed 0"], "finished cells are passed over"
    message = capsys.readouterr().err
    assert message.count(": measured before") == 3
    assert "distortion=identity: plain, seed 1: measured before" in message
    rows = rows_of(folder)
    assert [row["n"] for row in rows] == ["2", "2"]
    assert [row["baseline"] for row in rows] == ["distortion=identity", ""]

    assert cli.main(["table", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "| rigid " in out and len(runs) == 1, "nothing is computed for a table"


def test_row_that_fails_everywhere_is_in_the_table(tmp_path, runs, monkeypatch):
    fail_once(monkeypatch, "bad: plain, seed 0", ImportError("no module of that name"))
    grid = ["--grid", "name=good distortion=identity | name=bad distortion=rigid"]
    assert cli.main(["eval", *TINY, *grid, f"output={tmp_path}"]) == 1
    (joint,) = (tmp_path / "eval").glob("ray_cast-*")
    rows = rows_of(joint)
    assert [(row["row"], row["n"], row["failed"]) for row in rows] == [
        ("good", "1", "0"),
        ("bad", "0", "1"),
    ]
    assert rows[1]["error"] == "no module of that name" and rows[1]["psnr"] == ""
    assert [row["folder"] for row in rows] == ["../good", "../bad"]


def test_unnamed_tables_share_their_common_rows(tmp_path, runs):
    command = ["eval", *TINY, f"output={tmp_path}"]
    assert cli.main([*command, "--grid", "distortion=identity,rigid"]) == 0
    assert cli.main([*command, "--grid", "distortion=rigid,blur"]) == 0
    assert [label.partition(":")[0] for label in runs] == [
        "distortion=identity",
        "distortion=rigid",
        "distortion=blur",
    ]


def test_weights_are_looked_for_once_and_told_once(tmp_path, runs, offline, capsys):
    grid = ["--grid", "distortion=identity,rigid,blur"]
    assert cli.main(["eval", *TINY, *grid, f"output={tmp_path}"]) == 0
    assert len(offline) == 2, "LPIPS and DISTS"
    log, table = capsys.readouterr().err.split("Dataset `ray_cast`")
    text = "LPIPS and DISTS are not measured: weights are not in torch.hub's cache"
    assert log.count(text) == table.count(text) == 1


def test_folder_with_weights_downloads_nothing(tmp_path, runs, offline, capsys):
    (tmp_path / "weights").mkdir()
    weights = f"protocol.weights={tmp_path / 'weights'}"
    assert cli.main(["eval", *TINY, weights, f"output={tmp_path}"]) == 1
    assert "plain, seed 0 failed: there is no alexnet_features.pth" in capsys.readouterr().err
    assert not offline


@pytest.mark.slow
def test_rows_share_their_stages_and_every_line_names_its_row(tmp_path, capsys, offline):
    assert cli.main(["eval", *TINY, *GRID, f"output={tmp_path}"]) == 0
    log = capsys.readouterr().err.split("Dataset `ray_cast`")[0]
    for label in LABELS:
        assert f"{label}: plain, seed 1: depth " in log
    lines = [line for line in log.splitlines() if line.strip().endswith((" found", " GiB"))]
    assert len(lines) == 8 * 5 and all(": plain, seed " in line for line in lines)
    stages = Counter(path.name.split("-")[0] for path in (tmp_path / "cache").glob("[!.]*-*"))
    assert stages["depth"] == stages["plan"] == 1
    assert stages["clip"] == stages["reconstruct"] == 4, "one for each seed and prior"
