"""Google-style docstrings: the summary, the description and the described arguments."""

import re
import textwrap
from dataclasses import dataclass, field

_ARGUMENT = re.compile(r"(\*{0,2}\w+)(?: \([^)]*\))?: *(.*)")


@dataclass(frozen=True)
class Docstring:
    """A docstring, divided into its parts."""

    summary: str = ""
    """The first line."""
    description: str = ""
    """Everything except sections `Args:`, with the first line."""
    arguments: dict[str, str] = field(default_factory=dict)
    """Name of an argument -> its description in one line."""


def parse_docstring(text: str) -> Docstring:
    """Divide a docstring into summary, description and arguments.

    Args:
        text: A docstring without common indentation. Several docstrings may be joined by an empty
            line; the first description of an argument is kept.

    Returns:
        The parts of the docstring.
    """
    lines = text.strip().splitlines()
    description: list[str] = []
    section: list[str] = []
    arguments: dict[str, str] = {}
    inside = False
    for line in [*lines, "End:"]:
        if line.strip() and not line[0].isspace():
            arguments = _parse_arguments(section) | arguments
            section = []
            inside = line.rstrip() == "Args:"
            if inside:
                continue
        (section if inside else description).append(line)
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(description[:-1])).strip()
    return Docstring(lines[0].strip() if lines else "", text, arguments)


def _parse_arguments(section: list[str]) -> dict[str, str]:
    """Read the lines of a section `Args:`: names, and descriptions that continue indented."""
    arguments: dict[str, str] = {}
    name = ""
    for line in textwrap.dedent("\n".join(section)).splitlines():
        start = _ARGUMENT.fullmatch(line)
        if start and not line[0].isspace():
            name = start[1].lstrip("*")
            arguments[name] = start[2].strip()
        elif name and line.strip():
            arguments[name] = f"{arguments[name]} {line.strip()}".strip()
    return arguments
