import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lift.registry import parse_docstring

GOOGLE = """Warp each frame.

The warp is smooth.

Args:
    grid: Control points
        per side.
    rate (float): Learning rate.

    *parts: Names: any.

Reference:
    A paper.
"""


def test_the_first_line_is_the_summary() -> None:
    assert parse_docstring(GOOGLE).summary == "Warp each frame."


def test_the_description_leaves_out_the_arguments() -> None:
    description = "Warp each frame.\n\nThe warp is smooth.\n\nReference:\n    A paper."
    assert parse_docstring(GOOGLE).description == description


def test_arguments_are_described_in_one_line_each() -> None:
    assert parse_docstring(GOOGLE).arguments == {
        "grid": "Control points per side.",
        "rate": "Learning rate.",
        "parts": "Names: any.",
    }


def test_joined_docstrings_keep_the_first_description() -> None:
    base = "Base.\n\nArgs:\n    grid: Another.\n    seed: Of noise."
    parsed = parse_docstring(f"{GOOGLE}\n\n{base}")
    assert parsed.arguments["grid"] == "Control points per side."
    assert parsed.arguments["seed"] == "Of noise."
    assert parsed.description.endswith("Base.")


def test_an_empty_docstring_has_no_parts() -> None:
    parsed = parse_docstring("")
    assert (parsed.summary, parsed.description, parsed.arguments) == ("", "", {})


def _load_lift() -> Any:
    griffe = pytest.importorskip("griffe")
    root = Path(__file__).parents[2]
    return griffe.load("lift", search_paths=[root], docstring_parser="google", submodules=True)


def _described_parameters(item: Any) -> set[str]:
    """Read the parameters that the docstring of a griffe object describes."""
    sections = item.docstring.parse("google", warnings=False) if item.docstring else []
    return {
        parameter.name.lstrip("*")
        for section in sections
        if section.kind.value == "parameters"
        for parameter in section.value
    }


def _described_fields(item: Any) -> set[str]:
    """Read the attributes of a griffe class that have a docstring of their own."""
    return {name for name, m in item.members.items() if m.is_attribute and m.docstring}


def _public_functions(item: Any) -> Iterator[Any]:
    """Walk the public functions and methods of a griffe module or class, with constructors."""
    for name, member in item.members.items():
        special = name in ("__init__", "__call__")
        if member.is_alias or (name.startswith("_") and not special):
            continue
        if member.is_function:
            yield member
        elif member.is_module or member.is_class:
            yield from _public_functions(member)


def _descriptions(function: Any) -> set[str]:
    """Collect what a function, its class and the base classes describe."""
    described = _described_parameters(function)
    if not function.parent.is_class:
        return described
    for owner in [function.parent, *function.parent.mro()]:
        inherited = owner.members.get(function.name)
        if inherited is not None and inherited.is_function:
            described |= _described_parameters(inherited)
        if function.name == "__init__":
            described |= _described_parameters(owner) | _described_fields(owner)
    return described


def _named_parameters(function: Any) -> list[str]:
    """List the parameters of a function, without self, cls, *args and **kwargs."""
    return [
        parameter.name
        for parameter in function.parameters
        if parameter.name not in ("self", "cls") and "variadic" not in str(parameter.kind)
    ]


def test_public_parameters_are_described() -> None:
    total = 0
    missing = []
    for function in _public_functions(_load_lift()):
        names = _named_parameters(function)
        described = _descriptions(function)
        total += len(names)
        missing += [f"{function.path}:{name}" for name in names if name not in described]
    assert total > 1000
    assert len(missing) <= 0.05 * total, (
        f"{len(missing)} of {total} public parameters have no description: {', '.join(missing)}"
    )


def test_no_two_classes_share_a_name() -> None:
    places = defaultdict(list)
    root = Path(__file__).parents[2]
    for path in sorted((root / "lift").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(root)}:{node.lineno}")
    assert {name: lines for name, lines in places.items() if len(lines) > 1} == {}
