"""Frames taken at their word: the baseline that every other distortion is compared with."""

from lift.distortions import Distortion, distortions


@distortions.register("identity")
class Identity(Distortion):
    """No distortion: every frame shows the canonical scene."""
