"""Several distortions, one after the other."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
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
from lift.types import Cameras, Gaussians, PointCloud, Render, Trajectory

TOGETHER, EACH = 0.12, 0.02
"""Shares of the frames' squared error that the parts, all that act together and each beside the others, have to take away to stay."""

AT_MOST = 4
"""Times the median frame's that a frame's error counts, so that frames gone bad do not decide."""

LOOKS, AT_LATEST = 2, 0.25
"""At each frame, before anything is learned of it; in a short fit they are waited for no longer than this share of the steps."""

UNDECIDED, KEPT, DROPPED = 0, 1, 2


@distortions.register("composed")
class Composed(Distortion):
    """Parts in a stated order, as a frame comes about: where it was taken, what the scene was like, how its picture is bent, its colours, its sharpness.

    Settings:
    - parts: names of distortions. `lift list` has them;
    - starts: when each part begins to act and to learn, as a share of the steps; those left out begin when they say themselves (`begins`):
      `rigid` and `image_warp` after a tenth, all other built-in ones after a quarter (in a fit so short that frames were not yet looked at twice in
      the mean, that is waited for, up to a quarter of the steps);
    - sift: so long after its start, as a share of the steps, a part is dropped for good if frames are hardly better explained with it than
      without: where frames are right, what is learned is chance, and the scene is better without it. Parts are judged together, so those that wait
      do so for what begins meanwhile. 0 keeps all, and what begins so late that its time does not come is kept, too. Where the prior vouches for
      its frames, as `warp` does, and where frames are photographs in no order, all are dropped from the beginning;
    - settings: of parts, by name: +distortion.settings.rigid.weight=10.
    """

    def __init__(
        self,
        parts: tuple[str, ...] = ("rigid", "image_warp", "appearance", "blur"),
        starts: tuple[float, ...] = (),
        sift: float = 0.2,
        settings: dict = {},  # noqa: B006
        *,
        num_views: int,
        extent: float,
        size: tuple[int, int],
        trajectory: Trajectory,
        points: PointCloud,
        agree: bool = False,
    ) -> None:
        super().__init__()
        for name in parts:
            if name == "composed" or list(parts).count(name) > 1:
                raise ComponentError(
                    f"distortion.parts has {name!r}; choose every part once, and none that is composed itself"
                )
        for name in settings:
            if name not in parts:
                raise ComponentError(
                    f"distortion.settings has {name!r}; choose among distortion.parts: {', '.join(parts)}"
                )
        if not 0 <= sift <= 1:
            raise ComponentError(
                f"distortion.sift is {sift:g}; choose a share of the steps, 0 to drop nothing"
            )
        if len(starts) > len(parts) or any(not 0 <= start < 1 for start in starts):
            raise ComponentError(
                f"distortion.starts is {list(starts)}; choose at most {len(parts)} shares of the steps, each at least 0 and below 1"
            )
        supplied = {
            "num_views": num_views,
            "extent": extent,
            "size": size,
            "trajectory": trajectory,
            "points": points,
            "agree": agree,
        }
        self.parts = nn.ModuleDict(
            {
                name: distortions.build({"name": name, **settings.get(name, {})}, **supplied)
                for name in parts
            }
        )
        self.starts, self.sift = (
            {name: part.begins for name, part in self.parts.items()}
            | dict(zip(parts, starts, strict=False)),
            sift,
        )
        for name, start in self.starts.items():
            if not 0 <= start < 1:
                raise ComponentError(
                    f"distortion {name!r} begins at {start:g}; let its `begins` be a share of the steps, at least 0 and below 1"
                )
        self._untold = list(parts)[len(starts) :]
        # Photographs, which come in no order, show one scene that keeps still.
        self._needless = (agree or trajectory.hint == "unordered") and sift > 0
        if self._needless:
            self.parts.requires_grad_(False)
        self._learned = {
            name: [parameter for parameter in part.parameters() if parameter.requires_grad]
            for name, part in self.parts.items()
        }
        self.register_buffer(
            "verdicts",
            torch.full((len(parts),), DROPPED if self._needless else UNDECIDED, dtype=torch.int8),
        )
        self.register_buffer(
            "explained", torch.full((len(parts) + 1,), torch.nan)
        )  # by each beside the others that stay, and together
        self._verdicts: list[int] | None = None  # the same where nothing has to be waited for
        self.register_load_state_dict_post_hook(_ask_again)

    def plan(self, looks: float) -> None:
        for part in self.parts.values():
            part.plan(looks)
        for name in self._untold:
            self.starts[name] = max(self.parts[name].begins, min(LOOKS / looks, AT_LATEST))

    def acting(self) -> list[Distortion]:
        """The parts that have begun and were not dropped, in their order."""
        acting = [
            part
            for verdict, (name, part) in zip(self._known(), self.parts.items(), strict=False)
            if self.progress >= self.starts[name] and verdict != DROPPED
        ]
        for part in acting:
            if (
                part.progress != self.progress
            ):  # a module takes its time to set an attribute, and is asked for this five times a step
                part.progress = self.progress
        return acting

    def judge(self, errors: Callable[[], Float[Tensor, "frame"]]) -> None:
        """Decides about the parts that have begun once the last of them has learned for long enough: what has learned for less explains too little beside
        the others. The worst goes until all that are left have a share in what is explained, and these go, too, if that is hardly anything. (What
        those explain together that are to go says nothing: one does harm where another helps.)
        """
        verdicts = self._known()
        starts = list(self.starts.values())
        due = [
            i
            for i, start in enumerate(starts)
            if verdicts[i] == UNDECIDED and start <= self.progress and start + self.sift < 1
        ]
        if self.sift and due and self.progress >= max(starts[i] for i in due) + self.sift:
            kept = self._worth(due, errors)
            for index in due:
                verdicts[index] = KEPT if index in kept else DROPPED
            self.verdicts.copy_(torch.tensor(verdicts))
        acting = self.acting()
        for name, part in self.parts.items():
            for parameter in self._learned[name]:
                parameter.requires_grad_(part in acting)  # gradients of zero would count as steps

    def _worth(self, due: list[int], errors: Callable[[], Float[Tensor, "frame"]]) -> list[int]:
        """Those of the parts that stay."""
        verdicts = self._known()
        decided = [
            i
            for i, name in enumerate(self.parts)
            if verdicts[i] == KEPT and self.progress >= self.starts[name]
        ]

        def measured(without: list[int]) -> Float[Tensor, "frame"]:
            before = verdicts.copy()
            try:
                for index in without:
                    verdicts[index] = DROPPED
                return errors()
            finally:
                verdicts[:] = before

        def gain(less: list[int]) -> float:
            """Of those parts, beside the others that are left."""
            worse = measured([*gone, *less])
            if (worse.isfinite() & ~whole.isfinite()).any():
                return -math.inf  # it alone makes errors that are no numbers
            known = whole.isfinite() & worse.isfinite()
            bound = AT_MOST * worse[known].nanmedian()
            return float(
                (
                    1 - whole[known].minimum(bound).sum() / worse[known].minimum(bound).sum()
                ).nan_to_num()
            )

        gone: list[int] = []
        whole = measured(gone)
        while left := [index for index in due if index not in gone]:
            gains = [gain([index]) for index in left]
            self.explained[left] = self.explained.new_tensor(gains)
            if min(gains) >= EACH:
                break
            gone.append(left[gains.index(min(gains))])
            whole = measured(gone)
        self.explained[-1] = together = gain([*decided, *left]) if decided or left else 0.0
        return left if together >= TOGETHER else []

    def account(self) -> dict[str, Any]:
        """Of each part what became of it (kept, dropped, not judged, not needed) and which share of the frames' squared error it explained
        when it was judged, beside those that had not gone before, with what it tells of itself; `together`, of all that were left. None where that was not asked.
        """
        *each, together = [
            value if math.isfinite(value) else None for value in self.explained.tolist()
        ]
        said = {
            UNDECIDED: "not judged",
            KEPT: "kept",
            DROPPED: "not needed" if self._needless else "dropped",
        }
        verdicts = self._known()
        parts = {
            name: {"verdict": said[verdicts[i]], "explains": each[i]} | part.account()
            for i, (name, part) in enumerate(self.parts.items())
        }
        return {"parts": parts, "together": together}

    def _known(self) -> list[int]:
        if self._verdicts is None:
            self._verdicts = self.verdicts.tolist()
        return self._verdicts

    def cameras(self, cameras: Cameras, view: Int[Tensor, "view"]) -> Cameras:
        for part in self.acting():
            cameras = part.cameras(cameras, view)
        return cameras

    def gaussians(self, gaussians: Gaussians, view: Int[Tensor, "view"]) -> Gaussians:
        for part in self.acting():
            gaussians = part.gaussians(gaussians, view)
        return gaussians

    def image(self, render: Render, view: Int[Tensor, "view"]) -> Render:
        for part in self.acting():
            render = part.image(render, view)
        return render

    def penalty(self) -> Float[Tensor, ""]:
        first, *others = [part.penalty() for part in self.acting()] or [super().penalty()]
        return sum(others, first)

    def groups(self) -> Iterator[dict[str, Any]]:
        for part in () if self._needless else self.parts.values():
            yield from part.groups()


def _ask_again(composed: Composed, _: Any) -> None:
    composed._verdicts = None
