"""Fixtures of the tests of priors."""

from pathlib import Path

import pytest

from tests.helpers.clips import folders  # noqa: F401


@pytest.fixture(scope="session")
def motionctrl_folder(folders) -> Path:  # noqa: F811
    return Path(folders("motionctrl"))
