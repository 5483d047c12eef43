"""One image to a 3D Gaussian scene by way of a video generator."""

import os

__version__ = "0.2.0"

if os.environ.get("LIFT_TYPECHECK"):
    # For debugging: checks types and shapes of the arguments in every annotated call, and is slow.
    from jaxtyping import install_import_hook

    install_import_hook("lift", "beartype.beartype")
