"""Cameras that an evaluation crops."""

import pytest

from lift.evaluation.case import crop_to_multiple
from lift.geometry import pinhole


def test_view_of_another_aspect_covers_the_input_shape():
    wide, tall = pinhole(100, 75, 90.0), pinhole(75, 100, 90.0)
    like = crop_to_multiple(wide)
    assert (
        (like.width, like.height) == (96, 72)
        and like.intrinsics[0, 0, 0] == 90
        and like.intrinsics[0, 0, 2] == 48
    )
    made = crop_to_multiple(tall, like)
    assert (made.width, made.height) == (96, 72) and made.intrinsics[0, 0, 0] == pytest.approx(
        90 * 96 / 75
    )
