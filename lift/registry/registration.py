"""The registry of one slot: the decorator that registers classes, and the builder."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from lift.registry.discovery import builtin_catalogue, catalogue
from lift.registry.entry import ComponentError, Entry, join_names
from lift.registry.live_code import defining_file
from lift.registry.source import fact_names, settings_of

T = TypeVar("T")
ClassT = TypeVar("ClassT", bound=type)


class Registry(Generic[T]):
    """The decorator and the builder of one slot.

    Args:
        slot: Name of the slot.
        base: Class that all components are derived from.
    """

    def __init__(self, slot: str, base: type = object) -> None:
        self.slot = slot
        self.base = base

    def register(self, name: str) -> Callable[[ClassT], ClassT]:
        """Return a class decorator that registers a component.

        Args:
            name: Name of the component.

        Raises:
            ComponentError: The name is in use, or the class is not derived from `base`.
        """

        def decorate(component: ClassT) -> ClassT:
            if not issubclass(component, self.base):
                raise ComponentError(
                    f"{self.slot} {name!r} is {component.__name__}, which is no "
                    f"{self.base.__module__}.{self.base.__name__}; derive it from that"
                )
            builtin_catalogue().add(self._describe(name, component))
            return component

        return decorate

    def _describe(self, name: str, component: type) -> Entry:
        """Describe a class as `read_components` describes the source of a built-in one."""
        values = {fact: getattr(component, fact, self) for fact in fact_names(self.slot)}
        facts: dict[str, Any] = {
            fact: value
            for fact, value in values.items()  # a method may have the name of a fact
            if isinstance(value, (str, int, float, tuple, dict, type(None)))
        }
        settings: dict[str, inspect.Parameter] = {}
        owners = _constructor_owners(component)
        for owner in owners:
            parameters = inspect.signature(owner.__init__, eval_str=True).parameters
            for key, parameter in list(settings_of(parameters).items())[1:]:
                settings.setdefault(key, parameter)
        bases = [owner for owner in owners if owner is not component and settings]
        return Entry(
            self.slot,
            name,
            component.__module__,
            component.__qualname__,
            inspect.cleandoc(component.__doc__ or ""),
            defining_file(component),
            settings,
            tuple(inspect.cleandoc(base.__doc__ or "") for base in bases),
            component=component,
            **facts,
        )

    def keywords(self, name: str) -> list[str]:
        """List the keyword-only parameters of a component's constructor.

        Args:
            name: Name of the component.

        Raises:
            ComponentError: There is none of this name.
            ImportError: Something that it requires is missing.
        """
        return list(_keywords(catalogue()(self.slot, name).load()))

    def build(self, config: Mapping[str, Any], **supplied: Any) -> T:
        """Construct a component.

        Args:
            config: `name` and settings of the component.
            **supplied: Values for keyword-only parameters. The component gets those that its
                constructor has.

        Raises:
            ComponentError: A name or setting is wrong, or the constructor needs more than is
                supplied.
        """
        settings = dict(config)
        entry = catalogue()(self.slot, settings.pop("name"))
        component = entry.load()
        keywords = _keywords(component)
        arguments = {key: supplied[key] for key in keywords if key in supplied}
        for key, parameter in keywords.items():
            if parameter.default is parameter.empty and key not in arguments:
                raise ComponentError(
                    f"{self.slot} {entry.name!r} asks for {key!r}; the pipeline supplies "
                    f"{join_names(supplied)}"
                )
        return component(**entry.check(settings), **arguments)


def _keywords(component: type) -> dict[str, inspect.Parameter]:
    """Return the keyword-only parameters of a constructor, shared ones included."""
    parameters = [
        item
        for owner in _constructor_owners(component)
        for item in inspect.signature(owner.__init__).parameters.items()
    ]
    return {
        key: parameter
        for key, parameter in reversed(parameters)
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def _constructor_owners(component: type) -> list[type]:
    """List the class that defines the constructor, and those that it passes `**shared` on to."""
    owners = []
    for owner in component.__mro__:
        if "__init__" in owner.__dict__ and owner is not object:
            owners.append(owner)
            if "shared" not in inspect.signature(owner.__init__).parameters:
                break
    return owners
