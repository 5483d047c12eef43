"""Several distortions, one after the other."""

import math
from collections.abc import Callable, ItemsView, Iterator
from typing import Annotated, Any, cast

import torch
from annotated_types import Len
from jaxtyping import Float, Int
from torch import Tensor, nn

# The cache key of `composed` covers the sources of its parts, so it imports them.
from lift.distortions import (  # noqa: F401
    Distortion,
    appearance,
    blur,
    distortions,
    field,
    hexplane,
    image_warp,
    rigid,
)
from lift.registry import ComponentError
from lift.registry.ranges import Fraction, FractionBelowOne
from lift.types import Cameras, Gaussians, PointCloud, Render, Trajectory

MIN_JOINT_GAIN = 0.12
"""Fraction of the frames' squared error that all parts together must remove to be kept."""

MIN_PART_GAIN = 0.02
"""Fraction of the frames' squared error that a part must remove beside the others to be kept."""

MAX_ERROR_RATIO = 4
"""A frame's error counts at most this often the median frame's, so that outliers do not decide."""

MIN_VIEWS = 2
"""Number of times that each frame is rendered, on average, before a part starts to learn."""

LATEST_START = 0.25
"""Fraction of the steps after which short fits no longer wait for `MIN_VIEWS`."""

UNDECIDED = 0
KEPT = 1
DROPPED = 2


