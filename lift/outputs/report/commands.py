"""Commands that the report offers: what to do with the scene, and how to repeat the run."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MORE_STEPS = 500
"""Steps of the fit in the command that continues it."""


@dataclass(frozen=True)
class NextStep:
    """Something that one can do with a finished scene."""

    title: str
    """What it does, in a few words."""
    command: str
    """The command, with quotes for a shell."""


def next_steps(folder: Path) -> list[NextStep]:
    """List what one can do with a finished scene.

    Args:
        folder: Folder of the run, as the user would name it.

    Returns:
        The steps, the most likely first.
    """
    run = shlex.quote(str(folder))
    return [
        NextStep("Walk through it in the browser", f"lift view {run}"),
        NextStep("Hand it over as one page", f"lift export {run} scene.html"),
        NextStep(
            "Render a film",
            f"lift render {run} --preset orbit --aspect 16:9 --to film.mp4",
        ),
        NextStep("Continue the fit", f"lift fit {run} --more-steps {MORE_STEPS}"),
    ]


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
        The command with quotes for a shell, and the choices on a line of their own.
    """
    if not arguments:
        return ""
    variables = [f"{name}={shlex.quote(value)}" for name, value in (environment or {}).items()]
    words = [*variables, Path(arguments[0]).name, shlex.join(arguments[1:])]
    command = " ".join(words).strip()
    return f"{command}\nlift.run with {', '.join(choices)}" if choices else command
