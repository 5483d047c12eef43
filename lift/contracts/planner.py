"""Contract of planners."""

from lift.contracts.samples import CAMERA, tilted_depth
from lift.contracts.subject import CheckSkipped, Subject, require
from lift.stages.checks import check_trajectory
from lift.types import Cameras

_MAGNITUDE = 0.25


def starts_at_the_input_and_obeys_clip_length(subject: Subject) -> None:
    """Start at the input camera, with clips of the prior's length and rigid cameras.

    Args:
        subject: The planner.
    """
    planner = subject.build()
    check_trajectory(planner, planner(CAMERA, tilted_depth(), 4), CAMERA, 4)


def repeats_itself(subject: Subject) -> None:
    """Plan the same trajectory for the same arguments.

    Args:
        subject: The planner.
    """
    first, again = (subject.build()(CAMERA, tilted_depth(), 4).cameras for _ in range(2))
    same = first.world_to_camera.equal(again.world_to_camera)
    require(
        same and first.intrinsics.equal(again.intrinsics),
        "two planners with the same settings plan different cameras for the same arguments",
    )


def chooses_the_clip_length_if_the_prior_has_none(subject: Subject) -> None:
    """Choose the number of frames if the prior makes any number.

    Args:
        subject: The planner.
    """
    planner = subject.build()
    check_trajectory(planner, planner(CAMERA, tilted_depth(), None), CAMERA, None)


def refuses_clips_of_another_length_than_the_priors(subject: Subject) -> None:
    """Refuse `num_frames` that contradicts the prior's clip length.

    Args:
        subject: The planner.
    """
    if "num_frames" not in subject.entry.settings:
        raise CheckSkipped("has no setting num_frames")
    planner = subject.build({"num_frames": 5})
    lengths = {len(clip.cameras) for clip in planner(CAMERA, tilted_depth(), None).clips}
    require(lengths == {5}, f"num_frames=5 gives clips of {sorted(lengths)} frames")
    try:
        planner(CAMERA, tilted_depth(), 4)
    except ValueError as error:
        expected = "planner.num_frames is 5"
        require(expected in str(error), f"the error is {str(error)!r}; it must say {expected!r}")
    else:
        require(False, "num_frames=5 for a prior with clips of 4 frames must raise ValueError")


def moves_less_at_a_smaller_magnitude(subject: Subject) -> None:
    """Move less along the same tree of clips at a smaller magnitude.

    Args:
        subject: The planner.
    """
    planner = subject.build()
    if not planner.supports_magnitude:
        raise CheckSkipped("has supports_magnitude = False")
    full = planner(CAMERA, tilted_depth(), 4)
    part = planner(CAMERA, tilted_depth(), 4, magnitude=_MAGNITUDE)
    trees = [[(clip.name, clip.source) for clip in plan.clips] for plan in (part, full)]
    require(trees[0] == trees[1], f"magnitude {_MAGNITUDE:g} gives another tree of clips")
    motions = motion(part.cameras), motion(full.cameras)
    require(
        0 < motions[0] < motions[1],
        f"the motion is {motions[0]:g} at magnitude {_MAGNITUDE:g}, and {motions[1]:g} at 1; set "
        "supports_magnitude = False if it cannot be scaled",
    )


def keeps_requests_in_the_units_of_a_generator(subject: Subject) -> None:
    """Declare that the motion is never shrunk, if the cameras are requests to a generator.

    The motion limit needs cameras in the scene's unit, so it skips trajectories with the hint
    `requested`.

    Args:
        subject: The planner.
    """
    planner = subject.build()
    if planner(CAMERA, tilted_depth(), 4).hint != "requested":
        raise CheckSkipped("plans cameras in the scene's unit")
    require(
        not planner.supports_magnitude,
        "the hint of the trajectory is 'requested', whose motion is never shrunk; set "
        "supports_magnitude = False",
    )


def motion(cameras: Cameras) -> float:
    """Return the largest change of a pose or of a focal length from that of the first camera.

    Args:
        cameras: Cameras in their order.
    """
    pose_change = (cameras.world_to_camera - cameras.world_to_camera[0]).abs().max()
    focal = cameras.intrinsics[:, 0, 0]
    return float(pose_change) + float((focal / focal[0] - 1).abs().max())


CHECKS = (
    starts_at_the_input_and_obeys_clip_length,
    repeats_itself,
    chooses_the_clip_length_if_the_prior_has_none,
    refuses_clips_of_another_length_than_the_priors,
    moves_less_at_a_smaller_magnitude,
    keeps_requests_in_the_units_of_a_generator,
)
"""The checks, in their order."""
