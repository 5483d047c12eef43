"""Which pictures a batch is for: names, folders, patterns and lists, a row for each picture."""

import csv
import glob
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from lift.io.names import add_hash, safe_name, user_path
from lift.registry import ComponentError
from lift.remote.store import find_objects, list_names, open_store, read_text
from lift.remote.urls import WEB, file_name, is_url, join, scheme, url_parts

T = TypeVar("T")

LIST_SUFFIXES = (".txt", ".csv", ".jsonl")
"""Suffixes of lists of pictures."""

PICTURE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".jxl", ".png"),
    *(".ppm", ".tif", ".tiff", ".webp"),
)
"""Suffixes by which pictures of a folder are recognised."""

IMAGE = "image"
"""Column of a list that names the picture."""

_MAX_LISTED = 5
"""Largest number of missing files that a message names."""


@dataclass(frozen=True, slots=True)
class BatchPicture:
    """One picture of a batch."""

    image: str
    """Its file or URL, or the name of a built-in picture."""
    settings: tuple[str, ...] = ()
    """Settings of this picture only, such as `seed=3`."""


def parse_arguments(arguments: list[str]) -> tuple[list[BatchPicture], list[str]]:
    """Split the arguments of `lift batch` into pictures and settings.

    Args:
        arguments: Command line arguments. An existing file is a picture or a list of pictures,
            whatever its name. A folder stands for the pictures in it, and a pattern such as
            `photos/*.jpg` for the files that match. All of them may be URLs.

    Returns:
        The pictures, each once with the same settings, and the settings of all.

    Raises:
        ComponentError: An argument is neither, a list cannot be read, or there is no picture.
    """
    pictures: list[BatchPicture] = []
    settings: list[str] = []
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if key in (IMAGE, f"+{IMAGE}") and equals:
            raise ComponentError(
                f"{argument!r}: give pictures by name alone, lift batch a.jpg b.jpg"
            )
        if argument.startswith("-"):
            raise ComponentError(
                f"{argument!r} is not an option of lift batch; see lift batch --help"
            )
        if equals and not is_url(argument) and not user_path(argument).exists():
            settings.append(argument)
        else:
            pictures += _expand(argument)
    if not pictures:
        raise ComponentError(
            "no picture is given: lift batch PICTURE|FOLDER|LIST ... [setting=value ...]"
        )
    images = dict.fromkeys(picture.image for picture in pictures)
    missing = [image for image in images if not _may_exist(image)]
    if missing:
        names = ", ".join(map(repr, missing[:_MAX_LISTED]))
        more = f" and {len(missing) - _MAX_LISTED} more" if len(missing) > _MAX_LISTED else ""
        raise ComponentError(f"there is no file {names}{more}")
    unique: dict[tuple[Path | str, tuple[str, ...]], BatchPicture] = {}
    for picture in pictures:
        image = picture.image
        place = image if is_url(image) else user_path(image).resolve()
        unique.setdefault((place, picture.settings), picture)
    return list(unique.values()), settings


def _may_exist(image: str) -> bool:
    """Whether there is a picture. Those at URLs are looked up by the batch, all at once."""
    return is_url(image) or user_path(image).is_file() or _built_in(image)


def _expand(argument: str) -> list[BatchPicture]:
    """Return the pictures that an argument stands for."""
    if is_url(argument):
        return _expand_url(argument)
    path = user_path(argument)
    if path.is_dir():
        files = sorted(path.iterdir())
        found = [f for f in files if f.suffix.lower() in PICTURE_SUFFIXES and f.name[0] != "."]
        if not found:
            raise ComponentError(
                f"{argument!r} has no picture; they are recognised by {', '.join(PICTURE_SUFFIXES)}"
            )
        return [BatchPicture(str(file)) for file in found]
    if path.suffix.lower() in LIST_SUFFIXES and path.is_file():
        return read_list(path)
    if not path.exists() and glob.has_magic(argument):
        names = sorted(glob.glob(str(path), recursive=True))
        found = [name for name in names if Path(name).is_file()]
        if not found:
            raise ComponentError(f"no file matches {argument!r}")
        return [BatchPicture(name) for name in found]
    return [BatchPicture(argument)]


def _expand_url(url: str) -> list[BatchPicture]:
    """Return the pictures that a URL stands for: a list, a folder, a pattern or a picture."""
    suffix = PurePosixPath(file_name(url)).suffix.lower()
    if glob.has_magic(url) and scheme(url) not in WEB:
        if found := find_objects(url):
            return [BatchPicture(name) for name in found]
        if "*" in url:
            raise ComponentError(f"no object matches {url!r}")
    if suffix in LIST_SUFFIXES:
        return _parse_list(read_text(open_store(url), url), url)
    if suffix in PICTURE_SUFFIXES or scheme(url) in WEB:
        return [BatchPicture(url)]
    names = [join(url, name) for name in sorted(list_names(open_store(url), url))]
    found = [name for name in names if PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES]
    return [BatchPicture(name) for name in found] or [BatchPicture(url)]


