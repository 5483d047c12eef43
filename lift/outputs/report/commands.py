"""Commands that the report offers: what to do with the scene, and how to repeat the run."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MORE_STEPS = 500
"""Steps of the fit in the command that continues it."""

MAX_SIZE = 4096
"""Largest `preprocess.size` that is advised, in pixels."""

_ABSOLUTE_FOLDER = re.compile(r"""(?<![^,\[\]'":=\s])~?/(?:[^,\[\]'":/]*/)*(?=[^,\[\]'":/])""")
"""Folders of an absolute path within a value, up to its last name."""
_ANY_FOLDER = re.compile(r"""(?:[^,\[\]'"/]*/)+(?=[^,\[\]'"/])""")
"""The same for any path."""


@dataclass(frozen=True)
class NextStep:
    """Something that one can do with a finished scene."""

    title: str
    """What it does, in a few words."""
    command: str
    """The command, with quotes for a shell."""


def next_steps(folder: Path, can_continue: bool = True) -> list[NextStep]:
    """List what one can do with a finished scene.

    Args:
        folder: Folder of the run, as the user would name it.
        can_continue: Whether the run keeps what more steps of the fit need.

    Returns:
        The steps, the most likely first.
    """
    run = shlex.quote(str(folder))
    more = f"lift fit {run} --more-steps {MORE_STEPS}"
    return [
        NextStep("Walk through it in the browser", f"lift view {run}"),
        NextStep("Hand it over as one page", f"lift export {run} scene.html"),
        NextStep(
            "Render a film",
            f"lift render {run} --preset orbit --aspect 16:9 --to film.mp4",
        ),
        *([NextStep("Continue the fit", more)] if can_continue else []),
        NextStep("Write it in all formats", f"lift export {run} all"),
    ]


def improvements(
    generated: bool,
    has_angle: bool,
    uses_network: bool,
    size: tuple[int, int],
    full_size: tuple[int, int] | None = None,
    can_continue: bool = True,
) -> list[str]:
    """List what one can change in a new run if the scene is not good.

    Args:
        generated: Whether the frames are generated.
        has_angle: Whether the planner has the setting `angle`.
        uses_network: Whether the prior is a video generator.
        size: Width and height in pixels at which the picture was processed.
        full_size: Width and height of the picture's file. None: not known.
        can_continue: Whether the run keeps what more steps of the fit need.

    Returns:
        Sentences, with settings in them as the user writes them.
    """
    advice = []
    side = max(size)
    larger = min(2 * side, max(full_size or (MAX_SIZE,)), MAX_SIZE)
    if larger > side:
        advice.append(f"Keep more detail: preprocess.size={larger} (this run: {side}).")
    more = f", or --more-steps {MORE_STEPS} as above" if can_continue else ""
    advice.append(f"Fit longer: a larger fit.steps{more}.")
    if generated and has_angle:
        advice.append("Move less: a smaller planner.angle leaves less to guess.")
    if generated and not uses_network:
        advice.append(
            "Use a video generator: `lift list prior` lists them, `lift doctor` says what they "
            "need."
        )
    return advice


def shorten_paths(argument: str) -> str:
    """Drop folders from an argument of the command, so that a page does not tell them.

    Args:
        argument: An argument, or the value of an environment variable.

    Returns:
        The argument with the last name of each absolute path. In `image`, no path keeps a folder.
    """
    name, equals, value = argument.partition("=")
    if equals and name.lstrip("+") == "image":
        return name + equals + _ANY_FOLDER.sub("", value)
    return _ABSOLUTE_FOLDER.sub("", argument)


def format_command(
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    choices: Sequence[str] = (),
) -> str:
    """Format the command that repeats a run.

    Args:
        arguments: The program, whose folder is dropped, and its arguments.
        environment: Variables that the run depends on.
        choices: Names that a program called `lift.run` with. They are no part of the command.

    Returns:
        The command with quotes for a shell, and the choices on a line of their own. Paths have no
        folders (`shorten_paths`).
    """
    if not arguments:
        return ""
    variables = [
        f"{name}={shlex.quote(shorten_paths(value))}" for name, value in (environment or {}).items()
    ]
    shown = [shorten_paths(argument) for argument in arguments[1:]]
    words = [*variables, Path(arguments[0]).name, shlex.join(shown)]
    command = " ".join(words).strip()
    return (
        f"{command}\nlift.run with {', '.join(map(shorten_paths, choices))}" if choices else command
    )
