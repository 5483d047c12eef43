"""What the registry knows of a component without importing it, and the checks of its settings."""

import importlib
import inspect
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, make_dataclass, replace
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Optional, Union, get_args, get_origin

from lift.registry.bundled import is_available
from lift.registry.docstrings import Docstring, parse_docstring
from lift.registry.fingerprint import source_fingerprint
from lift.registry.live_code import code_fingerprint
from lift.registry.values import ComponentError, convert_value, plain_annotation
from lift.renamed import renamed_component_setting

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
"""The slots of a run and the one of an evaluation."""


@dataclass
class Entry:
    """What is known of a component without importing it."""

    slot: str
    """Slot of the component, a key of `ALL_SLOTS`."""
    name: str
    """Name of the component in the configuration."""
    module: str
    """Full name of the module that defines its class."""
    qualname: str
    """Name of its class within the module."""
    doc: str
    """Docstring of its class."""
    source: Path | None
    """Its source file; None for a class of a notebook or of the interpreter."""
    settings: dict[str, inspect.Parameter]
    """Name of a setting -> parameter of the constructor."""
    base_docs: tuple[str, ...] = ()
    """Docstrings of base classes whose settings it shares."""
    licence: str = "Apache-2.0"
    """Licence of its code and weights."""
    requires: tuple[str, ...] = ()
    """Modules that it imports and that `lift` alone does not install."""
    extra: str | None = None
    """The extra of `lift` that installs what it requires."""
    install: str | None = None
    """Command that installs what it requires, if no extra can."""
    bundled: tuple[str, ...] = ()
    """Folders below other installed packages that may have modules of `requires`."""
    cost_settings: tuple[str, ...] = ()
    """Settings that change time and memory but not the result."""
    exact_depth: bool = False
    """Whether a prior has the exact depth of its frames."""
    has_recorded_frames: bool = False
    """Whether the frames of a prior exist already."""
    origin: str = ""
    """How the frames of a prior were made, as a sentence for the report."""
    hints_recorded_frames: bool = False
    """Whether the path of a planner can be that of frames that exist already."""
    control: str | None = None
    """How a generator follows the camera path."""
    trained_size: tuple[int, int] | None = None
    """Width and height of a generator's frames in pixels."""
    trained_sizes: tuple[tuple[int, int], ...] = ()
    """All sizes of a generator that was trained with few. Empty: pictures of many shapes."""
    trained_frames: int | None = None
    """Number of frames of a generator's clip."""
    weight_memory: dict[str, float] = field(default_factory=dict)
    """Weights of each part of a generator in half precision, in GiB."""
    working_memory: float = 0.0
    """GPU memory of a generator besides its weights, in GiB."""
    measured_memory: dict[str, float] = field(default_factory=dict)
    """Choice of `prior.offload` -> peak GPU memory in GiB that was measured at the default size."""
    memory_note: str = ""
    """What else was measured of the memory of a generator, for the user."""
    denoiser: str | None = None
    """Name of the part of a generator that denoises."""
    clip_seconds: tuple[float, str] | None = None
    """Seconds that a generator needs for a clip, and the device that was measured."""
    component: type | None = None
    """Its class, if that registered itself. None for a built-in component."""

    @cached_property
    def docstring(self) -> Docstring:
        """The parsed docstring, with the arguments that base classes describe."""
        own = parse_docstring(self.doc or next(filter(None, self.base_docs), ""))
        shared = parse_docstring("\n\n".join(self.base_docs))
        return replace(own, arguments=shared.arguments | own.arguments)

    @property
    def summary(self) -> str:
        """One line that says what the component does."""
        return self.docstring.summary

    @property
    def missing(self) -> list[str]:
        """The modules it requires that are not installed."""
        return [name for name in self.requires if not is_available(name, self.bundled)]

    @property
    def install_hint(self) -> str:
        """How to install what is missing."""
        if self.install:
            return self.install
        if self.extra:
            return f"pip install 'lift[{self.extra}]'"
        return f"pip install {' '.join(self.missing)}"

    @property
    def schema(self) -> type:
        """A structured config for Hydra, with each setting's description in its metadata.

        omegaconf 2.3 does not support Literal; `check` checks the choices.
        """
        fields: list[Any] = [("name", str, field(default=self.name))]
        for key, parameter in self.settings.items():
            metadata = {"description": self.docstring.arguments.get(key, "")}
            default = parameter.default
            if default is parameter.empty:
                default = "???"  # omegaconf's mark of a mandatory value
            elif isinstance(default, tuple):
                default = list(default)
            setting = field(default_factory=lambda value=default: value, metadata=metadata)
            fields.append((key, _omegaconf_type(plain_annotation(parameter.annotation)), setting))
        schema = make_dataclass(f"{self.name.title()}Config", fields)
        schema.__doc__ = self.summary
        return schema

    def check(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Check settings and convert them to the types of the constructor.

        Args:
            settings: Name -> value, as Hydra composed them.

        Returns:
            The same with lists converted to annotated tuples, and strings to paths.

        Raises:
            ComponentError: A setting does not exist, is not set or has a wrong value.
        """
        checked = {}
        for key, value in settings.items():
            if key not in self.settings:
                if new := renamed_component_setting(self.slot, key, self.settings):
                    raise ComponentError(f"{self.slot}.{key} has a new name; use {self.slot}.{new}")
                raise ComponentError(
                    f"{self.slot}.{key} is not a setting of {self.name!r}; "
                    f"it has {join_names(self.settings)}"
                )
            if value == "???":
                raise ComponentError(
                    f"{self.slot}.{key} is not set, and {self.slot} {self.name!r} needs it"
                )
            checked[key] = convert_value(f"{self.slot}.{key}", value, self.settings[key].annotation)
        return checked

    def fingerprint(self) -> str:
        """Hash the component's code, so that an edited component gets new cache keys.

        Of a component in a file, the file and the modules of `lift` that it imports count. Of a
        class without a file, its compiled code counts (`lift.registry.live_code`).
        """
        if self.source:
            return source_fingerprint(self.source)
        return code_fingerprint(self.load())

    def require(self) -> None:
        """Check that everything that the component requires is installed.

        Raises:
            ImportError: Something is missing; the message says how to install it.
        """
        if self.missing:
            raise ImportError(
                f"{self.slot} {self.name!r} needs {', '.join(self.missing)}, which is not "
                f"installed: {self.install_hint}"
            )

    def example_settings(self, folder: Path) -> dict[str, Any] | None:
        """Return settings with which a test can build the component.

        The component's class may declare `example_settings`: a classmethod that takes the folder
        and returns values for the settings without default. Small files that it needs it writes to
        the folder. `example_settings = None` says that no test can build the component without
        something that is not at hand, such as the weights of a network.

        Args:
            folder: An empty folder.

        Returns:
            Name of a setting -> value; empty if the class declares nothing. None if no test can
            build the component.
        """
        make: Any = getattr(self.load(), "example_settings", lambda _: {})
        return make(folder) if make else None

    def load(self) -> type:
        """Import the component's class.

        Raises:
            ImportError: Something that it requires is missing.
        """
        self.require()
        return self.import_class()

    def import_class(self) -> type:
        """Import the component's class, whether or not what it requires is installed."""
        if self.component is not None:
            return self.component
        value: Any = sys.modules.get(self.module) or importlib.import_module(self.module)
        for part in self.qualname.split("."):
            value = getattr(value, part)
        return value


def _omegaconf_type(annotation: Any) -> Any:
    """Find the nearest annotation that omegaconf 2.3 supports."""
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if annotation is inspect.Parameter.empty:
        return Any
    if origin is Literal:
        return type(arguments[0])
    if origin in (Union, UnionType):
        others = [_omegaconf_type(a) for a in arguments if a is not type(None)]
        inner = others[0] if len(others) == 1 else Any
        return Optional[inner] if type(None) in arguments else inner  # noqa: UP045
    if origin in (list, tuple):
        return list[_omegaconf_type(arguments[0])]
    return annotation


def check_ranges(slot: str, **ranges: tuple[int | float, int | float, int | float]) -> None:
    """Check that settings are finite and in range.

    Args:
        slot: Slot of the component.
        **ranges: Name of a setting -> its value, the lowest and the highest one.

    Raises:
        ValueError: A value is out of range or NaN.
    """
    for key, (value, low, high) in ranges.items():
        if not low <= value <= high:
            raise ValueError(f"{slot}.{key} is {value}; choose {low:g} to {high:g}")


def join_names(names: Iterable[Any]) -> str:
    """Join names with commas; `nothing` if there are none.

    Args:
        names: Names, or any values with a string form.
    """
    return ", ".join(str(name) for name in names) or "nothing"
