"""Contract of depth estimators."""

import torch
from torch import Tensor

from lift.contracts.samples import CAMERA, sample_picture
from lift.contracts.subject import Subject, require
from lift.contracts.weights import lists_its_published_weights
from lift.depths import DepthEstimator
from lift.stages.checks import check_depth


def _build(subject: Subject) -> DepthEstimator:
    """Build the estimator with what the pipeline supplies."""
    return subject.build(image="x", camera=CAMERA, device=torch.device("cpu"))


def _pictures() -> dict[str, Tensor]:
    """Return pictures by a description."""
    picture = sample_picture()
    return {
        "a picture": picture,
        "a black picture": torch.zeros_like(picture),
        "a picture of 16 x 16 pixels": picture[:16, :16],
    }


def is_positive_and_of_the_pictures_size(subject: Subject) -> None:
    """Return finite, positive depth of the picture's size.

    Args:
        subject: The depth estimator.
    """
    estimator = _build(subject)
    for name, image in _pictures().items():
        depth = check_depth(estimator, estimator(image), image)
        require(bool(depth.valid.any()), f"no pixel of {name} has a depth")


def repeats_itself(subject: Subject) -> None:
    """Return the same depth for the same picture.

    Args:
        subject: The depth estimator.
    """
    estimator = _build(subject)
    for name, image in _pictures().items():
        same = estimator(image).depth.equal(estimator(image).depth)
        require(same, f"two calls for {name} return different depths")


def drafts_are_positive_and_of_the_pictures_size(subject: Subject) -> None:
    """Return such depth from `draft`, too.

    Args:
        subject: The depth estimator.
    """
    estimator = _build(subject)
    for image in _pictures().values():
        check_depth(estimator, estimator.draft(image), image)


CHECKS = (
    is_positive_and_of_the_pictures_size,
    repeats_itself,
    drafts_are_positive_and_of_the_pictures_size,
    lists_its_published_weights,
)
"""The checks, in their order."""
