"""One image to a 3D Gaussian scene by way of a video generator.

    import lift

    scene = lift.run("photo.jpg")
    scene = lift.load("outputs/photo/warp-composed-1234")

The import itself is quick. `lift.run`, `lift.load` and the types are imported when they are used.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lift.api import Scene, load, preview, run
    from lift.types import Cameras, Clip, Depth, Frames, Gaussians, Render, Trajectory

__version__ = "0.2.0"

__all__ = [
    "Cameras",
    "Clip",
    "Depth",
    "Frames",
    "Gaussians",
    "Render",
    "Scene",
    "Trajectory",
    "load",
    "preview",
    "run",
]

if os.environ.get("LIFT_TYPECHECK"):
    # For debugging: checks types and shapes of the arguments in every annotated call, and is slow.
    from jaxtyping import install_import_hook

    install_import_hook("lift", "beartype.beartype")


def __getattr__(name: str) -> Any:
    """Import a name of the public interface when it is used first."""
    if name not in __all__:
        raise AttributeError(f"module 'lift' has no attribute {name!r}")
    module = "lift.api" if name in ("Scene", "load", "preview", "run") else "lift.types"
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public interface, too, before its import."""
    return sorted({*globals(), *__all__})
