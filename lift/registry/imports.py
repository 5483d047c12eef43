"""Import what a setting names by its path, such as `my_module.MyCallback`."""

import importlib
import importlib.util
import sys
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from lift.registry.entry import ComponentError, join_names

_MAX_LISTED = 8
"""Largest number of names in a message."""


def search_current_folder() -> None:
    """Let imports find modules in the current folder, after those of all other folders.

    So a file there cannot take the place of an installed package.
    """
    if "" not in sys.path:
        sys.path.append("")


def is_installed(package: str) -> bool:
    """Whether a package can be imported. A folder without code, such as `wandb/`, does not count.

    Args:
        package: Name of a top-level package.
    """
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def import_object(path: str, setting: str) -> Any:
    """Import a class or a function. Modules of the current folder are found, too.

    Args:
        path: Import path, such as `my_module.MyCallback`.
        setting: Name of the setting for error messages.

    Returns:
        The class or the function.

    Raises:
        ComponentError: The import fails; the message names the path and says why.
    """
    search_current_folder()
    importlib.invalidate_caches()  # a notebook may have written the module just now
    parts = path.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ComponentError(
            f"{setting} names {path!r}; give an import path such as my_module.MyClass"
        )
    module, rest = _import_longest(parts, path, setting)
    value: Any = module
    for part in rest:
        if not hasattr(value, part):
            raise ComponentError(f"{setting} names {path!r}, but {_missing_name(value, part)}")
        value = getattr(value, part)
    if not callable(value):
        raise ComponentError(
            f"{setting} names {path!r}, which is a {type(value).__name__}; name a class"
        )
    return value


def _import_longest(parts: list[str], path: str, setting: str) -> tuple[ModuleType, list[str]]:
    """Import the longest module that a path begins with, and return the names that are left."""
    module = None
    for length in range(1, len(parts)):
        name = ".".join(parts[:length])
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:  # the module exists, but one that it imports does not
                raise _import_error(path, setting, name, error) from error
            if module is None:
                raise ComponentError(
                    f"{setting} names {path!r}, but there is no module {name!r}, neither in the "
                    "current folder nor among the installed packages"
                ) from None
            return module, parts[length - 1 :]
        except Exception as error:
            raise _import_error(path, setting, name, error) from error
    assert module is not None
    return module, parts[-1:]


def _import_error(path: str, setting: str, module: str, error: Exception) -> ComponentError:
    """Return the error for a module that fails when it is imported."""
    return ComponentError(
        f"{setting} names {path!r}, but the import of {module!r} fails: "
        f"{type(error).__name__}: {error}"
    )


def _missing_name(owner: Any, name: str) -> str:
    """Say what a module or a class has instead of a name."""
    names = [key for key, value in vars(owner).items() if key[0] != "_" and callable(value)]
    if close := get_close_matches(name, names, 1):
        hint = f"did you mean {close[0]}?"
    else:
        hint = f"it has {join_names(names[:_MAX_LISTED])}"
    return f"{owner.__name__!r} has no {name!r}; {hint}"
