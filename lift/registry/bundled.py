"""Modules that lie inside another installed package, which carries a copy of them.

Some networks are in no package of their own on PyPI. A package of another name has their code in a
folder below its own. Its own `__init__` is not imported, because that would import all that the
package needs.
"""

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path


def find_bundled(module: str, folders: Iterable[str]) -> Path | None:
    """Find the folder that has a module.

    Args:
        module: Name of a top-level module.
        folders: Folders below installed packages, such as `package/third_party/network`.

    Returns:
        The folder; None if no installed package has it.
    """
    for name in folders:
        package, _, rest = name.partition("/")
        spec = importlib.util.find_spec(package)
        for location in (spec.submodule_search_locations or ()) if spec else ():
            folder = Path(location) / rest
            if (folder / module / "__init__.py").is_file():
                return folder
    return None


def is_available(module: str, folders: Iterable[str]) -> bool:
    """Whether a module can be imported, directly or from a folder of another package.

    Args:
        module: Name of a top-level module.
        folders: Folders below installed packages.
    """
    found = importlib.util.find_spec(module) is not None
    return found or find_bundled(module, folders) is not None


def add_bundled(modules: Iterable[str], folders: Iterable[str]) -> None:
    """Let imports find modules inside other packages. Modules of their own come first.

    Args:
        modules: Names of top-level modules.
        folders: Folders below installed packages.
    """
    folders = tuple(folders)
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None:
            continue
        folder = find_bundled(module, folders)
        if folder is not None and str(folder) not in sys.path:
            sys.path.append(str(folder))
            importlib.invalidate_caches()
