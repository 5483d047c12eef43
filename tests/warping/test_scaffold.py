"""Renders of what is known of the scene, from the cameras of a clip."""

import dataclasses

import torch

from lift.depths import DepthEstimator
from lift.priors import ClipRequest
from lift.types import Cameras, Depth, Frames
from lift.warping.scaffold import Scaffold
from tests.helpers import walls
from tests.helpers.clips import scene, sideways


def test_renders_are_what_the_walls_look_like_from_there():
    frames, camera, depth = scene()
    clip = sideways(camera, 3)
    found = Scaffold(depth, None).render(ClipRequest(frames, camera, clip, 0))
    assert torch.equal(found.images[0], frames.images[0]) and bool((found.confidence[0] == 1).all())
    true = walls.render(clip.cameras)
    for view in range(3):
        sure = found.confidence[view + 1] > 0
        assert 0.5 < float(sure.float().mean()) < 1
        off = (found.images[view + 1].float() - true.images[view].float()).abs().mean(-1)[sure]
        assert float(off.median()) < 6
        assert float(((found.depth[view + 1] / true.depth[view]).log().abs()[sure]).median()) < 0.01


def test_a_frame_that_was_made_adds_what_only_it_shows():
    frames, camera, depth = scene()
    clip = sideways(camera, 2, 0.6)
    true = walls.render(clip.cameras)
    more = Frames(torch.cat([frames.images, true.images]))
    cameras, further = (
        Cameras.cat([camera, clip.cameras]),
        dataclasses.replace(sideways(camera, 2, 0.9), source=2),
    )

    class Exact(DepthEstimator):
        def __call__(self, image):
            return Depth(true.depth[1], true.depth[1] > 0, "scale")

    without = Scaffold(depth, None).render(
        ClipRequest(frames, camera, dataclasses.replace(further, source=0), 0)
    )
    found = Scaffold(depth, Exact()).render(ClipRequest(more, cameras, further, 0))
    assert (
        float((found.confidence[-1] > 0).float().mean())
        > float((without.confidence[-1] > 0).float().mean()) + 0.02
    )
    seen = walls.render(further.cameras)
    sure = found.confidence[-1] > 0.5
    assert (
        float((found.images[-1].float() - seen.images[-1].float()).abs().mean(-1)[sure].median())
        < 8
    )
