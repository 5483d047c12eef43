"""Reading finished evaluations, and whether they can be compared."""

import json
import os

import pytest
import torch

from lift.evaluation.ablation.files import save_all
from lift.evaluation.ablation.grid import Factor, Variant
from lift.evaluation.ablation.joint import JointTable
from lift.evaluation.ablation.results import (
    check_same_measurement,
    load_result,
    load_results,
    measurement_differences,
    merge_results,
    varied_settings,
)
from lift.registry import ComponentError
from tests.helpers.evaluations import task_row, task_rows, write_evaluation

ROWS = task_rows({("room", 0): 20.0})
ROWS_SHEET = torch.zeros(4, 4, 3, dtype=torch.uint8)


def variant(*settings: str, name: str | None = None) -> Variant:
    return Variant((Factor(settings, name),))


def test_evaluation_has_the_name_of_its_folder(tmp_path):
    folder = write_evaluation(tmp_path / "mine", ROWS)
    (result,) = load_results(folder)
    assert (result.label, len(result.rows), result.failed) == ("mine", 1, {})
    assert load_results(folder / "table.json")[0].folder == folder


def test_joint_table_is_read_with_its_rows_from_any_folder(tmp_path, monkeypatch):
    results = [
        load_result(write_evaluation(tmp_path / "out" / name, ROWS), variant(f"prior={name}"))
        for name in ("warp", "svd")
    ]
    save = JointTable(results)
    (tmp_path / "out/both").mkdir()
    monkeypatch.setattr("lift.evaluation.ablation.files.draw_joint_sheet", lambda rows: ROWS_SHEET)
    save_all(save, tmp_path / "out/both")
    os.rename(tmp_path / "out", tmp_path / "moved")
    again = load_results(tmp_path / "moved/both")
    assert [result.label for result in again] == ["prior=warp", "prior=svd"]
    assert [result.variant for result in again] == [result.variant for result in results]


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "has no table.json; give a folder that `lift eval` wrote"),
        ("{", "is not JSON"),
        ('{"rows": []}', "is not a table of `lift eval`"),
        ("[]", "is not a table of `lift eval`"),
    ],
)
def test_other_folders_are_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "table.json").write_text(content)
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        load_results(tmp_path)


def test_varied_settings_compare_components_of_one_name(tmp_path):
    warp = {"prior": {"name": "warp", "fill": "network", "x": [1, "a"]}, "output": "there"}
    svd = {"prior": {"name": "svd", "steps": 25}}
    priors = (warp, warp | {"prior": warp["prior"] | {"fill": None, "x": [2, "a"]}}, svd)
    results = [
        load_results(write_evaluation(tmp_path / str(k), ROWS, prior))[0]
        for k, prior in enumerate(priors)
    ]
    assert varied_settings(results) == [
        {"prior": "warp", "prior.fill": "network", "prior.x": "[1,a]"},
        {"prior": "warp", "prior.fill": "null", "prior.x": "[2,a]"},
        {"prior": "svd"},
    ]


def test_settings_that_change_no_result_are_not_listed(tmp_path):
    changes = (
        {"logger": "csv", "fit": {"steps": 5, "log_every": 1}},
        {"logger": "none", "fit": {"steps": 6, "log_every": 9}},
    )
    results = [
        load_results(write_evaluation(tmp_path / str(k), ROWS, change))[0]
        for k, change in enumerate(changes)
    ]
    assert varied_settings(results) == [{"fit.steps": "5"}, {"fit.steps": "6"}]


def test_a_picture_is_named_as_no_table(tmp_path):
    (tmp_path / "sheet.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"sheet.png is no table of `lift eval`; give folders or"):
        load_results(tmp_path / "sheet.png")


def test_merged_rows_say_in_what_they_differ(tmp_path):
    folders = [
        write_evaluation(tmp_path / "a/same", ROWS),
        write_evaluation(tmp_path / "b/same", ROWS, {"fit": {"steps": 9}}),
        write_evaluation(tmp_path / "b/other", ROWS),
    ]
    merged = merge_results([load_results(folder) for folder in (*folders, folders[0])])
    assert [result.label for result in merged] == ["a/same", "b/same", "other"]
    assert [result.variant.settings for result in merged] == [
        {"fit.steps": "5"},
        {"fit.steps": "9"},
        {"fit.steps": "5"},
    ]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"dataset": {"name": "llff"}}, "dataset is ray_cast in 'a' and llff in 'b'"),
        ({"dataset": {"size": [9, 9]}}, r"dataset.size is \[512,512\] in 'a' and \[9,9\] in 'b'"),
        ({"protocol": {"align": "none"}}, "protocol.align is median_depth in 'a' and none in 'b'"),
        ({"settings": {"preprocess": {"size": 96}}}, "preprocess.size is 64 in 'a' and 96 in 'b'"),
        ({"rows": [task_row("room", 0, 20.0, input="first")]}, "'room' has other targets in 'a'"),
    ],
)
def test_results_of_another_measurement_are_refused(tmp_path, change, message):
    first = write_evaluation(tmp_path / "a", ROWS)
    second = write_evaluation(tmp_path / "b", ROWS)
    content = json.loads((second / "table.json").read_text())
    for key, value in change.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    (second / "table.json").write_text(json.dumps(content))
    results = [*load_results(first), *load_results(second)]
    with pytest.raises(ComponentError, match=f"cannot be compared: .*{message}.*--anyway"):
        check_same_measurement(results)
    assert len(measurement_differences(results)) == 1


def test_other_scenes_seeds_and_bins_can_be_compared(tmp_path):
    first = write_evaluation(tmp_path / "a", ROWS)
    content = json.loads((first / "table.json").read_text())
    second = write_evaluation(
        tmp_path / "b",
        task_rows({("thin", 3): 20.0}),
        dataset=content["dataset"] | {"scenes": ["thin"]},
        protocol=content["protocol"] | {"seeds": [3], "bins": [], "weights": "there"},
    )
    check_same_measurement([*load_results(first), *load_results(second)])


def test_another_version_of_the_code_is_told_but_not_refused(tmp_path):
    first = write_evaluation(tmp_path / "a", ROWS)
    second = write_evaluation(tmp_path / "b", ROWS, code="1")
    results = [*load_results(first), *load_results(second)]
    check_same_measurement(results)
    assert measurement_differences(results) == [
        "the hash of the measuring code is 0 in 'a' and 1 in 'b'"
    ]
    other_input = [task_row("room", 0, 20.0, input="first")]
    third = write_evaluation(tmp_path / "c", other_input, code="1")
    with pytest.raises(ComponentError, match="'room' has other targets in 'a' than in 'c'"):
        check_same_measurement([*load_results(first), *load_results(third)])


def test_settings_that_every_row_states_may_differ(tmp_path):
    first = write_evaluation(tmp_path / "a", ROWS)
    content = json.loads((first / "table.json").read_text())
    protocol = content["protocol"] | {"align": "none"}
    second = write_evaluation(tmp_path / "b", ROWS, protocol=protocol)
    results = [
        load_result(first, variant("protocol.align=median_depth")),
        load_result(second, variant("protocol.align=none")),
    ]
    assert measurement_differences(results) == []
