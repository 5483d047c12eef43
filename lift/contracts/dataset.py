"""Contract of datasets."""

import torch

from lift.contracts.subject import Subject, require
from lift.evaluation.datasets import CalibratedCapture, Dataset
from lift.stages.checks import Output, check_cameras
from lift.types import Frames

_LONGER_SIDE = 32


def _first_capture(subject: Subject) -> tuple[Dataset, CalibratedCapture]:
    """Read the first scene of a dataset."""
    dataset: Dataset = subject.build()
    return dataset, dataset.capture(dataset.scenes()[0])


def lists_its_scenes_in_a_fixed_order(subject: Subject) -> None:
    """List at least one scene, each once and always in the same order.

    Args:
        subject: The dataset.
    """
    scenes = subject.build().scenes()
    require(isinstance(scenes, list) and bool(scenes), "scenes() must return a list of names")
    require(all(isinstance(scene, str) for scene in scenes), "names of scenes must be str")
    require(len(set(scenes)) == len(scenes), f"scenes() names a scene twice: {scenes}")
    require(subject.build().scenes() == scenes, "two calls of scenes() differ")


def reads_views_with_their_cameras(subject: Subject) -> None:
    """Read a scene with one camera a view.

    Args:
        subject: The dataset.
    """
    dataset, capture = _first_capture(subject)
    output = Output.of("dataset", dataset)
    output.instance(capture, CalibratedCapture, "a value")
    require(capture.scene == dataset.scenes()[0], f"the scene is called {capture.scene!r}")
    require(len(set(capture.views)) == len(capture.views), "two views have the same name")
    size = (capture.cameras.width, capture.cameras.height)
    check_cameras(output, capture.cameras, len(capture.views), size, "cameras")
    if capture.points is not None:
        output.tensor(capture.points.points, ("point", 3), "points.points")


def views_fit_their_cameras(subject: Subject) -> None:
    """Load a view for a centred pinhole camera at its pose, of the size that is asked for.

    Args:
        subject: The dataset.
    """
    dataset, capture = _first_capture(subject)
    output = Output.of("dataset", dataset)
    for view in {0, len(capture.views) - 1}:
        camera = capture.inner_camera(view, _LONGER_SIDE)
        size = (camera.width, camera.height)
        check_cameras(output, camera, 1, size, "inner_camera")
        require(max(size) <= _LONGER_SIDE, f"inner_camera is {size}, larger than {_LONGER_SIDE}")
        pose = capture.cameras.world_to_camera[view]
        same = torch.allclose(camera.world_to_camera[0], pose, atol=1e-5)
        require(same, "inner_camera has another pose than the view")
        centre = camera.intrinsics[0, :2, 2] - 0.5 * torch.tensor(size)
        require(float(centre.abs().max()) < 0.51, "the principal point is not at the centre")
        frames = output.instance(capture.load_view(view, camera), Frames, "load_view")
        output.tensor(frames.images, (1, size[1], size[0], 3), "images", torch.uint8)


CHECKS = (
    lists_its_scenes_in_a_fixed_order,
    reads_views_with_their_cameras,
    views_fit_their_cameras,
)
"""The checks, in their order."""
