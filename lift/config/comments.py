"""Comments in YAML files: the description of a file, and the reasons for its settings."""

import re
from collections.abc import Iterator

import yaml

_COMMENT = re.compile(r"\s*#\s?(.*)")
_GROUP = re.compile(r"(?:override\s+)?/?([\w/]+)(?:@\S+)?")
"""Key of an entry of a defaults list, such as `override /renderer`."""


def describe_file(text: str) -> str:
    """Return the comment at the beginning of a file, without the line that names the package.

    Args:
        text: Content of the file.

    Returns:
        The comment's lines. The first one is the summary.
    """
    lines = [match[1] for line in _header(text) if (match := _COMMENT.fullmatch(line))]
    return "\n".join(line for line in lines if not line.lstrip().startswith("@")).strip()


def setting_comments(text: str) -> dict[str, str]:
    """Read the comments beside and above the settings of a file.

    Args:
        text: Content of the file.

    Returns:
        Dotted name of a setting, or name of a group in the defaults list -> its comment. The
        comment of a group of settings has the name of the group.
    """
    lines = text.splitlines()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    comments = {}
    for key, line, end in _positions(root, ""):
        parts = [*_above(lines, line, len(_header(text))), *_beside(lines[end[0]], end[1])]
        if parts:
            comments[key] = " ".join(parts)
    return comments


def find_comment(comments: dict[str, str], key: str) -> str:
    """Return the comment of a setting, or else that of the group that it is in.

    Args:
        comments: Comments by dotted name.
        key: Dotted name of the setting.
    """
    while key and key not in comments:
        key = key.rpartition(".")[0]
    return comments.get(key, "")


def _header(text: str) -> list[str]:
    """Return the lines of comment at the beginning of a file."""
    lines = text.splitlines()
    count = next((k for k, line in enumerate(lines) if not _COMMENT.fullmatch(line)), len(lines))
    return lines[:count]


def _positions(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int, tuple[int, int]]]:
    """Yield the name of each setting, the line where it begins, and the position after it."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if name == "defaults" and isinstance(value, yaml.SequenceNode):
            yield from _defaults(value)
            continue
        is_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
        last = key if is_block else value
        yield name, key.start_mark.line, (last.end_mark.line, last.end_mark.column)
        yield from _positions(value, f"{name}.")


def _defaults(node: yaml.SequenceNode) -> Iterator[tuple[str, int, tuple[int, int]]]:
    """Yield the name of each group in a defaults list, with its position."""
    for item in node.value:
        if not isinstance(item, yaml.MappingNode):
            continue
        for key, value in item.value:
            if match := _GROUP.fullmatch(key.value):
                yield match[1], key.start_mark.line, (value.end_mark.line, value.end_mark.column)


def _above(lines: list[str], line: int, header: int) -> list[str]:
    """Return the comment in the lines above one, which have its indentation."""
    found: list[str] = []
    indent = len(lines[line]) - len(lines[line].lstrip())
    for above in reversed(lines[header:line]):
        match = _COMMENT.fullmatch(above)
        if not match or len(above) - len(above.lstrip()) != indent:
            break
        found.insert(0, match[1].strip())
    return found


def _beside(line: str, column: int) -> list[str]:
    """Return the comment behind a setting on its line."""
    rest = line[column:].lstrip(": ")
    match = _COMMENT.fullmatch(rest) if column < len(line) else None
    return [match[1].strip()] if match else []
