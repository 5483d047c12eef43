"""Sizes at which pictures are processed."""

import pytest

from lift.io.sizing import cropped_size, round_to_multiple, working_size


@pytest.mark.parametrize(
    ("length", "multiple", "expected"),
    [(3.0, 14, 14), (20.9, 14, 14), (21.1, 14, 28), (64.0, 8, 64)],
)
def test_length_is_rounded_to_a_positive_multiple(length, multiple, expected):
    assert round_to_multiple(length, multiple) == expected


def test_a_crop_keeps_one_side_of_the_picture():
    assert cropped_size(1600, 1200, (16, 9)) == (1600, 900)
    assert cropped_size(1600, 1200, (1, 1)) == (1200, 1200)


def test_the_middle_of_a_chosen_shape_is_kept_and_told():
    notes = []
    found = working_size(1600, 1200, 800, notes, lambda width, height: ((16, 9), "because"))
    assert found == (800, 448, (0.0, 152.0, 1600.0, 1048.0))  # 448 is a multiple of 8
    assert notes == [
        "the middle of the picture, 1600 x 900 of 1600 x 1200 pixels, is used: because"
    ]


def test_a_picture_whose_shape_is_kept_passes_the_sentence_on():
    notes = []
    found = working_size(1600, 1200, 800, notes, lambda width, height: (None, f"{width}"))
    assert found == working_size(1600, 1200, 800, []) and notes == ["800"]
