"""Hashes of source files. An edited component gets new cache keys by them."""

import hashlib
import re
from functools import cache
from pathlib import Path

PACKAGE = __name__.split(".")[0]
"""Name of the top-level package."""

ROOT = Path(__file__).parents[1]
"""Folder of the top-level package."""

_IMPORT = re.compile(
    rb"(?:^|[;:])[ \t]*from[ \t]+(%b(?:\.\w+)*)[ \t]+import[ \t]+(?:\(([^)]*)\)|([^\n;]+))"
    % PACKAGE.encode(),
    re.MULTILINE,
)
"""`from MODULE import NAMES`, where the names may stand in parentheses."""
_COMMENT = re.compile(rb"#[^\n]*")

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
    """List the files of `lift` that a source file imports; relative imports are not known.

    Imports are found by their text, as parsing all files takes half a second. A text that looks
    like one, in an example of a docstring, only adds a file to the hash.
    """
    files = []
    plain = _COMMENT.sub(b"", source).replace(b"\\\n", b" ")
    for match in _IMPORT.finditer(plain):
        module, *names = ((part or b"").decode() for part in match.groups())
        folder = ROOT.joinpath(*module.split(".")[1:])
        candidates = [
            folder.with_suffix(".py"),
            folder / "__init__.py",
            *(
                folder / f"{words[0]}.py"
                for name in ",".join(names).split(",")
                if (words := name.split())
            ),
        ]
        files += [file for file in candidates if file.is_file()]
    return tuple(files)


def _is_foundation(file: Path) -> bool:
    """Whether a file is left out of fingerprints."""
    return file.stem in _FOUNDATION or file.parent == Path(__file__).parent
