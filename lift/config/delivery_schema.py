"""Settings of what a finished run keeps in its folder. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated

from lift.registry.ranges import OneOf

FULL = "full"
"""All results, also those for research and for more steps of the fit."""

SCENE = "scene"
"""What is needed to use the scene, with its film and report."""

MINIMAL = "minimal"
"""The scene in a compressed lossy format, its cameras and its measurements."""

KEEP = (FULL, SCENE, MINIMAL)
"""Values of the setting `deliver.keep`."""


@dataclass
class Deliver:
    """What a finished run keeps in its folder."""

    keep: Annotated[str, OneOf(KEEP)] = FULL
    """Which results are written: full, scene or minimal.

    scene leaves out frames, depth, checkpoint and curves. minimal keeps a compressed lossy scene,
    cameras, metrics, settings and two small pictures, without film and report. The fit can only
    continue with full.
    """
