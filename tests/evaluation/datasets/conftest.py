"""Samples that the tests of several readers share."""

import pytest

from tests.helpers.dataset_samples import LENS, Sample


@pytest.fixture(scope="session")
def plain_sample() -> Sample:
    return Sample()


@pytest.fixture(scope="session")
def centered_sample() -> Sample:
    """As LLFF can tell of: its principal point is in the middle, its pixels are square."""
    return Sample(centered=True)


@pytest.fixture(scope="session")
def distorted_sample() -> Sample:
    return Sample(LENS["OPENCV"])
