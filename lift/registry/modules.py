"""Import a module by its path or its file, and find the components that it registers."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

from lift.registry.discovery import catalogue
from lift.registry.entry import ComponentError, Entry
from lift.registry.imports import search_current_folder


def import_components(module: str) -> list[Entry]:
    """Import a module, and return the components that it registers.

    A package counts with all its modules. So do components that the module imports.

    Args:
        module: An import path, or a Python file.

    Raises:
        ComponentError: It cannot be imported. The message says why.
    """
    before = {id(entry) for entry in _all_entries()}
    imported = import_module_or_file(module)
    name = imported.__name__
    classes = {id(value) for value in vars(imported).values() if isinstance(value, type)}
    return [
        entry
        for entry in _all_entries()
        if id(entry) not in before
        or entry.module == name
        or entry.module.startswith(f"{name}.")
        or (entry.component is not None and id(entry.component) in classes)
    ]


def import_module_or_file(module: str) -> ModuleType:
    """Import a module by its path, or by the path of its file.

    Args:
        module: Such as `my_package.my_module`, `mine.py` or `folder/mine.py`. A file of a package
            is imported as a part of it.

    Raises:
        ComponentError: It cannot be imported. The message says why.
    """
    path = Path(module).expanduser()
    is_file = path.suffix == ".py" or path.is_file()
    if is_file and not path.is_file():
        raise ComponentError(f"there is no file {module!r}; give a Python file or an import path")
    if not is_file and path.joinpath("__init__.py").is_file():
        is_file = True
        path = path / "__init__.py"
    if is_file:
        folder, name = _module_of_file(path.resolve())
        sys.path.insert(0, str(folder))
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
    if is_file and found != path.resolve():
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


def _all_entries() -> list[Entry]:
    """List all components of all slots."""
    slots = catalogue().entries.values()
    return [entry for entries in slots for entry in entries.values()]
