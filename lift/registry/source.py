"""Built-in components, read from the syntax tree of their source files."""

import ast
import inspect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Optional, Union

from lift.registry.entry import ComponentError, Entry, join_names
from lift.registry.fingerprint import PACKAGE, ROOT

_ANNOTATIONS = {"Literal": Literal, "Path": Path, "Optional": Optional, "Union": Union}
"""Names that annotations and defaults may use, besides builtins and `lift.registry.ranges`."""

_FACTS = ("licence", "requires", "extra", "install", "bundled")
_PRIOR_FACTS = (
    "cost_settings",
    "exact_depth",
    "has_recorded_frames",
    "origin",
    "control",
    "trained_size",
    "trained_sizes",
    "trained_frames",
    "weight_memory",
    "working_memory",
    "measured_memory",
    "memory_note",
    "denoiser",
    "clip_seconds",
)
_SLOT_FACTS = {"prior": _PRIOR_FACTS, "planner": ("hints_recorded_frames",)}

_Ancestor = tuple[ast.ClassDef, Path]
"""A class and its source file."""


def fact_names(slot: str) -> tuple[str, ...]:
    """List the class attributes that components of a slot declare facts by.

    Args:
        slot: Name of the slot.
    """
    return _FACTS + _SLOT_FACTS.get(slot, ())


def settings_of(parameters: Mapping[str, inspect.Parameter]) -> dict[str, inspect.Parameter]:
    """Select the parameters that are settings: those that can be passed by position and by name.

    Args:
        parameters: Parameters of a constructor.
    """
    return {key: p for key, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD}


def read_components(slot: str, module: str, path: Path) -> Iterator[Entry]:
    """Read the components that a source file registers.

    Args:
        slot: Slot that they belong to.
        module: Name of the module.
        path: Its source file.
    """
    if b".register(" not in path.read_bytes():  # to parse all files takes long
        return
    tree = _parse(path)
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            if (
                isinstance(decorator, ast.Call)
                and getattr(decorator.func, "attr", "") == "register"
            ):
                name = ast.literal_eval(decorator.args[0])
                ancestors = _ancestors(node, tree, path)
                facts = {}
                for ancestor, _ in reversed(ancestors):
                    facts |= _read_facts(ancestor, slot)
                settings, base_docs = _read_settings(ancestors)
                doc = ast.get_docstring(node) or ""
                yield Entry(slot, name, module, node.name, doc, path, settings, base_docs, **facts)


@lru_cache(maxsize=16)  # many components are derived from the same few files
def _parse(path: Path) -> ast.Module:
    """Read the syntax tree of a file."""
    return ast.parse(path.read_bytes(), str(path))


def _ancestors(node: ast.ClassDef, tree: ast.Module, path: Path) -> list[_Ancestor]:
    """List a class and the classes of `lift` that it is derived from."""
    ancestors = [(node, path)]
    for base in node.bases:
        name = getattr(base, "id", None)
        for statement in tree.body:
            if isinstance(statement, ast.ClassDef) and statement.name == name:
                return ancestors + _ancestors(statement, tree, path)
            if isinstance(statement, ast.ImportFrom) and name in [
                alias.asname or alias.name for alias in statement.names
            ]:
                file = _module_file(statement.module or "")
                if file:
                    return ancestors + _ancestors_in(file, name)
    return ancestors


def _module_file(module: str) -> Path | None:
    """Find the source file of a module of `lift`."""
    parts = module.split(".")
    folder = ROOT.joinpath(*parts[1:])
    candidates = (folder.with_suffix(".py"), folder / "__init__.py")
    return next((f for f in candidates if parts[0] == PACKAGE and f.is_file()), None)


def _ancestors_in(path: Path, name: str | None) -> list[_Ancestor]:
    """List the class of a name in another file and the classes that it is derived from."""
    tree = _parse(path)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _ancestors(node, tree, path)
    return []


def _read_facts(node: ast.ClassDef, slot: str) -> dict[str, Any]:
    """Read the facts that a class declares as literals."""
    facts = {}
    for statement in node.body:
        targets: list[ast.expr] = []
        value: ast.expr | None = None
        if isinstance(statement, ast.Assign):
            targets = statement.targets
            value = statement.value
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
            value = statement.value
        for target in targets:
            if value and isinstance(target, ast.Name) and target.id in fact_names(slot):
                with suppress(ValueError):  # a computed value is known after the import
                    facts[target.id] = ast.literal_eval(value)
    return facts


def _read_settings(
    ancestors: list[_Ancestor],
) -> tuple[dict[str, inspect.Parameter], tuple[str, ...]]:
    """Read the settings of a component's constructor, and the docstrings of its base classes.

    Args:
        ancestors: Its class and those that it is derived from.
    """
    settings: dict[str, inspect.Parameter] = {}
    component = ancestors[0][0]
    base_docs: list[str] = []
    for node, path in ancestors:
        constructor = next(
            (
                statement
                for statement in node.body
                if isinstance(statement, ast.FunctionDef) and statement.name == "__init__"
            ),
            None,
        )
        if constructor is None:
            continue
        for key, parameter in _read_signature(node, constructor, path).items():
            settings.setdefault(key, parameter)
        if node is not component and settings:
            base_docs.append(ast.get_docstring(node) or "")
        shared = constructor.args.kwarg
        if not shared or shared.arg != "shared":
            break
    return settings, tuple(base_docs)


def _read_signature(
    node: ast.ClassDef, constructor: ast.FunctionDef, path: Path
) -> dict[str, inspect.Parameter]:
    """Evaluate the positional parameters of a constructor, without its body.

    Raises:
        ComponentError: An annotation or a default is not a builtin or a literal.
    """
    arguments = constructor.args
    positional = ast.arguments(
        posonlyargs=[],
        args=arguments.args[1:],
        vararg=None,
        kwonlyargs=[],
        kw_defaults=[],
        kwarg=None,
        defaults=arguments.defaults,
    )
    from lift.registry import ranges  # not at the start, which needs no component

    module = ast.parse("def signature(): pass")
    function = module.body[0]
    assert isinstance(function, ast.FunctionDef)
    function.args = positional
    scope: dict[str, Any] = _ANNOTATIONS | {name: getattr(ranges, name) for name in ranges.__all__}
    try:
        exec(compile(ast.fix_missing_locations(module), str(path), "exec"), scope)
    except NameError as error:
        raise ComponentError(
            f"{path.name}: settings of {node.name} may use builtins, {join_names(_ANNOTATIONS)}, "
            f"names of lift.registry.ranges and literals: {error}"
        ) from None
    return settings_of(inspect.signature(scope["signature"]).parameters)
