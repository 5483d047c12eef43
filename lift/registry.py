"""Names for the components of each slot.

A component is a class with a decorator, `@distortions.register("rigid")`. Positional parameters of its constructor are its settings,
with their annotations and defaults; keyword-only parameters are handed over by the pipeline when it builds the component. A constructor that takes
`**shared` and hands it on has all of its base class's as well.

Built-in components are found by reading their source, not by importing it: `lift list` and every configuration error come without
torch, and a missing optional package is noticed only by who asks for the component. Plugins, the modules named by entry points of the
group `lift.plugins` or by the environment variable `LIFT_PLUGINS`, are imported; one that fails is listed as broken, breaks nothing
else, and raises when a name is asked for that is not known otherwise.
"""

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, make_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Generic, Literal, Optional, TypeVar, Union, get_args, get_origin

SLOTS = {
    "planner": "planners",
    "prior": "priors",
    "depth": "depths",
    "pose": "poses",
    "distortion": "distortions",
    "renderer": "renderers",
}
"""Slot of a run -> package of `lift`."""

ALL_SLOTS = {**SLOTS, "dataset": "evaluation.datasets"}
"""And those of what runs are measured with."""

PLUGIN_GROUP = "lift.plugins"
PLUGIN_VARIABLE = "LIFT_PLUGINS"

_ANNOTATIONS = {"Literal": Literal, "Path": Path, "Optional": Optional, "Union": Union}
_FOUNDATION = ("types", "registry", "geometry", "spherical_harmonics", "jit", "parallel")
_FACTS = ("licence", "requires", "extra", "install")
_OF_PRIORS = (
    "costs_only",
    "exact_depth",
    "follows",
    "size",
    "clip",
    "parts",
    "working",
    "denoiser",
    "pace",
)

T = TypeVar("T")


class ComponentError(ValueError):
    """A component's name or setting is wrong; the message says what to choose instead."""


