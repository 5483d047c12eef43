"""The sizes that `--plan` prints are those of default runs."""

import pytest

from lift.runtime.delivery_size import describe_sizes, estimate_sizes

MEASURED = {"full": 112.8e6, "scene": 10.85e6, "minimal": 1.01e6}
"""Bytes of a default run on a photograph of 512 x 344 pixels, with 60,000 Gaussians."""


def test_sizes_are_those_of_a_default_run():
    sizes = estimate_sizes((97, 344, 512), 60_000, 0)
    assert sizes == pytest.approx(MEASURED, rel=0.05)


def test_harmonics_make_every_kind_larger():
    plain, colored = (estimate_sizes((97, 344, 512), 60_000, degree) for degree in (0, 3))
    assert all(colored[kind] > 1.2 * plain[kind] for kind in plain)


def test_other_kinds_are_named():
    text = describe_sizes("scene", MEASURED)
    assert text == "about 11 MB in the run's folder (full 113 MB, minimal 1.0 MB)"
