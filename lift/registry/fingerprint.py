"""Hashes of source files. An edited component gets new cache keys by them."""

import ast
import hashlib
from pathlib import Path

PACKAGE = __name__.split(".")[0]
"""Name of the top-level package."""

ROOT = Path(__file__).parents[1]
"""Folder of the top-level package."""

_FOUNDATION = ("types", "renamed", "geometry", "spherical_harmonics", "jit", "parallel")
"""Modules that no fingerprint contains, as nearly everything imports them. So is this package."""


def source_fingerprint(path: Path) -> str:
    """Hash a source file and, recursively, the modules of `lift` that it imports.

    Args:
        path: A Python file.

    Returns:
        12 hexadecimal digits.
    """
    return hashlib.sha256(
        b"".join(file.read_bytes() for file in sorted(_sources(path)))
    ).hexdigest()[:12]


def _sources(path: Path) -> set[Path]:
    """Find a file and the files of `lift` that it imports, without the foundation."""
    files: set[Path] = set()
    queue = [path]
    while queue:
        file = queue.pop()
        if file in files:
            continue
        files.add(file)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                queue += [module for module in _imported_files(node) if not _is_foundation(module)]
    return files


def _imported_files(node: ast.ImportFrom) -> list[Path]:
    """List the files of `lift` that an import statement reads; relative imports are not known."""
    parts = (node.module or "").split(".")
    if parts[0] != PACKAGE:
        return []
    folder = ROOT.joinpath(*parts[1:])
    candidates = [
        folder.with_suffix(".py"),
        folder / "__init__.py",
        *(folder / f"{alias.name}.py" for alias in node.names),
    ]
    return [file for file in candidates if file.is_file()]


def _is_foundation(file: Path) -> bool:
    """Whether a file is left out of fingerprints."""
    return file.stem in _FOUNDATION or file.parent == Path(__file__).parent
