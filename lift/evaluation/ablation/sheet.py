"""Draw the pictures of a joint table: a row for each scene, a column for each evaluation."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from lift.evaluation.ablation.joint import JointRow
from lift.evaluation.description import sheet_targets
from lift.evaluation.storage import task_name
from lift.evaluation.tables import format_value, sheet_picture
from lift.runtime.integrity import damage_of

MAX_SCENES = 12
"""Largest number of scenes on a sheet."""
MAX_WIDTH = 6000
"""Largest width of a sheet in pixels, unless its columns would be narrower than MIN_COLUMN."""
MIN_COLUMN = 150
"""Smallest width of a column in pixels."""

_GAP = 6
"""Pixels between pictures."""
_LINE = 13
"""Pixels of a line of text."""
_CHARACTER = 6
"""Pixels of a character, for line breaks."""


@dataclass(frozen=True)
class _Cell:
    """A picture of the sheet."""

    picture: Image.Image | None
    """The picture. None if it is missing."""
    caption: str
    """Text below it."""


@dataclass(frozen=True)
class _Strip:
    """The pictures of one scene."""

    title: str
    """Text above them."""
    cells: list[_Cell]
    """The input, the truth and the render of each row."""


def draw_joint_sheet(
    rows: Sequence[JointRow],
) -> UInt8[Tensor, "height width 3"] | None:
    """Draw the input, the truth and the render of each row, for up to MAX_SCENES scenes.

    A scene is shown at one of the targets of its own sheets, the one just beyond their middle. The
    seed is the lowest one that all rows have.

    Args:
        rows: Rows of a joint table.

    Returns:
        The sheet, with labels, and below each picture its PSNR. None if no row has pictures.
    """
    scenes = list(dict.fromkeys(task["scene"] for row in rows for task in row.result.rows))
    count = min(MAX_SCENES, len(scenes))
    chosen = [scenes[round(k)] for k in np.linspace(0, len(scenes) - 1, count)]
    strips = [strip for scene in chosen if (strip := _make_strip(rows, scene))]
    if not strips:
        return None
    titles = ["input", "truth", *(row.label for row in rows)]
    limit = max(MIN_COLUMN, MAX_WIDTH // len(titles) - _GAP)
    column = min(limit, max(MIN_COLUMN, *(_width(strip) for strip in strips)))
    parts = [_draw_titles(titles, column), *(_draw_strip(strip, column) for strip in strips)]
    sheet = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return torch.from_numpy(np.array(sheet))


def _make_strip(rows: Sequence[JointRow], scene: str) -> _Strip | None:
    """Find the pictures of a scene. None without any."""
    tasks = [
        {task["seed"]: task for task in row.result.rows if task["scene"] == scene} for row in rows
    ]
    available = [set(own) for own in tasks if own]
    seed = min(set.intersection(*available) or set.union(*available))
    sheets = [
        _Sheet(row, own[seed]) if seed in own else None
        for row, own in zip(rows, tasks, strict=True)
    ]
    first = next((sheet for sheet in sheets if sheet and sheet.image), None)
    if first is None:
        return None
    view = first.middle_view()
    cells = [
        _Cell(first.picture(None, 0), format_value("psnr", view["psnr_input"]) + " dB"),
        _Cell(first.picture(view["view"], 0), ""),
    ]
    for row, sheet in zip(rows, sheets, strict=True):
        own = sheet.find(view["view"]) if sheet else None
        if sheet is None or own is None:
            has_failed = task_name(scene, seed) in row.result.failed
            cells.append(_Cell(None, "failed" if has_failed else "no picture"))
        else:
            caption = format_value("psnr", own["psnr"]) + " dB"
            cells.append(_Cell(sheet.picture(view["view"], 1), caption))
    title = (
        f"{scene}, seed {seed}; target '{view['view']}', {view['distance']:.2f} typical depths away"
    )
    return _Strip(title, cells)


class _Sheet:
    """The sheet of one evaluation of a scene.

    Args:
        row: The evaluation.
        task: Its result of the scene and a seed.
    """

    def __init__(self, row: JointRow, task: Mapping[str, Any]) -> None:
        self.task = task
        file = row.result.folder / f"{task_name(task['scene'], task['seed'])}.png"
        self.image: Image.Image | None = None
        if file.is_file():
            with damage_of(file), Image.open(file) as image:
                self.image = image.convert("RGB")
        self.targets = sheet_targets(task["views"])

    def middle_view(self) -> Mapping[str, Any]:
        """Return the measures of the target that represents the scene."""
        return self.task["views"][self.targets[len(self.targets) // 2]]

    def find(self, name: str) -> Mapping[str, Any] | None:
        """Return the measures of a target, if the sheet shows it."""
        views = [self.task["views"][k] for k in self.targets]
        return next((view for view in views if view["view"] == name), None)

    def picture(self, name: str | None, column: int) -> Image.Image | None:
        """Cut out a picture of a target, or the input."""
        if self.image is None:
            return None
        names = [None, *(self.task["views"][k]["view"] for k in self.targets)]
        return sheet_picture(self.image, tuple(self.task["size"]), names.index(name), column)


def _width(strip: _Strip) -> int:
    """Return the width of a strip's pictures."""
    return max(cell.picture.width for cell in strip.cells if cell.picture)


def _draw_titles(titles: Sequence[str], column: int) -> Image.Image:
    """Draw the titles of the columns."""
    texts = [
        textwrap.wrap(_printable(title).replace(",", ", "), column // _CHARACTER)
        for title in titles
    ]
    image = _canvas(len(titles), column, _LINE * max(map(len, texts)) + _GAP)
    draw = ImageDraw.Draw(image)
    for k, lines in enumerate(texts):
        for number, line in enumerate(lines):
            draw.text((k * (column + _GAP), _LINE * number), line, fill=(0, 0, 0))
    return image


def _draw_strip(strip: _Strip, column: int) -> Image.Image:
    """Draw the pictures of a scene with their captions. Wide ones are reduced to the column."""
    pictures = [cell.picture and _reduce(cell.picture, column) for cell in strip.cells]
    height = max(picture.height for picture in pictures if picture)
    image = _canvas(len(pictures), column, height + 2 * _LINE + 2 * _GAP)
    draw = ImageDraw.Draw(image)
    draw.text((0, 0), _printable(strip.title), fill=(0, 0, 0))
    for k, (cell, picture) in enumerate(zip(strip.cells, pictures, strict=True)):
        left = k * (column + _GAP)
        if picture:
            image.paste(picture, (left, _LINE + 2))
        draw.text((left, _LINE + height + 3), cell.caption, fill=(0, 0, 0))
    return image


def _reduce(picture: Image.Image, width: int) -> Image.Image:
    """Reduce a picture to a width, unless it is narrower."""
    if picture.width <= width:
        return picture
    height = max(1, round(picture.height * width / picture.width))
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _canvas(columns: int, width: int, height: int) -> Image.Image:
    return Image.new("RGB", (columns * (width + _GAP), height), "white")


def _printable(text: str) -> str:
    """Replace characters that the built-in font may not have."""
    return text.encode("latin-1", "replace").decode("latin-1")
