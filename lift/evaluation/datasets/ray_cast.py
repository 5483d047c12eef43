"""The built-in scenes, of which every view is known exactly."""

import math
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from lift.evaluation.datasets import Capture, Dataset, datasets
from lift.geometry import pinhole
from lift.synthetic.raycast import Rays
from lift.synthetic.scenes import SCENES, render
from lift.synthetic.worlds import FIELD_OF_VIEW, unseen
from lift.types import Cameras, Depth


@datasets.register("ray_cast")
class RayCast(Dataset):
    """The built-in scenes, ray-cast, with exact depth in metres.

    View 0 is the input, 55 degrees across; then a ring of eight views for each of `angles`, along cameras that no plan generates. Those that lie behind what the scene is
    made of, under its floor, say, are left out.

    scenes: those to take; None: all.
    size: width and height of a view, in pixels; where they are equal the input is the built-in picture, of which depth=known and prior=synthetic know.
    angles: degrees by which a ring's cameras are turned about the scene's middle.
    """

    licence = "Apache-2.0"

    def __init__(
        self,
        scenes: tuple[str, ...] | None = None,
        size: tuple[int, int] = (512, 512),
        angles: tuple[float, ...] = (4.0, 9.0, 16.0),
    ) -> None:
        for name in scenes or ():
            if name not in SCENES:
                raise ValueError(f"dataset.scenes has {name!r}; choose among {', '.join(SCENES)}")
        if min(size) < 1:
            raise ValueError(f"dataset.size is {size}; choose at least 1 pixel")
        for angle in angles:
            if not 0 < angle < 90:
                raise ValueError(
                    f"dataset.angles has {angle}; choose more than 0 and less than 90 degrees"
                )
        self.asked, self.size, self.angles = scenes, size, angles

    def scenes(self) -> list[str]:
        return list(self.asked or SCENES)

    def capture(self, scene: str) -> Capture:
        if scene not in self.scenes():
            raise ValueError(f"there is no scene {scene!r}; there are {', '.join(self.scenes())}")
        width, height = self.size
        camera = pinhole(width, height, width / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2))
        depth = render(scene, camera).depth[0]
        rings = unseen(camera, Depth(depth, depth > 0, "metric"), self.angles)
        there = reached(scene, camera, rings)
        names = [
            f"{angle:g} degrees, {turn:g}"
            for angle in self.angles
            for turn in (22.5 + 45 * torch.arange(8.0)).tolist()
        ]
        cameras = Cameras.cat([camera, rings[there]])

        def inner(view: int, longer: int) -> Cameras:
            if longer < 1:
                raise ValueError(f"the longer side is {longer}; choose at least 1 pixel")
            sides = [max(1, round(longer * side / max(self.size))) for side in self.size]
            zoom = max(
                sides[0] / width, sides[1] / height
            )  # the longer of the two where rounding has made them differ: pixels stay square
            same = pinhole(*sides, zoom * float(camera.intrinsics[0, 0, 0]))
            return replace(same, world_to_camera=cameras.world_to_camera[[view]])

        return Capture(
            scene=scene,
            views=(
                "input",
                *(name for name, kept in zip(names, there.tolist(), strict=True) if kept),
            ),
            cameras=cameras,
            inner=inner,
            look=lambda view, asked: render(scene, asked),
            image=scene if width == height else None,
            metric=True,
            notes={"licence": self.licence, "source": "built in"},
        )


def reached(scene: str, start: Cameras, cameras: Cameras) -> Bool[Tensor, "view"]:
    """Which can be moved to from another in a straight line, with a tenth of it to spare."""
    away = cameras.centers - start.centers
    rays = Rays(tuple(start.centers[0].unbind()), tuple(along.contiguous() for along in away.T))
    return SCENES[scene].cast(rays, list(range(len(SCENES[scene].shapes))))[0] > 1.1