@dataclass
class Entry:
    """What is known of a component without importing it."""

    slot: str
    name: str
    module: str
    qualname: str
    doc: str
    source: Path | None
    settings: dict[str, inspect.Parameter]
    licence: str = "Apache-2.0"
    requires: tuple[str, ...] = ()
    extra: str | None = None
    """The extra of `lift` that installs what it requires."""
    install: str | None = None
    """How to install it where no extra can."""
    costs_only: tuple[str, ...] = ()
    """Settings that change what a result costs, not what it is."""
    exact_depth: bool = False
    """Whether a prior knows the depth of its frames."""
    follows: str | None = None
    size: tuple[int, int] | None = None
    clip: int | None = None
    parts: dict[str, float] = field(default_factory=dict)
    working: float = 0.0
    denoiser: str | None = None
    pace: tuple[float, str] | None = None
    """What a generator declares of itself (`lift.priors.diffusion.base`)."""

    @property
    def summary(self) -> str:
        return self.doc.strip().split("\n")[0]

    @property
    def missing(self) -> list[str]:
        """The modules it requires that are not installed."""
        return [name for name in self.requires if importlib.util.find_spec(name) is None]

    @property
    def how(self) -> str:
        """How to install what is missing."""
        return self.install or (
            f"pip install 'lift[{self.extra}]'"
            if self.extra
            else f"pip install {' '.join(self.missing)}"
        )

    @property
    def schema(self) -> type:
        """A structured config for Hydra. omegaconf 2.3 knows no Literal: `check` looks at choices."""
        fields: list[Any] = [("name", str, field(default=self.name))]
        for key, parameter in self.settings.items():
            annotation = _storable(parameter.annotation)
            if parameter.default is parameter.empty:
                default = field(default="???")  # omegaconf's sign of a value that must be given
            else:
                value = (
                    list(parameter.default)
                    if isinstance(parameter.default, tuple)
                    else parameter.default
                )
                default = field(default_factory=lambda value=value: value)
            fields.append((key, annotation, default))
        return make_dataclass(f"{self.name.title()}Config", fields)

    def check(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings as the constructor wants them: choices checked, lists turned into the tuples that were annotated."""
        out = {}
        for key, value in settings.items():
            if key not in self.settings:
                raise ComponentError(
                    f"{self.slot}.{key} is not a setting of {self.name!r}; it has {_listed(self.settings)}"
                )
            if value == "???":
                raise ComponentError(
                    f"{self.slot}.{key} is not set, and {self.slot} {self.name!r} needs it"
                )
            out[key] = _fit(f"{self.slot}.{key}", value, self.settings[key].annotation)
        return out

    def fingerprint(self) -> str:
        """Hash of the component's source and of the modules of `lift` that it is built of: edited, it makes its results anew."""
        return fingerprint(self.source) if self.source else ""

    def require(self) -> None:
        """Raises ImportError, which says how to install it, if something that it requires is missing."""
        if self.missing:
            raise ImportError(
                f"{self.slot} {self.name!r} needs {', '.join(self.missing)}, which is not installed: {self.how}"
            )

    def load(self) -> type:
        self.require()
        value: Any = sys.modules.get(self.module) or importlib.import_module(self.module)
        for part in self.qualname.split("."):
            value = getattr(value, part)
        return value


@dataclass
class Catalogue:
    """Every component of every slot, and the plugins that failed."""

    entries: dict[str, dict[str, Entry]] = field(
        default_factory=lambda: {slot: {} for slot in ALL_SLOTS}
    )
    broken: dict[str, Exception] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        known = self.entries[entry.slot].get(entry.name)
        if known and (known.module, known.qualname) != (entry.module, entry.qualname):
            raise ComponentError(
                f"{entry.slot} {entry.name!r} is already {known.module}.{known.qualname}"
            )
        if not known:
            self.entries[entry.slot][entry.name] = entry

    def __call__(self, slot: str, name: str) -> Entry:
        if slot not in self.entries:
            raise ComponentError(
                f"there is no slot {slot!r}; choose one of {_listed(self.entries)}"
            )
        if name in self.entries[slot]:
            return self.entries[slot][name]
        if self.broken:
            plugin, error = next(iter(self.broken.items()))
            raise ComponentError(
                f"{slot} is {name!r}, which is not known; choose one of {_listed(self.entries[slot])} "
                f"(plugin {plugin!r} is broken: {type(error).__name__}: {error})"
            ) from error
        raise ComponentError(f"{slot} is {name!r}; choose one of {_listed(self.entries[slot])}")


class Registry(Generic[T]):
    """The decorator and the builder of one slot, whose components are of the class `base`."""

    def __init__(self, slot: str, base: type = object) -> None:
        self.slot, self.base = slot, base

    def register(self, name: str) -> Callable[[type], type]:
        def decorate(component: type) -> type:
            if not issubclass(component, self.base):
                raise ComponentError(
                    f"{self.slot} {name!r} is {component.__name__}, which is no {self.base.__module__}.{self.base.__name__}; derive it from that"
                )
            known = {fact: getattr(component, fact, self) for fact in _facts_of(self.slot)}
            facts = {
                fact: value
                for fact, value in known.items()
                if isinstance(value, (str, int, float, tuple, dict, type(None)))
            }  # no method of that name
            parameters: dict[str, inspect.Parameter] = {}
            owners = _constructed_by(component)
            for owner in owners:
                for key, parameter in list(
                    _positional(inspect.signature(owner.__init__, eval_str=True).parameters).items()
                )[1:]:
                    parameters.setdefault(key, parameter)
            explained = [
                component,
                *(owner for owner in owners if owner is not component and parameters),
            ]
            doc = "\n\n".join(
                inspect.cleandoc(owner.__doc__) for owner in explained if owner.__doc__
            )
            try:
                source = Path(inspect.getfile(component))
            except (OSError, TypeError):
                source = None  # typed into an interactive session
            _builtin().add(
                Entry(
                    self.slot,
                    name,
                    component.__module__,
                    component.__qualname__,
                    doc,
                    source,
                    parameters,
                    **facts,
                )
            )
            return component

        return decorate

    def build(self, config: Mapping[str, Any], **supplied: Any) -> T:
        """Constructs what `config.name` names. Of what is supplied, a component gets what its constructor asks for."""
        settings = dict(config)
        entry = catalogue()(self.slot, settings.pop("name"))
        component = entry.load()
        wanted = [
            item
            for owner in _constructed_by(component)
            for item in inspect.signature(owner.__init__).parameters.items()
        ]
        asked = {
            key: parameter
            for key, parameter in reversed(wanted)
            if parameter.kind is parameter.KEYWORD_ONLY
        }
        handed = {key: supplied[key] for key in asked if key in supplied}
        for key, parameter in asked.items():
            if parameter.default is parameter.empty and key not in handed:
                raise ComponentError(
                    f"{self.slot} {entry.name!r} asks for {key!r}; the pipeline supplies {_listed(supplied)}"
                )
        return component(**entry.check(settings), **handed)


def catalogue() -> Catalogue:
    """Built-ins and plugins, read once a process."""
    _load_plugins()
    return _builtin()


@cache
def _builtin() -> Catalogue:
    found = Catalogue()
    root = Path(__file__).parent
    for slot, package in ALL_SLOTS.items():
        for path in sorted(root.joinpath(*package.split(".")).glob("*.py")):
            for entry in _read(slot, f"{__package__}.{package}.{path.stem}", path):
                found.add(entry)
    return found


@cache
def _load_plugins() -> None:
    named = [
        name.strip() for name in os.environ.get(PLUGIN_VARIABLE, "").split(",") if name.strip()
    ]
    installed = [point.value for point in importlib.metadata.entry_points(group=PLUGIN_GROUP)]
    if named and "" not in sys.path:
        sys.path.insert(0, "")  # a module beside the caller, as `python -m` would find it
    for name in dict.fromkeys([*installed, *named]):
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a plugin's author did, the rest goes on; shown by `lift list`, raised when asked for
            _builtin().broken[name] = error


def fingerprint(path: Path) -> str:
    """Hash of a source file and of the modules of `lift` that it imports, followed through; not of what everything stands on."""
    return hashlib.sha256(
        b"".join(file.read_bytes() for file in sorted(_sources(path)))
    ).hexdigest()[:12]


def _sources(path: Path) -> set[Path]:
    found, todo = set(), [path]
    while todo:
        file = todo.pop()
        if file in found:
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.ImportFrom)
                and (node.module or "").split(".")[0] == __package__
            ):
                inner = Path(__file__).parent.joinpath(*node.module.split(".")[1:])
                modules = [
                    inner.with_suffix(".py"),
                    inner / "__init__.py",
                    *(inner / f"{alias.name}.py" for alias in node.names),
                ]
                todo += [
                    module
                    for module in modules
                    if module.is_file() and module.stem not in _FOUNDATION
                ]
    return found


