"""Plan the camera trajectory."""

from typing import TYPE_CHECKING, cast

from lift.io.capture import sequence_trajectory
from lift.io.image import Picture
from lift.planners import planners
from lift.planners.motion_limit import limit_motion
from lift.priors import VideoPrior
from lift.runtime.session import Session
from lift.types import Depth, Trajectory

if TYPE_CHECKING:
    from lift.priors.frames import FromFile


def plan(
    session: Session, picture: Picture, depth: Depth, prior: VideoPrior, key: str
) -> tuple[Trajectory, str]:
    """Plan the camera trajectory, and limit it to views that the picture mostly covers.

    For `prior=frames`, whose frames exist already, only `planner=path` plans a trajectory.

    Args:
        session: The run.
        picture: The input.
        depth: Its depth.
        prior: The video prior.
        key: Key of the stage before.

    Returns:
        The trajectory and the stage's key.
    """
    if session.config.prior.name == "frames" and session.config.planner.name != "path":
        new_frames = cast("FromFile", prior).new_frames
        session.unused_slots = ("planner",)
        key = session.key("plan", key, "sequence", new_frames)
        return sequence_trajectory(picture.cameras, new_frames), key
    limits = session.config.motion_limit
    key = session.key(
        "plan",
        key,
        prior.clip_length,
        limits.max_unseen,
        limits.on_exceed,
        slots=("planner",),
        code=(limit_motion,),
    )
    planner = session.build(planners)

    def make() -> dict:
        trajectory, magnitude, notes = limit_motion(
            planner,
            picture.cameras,
            depth,
            prior.clip_length,
            limits.max_unseen,
            limits.on_exceed,
        )
        return {"trajectory": trajectory, "magnitude": magnitude, "notes": list(notes)}

    result = session.value("plan", key, make)
    for note in result["notes"]:
        session.note(note)
    return result["trajectory"], key
