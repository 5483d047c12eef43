"""Names for the components of each slot.

A component is a class with a decorator, `@distortions.register("rigid")`. The positional parameters
of its constructor are its settings, with their annotations and defaults. An annotation may declare
a range (`lift.registry.ranges`), which is checked before any work. The pipeline passes the
keyword-only parameters when it builds the component. A constructor that takes `**shared` and passes
it on also has the parameters of its base class.

Built-in components are found by reading their source, not by importing it. So `lift list` and all
configuration errors come without torch, and only a user of a component needs its optional packages.
`lift list` and `lift show` print the docstring of a component's class. Its first line is the
summary, and its section `Args:` describes the settings.

Plugins are imported. They are the modules named by entry points of the group `lift.plugins` or by
the environment variable `LIFT_PLUGINS`, which also takes files. A plugin whose import fails is
listed as broken. A run raises an error if `LIFT_PLUGINS` names it, or if a name is not found
otherwise.
"""

from lift.registry.discovery import (
    PLUGIN_GROUP,
    PLUGIN_VARIABLE,
    Catalogue,
    catalogue,
    check_listed_plugins,
)
from lift.registry.docstrings import Docstring, parse_docstring
from lift.registry.entry import ALL_SLOTS, SLOTS, ComponentError, Entry, check_ranges
from lift.registry.fingerprint import source_fingerprint
from lift.registry.registration import Registry

__all__ = [
    "ALL_SLOTS",
    "PLUGIN_GROUP",
    "PLUGIN_VARIABLE",
    "SLOTS",
    "Catalogue",
    "ComponentError",
    "Docstring",
    "Entry",
    "Registry",
    "catalogue",
    "check_listed_plugins",
    "check_ranges",
    "parse_docstring",
    "source_fingerprint",
]
