"""Fixtures of the tests of poses."""

from tests.helpers.branches import case  # noqa: F401