def _constructed_by(component: type) -> list[type]:
    """The class whose constructor it has, and those that this hands `**shared` on to."""
    found = []
    for owner in component.__mro__:
        if "__init__" in owner.__dict__ and owner is not object:
            found.append(owner)
            if "shared" not in inspect.signature(owner.__init__).parameters:
                break
    return found


def _read(slot: str, module: str, path: Path) -> list[Entry]:
    """The components that a source file registers."""
    found = []
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            if (
                isinstance(decorator, ast.Call)
                and getattr(decorator.func, "attr", "") == "register"
            ):
                name = ast.literal_eval(decorator.args[0])
                line = _line(node, tree, path)
                facts = {}
                for owner, _ in reversed(line):
                    facts |= _facts(owner, slot)
                settings, docs = _read_settings(line)
                found.append(
                    Entry(slot, name, module, node.name, "\n\n".join(docs), path, settings, **facts)
                )
    return found


def _line(node: ast.ClassDef, tree: ast.Module, path: Path) -> list[tuple[ast.ClassDef, Path]]:
    """A class and those of `lift` that it is derived from, each with its file."""
    line = [(node, path)]
    for base in node.bases:
        name = getattr(base, "id", None)
        for statement in tree.body:
            if isinstance(statement, ast.ClassDef) and statement.name == name:
                return line + _line(statement, tree, path)
            if isinstance(statement, ast.ImportFrom) and name in [
                alias.asname or alias.name for alias in statement.names
            ]:
                module = (statement.module or "").split(".")
                file = Path(__file__).parent.joinpath(*module[1:])
                file = (
                    file.with_suffix(".py")
                    if file.with_suffix(".py").is_file()
                    else file / "__init__.py"
                )
                if module[0] == __package__ and file.is_file():
                    inner = ast.parse(file.read_text(encoding="utf-8"), str(file))
                    owner = next(
                        (
                            each
                            for each in inner.body
                            if isinstance(each, ast.ClassDef) and each.name == name
                        ),
                        None,
                    )
                    return line + (_line(owner, inner, file) if owner else [])
    return line


