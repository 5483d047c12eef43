"""What all datasets have in common."""

import pytest

from lift.registry import catalogue


@pytest.mark.parametrize("name", list(catalogue().entries["dataset"]))
def test_settings_are_explained_and_read_from_the_source(name):
    entry = catalogue()("dataset", name)
    assert set(entry.settings) <= set(entry.docstring.arguments)
    assert entry.licence == entry.load().licence and entry.licence
    if name != "ray_cast":
        assert {"path", "scenes"} <= set(entry.settings)
