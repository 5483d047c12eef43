"""Hashes of source files. An edited component gets new cache keys by them."""

import ast
import hashlib
from collections import deque
from collections.abc import Iterator
from functools import cache
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
        candidates = _imported_files(file.read_bytes())
        queue += [module for module in candidates if not _is_foundation(module)]
    return files


@cache  # components share most of the files that they import
def _imported_files(source: bytes) -> tuple[Path, ...]:
    """List the files of `lift` that a source file imports; relative imports are not known."""
    files = []
    for statement in _statements(ast.parse(source)):
        parts = (getattr(statement, "module", None) or "").split(".")
        if not isinstance(statement, ast.ImportFrom) or parts[0] != PACKAGE:
            continue
        folder = ROOT.joinpath(*parts[1:])
        candidates = [
            folder.with_suffix(".py"),
            folder / "__init__.py",
            *(folder / f"{alias.name}.py" for alias in statement.names),
        ]
        files += [file for file in candidates if file.is_file()]
    return tuple(files)


def _statements(module: ast.Module) -> Iterator[ast.AST]:
    """Yield all statements of a module, but no expressions, which hold no imports."""
    queue: deque[ast.AST] = deque([module])
    while queue:
        node = queue.popleft()
        yield node
        for block in ("body", "orelse", "handlers", "finalbody", "cases"):
            queue += getattr(node, block, [])


def _is_foundation(file: Path) -> bool:
    """Whether a file is left out of fingerprints."""
    return file.stem in _FOUNDATION or file.parent == Path(__file__).parent