def _facts_of(slot: str) -> tuple[str, ...]:
    return _FACTS + (_OF_PRIORS if slot == "prior" else ())


def _facts(node: ast.ClassDef, slot: str) -> dict[str, Any]:
    facts = {}
    for statement in node.body:
        targets = (
            statement.targets
            if isinstance(statement, ast.Assign)
            else [statement.target]
            if isinstance(statement, ast.AnnAssign) and statement.value
            else []
        )
        for target in targets:
            if isinstance(target, ast.Name) and target.id in _facts_of(slot):
                with suppress(ValueError):  # worked out: known when it is imported
                    facts[target.id] = ast.literal_eval(statement.value)
    return facts


def _read_settings(
    line: list[tuple[ast.ClassDef, Path]],
) -> tuple[dict[str, inspect.Parameter], list[str]]:
    """The constructor's settings, by running its signature alone (the body and the handed-over parameters are cut off), and what explains them."""
    settings: dict[str, inspect.Parameter] = {}
    docs = [ast.get_docstring(line[0][0])]
    for node, path in line:
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
                arguments = statement.args
                bare = ast.arguments(
                    posonlyargs=[],
                    args=arguments.args[1:],
                    vararg=None,
                    kwonlyargs=[],
                    kw_defaults=[],
                    kwarg=None,
                    defaults=arguments.defaults,
                )
                module = ast.parse("def signature(): pass")
                module.body[0].args = bare  # type: ignore[attr-defined]
                scope: dict[str, Any] = dict(_ANNOTATIONS)
                try:
                    exec(compile(ast.fix_missing_locations(module), str(path), "exec"), scope)
                except NameError as error:
                    raise ComponentError(
                        f"{path.name}: settings of {node.name} may use builtins, {_listed(_ANNOTATIONS)} and literals: {error}"
                    ) from None
                for key, parameter in _positional(
                    inspect.signature(scope["signature"]).parameters
                ).items():
                    settings.setdefault(key, parameter)
                docs += [ast.get_docstring(node)] if node is not line[0][0] and settings else []
                if not arguments.kwarg or arguments.kwarg.arg != "shared":
                    return settings, [doc for doc in docs if doc]
    return settings, [doc for doc in docs if doc]


def _positional(parameters: Mapping[str, inspect.Parameter]) -> dict[str, inspect.Parameter]:
    return {key: p for key, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD}


def _storable(annotation: Any) -> Any:
    """The nearest annotation that omegaconf 2.3 can hold."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is inspect.Parameter.empty:
        return Any
    if origin is Literal:
        return type(arguments[0])
    if origin in (Union, UnionType):
        rest = [_storable(a) for a in arguments if a is not type(None)]
        inner = rest[0] if len(rest) == 1 else Any
        return Optional[inner] if type(None) in arguments else inner  # noqa: UP045
    if origin in (list, tuple):
        return list[_storable(arguments[0])]
    return annotation


def _fit(key: str, value: Any, annotation: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal and value not in arguments:
        raise ComponentError(f"{key} is {value!r}; choose one of {_listed(arguments)}")
    if origin in (Union, UnionType) and value is not None:
        inner = [a for a in arguments if a is not type(None)]
        return _fit(key, value, inner[0]) if len(inner) == 1 else value
    if origin in (list, tuple) and value is not None:
        if origin is tuple and Ellipsis not in arguments and len(value) != len(arguments):
            raise ComponentError(f"{key} is {list(value)!r}; it takes {len(arguments)} values")
        return origin(_fit(key, item, arguments[0]) for item in value)
    if annotation is Path and value is not None:
        return Path(value)
    if annotation in (int, float, bool) and not isinstance(
        value, (int, float) if annotation is float else annotation
    ):
        raise ComponentError(
            f"{key} is {value!r}; choose {'true or false' if annotation is bool else 'a number'}"
        )
    return value


def check_ranges(slot: str, **given: tuple[int | float, int | float, int | float]) -> None:
    """Raises ValueError for the first setting (value, least, most) that is out of range or not a number."""
    for key, (value, low, high) in given.items():
        if not low <= value <= high:
            raise ValueError(f"{slot}.{key} is {value}; choose {low:g} to {high:g}")


def _listed(names: Any) -> str:
    return ", ".join(str(name) for name in names) or "nothing"
