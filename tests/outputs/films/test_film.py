"""A film is refused before anything is rendered, if it cannot be written."""

from collections.abc import Iterator

import pytest
import torch

from lift.geometry import pinhole
from lift.outputs.films.film import FilmSource, write_film
from lift.outputs.films.options import FilmOptions
from lift.outputs.films.plan import FilmPlan
from lift.renderers.numba import Numba
from lift.types import Cameras, Gaussians


class Planned(FilmSource):
    """A source whose film has three large views, and that renders nothing."""

    def plan(self, options: FilmOptions) -> FilmPlan:
        return FilmPlan(Cameras.cat([pinhole(16000, 16000, 60.0)] * 3))

    def pictures(self, plan: FilmPlan, kind: str) -> Iterator:
        raise AssertionError("a picture is rendered")


def test_a_webp_that_is_too_large_is_not_rendered(tmp_path):
    camera = pinhole(20, 15, 20.0)
    gaussians = Gaussians(
        torch.zeros(1, 3),
        torch.zeros(1, 4),
        torch.zeros(1, 3),
        torch.zeros(1),
        torch.zeros(1, 1, 3),
    )
    source = Planned(Numba(), gaussians, camera, camera)
    with pytest.raises(ValueError, match="WebP film of 3 pictures of 16000 x 16000 pixels"):
        write_film(tmp_path / "a.webp", source, FilmOptions())
    assert list(tmp_path.iterdir()) == []
