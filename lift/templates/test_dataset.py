"""Tests of the dataset `new_dataset`.

Keep `test_it_keeps_the_contract`. The other tests are for the code of the template: replace them
together with it.
"""

import json

import pytest

from lift.contracts import contract_checks
from lift.templates.dataset import CAMERAS, NewDataset


@pytest.mark.parametrize("check", contract_checks("dataset"), ids=str)
def test_it_keeps_the_contract(check, tmp_path):
    """It keeps the promises of its slot. `lift check` runs the same checks."""
    result = check.run("new_dataset", tmp_path)
    if result.status == "skip":
        pytest.skip(result.reason)
    assert result.status == "pass", result.reason


def test_a_view_has_the_camera_of_the_file(tmp_path):
    """Poses and focal lengths are read as they are."""
    NewDataset.example_settings(tmp_path)
    dataset = NewDataset(tmp_path)
    cameras = dataset.capture(dataset.scenes()[0]).cameras
    assert cameras.world_to_camera[:, 0, 3].tolist() == pytest.approx([0.0, 0.1, 0.2])
    assert cameras.intrinsics[:, 0, 0].tolist() == [60.0] * 3


def test_a_wrong_file_is_named(tmp_path):
    """The message names the file and the defect."""
    (tmp_path / CAMERAS).write_text(json.dumps([{"file": "0.png"}]), encoding="utf-8")
    dataset = NewDataset(tmp_path)
    with pytest.raises(ValueError, match=f"{CAMERAS} is invalid: KeyError: 'size'"):
        dataset.capture(dataset.scenes()[0])
