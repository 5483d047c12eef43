"""Generate the frames of a trajectory."""

from lift.io.image import Picture
from lift.priors import VideoPrior
from lift.runtime.cache import hash_key
from lift.runtime.session import Session
from lift.stages.checks import check_clips
from lift.stages.clips import (
    FrameHistory,
    clip_context,
    clip_seeds,
    join_frames,
    predecessors,
)
from lift.types import Depth, Frames, Trajectory


def generate(
    session: Session,
    picture: Picture,
    depth: Depth,
    prior: VideoPrior,
    trajectory: Trajectory,
    key: str,
) -> tuple[Frames, str]:
    """Generate the frames of all clips. Each clip continues an earlier frame, and is cached.

    If the prior only needs a clip's ancestors, the processes generate branches in parallel.

    Args:
        session: The run.
        picture: The input.
        depth: Its depth.
        prior: The video prior.
        trajectory: The tree of clips.
        key: Key of the stage before.

    Returns:
        All frames, the input first, and the stage's key.

    Raises:
        OutputError: The prior returned something else than one frame a camera.
        ValueError: The prior cannot generate pictures of this size.
    """
    for side in (picture.cameras.width, picture.cameras.height):
        if side % prior.input_multiple:
            raise ValueError(
                f"preprocess.size leads to a side of {side} pixels; this prior needs multiples of "
                f"{prior.input_multiple}"
            )
    seed = session.config.seed
    start = Frames(picture.frames.images, depth.depth.where(depth.valid, 0)[None])
    history = FrameHistory(start, len(trajectory.cameras))
    predecessor = predecessors(prior, trajectory)
    seeds = clip_seeds(prior, trajectory, seed)
    keys: list[str] = []
    device = [session.device.type] if prior.differs_by_device else []
    for number, parent in enumerate(predecessor):
        parent_key = key if parent is None else keys[parent]
        keys.append(session.key("clip", parent_key, number, seed, *device, slots=("prior",)))

    def make(numbers: list[int], clips: dict[int, Frames]) -> list[Frames]:
        contexts = [(clip_context(trajectory, predecessor, number), number) for number in numbers]
        requests = [context.request(history, clips, seeds[number]) for context, number in contexts]
        return check_clips(prior, prior.generate_batch(requests), requests)

    count = len(trajectory.clips)
    labels = [f"{number + 1}/{count} {clip.name}" for number, clip in enumerate(trajectory.clips)]
    parallel = prior.context == "ancestors"
    batch_size = prior.batch_size if parallel else 1
    clips = session.values("clip", keys, predecessor, make, labels, parallel, batch_size)
    return join_frames([start, *clips]), hash_key(key, *keys)
