"""Fixtures of the tests of priors."""

from tests.helpers.clips import folders  # noqa: F401
