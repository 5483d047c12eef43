"""Format a joint table as Markdown or as comma-separated values."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lift.evaluation.ablation.differences import COMPARED
from lift.evaluation.ablation.joint import JointRow, JointTable
from lift.evaluation.description import describe_protocol
from lift.evaluation.measures import say_unavailable
from lift.evaluation.tables import (
    MEASURES,
    RUN_MEASURES,
    WITHOUT_DEVIATION,
    format_number,
    format_value,
)

MAX_SETTING_COLUMNS = 5
"""Largest number of settings with a column each. More are listed below the table."""

MAX_ERROR = 160
"""Largest number of characters of an error."""

_HIGHER = "↑"
_LOWER = "↓"
_DIRECTIONS = {
    "psnr": _HIGHER,
    "ssim": _HIGHER,
    "lpips": _LOWER,
    "dists": _LOWER,
    "psnr_visible": _HIGHER,
    "ssim_visible": _HIGHER,
    "lpips_visible": _LOWER,
    "abs_rel": _LOWER,
    "rank_correlation": _HIGHER,
    "rotation": _LOWER,
    "position": _LOWER,
}
"""Whether a higher or a lower value of a measure is better."""

_IN_TEXT = ("visible", "psnr_input")
"""Measures that depend on the data alone. A sentence names them."""


def format_markdown(table: JointTable) -> str:
    """Format a joint table in Markdown.

    Args:
        table: The table.

    Returns:
        A description, the table, and notes. Columns are aligned, so that it can be read as text.
    """
    rows = table.rows
    label_columns, legend = _label_columns(table)
    columns: dict[str, list[str]] = dict(label_columns)
    columns["n"] = [_format_count(row) for row in rows]
    if any(row.reference for row in rows):
        columns["pairs"] = ["" if row.pairs is None else str(row.pairs) for row in rows]
    references = list(dict.fromkeys(row.reference for row in rows if row.reference))
    if len(references) > 1:
        columns["compared with"] = [row.reference or "" for row in rows]
    for key, name in (MEASURES | RUN_MEASURES).items():
        if key not in _IN_TEXT and table.available(key):
            heading = f"{name} {_DIRECTIONS[key]}" if key in _DIRECTIONS else name
            columns[heading] = [_format_measure(row, key) for row in rows]
    parts = [
        _describe(table, references),
        "\n".join(_align_columns(columns)),
        *legend,
        *_failures(rows),
        *_notes(table),
    ]
    return "\n\n".join(parts)


def _label_columns(table: JointTable) -> tuple[dict[str, list[str]], list[str]]:
    """Return columns that distinguish the rows, and a list of settings if they are too many."""
    variants = [row.result.variant for row in table.rows]
    keys = table.setting_names
    settings = {key: [_escape(row.settings.get(key, "")) for row in table.rows] for key in keys}
    if 0 < len(keys) <= MAX_SETTING_COLUMNS:
        names = [_escape(",".join(f.name for f in v.factors if f.name)) for v in variants]
        return ({"row": names} if any(names) else {}) | settings, []
    labels = {"row": [_escape(variant.label) for variant in variants]}
    lines = [
        f"- {_escape(variant.label)}: `{' '.join(variant.arguments)}`"
        for variant in variants
        if variant.is_named and variant.arguments
    ]
    return labels, ["\n".join(lines)] if lines else []


def _format_count(row: JointRow) -> str:
    """Format the number of measured scenes and seeds, and of all if there are more."""
    missing = len(row.result.failed) + len(row.result.unmeasured)
    return f"{row.measured} of {row.measured + missing}" if missing else str(row.measured)


def _format_measure(row: JointRow, key: str) -> str:
    """Format a mean, and in brackets its difference to the reference with its error."""
    text = format_value(key, row.mean[key])
    difference = row.differences.get(key)
    if key not in COMPARED or difference is None:
        return text
    change = format_number(key, difference.mean, sign=True)
    if difference.error is not None:
        change += f" ± {format_number(key, difference.error)}"
    return f"{text} ({change})"


def _describe(table: JointTable, references: Sequence[str]) -> str:
    """Describe the data, the protocol and the figures."""
    content = table.rows[0].result.content
    tasks = [(task["scene"], task["seed"]) for row in table.rows for task in row.result.rows]
    scenes = list(dict.fromkeys(scene for scene, _ in tasks))
    seeds = sorted({seed for _, seed in tasks})
    protocol = describe_protocol(
        content["dataset"]["name"], content["protocol"], content["settings"]["preprocess"]["size"]
    )
    text = (
        f"{protocol}\n\nScenes: {', '.join(scenes) or 'none'}. "
        f"Seeds: {', '.join(map(str, seeds)) or 'none'}. `n`: number of scenes times seeds. "
        "Values are means over targets, then scenes, then seeds. "
    )
    if references:
        to = f"`{references[0]}`" if len(references) == 1 else 'the row in "compared with"'
        text += (
            f"In brackets is the difference to {to}, over pairs of the same scene and seed, ± its "
            "standard error. The error adds the variation over scenes and over seeds, so few of "
            "either tell little. `pairs`: their number. "
        )
    return text + _describe_input(table.rows)


def _describe_input(rows: Iterable[JointRow]) -> str:
    """Say what the input itself reaches, if that is the same for all rows."""
    values = {format_value("psnr_input", row.mean["psnr_input"]) for row in rows if row.measured}
    fractions = {format_value("visible", row.mean["visible"]) for row in rows if row.measured}
    parts = []
    if len(values) == 1:
        parts.append(f"The input itself as every prediction reaches {values.pop()} dB.")
    if len(fractions) == 1:
        parts.append(f"It shows {fractions.pop()} of the targets' pixels.")
    return " ".join(parts)


def _failures(rows: Iterable[JointRow]) -> list[str]:
    """List failed scenes and seeds of each row by their error."""
    lines = []
    for row in rows:
        by_error: dict[str, list[str]] = {}
        for name, error in row.result.failed.items():
            by_error.setdefault(error, []).append(name)
        total = row.measured + len(row.result.failed) + len(row.result.unmeasured)
        lines += [
            f"- {_escape(row.label)}: {len(names)} of {total} failed: {_shorten(error)} "
            f"({', '.join(names)})"
            for error, names in by_error.items()
        ]
        if names := row.result.unmeasured:
            lines.append(
                f"- {_escape(row.label)}: {len(names)} of {total} not measured yet "
                f"({', '.join(names)})"
            )
    if not lines:
        return []
    return [
        "These scenes are in no mean. The means of such a row are over fewer scenes. Its "
        "differences are over the pairs that both rows have.\n\n" + "\n".join(lines)
    ]


def _notes(table: JointTable) -> list[str]:
    """List differences of the measurement, missing measures, and the command."""
    notes = []
    if table.notes:
        notes.append(
            "Rows were measured in different ways: "
            + "; ".join(_escape(note) for note in table.notes)
            + "."
        )
    missing = [note for row in table.rows for task in row.result.rows for note in task["missing"]]
    if missing:
        notes.append(say_unavailable(dict(note.split(": ", 1) for note in missing)) + ".")
    if table.command:
        notes.append(f"Made by `{table.command}`.")
    return notes


def _align_columns(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Format a Markdown table whose columns are aligned."""
    texts = [[name, *cells] for name, cells in columns.items()]
    widths = [max(3, *map(len, column)) for column in texts]
    lines = [
        "| "
        + " | ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True))
        + " |"
        for line in zip(*texts, strict=True)
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _shorten(error: str) -> str:
    """Cut a long error. The table of the row has all of it."""
    return error if len(error) <= MAX_ERROR else f"{error[:MAX_ERROR]} ..."


def _escape(text: str) -> str:
    """Keep a text from ending a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def format_csv(table: JointTable, folder: Path) -> str:
    """Format a joint table as comma-separated values, without units and not rounded.

    Args:
        table: The table.
        folder: Folder of the file, to which the folders of the rows are relative.

    Returns:
        A header and a line for each row.
    """
    measures = [key for key in (*MEASURES, *RUN_MEASURES) if table.available(key)]
    lines = [_csv_line(row, table.setting_names, measures, folder) for row in table.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _csv_line(
    row: JointRow, settings: Sequence[str], measures: Sequence[str], folder: Path
) -> dict[str, Any]:
    """Return the values of a row by the names of the columns."""
    line: dict[str, Any] = {"row": row.label}
    line |= {key: row.settings.get(key, "") for key in settings}
    line |= {
        "n": row.measured,
        "failed": len(row.result.failed),
        "error": _shorten(next(iter(row.result.failed.values()), "")),
        "baseline": row.reference or "",
        "pairs": row.pairs,
    }
    for key in measures:
        line[key] = row.mean[key]
        if key not in WITHOUT_DEVIATION:
            line[f"{key}_std"] = row.mean.get(f"{key}_std")
        if key in COMPARED:
            difference = row.differences.get(key)
            line[f"{key}_difference"] = difference and difference.mean
            line[f"{key}_difference_error"] = difference and difference.error
    line["folder"] = os.path.relpath(row.result.folder, folder)
    return line
