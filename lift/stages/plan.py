"""Plan the camera trajectory."""

from dataclasses import replace

import torch

from lift.io.capture import sequence_trajectory
from lift.io.image import Picture
from lift.planners import Planner, planners
from lift.planners.motion_limit import limit_motion
from lift.priors import VideoPrior
from lift.runtime.session import Session
from lift.stages.checked import CheckedPlanner
from lift.stages.unused import planner_is_used
from lift.types import Cameras, Depth, Trajectory


def build_planner(session: Session, picture: Picture) -> Planner | None:
    """Build the planner and let it plan once, so that mistakes are told before the first stage.

    Args:
        session: The run.
        picture: The input.

    Returns:
        The planner; None if the frames exist already and the planner has no hint for them.

    Raises:
        OSError: A file of the planner is missing or cannot be read.
        OutputError: The planner returned something that is no trajectory from the input camera.
        ValueError: A setting cannot be used.
    """
    if not planner_is_used(session.config):
        return None
    planner = session.build(planners)
    CheckedPlanner(planner)(picture.cameras, constant_depth(picture.cameras), None)
    return planner


def constant_depth(camera: Cameras) -> Depth:
    """Return a depth of 1 everywhere, for a plan before the depth is known.

    Args:
        camera: The input camera.
    """
    ones = torch.ones(camera.height, camera.width)
    return Depth(ones, ones > 0, "scale")


def plan(
    session: Session,
    picture: Picture,
    depth: Depth,
    planner: Planner | None,
    prior: VideoPrior,
    key: str,
) -> tuple[Trajectory, str]:
    """Plan the camera trajectory, and limit it to views that the picture mostly covers.

    Args:
        session: The run.
        picture: The input.
        depth: Its depth.
        planner: The planner. None: the frames exist already, in the order of time.
        prior: The video prior.
        key: Key of the stage before.

    Returns:
        The trajectory and the stage's key.

    Raises:
        OutputError: The planner returned something that is no trajectory from the input camera.
        ValueError: The pose stage would use cameras that are only requests.
    """
    if planner is None:
        key = session.key("plan", key, "sequence", prior.num_recorded)
        return sequence_trajectory(picture.cameras, prior.num_recorded), key
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

    def make() -> dict:
        trajectory, magnitude, notes = limit_motion(
            CheckedPlanner(planner),
            picture.cameras,
            depth,
            prior.clip_length,
            limits.max_unseen,
            limits.on_exceed,
            session.device,
        )
        return {"trajectory": trajectory, "magnitude": magnitude, "notes": list(notes)}

    result = session.value("plan", key, make)
    for note in result["notes"]:
        session.note(note)
    trajectory: Trajectory = result["trajectory"]
    if trajectory.hint == "requested":
        if prior.multiview_consistent:  # the frames show exactly the requested cameras
            trajectory = replace(trajectory, hint="planned")
        elif session.config.pose.name == "planned":
            raise ValueError(
                f"pose is 'planned', but the cameras of planner={session.config.planner.name} are "
                "requests that frames do not follow; choose pose=matching or another that finds "
                "cameras"
            )
    return trajectory, key
