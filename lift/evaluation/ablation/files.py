"""Write a joint table to files."""

from pathlib import Path

from lift.evaluation.ablation.joint import JointTable
from lift.evaluation.ablation.results import TABLE
from lift.evaluation.ablation.sheet import draw_joint_sheet
from lift.evaluation.ablation.text import format_csv, format_markdown
from lift.evaluation.storage import write_sealed
from lift.io.image import save_image
from lift.io.names import printable
from lift.runtime.atomic_io import publish

SUFFIXES = (".md", ".csv", ".json", ".png")
"""Suffixes of the files that `save_joint_table` can write."""


def check_suffix(path: Path) -> None:
    """Check that a table can be written to a file of this name.

    Args:
        path: The file.

    Raises:
        ValueError: Its suffix is not one of SUFFIXES.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"--output is {str(path)!r}; choose a file that ends with {', '.join(SUFFIXES)}"
        )


def save_joint_table(table: JointTable, path: Path) -> None:
    """Write a joint table to a file, in the format that its suffix names.

    Args:
        table: The table.
        path: A file with one of SUFFIXES. PNG is the sheet of pictures.

    Raises:
        ValueError: The suffix is another one, or there are no pictures for a sheet.
    """
    check_suffix(path)
    suffix = path.suffix.lower()
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".png":
        sheet = draw_joint_sheet(table.rows)
        if sheet is None:
            raise ValueError(f"there is no sheet to write to {path}: the results have no pictures")
        publish(path, lambda draft: save_image(draft, sheet))
        return
    if suffix == ".json":
        write_sealed(path, table.to_json(path.parent))
        return
    text = format_csv(table, path.parent) if suffix == ".csv" else format_markdown(table) + "\n"
    publish(path, lambda draft: draft.write_text(printable(text), encoding="utf-8"))


def save_all(table: JointTable, folder: Path) -> Path:
    """Write table.md, table.csv, table.json and, if there are pictures, sheet.png.

    Args:
        table: The table.
        folder: Their folder.

    Returns:
        The path of table.md.
    """
    for name in ("table.csv", TABLE, "table.md"):
        save_joint_table(table, folder / name)
    if any(row.measured for row in table.rows):
        save_joint_table(table, folder / "sheet.png")
    return folder / "table.md"
