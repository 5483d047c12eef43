"""Stored results of an evaluation are complete and undamaged, or measured again."""

import json
from pathlib import Path

import pytest
import torch

from lift.evaluation.ablation.results import load_results
from lift.evaluation.description import save_input
from lift.evaluation.storage import load_row, read_row, read_sealed, write_row, write_sealed
from lift.io.image import read_image
from tests.helpers.damage import KINDS, damage
from tests.helpers.evaluations import task_row, write_evaluation

ROW = {"key": "k", "run": "folder", **task_row("plain", 0, 20.0)}


@pytest.fixture
def file(tmp_path) -> Path:
    write_row(tmp_path / "plain-0.json", ROW, lambda draft: draft.write_bytes(b"picture"))
    return tmp_path / "plain-0.json"


def test_a_stored_result_comes_back(file):
    assert read_row(file) == json.loads(json.dumps(ROW)) == load_row(file)
    assert sorted(path.name for path in file.parent.iterdir()) == ["plain-0.json", "plain-0.png"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".json", ".png"])
def test_a_damaged_result_is_measured_again(file, suffix, kind):
    damage(file.with_suffix(suffix), kind)
    # A longer JSON file ends with a character that JSON does not allow.
    assert read_row(file) is None
    with pytest.raises(ValueError, match=r"plain-0\.json or its picture is damaged"):
        load_row(file)


def test_another_number_is_damage(file):
    content = json.loads(file.read_text())
    content["views"][0]["psnr"] += 1
    file.write_text(json.dumps(content))
    assert read_row(file) is None


def test_results_of_older_versions_are_used(file):
    file.write_text(json.dumps(ROW))
    assert read_row(file) == json.loads(json.dumps(ROW))


def test_a_damaged_table_is_named(tmp_path):
    folder = write_evaluation(tmp_path / "a", [task_row("plain", 0, 20.0)])
    table = folder / "table.json"
    assert load_results(folder), "a table of an older version"
    write_sealed(table, json.loads(table.read_text()))
    assert "checksum" not in load_results(folder)[0].content
    table.write_text(table.read_text().replace("20.0", "21.0"))
    with pytest.raises(ValueError, match=r"table\.json is damaged .* repeat the command"):
        load_results(folder)
    table.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"table\.json is not JSON"):
        read_sealed(table)


def test_a_damaged_input_is_saved_again(tmp_path):
    image = torch.arange(24 * 32 * 3).reshape(24, 32, 3).to(torch.uint8)
    path = save_input(tmp_path / "inputs" / "a.png", image)
    before = path.stat().st_mtime_ns
    assert save_input(path, image) == path and path.stat().st_mtime_ns == before
    damage(path, "half")
    assert read_image(save_input(path, image)).equal(image)
