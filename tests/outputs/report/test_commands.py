"""Commands of the report can be typed into a shell."""

import shlex
from pathlib import Path

from lift.outputs.report.commands import format_command, next_steps


def test_the_command_can_be_typed():
    assert format_command(["lift run", "image=a b.jpg"]) == "lift run 'image=a b.jpg'"
    assert format_command(["/somewhere/bin/lift", "-m"]) == "lift -m"


def test_the_command_names_plugins_and_choices_of_python():
    command = format_command(["run.py"], {"LIFT_PLUGINS": "a b"}, ["experiment=mine"])
    assert command == "LIFT_PLUGINS='a b' run.py\nlift.run with experiment=mine"


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
