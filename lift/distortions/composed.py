"""Several distortions, one after the other."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lift.distortions import Distortion, appearance, blur, distortions, field, hexplane, image_warp, rigid  # noqa: F401  they are part of its key
from lift.registry import ComponentError
from lift.types import Cameras, Gaussians, PointCloud, Render, Trajectory


@distortions.register("composed")
class Composed(Distortion):
    """Parts in a stated order, as a frame comes about: where it was taken, what the scene was like, how its picture is bent, its colours, its sharpness.

    Settings:
    - parts: names of distortions. `lift list` has them;
    - starts: when each part begins to act and to learn, as a share of the steps; those left out begin at once;
    - settings: of parts, by name: +distortion.settings.rigid.weight=10.
    """

    def __init__(
        self, parts: tuple[str, ...] = ("rigid", "image_warp", "appearance", "blur"), starts: tuple[float, ...] = (), settings: dict = {},  # noqa: B006
        *, num_views: int, extent: float, size: tuple[int, int], trajectory: Trajectory, points: PointCloud,
    ) -> None:  # fmt: skip
        super().__init__()
        for name in parts:
            if name == "composed" or list(parts).count(name) > 1:
                raise ComponentError(f"distortion.parts has {name!r}; choose every part once, and none that is composed itself")
        for name in settings:
            if name not in parts:
                raise ComponentError(f"distortion.settings has {name!r}; choose among distortion.parts: {', '.join(parts)}")
        if len(starts) > len(parts) or any(not 0 <= start < 1 for start in starts):
            raise ComponentError(f"distortion.starts is {list(starts)}; choose at most {len(parts)} shares of the steps, each at least 0 and below 1")
        supplied = {"num_views": num_views, "extent": extent, "size": size, "trajectory": trajectory, "points": points}
        self.parts = nn.ModuleDict({name: distortions.build({"name": name, **settings.get(name, {})}, **supplied) for name in parts})
        self.starts = dict(zip(parts, [*starts, *[0.0] * len(parts)]))

    def acting(self) -> list[Distortion]:
        """The parts that have begun, in their order."""
        acting = [part for name, part in self.parts.items() if self.progress >= self.starts[name]]
        for part in acting:
            part.progress = self.progress
        return acting

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
        return torch.stack([part.penalty() for part in self.acting()]).sum() if self.acting() else super().penalty()

    def groups(self) -> Iterator[dict[str, Any]]:
        for part in self.parts.values():
            yield from part.groups()
