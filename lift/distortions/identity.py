"""The baseline without corrections, which every other distortion is compared with."""

from lift.distortions import Distortion, distortions


@distortions.register("identity")
class Identity(Distortion):
    """Apply no distortion: every frame shows the canonical scene."""

    replayable = True
