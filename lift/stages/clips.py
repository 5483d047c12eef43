"""Order in which a prior generates the clips of a trajectory, and the context of each clip."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lift.priors import ClipRequest, VideoPrior
from lift.stages.checks import check_true_cameras
from lift.types import Cameras, Clip, Frames, Trajectory


@dataclass(frozen=True)
class ClipContext:
    """What a prior receives for a clip, besides the frames."""

    ancestors: list[int]
    """Indices of the clips whose frames precede, the earliest first."""
    cameras: Cameras
    """Cameras of the input and of the frames of `ancestors`."""
    clip: Clip
    """The clip, with its source as an index into these frames."""

    def request(self, history: "FrameHistory", clips: dict[int, Frames], seed: int) -> ClipRequest:
        """Return the request for the clip.

        Args:
            history: Joins the input and frames of clips.
            clips: Frames of the clips that are finished, by index.
            seed: Seed of the clip.
        """
        return ClipRequest(history.join(self.ancestors, clips), self.cameras, self.clip, seed)


def predecessors(prior: VideoPrior, trajectory: Trajectory) -> Sequence[int | None]:
    """Return the clip that has to be generated before each clip.

    Args:
        prior: If its context is `ancestors`, a clip only waits for the clip that it continues.
            Otherwise it waits for the clip before it.
        trajectory: The tree of clips.
    """
    if prior.context == "ancestors":
        return trajectory.parents
    return [number - 1 if number else None for number in range(len(trajectory.clips))]


def clip_context(
    trajectory: Trajectory, predecessor: Sequence[int | None], number: int
) -> ClipContext:
    """Return what a prior receives for a clip.

    Args:
        trajectory: The tree of clips.
        predecessor: The clip that has to be generated before each clip (`predecessors`).
        number: Index of the clip.
    """
    clips = trajectory.clips
    ancestors: list[int] = []
    while (parent := predecessor[ancestors[-1] if ancestors else number]) is not None:
        ancestors.append(parent)
    ancestors.reverse()
    cameras = Cameras.cat([trajectory.start, *(clips[ancestor].cameras for ancestor in ancestors)])
    frame_indices = [0, *(frame for ancestor in ancestors for frame in trajectory.spans[ancestor])]
    source = frame_indices.index(clips[number].source)
    return ClipContext(ancestors, cameras, replace(clips[number], source=source))


def clip_seeds(prior: VideoPrior, trajectory: Trajectory, seed: int) -> list[int]:
    """Return the seed of each clip.

    Args:
        prior: Its `seed_scope` says which clips share a seed.
        trajectory: The tree of clips.
        seed: Seed of the run.
    """
    if prior.seed_scope == "clip":
        return [seed + number for number in range(len(trajectory.clips))]
    count: Counter[int] = Counter()
    seeds = []
    for clip in trajectory.clips:
        seeds.append(seed + count[clip.source])
        count[clip.source] += 1
    return seeds


def true_cameras(prior: VideoPrior, trajectory: Trajectory, seed: int) -> Cameras | None:
    """Return the cameras that all frames really show, if the prior knows them.

    Args:
        prior: A prior that corrupts its frames on purpose knows them.
        trajectory: The tree of clips.
        seed: Seed of the run.

    Returns:
        One camera for each frame, the input first, or None.

    Raises:
        OutputError: The prior returned something else than one camera a frame.
    """
    cameras = [trajectory.start]
    predecessor = predecessors(prior, trajectory)
    for number, clip_seed in enumerate(clip_seeds(prior, trajectory, seed)):
        context = clip_context(trajectory, predecessor, number)
        clip_cameras = prior.true_cameras(
            trajectory.start, len(context.cameras), context.clip, clip_seed
        )
        if clip_cameras is None:
            return None
        check_true_cameras(prior, clip_cameras, context.clip)
        cameras.append(clip_cameras)
    return Cameras.cat(cameras)


class FrameHistory:
    """Joins the input and the frames of clips. What it joined before is not copied again.

    Args:
        start: The input frame.
        num_frames: Number of all frames.
    """

    def __init__(self, start: Frames, num_frames: int) -> None:
        self.start = start
        self._num_frames = num_frames
        self._clips: list[int] = []
        self._num_joined = 1
        self._buffer: Frames | None = None

    def join(self, numbers: Sequence[int], clips: Mapping[int, Frames]) -> Frames:
        """Concatenate the input and the frames of clips, without depth if any of them has none.

        The result may share memory with later ones, so it must not be changed.

        Args:
            numbers: Indices of the clips, in their order.
            clips: Frames of the clips, by index.
        """
        parts = [clips[number] for number in numbers]
        # Another branch of the tree would overwrite frames that were handed out.
        is_longer = list(numbers[: len(self._clips)]) == self._clips
        if not is_longer or any(part.depth is None for part in (self.start, *parts)):
            return join_frames([self.start, *parts])
        if self._buffer is None:
            self._buffer = self.start.map(
                lambda value: value.new_empty(self._num_frames, *value.shape[1:])
            )
            _copy(self.start, self._buffer[:1])
        for number, part in list(zip(numbers, parts, strict=True))[len(self._clips) :]:
            _copy(part, self._buffer[self._num_joined : self._num_joined + len(part)])
            self._num_joined += len(part)
            self._clips.append(number)
        return self._buffer[: self._num_joined]


def _copy(source: Frames, target: Frames) -> None:
    """Copy frames into others of the same number and size."""
    for name, value in source.tensors().items():
        target.tensors()[name].copy_(value)


def join_frames(parts: list[Frames]) -> Frames:
    """Concatenate frames, without depth if any part has none.

    The pose stage then estimates the depth of every frame.

    Args:
        parts: Frames of the same picture size, in their order.
    """
    if any(part.depth is None for part in parts):
        parts = [Frames(part.images) for part in parts]
    return Frames.cat(parts)
