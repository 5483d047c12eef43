"""Reading a Dockerfile, and running a stage of it in a folder instead of an image."""

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """A stage of a Dockerfile."""

    name: str
    base: str
    """Another stage, or an image."""
    instructions: list[tuple[str, str]] = field(default_factory=list)
    """Keyword and text of each instruction after FROM."""

    def texts(self, keyword: str) -> list[str]:
        """Texts of the instructions with a keyword."""
        return [text for word, text in self.instructions if word == keyword]


def read_dockerfile(path: Path) -> tuple[dict[str, str], dict[str, Stage]]:
    """Read the arguments before the first stage, and the stages by name."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    stage = None
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        keyword, _, text = line.strip().partition(" ")
        if not keyword:
            continue
        if keyword == "FROM":
            base, _, name = text.partition(" AS ")
            stage = stages[name] = Stage(name, base)
        elif stage:
            stage.instructions.append((keyword, text.strip()))
        elif keyword == "ARG":
            name, _, value = text.partition("=")
            arguments[name] = value
    return arguments, stages


def chain(stages: dict[str, Stage], name: str) -> list[Stage]:
    """Return a stage and those that it is based on, the first one first."""
    stage = stages[name]
    return [*(chain(stages, stage.base) if stage.base in stages else []), stage]


def environment(stages: list[Stage]) -> dict[str, str]:
    """Return the variables that stages set by ENV and ARG, without references to others."""
    variables = {}
    for stage in stages:
        for keyword, text in stage.instructions:
            if keyword in ("ENV", "ARG"):
                words = (word.partition("=") for word in shlex.split(text))
                variables |= {name: value for name, _, value in words}
    return variables


class FolderBuild:
    """A build in folders of this machine.

    Args:
        context: The folder that is built.
        folders: Folders of the image, and those that take their place.
        variables: Variables of all commands.
    """

    def __init__(self, context: Path, folders: dict[str, Path], variables: dict[str, str]):
        self.context = context
        self.folders = folders
        self.variables = variables

    def local(self, text: str) -> str:
        """Replace folders of the image in a text."""
        for name, folder in self.folders.items():
            text = text.replace(name, str(folder))
        return text

    def run(self, command: str, cwd: Path) -> subprocess.CompletedProcess:
        """Run the text of a RUN instruction as `docker build` does, by `sh -c`."""
        return subprocess.run(
            ["sh", "-c", self.local(command)],
            cwd=cwd,
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
        )

    def copy(self, text: str, cwd: Path) -> None:
        """Do what a COPY instruction says."""
        *sources, target = text.split()
        for source in sources:
            path = self.context / source
            if path.is_dir():
                ignore = shutil.ignore_patterns(
                    "__pycache__", "configs" if source == "lift" else ""
                )
                shutil.copytree(path, cwd / target, ignore=ignore)
            else:
                shutil.copy(path, cwd / target)
