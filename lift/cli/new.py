"""`lift new`: write a working component with its test, to start from."""

import argparse
import importlib.util
import keyword
import re
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from lift import __version__
from lift.cli.processes import add_command
from lift.io.names import user_path
from lift.registry import ALL_SLOTS, PLUGIN_GROUP, ComponentError, catalogue
from lift.registry.entry import join_names

_TEMPLATES = "lift.templates"
"""Package with the component and the test of each slot."""

_PREFIX = "lift_"
"""Begin of the name of a plugin's package."""

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=68"]
build-backend = "setuptools.build_meta"

[project]
name = "{project}"
version = "0.1.0"
description = "The {slot} {name} for lift"
requires-python = ">=3.10"
dependencies = ["lift>={version}"]

[project.entry-points."{group}"]
{name} = "{package}.{name}"

[tool.setuptools]
packages = ["{package}"]

[tool.setuptools.package-data]
{package} = ["configs/**/*.yaml"]
"""

_README = """\
# {project}

The {slot} `{name}` for `lift`.

```
pip install -e .
{use}
python -m pytest
```
"""

_EXPERIMENT = """\
# @package _global_
# A run with the {slot} {name}.
defaults:
  - override /{slot}: {name}  # the component of this package
"""


def add_parser(commands: Any) -> None:
    """Add the command to the command line.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(commands, "new", new, "write a working component with its test")
    parser.add_argument("slot", metavar="SLOT", help=", ".join(ALL_SLOTS))
    parser.add_argument("name", metavar="NAME", help="name of the component, in lower case")
    parser.add_argument(
        "--to",
        metavar="FOLDER",
        type=Path,
        default=Path(),
        help="folder to write to; it is created (the current one)",
    )
    parser.add_argument(
        "--package",
        action="store_true",
        help="write a package with an entry point, which `pip install` makes known to lift",
    )
    parser.epilog = "No file is ever overwritten. The component passes its test and `lift check`."


def new(options: argparse.Namespace) -> int:
    """Write a component and its test.

    Args:
        options: `slot`, `name`, `to` and `package`.

    Returns:
        The exit status.

    Raises:
        ComponentError: The slot does not exist, or the name cannot be used.
        FileExistsError: A file exists. Then none is written.
    """
    slot, name = options.slot, options.name
    folder = user_path(options.to)
    _check_name(slot, name)
    contents = _package_files(slot, name) if options.package else _module_files(slot, name)
    paths = {folder / path: content for path, content in contents.items()}
    existing = [str(path) for path in paths if path.exists()]
    if existing:
        raise FileExistsError(
            f"{join_names(existing)} would be overwritten; choose another name or --to FOLDER"
        )
    _check_module(name, f"{_PREFIX}{name}" if options.package else name)
    for path, content in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        print(path)
    _print_next_steps(slot, name, folder, is_package=options.package)
    return 0


def class_name(slot: str, name: str) -> str:
    """Return the name of a component's class: that of the component in camel case.

    Args:
        slot: Slot of the component. Its name is added if the class would hide what it needs.
        name: Name of the component.
    """
    camel = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    is_used = re.search(rf"\b{camel}\b", _read_template(f"{slot}.py"))
    return f"{camel}{slot.title()}" if is_used else camel


def _check_name(slot: str, name: str) -> None:
    """Raise ComponentError if there is no such slot, or if a component cannot have the name."""
    if slot not in ALL_SLOTS:
        raise ComponentError(f"there is no slot {slot!r}; choose one of {join_names(ALL_SLOTS)}")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ComponentError(
            f"the name is {name!r}; choose a lower-case letter, followed by lower-case letters, "
            "digits and underscores, and no keyword of Python"
        )
    entries = catalogue().entries[slot]
    if name in entries:
        owner = f"{entries[name].module}.{entries[name].qualname}"
        raise ComponentError(
            f"{slot} {name!r} is already {owner}; taken are {join_names(sorted(entries))}; choose "
            "another name"
        )


def _check_module(name: str, module: str) -> None:
    """Raise ComponentError if a module would hide another one, or be hidden by it."""
    spec = importlib.util.find_spec(module)
    if module in sys.stdlib_module_names or (spec and spec.origin):
        raise ComponentError(
            f"the name is {name!r}, but Python has a module {module!r} already; choose another "
            "name, as the component's module is named like it"
        )


def _module_files(slot: str, name: str) -> dict[str, str]:
    """Return a module and its test, by their paths."""
    return {
        f"{name}.py": _render(slot, f"{slot}.py", name, name),
        f"test_{name}.py": _render(slot, f"test_{slot}.py", name, name),
    }


def _package_files(slot: str, name: str) -> dict[str, str]:
    """Return the files of a package, by their paths."""
    package = f"{_PREFIX}{name}"
    project = package.replace("_", "-")
    use = f"lift run image=photo.jpg {slot}={name}"
    if slot == "dataset":
        use = f"lift eval dataset={name} dataset.path=FOLDER"
    values = {
        "slot": slot,
        "name": name,
        "package": package,
        "project": project,
        "group": PLUGIN_GROUP,
        "version": ".".join(__version__.split(".")[:2]),
        "use": use,
    }
    module = f"{package}.{name}"
    contents = {
        "pyproject.toml": _PYPROJECT.format(**values),
        "README.md": _README.format(**values),
        f"{package}/__init__.py": f'"""The {slot} {name} for lift."""\n',
        f"{package}/{name}.py": _render(slot, f"{slot}.py", name, module),
        f"tests/test_{name}.py": _render(slot, f"test_{slot}.py", name, module),
    }
    if slot != "dataset":
        contents[f"{package}/configs/experiment/{name}.yaml"] = _EXPERIMENT.format(**values)
    return {f"{project}/{path}": content for path, content in contents.items()}


def _read_template(file: str) -> str:
    """Read a file of the templates."""
    return files(_TEMPLATES).joinpath(file).read_text(encoding="utf-8")


def _render(slot: str, file: str, name: str, module: str) -> str:
    """Put the names of a new component into a file of the templates."""
    text = _read_template(file)
    text = text.replace(f"{_TEMPLATES}.{slot}", module)
    text = text.replace(f"New{slot.title()}", class_name(slot, name))
    return text.replace(f"new_{slot}", name)


def _print_next_steps(slot: str, name: str, folder: Path, *, is_package: bool) -> None:
    """Print how to use what was written."""
    page = f"docs/extending/{slot}.md"
    lines = []
    if is_package:
        project = folder / f"{_PREFIX}{name}".replace("_", "-")
        lines.append(f"pip install -e {project}")
        target = f"{_PREFIX}{name}.{name}"
        variable = ""
        test = project
    else:
        target = str(folder / f"{name}.py")
        variable = f"LIFT_PLUGINS={name} "
        test = folder / f"test_{name}.py"
        if folder.resolve() != Path.cwd():
            variable = f"PYTHONPATH={folder} {variable}"
    lines += [f"lift check {target}", f"python -m pytest {test}"]
    use = f"lift run image=photo.jpg {slot}={name}"
    lines.append(variable + (f"lift eval dataset={name} ..." if slot == "dataset" else use))
    print(f"\n{page} describes the protocol. Next:")
    for line in lines:
        print(f"  {line}")
