"""Options of films are checked before anything is rendered."""

import pytest

from lift.config.film_schema import parse_aspect
from lift.outputs.films.options import FilmOptions


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"preset": "circle"}, "preset is 'circle'; choose one of fly-through, orbit"),
        ({"kind": "alpha"}, "kind is 'alpha'; choose one of color, depth, normal"),
        ({"aspect": "wide"}, "aspect is 'wide'; choose input, 16:9"),
        ({"aspect": "16:0"}, "aspect is '16:0'"),
        ({"aspect": "100:1"}, "aspect is '100:1'; .* up to 5:1"),
        ({"seconds": 0.0}, "seconds is 0.0; choose from 0.01 to 600"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"fps": 0}, "fps is 0; choose from 1"),
        ({"size": 8}, "size is 8; choose from 16 to 4320"),
        ({"motion": 4.5}, "motion is 4.5; choose from 0.01 to 3"),
    ],
)
def test_a_wrong_option_names_the_value_and_choices(option, message):
    with pytest.raises(ValueError, match=message):
        FilmOptions(**option)


def test_the_number_of_frames_is_seconds_times_fps():
    assert FilmOptions(seconds=6, fps=30).count == 180
    assert FilmOptions(seconds=0.01, fps=1).count == 2


def test_aspects_are_width_to_height():
    assert parse_aspect("9:16") == pytest.approx(0.5625)
    assert parse_aspect("2.39:1") == pytest.approx(2.39)
    assert parse_aspect("input") is None
