"""Fixtures of the viewer's tests."""

import pytest
from torch import Tensor

from lift.outputs.viewer import splats


@pytest.fixture
def quantile_limit(monkeypatch) -> int:
    """Let torch compute quantiles of few values only, and return the largest number of them.

    The real limit is 2^24, and a test of it would be slow.
    """
    limit = 10
    quantile = Tensor.quantile

    def limited(values, *arguments, **keywords):
        if len(values) > limit:
            raise RuntimeError("quantile() input tensor is too large")
        return quantile(values, *arguments, **keywords)

    monkeypatch.setattr(Tensor, "quantile", limited)
    monkeypatch.setattr(splats, "MAX_SAMPLES", limit)
    return limit
