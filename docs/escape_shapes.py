"""Keep Markdown from reading shapes in docstrings, such as `[view 3]`, as links."""

import re
from typing import Any

import griffe

CODE = re.compile(r"(`[^`]*`)")
SHAPE = re.compile(r"\[(?=[^\]\n]*\](?!\())")


class EscapeShapes(griffe.Extension):
    """Escape brackets outside inline code that begin no link."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of a module, class, function or attribute."""
        if obj.docstring:
            parts = CODE.split(obj.docstring.value)
            parts[::2] = [SHAPE.sub(r"\\[", part) for part in parts[::2]]
            obj.docstring.value = "".join(parts)