def read_list(path: Path) -> list[BatchPicture]:
    """Read a list of pictures.

    Args:
        path: A text file with a picture in each line (empty lines and lines that begin with # are
            ignored), a CSV table or a JSONL file. The column `image` names the picture; other
            columns are settings, such as `fit.steps`, and empty cells leave them out. Relative
            names are relative to the folder of the list, or else to the working folder. Names may
            be URLs.

    Returns:
        The pictures in their order.

    Raises:
        ComponentError: The file cannot be read, or a row names no picture.
    """
    try:
        return _parse_list(path.read_text(encoding="utf-8-sig"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise ComponentError(f"{path} cannot be read as a list of pictures: {error}") from error


def _parse_list(text: str, path: Path | str) -> list[BatchPicture]:
    """Read the pictures of a list from its text. `path` is its file or URL."""
    readers = {".csv": _csv_rows, ".jsonl": _json_rows}
    suffix = PurePosixPath(file_name(path)).suffix if isinstance(path, str) else path.suffix
    try:
        rows = list(readers.get(suffix.lower(), _text_rows)(text, path))
    except csv.Error as error:
        raise ComponentError(f"{path} cannot be read as a list of pictures: {error}") from error
    pictures = []
    for place, row in rows:
        image = row.pop(IMAGE, None)
        if not isinstance(image, str) or not image:
            raise ComponentError(f"{path}, {place}: there is no picture in the column {IMAGE!r}")
        settings = tuple(_setting(key, value) for key, value in row.items())
        pictures.append(BatchPicture(_beside(path, image), settings))
    if not pictures:
        raise ComponentError(f"{path} names no picture")
    return pictures


def _text_rows(text: str, _: Path | str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield f"line {number}", {IMAGE: line.strip()}


def _csv_rows(text: str, path: Path | str) -> Iterator[tuple[str, dict[str, Any]]]:
    table = csv.DictReader(text.splitlines(), skipinitialspace=True)
    if IMAGE not in (table.fieldnames or ()):
        raise ComponentError(f"{path} has no column {IMAGE!r}; its first line names the columns")
    for row in table:
        if None in row:
            raise ComponentError(f"{path}, line {table.line_num}: it has more cells than columns")
        yield f"line {table.line_num}", {key: cell for key, cell in row.items() if cell}


def _json_rows(text: str, path: Path | str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ComponentError(f"{path}, line {number}: {error}") from error
        if not isinstance(row, dict):
            raise ComponentError(f"{path}, line {number}: {line.strip()!r} is not a JSON object")
        yield f"line {number}", row


def _setting(key: str, value: Any) -> str:
    """Write a cell of a list as a setting."""
    if isinstance(value, str):
        return f"{key}={value}"
    return f"{key}={json.dumps(value)}"


def _beside(path: Path | str, image: str) -> str:
    """Return a picture's name as seen from the folder of the list that names it."""
    if is_url(image):
        return image
    if isinstance(path, str):
        return image if _built_in(image) else join(path.rpartition("/")[0], image)
    beside = path.parent / user_path(image)
    if _built_in(image) or (user_path(image).exists() and not beside.exists()):
        return image
    return str(beside)


def shard(pictures: Sequence[T], number: int, count: int) -> list[T]:
    """Return every `count`-th picture.

    Args:
        pictures: All pictures, or tasks for them.
        number: Which of them, from 0 to `count` - 1.
        count: Number of shards.
    """
    return list(pictures[number::count])


def scene_titles(images: list[str]) -> list[str]:
    """Return a title for each picture, different for different pictures.

    Files of the same name are distinguished by their folders, then by their suffixes, then by a
    hash of their paths. A title is the name of a folder (`lift.io.names.safe_name`).

    Args:
        images: Files, URLs or names of pictures.
    """
    unique = list(dict.fromkeys(images))
    titles = dict(zip(unique, _distinct_titles(unique), strict=True))
    return [titles[image] for image in images]


def _distinct_titles(images: list[str]) -> list[str]:
    titles = [_named_path(image).stem for image in images]
    parts: dict[int, tuple[str, ...]] = {}  # only where they are needed: there may be a million
    length = 1
    while duplicates := _duplicates(titles):
        chosen = [index for index, title in enumerate(titles) if title in duplicates]
        for index in chosen:
            if index not in parts:
                path = _named_path(images[index])
                parts[index] = (*path.resolve().parts[1:-1], path.stem)
        if length >= max(len(parts[index]) for index in chosen):
            break
        length += 1
        for index in chosen:
            titles[index] = "-".join(parts[index][-length:])
    duplicates = _duplicates(titles)
    titles = [
        f"{title}{_named_path(image).suffix}" if title in duplicates else title
        for title, image in zip(titles, images, strict=True)
    ]
    names = [safe_name(title) for title in titles]
    duplicates = _duplicates(names)
    return [
        add_hash(name, image if is_url(image) else str(user_path(image).resolve()))
        if name in duplicates
        else name
        for name, image in zip(names, images, strict=True)
    ]


def _named_path(image: str) -> Path:
    """Return a path with the names that tell a picture apart. That of a URL is no file."""
    if not is_url(image):
        return user_path(image)
    return Path("/", *url_parts(image)[:-1], file_name(image))


def _duplicates(names: Iterable[str]) -> set[str]:
    """Return the names that stand for the same folder as another one."""
    names = list(names)
    ignores_case = sys.platform in ("win32", "darwin")
    folders = [name.casefold() if ignores_case else name for name in names]
    counts = Counter(folders)
    return {name for name, folder in zip(names, folders, strict=True) if counts[folder] > 1}


def _built_in(image: str) -> bool:
    from lift.io.image import PHOTOS
    from lift.synthetic.scenes import SCENES

    return image in PHOTOS or image in SCENES
