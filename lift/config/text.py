"""Text in settings: which settings hold text, and how Hydra takes it literally.

Hydra and OmegaConf give many characters a meaning: brackets, commas, quotes, `${`. The value of a
setting that holds text is escaped and quoted here, so that what the user typed arrives unchanged.
Imports no torch.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from lift.registry.values import split_annotation

_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_QUOTED_PIECE = re.compile(rf"\s*(?:{_QUOTED})\s*(?=,|$)", re.S)
_PLAIN_PIECE = re.compile(r"[^,]*", re.S)
_NUMBER = re.compile(r"[+-]?(\d+|(\d+\.\d*|\.\d+)([eE][+-]?\d+)?|\d+[eE][+-]?\d+|inf|nan)")
_BOOL = re.compile(r"true|false", re.I)
_SWEEP_FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\((.*)\)", re.S)

_MISSING = "???"
"""OmegaConf's mark of a setting that is not set."""
_MISSING_TEXT = "${oc.decode:???}"
"""An interpolation whose value is the text of `_MISSING`."""


@dataclass(frozen=True)
class TextType:
    """Which texts a setting takes."""

    single: bool = False
    """Whether the value can be one text."""
    several: bool = False
    """Whether it can be a list of texts."""
    optional: bool = False
    """Whether it can be null."""
    numbers: bool = False
    """Whether it can also be a number."""
    bools: bool = False
    """Whether it can also be true or false."""


def text_type(annotation: Any) -> TextType | None:
    """Find out whether a setting holds text.

    Args:
        annotation: Type of the setting: of a field of the schema, or of a constructor's parameter.

    Returns:
        Which texts it takes. None if it takes none, or something else than texts and numbers.
    """
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is Annotated:
        return text_type(arguments[0])
    if annotation is str or (isinstance(annotation, type) and issubclass(annotation, Path)):
        return TextType(single=True)
    if origin is Literal and all(isinstance(choice, str) for choice in arguments):
        return TextType(single=True)
    if origin in (list, tuple):
        items = [text_type(item) for item in arguments if item is not Ellipsis]
        is_text = items and all(item and item.single and not item.several for item in items)
        return TextType(several=True) if is_text else None
    if origin in (Union, UnionType):
        return _union_type(arguments)
    return None


def _union_type(members: tuple[Any, ...]) -> TextType | None:
    """Find out which texts a union of types takes."""
    members = tuple(split_annotation(member)[0] for member in members)
    simple = (NoneType, int, float, bool)
    texts = [text_type(member) for member in members if member not in simple]
    if not texts or not all(texts):
        return None
    return TextType(
        single=any(text.single for text in texts if text),
        several=any(text.several for text in texts if text),
        optional=NoneType in members,
        numbers=int in members or float in members,
        bools=bool in members,
    )


def escape_text(text: str) -> str:
    r"""Escape text for OmegaConf, which would take `${` for an interpolation.

    Args:
        text: Any text.

    Returns:
        What a node of a configuration must hold so that reading it returns the text.
    """
    if text == _MISSING:
        return _MISSING_TEXT
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def quote_text(text: str) -> str:
    """Write text as a value of an override for Hydra.

    Args:
        text: Any text.

    Returns:
        The text, escaped and in quotes.
    """
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(escape_text(text), Quote.single).with_quotes()


def quote_value(value: str, kind: TextType, multirun: bool = False) -> str:
    """Write the value of a setting that holds text, so that Hydra takes it literally.

    Args:
        value: What the user typed behind the equals sign.
        kind: Which texts the setting takes.
        multirun: Whether commas separate the values of several runs. Quotes then protect commas,
            and functions of Hydra's sweep syntax, such as `choice(a,b)`, are understood.

    Returns:
        The value for an override of Hydra.
    """
    if not multirun:
        return _quote_single(value, kind)
    if function := _SWEEP_FUNCTION.fullmatch(value):
        if function[1] != "choice":
            return value
        value = function[2]  # a sweep without the function keeps quotes
    return ",".join(_quote_pieces(value, kind))


def split_values(text: str, lists: bool = False) -> list[str]:
    """Split text at its commas. A piece in quotes keeps its commas.

    Args:
        text: Pieces that commas separate.
        lists: Whether a piece in brackets keeps its commas, too.

    Returns:
        The pieces as they are typed, with their quotes and spaces.
    """
    pieces = []
    position = 0
    while True:
        end = _list_end(text, position) if lists else None
        if end is None:
            match = _QUOTED_PIECE.match(text, position) or _PLAIN_PIECE.match(text, position)
            assert match is not None, "the pattern of plain pieces matches anything"
            end = match.end()
        pieces.append(text[position:end])
        if end == len(text):
            return pieces
        position = end + 1


def unquote(piece: str) -> str:
    """Remove the quotes of a piece as Hydra does, or the spaces around one without quotes.

    Args:
        piece: A piece of `split_values`.
    """
    text = piece.strip()
    if not _QUOTED_PIECE.fullmatch(piece):
        return text
    quote = text[0]
    # Backslashes are escaped only where a quote follows, or the end.
    return re.sub(
        rf"(\\+)({quote}|\Z)", lambda match: "\\" * (len(match[1]) // 2) + match[2], text[1:-1]
    )


def _quote_pieces(value: str, kind: TextType) -> Iterator[str]:
    """Quote each of the values of several runs."""
    pieces = split_values(value, lists=kind.several)
    for piece in pieces:
        if _QUOTED_PIECE.fullmatch(piece):
            yield quote_text(unquote(piece))
        else:
            yield _quote_single(piece.strip() if len(pieces) > 1 else piece, kind)


def _quote_single(value: str, kind: TextType) -> str:
    """Quote a value without sweeps."""
    if kind.several and value[:1] == "[" and value[-1:] == "]":
        pieces = split_values(value[1:-1])
        if not pieces[-1].strip():  # an empty list, or a comma at the end
            pieces.pop()
        return f"[{','.join(quote_text(unquote(piece)) for piece in pieces)}]"
    is_literal = kind.single and not (
        (kind.optional and value == "null")
        or (kind.numbers and _NUMBER.fullmatch(value))
        or (kind.bools and _BOOL.fullmatch(value))
    )
    return quote_text(value) if is_literal else value


def _list_end(text: str, start: int) -> int | None:
    """Find the end of a list in brackets that begins at `start`; None if there is none."""
    begin = len(text) - len(text[start:].lstrip())
    if text[begin : begin + 1] != "[":
        return None
    depth = 0
    for token in re.compile(rf"{_QUOTED}|\[|\]", re.S).finditer(text, begin):
        depth += {"[": 1, "]": -1}.get(token[0], 0)
        if depth == 0:
            rest = text[token.end() :]
            end = len(text) - len(rest.lstrip())
            return end if text[end : end + 1] in ("", ",") else None
    return None
