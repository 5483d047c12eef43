"""Joint tables: text, values and pictures."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from lift.evaluation.ablation.files import save_all, save_joint_table
from lift.evaluation.ablation.grid import multiply, parse_grid
from lift.evaluation.ablation.joint import JointTable
from lift.evaluation.ablation.results import load_result
from lift.evaluation.ablation.sheet import MIN_COLUMN
from lift.evaluation.ablation.text import format_csv, format_markdown
from lift.registry import ComponentError
from tests.helpers.evaluations import SIZE, task_rows, write_evaluation, write_sheet

SCORES = {("room", 0): 20.0, ("room", 1): 20.5, ("thin", 0): 30.0, ("thin", 1): 30.5}


@pytest.fixture
def results(tmp_path) -> list:
    """Four rows; the third has a failure, the last has nothing."""
    variants = multiply([parse_grid("distortion=identity,rigid"), parse_grid("prior=warp,svd")])
    better = {pair: psnr + 1 + (pair[0] == "thin") for pair, psnr in SCORES.items()}
    partial = {pair: psnr for pair, psnr in better.items() if pair != ("thin", 1)}
    failures = {f"{scene}-{seed}": "no weights " + "x" * 500 for scene, seed in SCORES}
    folders = [
        write_evaluation(tmp_path / "0", task_rows(SCORES)),
        write_evaluation(tmp_path / "1", task_rows(better)),
        write_evaluation(tmp_path / "2", task_rows(partial), failed={"thin-1": "out of memory"}),
        write_evaluation(tmp_path / "3", [], failed=failures),
    ]
    return [load_result(*pair) for pair in zip(folders, variants, strict=True)]


def table_lines(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1, "columns are aligned"
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "---" not in line]


def test_markdown_has_a_row_a_cell_with_differences_and_errors(results):
    text = format_markdown(JointTable(results))
    head, *rows = table_lines(text)
    assert head == ["distortion", "prior", "n", "pairs", "PSNR ↑", "SSIM ↑", "s", "GiB"]
    assert rows[0] == ["identity", "warp", "4", "", "25.25", "0.500", "3", "1.0"]
    assert rows[1][:6] == [
        "identity",
        "svd",
        "4",
        "4",
        "26.75 (+1.50 ± 0.50)",
        "0.500 (+0.000 ± 0.000)",
    ]
    # Of one scene there is a seed less: the mean of room is over two seeds, that of thin over one.
    assert rows[2][2:5] == ["3 of 4", "3", "21.25 (+1.50 ± 0.56)"]
    assert rows[3][2:] == ["0 of 4", "0", "-", "-", "-", "-"]
    assert "difference to `distortion=identity,prior=warp`, over pairs of the same scene" in text
    assert "Scenes: room, thin. Seeds: 0, 1." in text
    assert "The input itself as every prediction reaches 10.00 dB." in text


def test_failures_are_counted_with_their_reason(results):
    text = format_markdown(JointTable(results))
    assert "- distortion=rigid,prior=warp: 1 of 4 failed: out of memory (thin-1)" in text
    last = next(
        line for line in text.splitlines() if "prior=svd: 4 of 4 failed: no weights" in line
    )
    assert last.endswith("x ... (room-0, room-1, thin-0, thin-1)") and len(last) < 260
    assert "LPIPS and DISTS are not measured: no network." in text


def test_partial_baseline_has_a_column_of_references(results):
    head, *rows = table_lines(format_markdown(JointTable(results, "prior=warp")))
    column = head.index("compared with")
    assert [row[column] for row in rows] == [
        "",
        "distortion=identity,prior=warp",
        "",
        "distortion=rigid,prior=warp",
    ]
    with pytest.raises(ComponentError, match="choose a row"):
        JointTable(results, "prior=x")


def test_csv_has_numbers_and_settings_in_columns(results, tmp_path):
    rows = list(csv.DictReader(io.StringIO(format_csv(JointTable(results), tmp_path))))
    assert [(row["distortion"], row["prior"]) for row in rows] == [
        ("identity", "warp"),
        ("identity", "svd"),
        ("rigid", "warp"),
        ("rigid", "svd"),
    ]
    assert rows[0]["psnr_difference"] == "" and rows[0]["baseline"] == ""
    assert float(rows[1]["psnr"]) == 26.75
    assert float(rows[1]["psnr_std"]) == pytest.approx(0.5 / 2**0.5)
    assert float(rows[1]["psnr_difference"]) == 1.5
    assert float(rows[1]["psnr_difference_error"]) == pytest.approx(0.5)
    assert (rows[1]["n"], rows[1]["pairs"], rows[2]["failed"]) == ("4", "4", "1")
    assert rows[2]["error"] == "out of memory" and rows[3]["folder"] == "3"
    assert "lpips" not in rows[0], "of which there are no figures"


def test_json_has_means_differences_and_folders(results, tmp_path):
    save_joint_table(JointTable(results), tmp_path / "tables/mine.json")
    content = json.loads((tmp_path / "tables/mine.json").read_text())
    second = content["variants"][1]
    assert second["label"] == "distortion=identity,prior=svd" and second["folder"] == "../1"
    assert second["reference"] == "distortion=identity,prior=warp"
    assert second["mean"]["psnr"] == 26.75 and second["differences"]["lpips"] is None
    assert second["differences"]["psnr"] == {
        "mean": 1.5,
        "error": pytest.approx(0.5),
        "pairs": 4,
        "scenes": 2,
        "seeds": 2,
    }
    assert content["protocol"]["align"] == "median_depth" and content["notes"] == []


def test_many_settings_are_listed_below_the_table(tmp_path):
    settings = " ".join(f"fit.loss.x{k}=1" for k in range(6))
    variants = multiply([parse_grid(f"name=plain | name=full {settings}")])
    results = [
        load_result(write_evaluation(tmp_path / str(k), task_rows(SCORES)), variant)
        for k, variant in enumerate(variants)
    ]
    text = format_markdown(JointTable(results))
    assert [row[0] for row in table_lines(text)] == ["row", "plain", "full"]
    assert f"- full: `{settings}`" in text


def test_measurements_that_differ_are_told(tmp_path):
    variants = multiply([parse_grid("fit.steps=1,2")])
    folders = [
        write_evaluation(tmp_path / "a", task_rows(SCORES)),
        write_evaluation(tmp_path / "b", task_rows(SCORES), {"preprocess": {"size": 96}}),
    ]
    results = [load_result(*pair) for pair in zip(folders, variants, strict=True)]
    assert "measured in different ways: preprocess.size is 64 in" in format_markdown(
        JointTable(results)
    )


def test_sheet_shows_scenes_by_row_and_cells_by_column(results, tmp_path):
    for k, result in enumerate(results):
        for row in result.rows:
            write_sheet(result.folder, row, grey=0.2 + 0.2 * k)
    path = save_all(JointTable(results), tmp_path / "joint")
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "sheet.png",
        "table.csv",
        "table.json",
        "table.md",
    ]
    sheet = np.asarray(Image.open(path.parent / "sheet.png")).astype(float) / 255
    width, height = SIZE
    step = sheet.shape[1] // 6
    assert step >= MIN_COLUMN and sheet.shape[1] == 6 * step
    # The picture of a column: the rows of pixels in which the second render is uniformly 0.4.
    column = sheet[:, step * 3 + width // 2, 0]
    inside = np.flatnonzero(np.abs(column - 0.4) < 0.01)
    assert len(inside) == 2 * height, "one picture a scene"
    for top in (inside[0], inside[height]):
        colors = [sheet[top + height // 2, step * k + width // 2, 0] for k in range(5)]
        assert colors == pytest.approx([0, 1, 0.2, 0.4, 0.6], abs=0.01)
        assert sheet[top + height // 2, step * 5 + width // 2, 0] == 1, "failed: no picture"
        caption = sheet[top + height : top + height + 16, step * 5 : step * 5 + 60]
        assert (caption < 0.5).any(), "it says failed"
    assert (sheet[: inside[0], :60] < 0.5).any(), "titles"


def test_suffix_decides_the_format_and_others_are_refused(results, tmp_path):
    table = JointTable(results)
    with pytest.raises(ValueError, match="--output is .*choose a file that ends with .md, .csv"):
        save_joint_table(table, tmp_path / "x.txt")
    with pytest.raises(ValueError, match="the results have no pictures"):
        save_joint_table(table, tmp_path / "x.png")
