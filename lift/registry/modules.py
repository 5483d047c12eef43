"""Import a module by its path or its file, and find the components that it registers."""

from lift.registry.discovery import catalogue
from lift.registry.entry import Entry
from lift.registry.module_files import import_module_or_file


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


def _all_entries() -> list[Entry]:
    """List all components of all slots."""
    slots = catalogue().entries.values()
    return [entry for entries in slots for entry in entries.values()]
