"""Hashes of source files: what they depend on."""

import ast
from pathlib import Path

import pytest

from lift.registry import source_fingerprint
from lift.registry.fingerprint import ROOT, _imported_files


def files_by_syntax(source: bytes) -> set[Path]:
    """The files that a source imports, as its syntax tree has them."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lift":
            folder = ROOT.joinpath(*(node.module or "").split(".")[1:])
            names = [folder / f"{alias.name}.py" for alias in node.names]
            found |= {folder.with_suffix(".py"), folder / "__init__.py", *names}
    return {file for file in found if file.is_file()}


def test_all_imports_of_the_project_are_found() -> None:
    files = list(ROOT.rglob("*.py"))
    assert len(files) > 300
    for file in files:
        source = file.read_bytes()
        assert files_by_syntax(source) <= set(_imported_files(source)), file


@pytest.mark.parametrize(
    "source",
    [
        "from lift.geometry import (\n    pinhole,  # a (lens)\n    project,\n)",
        "def function():\n    from lift import geometry as g",
        "if True:\n\tfrom  lift . geometry import pinhole".replace(" . ", "."),
        "from lift.geometry import pinhole; print(pinhole)",
        "import os; from lift.geometry import pinhole",
        "if True: from lift.geometry import pinhole",
        "from lift import (\n    types,  # with a bracket (as here)\n    geometry,\n)",
        "from lift import types, \\\n    geometry",
    ],
)
def test_every_form_of_an_import_is_found(source: str) -> None:
    assert ROOT / "geometry.py" in _imported_files(source.encode())


def test_a_file_that_an_import_reaches_changes_the_hash(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    hashes = set()
    for line in ("", "from lift.planners import orbit\n", "from lift.planners import dolly\n"):
        file.write_text(line)
        hashes.add(source_fingerprint(file))
    assert len(hashes) == 3