@distortions.register("composed")
class Composed(Distortion):
    """Apply several distortions in order, and drop those that explain too little.

    The default order is that in which a frame comes about: where it was taken, how its picture
    is warped, its colours, its sharpness.

    Args:
        parts: Names of distortions; `lift list` prints them.
        starts: When each part starts to act and to learn, as fractions of the steps. Parts left
            out use their class's `start`: 0.1 for `rigid` and `image_warp`, 0.25 for the other
            built-in ones. A short fit waits until each frame was rendered twice on average, up
            to a fraction of 0.25.
        prune_after: Fraction of the steps after a part's start at which it is tested. A part is
            dropped for good if frames are hardly better explained with it than without: it has
            learned noise, and the scene is better without it. Parts are tested together, so
            earlier ones wait for those that start meanwhile. 0 keeps all parts. A part that
            starts too late to be tested is kept, too. If the prior's frames are multiview
            consistent, as those of `warp`, or if frames are unordered photographs, all parts are
            dropped from the beginning.
        settings: Settings of parts by name: `+distortion.settings.rigid.weight=10`.
        num_views: Number of frames, the input included.
        extent: The scene's typical depth.
        size: Width and height of the pictures in pixels.
        trajectory: The tree of clips.
        points: The points that the frames show.
        multiview_consistent: Whether the prior guarantees that all frames show one scene.

    Raises:
        ComponentError: If a setting is out of range, or names a part twice or one that is not
            among `parts`.
    """

    verdicts: Tensor
    """[part], UNDECIDED, KEPT or DROPPED."""
    explained: Tensor
    """[part + 1], fraction of the error that each part removes beside the others that stay, and
    all together. NaN if not measured."""

    def __init__(
        self,
        parts: Annotated[tuple[str, ...], Len(0, 16)] = (
            "rigid",
            "image_warp",
            "appearance",
            "blur",
        ),
        starts: Annotated[tuple[FractionBelowOne, ...], Len(0, 16)] = (),
        prune_after: Fraction = 0.2,
        settings: dict = {},  # noqa: B006
        *,
        num_views: int,
        extent: float,
        size: tuple[int, int],
        trajectory: Trajectory,
        points: PointCloud,
        multiview_consistent: bool = False,
    ) -> None:
        super().__init__()
        _check(parts, starts, settings)
        supplied = {
            "num_views": num_views,
            "extent": extent,
            "size": size,
            "trajectory": trajectory,
            "points": points,
            "multiview_consistent": multiview_consistent,
        }
        self.parts = nn.ModuleDict(
            {
                name: distortions.build({"name": name, **settings.get(name, {})}, **supplied)
                for name in parts
            }
        )
        self.starts: dict[str, float] = {name: part.start for name, part in self._items()}
        self.starts |= dict(zip(parts, starts, strict=False))
        for name, start in self.starts.items():
            if not 0 <= start < 1:
                raise ComponentError(
                    f"distortion {name!r} starts at {start:g}; "
                    "let its `start` be a fraction of the steps, at least 0 and below 1"
                )
        self.prune_after = prune_after
        self._default_starts = list(parts)[len(starts) :]
        # Unordered photographs show one scene that does not move.
        consistent = multiview_consistent or trajectory.hint == "unordered"
        self._unneeded = consistent and prune_after > 0
        if self._unneeded:
            self.parts.requires_grad_(False)
        self._trainable = {
            name: [parameter for parameter in part.parameters() if parameter.requires_grad]
            for name, part in self._items()
        }
        verdict = DROPPED if self._unneeded else UNDECIDED
        self.register_buffer("verdicts", torch.full((len(parts),), verdict, dtype=torch.int8))
        self.register_buffer("explained", torch.full((len(parts) + 1,), torch.nan))
        self._verdicts: list[int] | None = None
        """A copy of `verdicts` on the CPU, so that reading it does not wait for the device."""
        self.register_load_state_dict_post_hook(_forget_verdicts)

    def prepare(self, expected_views: float) -> None:
        """Let parts without a start of their own wait until frames were rendered often enough.

        Args:
            expected_views: Number of times that the fit will render each frame, on average.
        """
        for name, part in self._items():
            part.prepare(expected_views)
            if name in self._default_starts:
                self.starts[name] = max(part.start, min(MIN_VIEWS / expected_views, LATEST_START))

    def active_parts(self) -> list[Distortion]:
        """Return the parts that have started and were not dropped, in their order."""
        active = [
            part
            for verdict, (name, part) in zip(self._verdict_list(), self._items(), strict=False)
            if self.progress >= self.starts[name] and verdict != DROPPED
        ]
        for part in active:
            # Setting an attribute of a module is slow, and this runs five times a step.
            if part.progress != self.progress:
                part.progress = self.progress
        return active

    def prune(self, errors: Callable[[], Float[Tensor, "frame"]]) -> None:
        """Drop parts that explain too little, once the last of them has learned for long enough.

        A part that has learned for less explains too little beside the others. The part that
        explains least is dropped first, until every part that is left explains enough. These are
        dropped, too, if all together explain hardly anything. (What dropped parts explain
        together says nothing: one may do harm where another helps.)

        Args:
            errors: Renders some of the frames with the distortion as it is at that moment, and
                returns the mean squared error of each.
        """
        verdicts = self._verdict_list()
        starts = list(self.starts.values())
        due = [
            i
            for i, start in enumerate(starts)
            if verdicts[i] == UNDECIDED and start <= self.progress and start + self.prune_after < 1
        ]
        if (
            self.prune_after
            and due
            and self.progress >= max(starts[i] for i in due) + self.prune_after
        ):
            selection = self._select(due, errors)
            for index in due:
                verdicts[index] = KEPT if index in selection else DROPPED
            self.verdicts.copy_(torch.tensor(verdicts))
        active = self.active_parts()
        for name, part in self._items():
            for parameter in self._trainable[name]:
                parameter.requires_grad_(part in active)  # zero gradients would count as steps

    def _select(self, due: list[int], errors: Callable[[], Float[Tensor, "frame"]]) -> list[int]:
        """Return those of the parts `due` that are kept."""
        verdicts = self._verdict_list()
        decided = [
            i
            for i, name in enumerate(self.parts)
            if verdicts[i] == KEPT and self.progress >= self.starts[name]
        ]

        def errors_without(indices: list[int]) -> Float[Tensor, "frame"]:
            before = verdicts.copy()
            try:
                for index in indices:
                    verdicts[index] = DROPPED
                return errors()
            finally:
                verdicts[:] = before

        dropped: list[int] = []
        reference = errors_without(dropped)
        while remaining := [index for index in due if index not in dropped]:
            gains = [_gain(reference, errors_without([*dropped, index])) for index in remaining]
            self.explained[remaining] = self.explained.new_tensor(gains)
            if min(gains) >= MIN_PART_GAIN:
                break
            dropped.append(remaining[gains.index(min(gains))])
            reference = errors_without(dropped)
        together = 0.0
        if decided or remaining:
            together = _gain(reference, errors_without([*dropped, *decided, *remaining]))
        self.explained[-1] = together
        return remaining if together >= MIN_JOINT_GAIN else []

    def summary(self) -> dict[str, Any]:
        """Return the verdict on each part and what it explained when it was tested.

        Returns:
            `parts`: by name, the `verdict` (kept, dropped, undecided, not needed), the fraction
            of the frames' squared error that the part `explains` beside those that were left,
            and the part's own summary. `together`: the fraction that all that were left explain.
            Fractions that were not measured are None.
        """
        *fractions, together = [
            value if math.isfinite(value) else None for value in self.explained.tolist()
        ]
        words = {
            UNDECIDED: "undecided",
            KEPT: "kept",
            DROPPED: "not needed" if self._unneeded else "dropped",
        }
        verdicts = self._verdict_list()
        parts = {
            name: {"verdict": words[verdicts[i]], "explains": fractions[i]} | part.summary()
            for i, (name, part) in enumerate(self._items())
        }
        return {"parts": parts, "together": together}

    def _items(self) -> ItemsView[str, Distortion]:
        return cast("ItemsView[str, Distortion]", self.parts.items())

    def _verdict_list(self) -> list[int]:
        if self._verdicts is None:
            self._verdicts = cast("list[int]", self.verdicts.tolist())
        return self._verdicts

    def cameras(self, cameras: Cameras, view: Int[Tensor, "view"]) -> Cameras:
        """Correct the cameras by each active part in turn.

        Args:
            cameras: The nominal cameras, one a view.
            view: Indices of the frames; 0 is the input.

        Returns:
            The corrected cameras.
        """
        for part in self.active_parts():
            cameras = part.cameras(cameras, view)
        return cameras

    def gaussians(self, gaussians: Gaussians, view: Int[Tensor, "view"]) -> Gaussians:
        """Deform the scene by each active part in turn.

        Args:
            gaussians: The scene, shared by the views or one set a view.
            view: Indices of the frames; 0 is the input.

        Returns:
            The deformed scene, one set a view.
        """
        for part in self.active_parts():
            gaussians = part.gaussians(gaussians, view)
        return gaussians

    def image(self, render: Render, view: Int[Tensor, "view"]) -> Render:
        """Change the renders by each active part in turn.

        Args:
            render: Renders of the scene, one a view.
            view: Indices of the frames; 0 is the input.

        Returns:
            The distorted renders.
        """
        for part in self.active_parts():
            render = part.image(render, view)
        return render

    def penalty(self) -> Float[Tensor, ""]:
        """Return the sum of the active parts' penalties."""
        penalties = [part.penalty() for part in self.active_parts()] or [super().penalty()]
        return sum(penalties[1:], penalties[0])

    def groups(self) -> Iterator[dict[str, Any]]:
        """Yield the parameter groups of all parts; none if no part is needed."""
        if not self._unneeded:
            for _, part in self._items():
                yield from part.groups()


