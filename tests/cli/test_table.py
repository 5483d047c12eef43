"""`lift table`."""

import json

from tests.helpers.commands import here
from tests.helpers.evaluations import task_rows, write_evaluation, write_sheet

SCORES = {("room", 0): 20.0, ("thin", 0): 30.0}


def test_finished_evaluations_are_joined_without_a_run(tmp_path):
    write_evaluation(tmp_path / "eval/plain", task_rows(SCORES))
    better = {("room", 0): 21.0, ("thin", 0): 33.0}
    own = {"distortion": {"name": "rigid", "neighbours": 2}}
    folder = write_evaluation(tmp_path / "eval/rigid", task_rows(better), own)
    for row in task_rows(better):
        write_sheet(folder, row, 0.5)
    outputs = [f"--output=tables/joint.{suffix}" for suffix in ("md", "csv", "json", "png")]
    done = here("table", "eval/plain", "eval/rigid", *outputs, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line.replace(" ", "") for line in done.stdout.splitlines() if line.startswith("|")]
    assert lines[0].startswith("|row|distortion|n|pairs|PSNR↑|")
    assert lines[2].startswith("|plain|identity|2||25.00|")
    assert lines[3].startswith("|rigid|rigid|2|2|27.00(+2.00±1.00)|")
    assert (tmp_path / "tables/joint.md").read_text() == done.stdout
    assert "rigid,rigid,2,0,,plain,2,27.0" in (tmp_path / "tables/joint.csv").read_text()
    assert (tmp_path / "tables/joint.png").stat().st_size > 500
    variants = json.loads((tmp_path / "tables/joint.json").read_text())["variants"]
    assert [variant["folder"] for variant in variants] == ["../eval/plain", "../eval/rigid"]
    again = here("table", "tables/joint.json", "--baseline=rigid", cwd=tmp_path)
    assert "25.00 (-2.00 ± 1.00)" in again.stdout, again.stderr


def test_other_measurements_are_joined_only_anyway(tmp_path):
    write_evaluation(tmp_path / "a", task_rows(SCORES))
    protocol = json.loads((tmp_path / "a/table.json").read_text())["protocol"]
    write_evaluation(tmp_path / "b", task_rows(SCORES), protocol=protocol | {"align": "sweep"})
    done = here("table", "a", "b", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "protocol.align is median_depth in 'a' and sweep in 'b'" in done.stderr
    done = here("table", "a", "b", "--anyway", cwd=tmp_path)
    assert done.returncode == 0 and "| protocol.align " in done.stdout, "the table says so"


def test_wrong_folder_suffix_or_baseline_gives_one_line(tmp_path):
    write_evaluation(tmp_path / "a", task_rows(SCORES))
    for arguments, message in (
        (["none"], "none has no table.json; give a folder that `lift eval` wrote"),
        (["a", "--output", "x.txt"], "--output is 'x.txt'; choose a file that ends with .md"),
        (["a", "--baseline", "b"], "--baseline is 'b'; choose a row: a"),
    ):
        done = here("table", *arguments, cwd=tmp_path)
        assert done.returncode == 2 and message in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1
