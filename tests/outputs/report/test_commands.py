"""Commands of the report can be typed into a shell."""

import shlex
from pathlib import Path

from lift.outputs.report.commands import format_command, improvements, next_steps, shorten_paths


def test_the_command_can_be_typed():
    assert format_command(["lift run", "image=a b.jpg"]) == "lift run 'image=a b.jpg'"
    assert format_command(["/somewhere/bin/lift", "-m"]) == "lift -m"


def test_the_command_names_plugins_and_choices_of_python():
    command = format_command(["run.py"], {"LIFT_PLUGINS": "a b"}, ["experiment=mine"])
    assert command == "LIFT_PLUGINS='a b' run.py\nlift.run with experiment=mine"


def test_the_command_tells_no_folder():
    shown = format_command(
        ["/bin/lift", "run", "image=[/photos/a.jpg,trip/b c.jpg]", "output=/photos/out"],
        {"LIFT_PLUGINS": "/photos/mine.py"},
    )
    assert shown == "LIFT_PLUGINS=mine.py lift run 'image=[a.jpg,b c.jpg]' output=out"


def test_what_is_no_path_stays():
    for argument in ("image=coffee", "planner=orbit", "image=trip/", "fit.lr=1/2", "--more"):
        assert shorten_paths(argument) == argument


def test_advice_fits_the_run():
    text = " ".join(improvements(True, True, False, (512, 344), (1008, 670)))
    assert "preprocess.size=1008 (this run: 512)" in text
    assert "planner.angle" in text and "lift list" in text
    text = " ".join(improvements(False, False, True, (512, 344), (512, 344)))
    assert "preprocess" not in text and "planner" not in text and "fit.steps" in text


def test_next_steps_survive_a_folder_with_any_name():
    folder = Path("outputs/it's $(me)")
    for step in next_steps(folder):
        words = shlex.split(step.command)
        assert words[0] == "lift" and words[2] == str(folder)


def test_next_steps_are_options_that_exist():
    from lift.cli import build_parser

    parser = build_parser()
    for step in next_steps(Path("run")):
        parser.parse_args(shlex.split(step.command)[1:])
