"""Import a module by its path or by its file."""

import importlib
import os
import re
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType

from lift.io.names import user_path
from lift.registry.imports import search_current_folder
from lift.registry.values import ComponentError

_MAX_FILES = 200
"""Largest number of files of a folder that are searched for a component."""

_MAX_BYTES = 2**18
"""Largest size of such a file."""


def is_file_path(plugin: str) -> bool:
    """Whether a plugin is named by its file and not by an import path.

    Args:
        plugin: Such as `my_package.my_module`, `mine.py` or `folder/mine`.
    """
    return plugin.endswith(".py") or "/" in plugin or os.sep in plugin


def find_registering_file(name: str) -> str | None:
    """Find a Python file of the current folder that registers a component, without its import.

    Args:
        name: Name of the component.

    Returns:
        Name of the file; None if there is none, or if the folder cannot be read.
    """
    pattern = re.compile(rf"""\.register\(\s*["']{re.escape(name)}["']""")
    try:
        with os.scandir() as entries:
            sources = (e.name for e in entries if e.name.endswith(".py") and e.is_file())
            for file in sorted(islice(sources, _MAX_FILES)):
                with open(file, encoding="utf-8", errors="replace") as stream:
                    text = stream.read(_MAX_BYTES)
                is_named = file == f"{name}.py" and ".register(" in text
                if is_named or pattern.search(text):
                    return file
    except OSError:
        pass
    return None


def import_module_or_file(module: str) -> ModuleType:
    """Import a module by its path, or by the path of its file.

    Args:
        module: Such as `my_package.my_module`, `mine.py` or `folder/mine.py`. A file of a package
            is imported as a part of it.

    Raises:
        ComponentError: It cannot be imported. The message says why.
    """
    path = user_path(module)
    by_path = path.suffix == ".py" or path.is_file()
    if by_path and not path.is_file():
        raise ComponentError(f"there is no file {module!r}; give a Python file or an import path")
    if not by_path and path.joinpath("__init__.py").is_file():
        by_path = True
        path = path / "__init__.py"
    if by_path:
        folder, name = _module_of_file(path.resolve())
        if str(folder) not in sys.path:  # at the end, so that no file hides an installed package
            sys.path.append(str(folder))
    else:
        search_current_folder()
        name = module
    importlib.invalidate_caches()
    try:
        imported = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise ComponentError(
                f"there is no module {error.name!r}, neither in the current folder nor among the "
                "installed packages; give an import path or a Python file"
            ) from None
        raise _import_error(module, error) from error
    except ComponentError:
        raise
    except Exception as error:
        raise _import_error(module, error) from error
    found = Path(imported.__file__ or "").resolve()
    if by_path and found != path.resolve():
        raise ComponentError(f"{module} has the name of another module, {found}; rename the file")
    return imported


def _module_of_file(path: Path) -> tuple[Path, str]:
    """Return the folder to import a file from, and its name as a module."""
    parts = [] if path.name == "__init__.py" else [path.stem]
    folder = path.parent
    while folder.joinpath("__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    if not all(part.isidentifier() for part in parts):
        raise ComponentError(
            f"{path.name} cannot be imported, because {'.'.join(parts)!r} is no name of a module; "
            "use letters, digits and underscores"
        )
    return folder, ".".join(parts)


def _import_error(module: str, error: Exception) -> ComponentError:
    """Return the error for a module that fails when it is imported."""
    return ComponentError(f"the import of {module} fails: {type(error).__name__}: {error}")
