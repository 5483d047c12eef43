"""One image to a 3D Gaussian scene by way of a video generator."""

import os

__version__ = "0.1.0"

if os.environ.get(
    "LIFT_TYPECHECK"
):  # shapes and types of every annotated call are checked: for debugging, it is slow
    from jaxtyping import install_import_hook

    install_import_hook("lift", "beartype.beartype")
