"""Refuse a current folder whose files would give numba its settings."""

import os

from lift.registry import ComponentError

NUMBA_SETTINGS = ".numba_config.yaml"
"""File of the current folder from which numba reads settings when it is imported."""


def check_current_folder() -> None:
    """Refuse to work in a folder with settings for numba.

    They could name another folder of compiled loops, which are machine code. numba has no switch
    that leaves the file out.

    Raises:
        ComponentError: The current folder has such a file.
    """
    if os.path.lexists(NUMBA_SETTINGS):
        raise ComponentError(
            f"the current folder has {NUMBA_SETTINGS}, from which numba would read where compiled "
            "code lies; work in another folder, or remove the file and set variables NUMBA_..."
        )