def _check(parts: tuple[str, ...], starts: tuple[float, ...], settings: dict) -> None:
    """Raise ComponentError for settings that contradict one another."""
    for name in parts:
        if name == "composed" or list(parts).count(name) > 1:
            raise ComponentError(
                f"distortion.parts has {name!r}; "
                "choose every part once, and none that is composed itself"
            )
    for name in settings:
        if name not in parts:
            raise ComponentError(
                f"distortion.settings has {name!r}; "
                f"choose among distortion.parts: {', '.join(parts)}"
            )
    if len(starts) > len(parts):
        raise ComponentError(
            f"distortion.starts is {list(starts)}; choose at most {len(parts)}, one for each part"
        )


def _gain(errors: Float[Tensor, "frame"], errors_without: Float[Tensor, "frame"]) -> float:
    """Return the fraction of the squared error without some parts that these parts remove."""
    if (errors_without.isfinite() & ~errors.isfinite()).any():
        return -math.inf  # the parts make errors infinite or NaN
    finite = errors.isfinite() & errors_without.isfinite()
    bound = MAX_ERROR_RATIO * errors_without[finite].nanmedian()
    fraction = errors[finite].minimum(bound).sum() / errors_without[finite].minimum(bound).sum()
    return float((1 - fraction).nan_to_num())


def _forget_verdicts(composed: Composed, _: Any) -> None:
    """Read the verdicts again after a state dict was loaded."""
    composed._verdicts = None
