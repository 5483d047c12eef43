"""Render the built-in scenes, of which every view is known exactly."""

import math
from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Interval, Len
from jaxtyping import Bool
from torch import Tensor

from lift.evaluation.datasets import CalibratedCapture, Dataset, datasets
from lift.geometry import pinhole
from lift.synthetic.scenes import SCENES, render
from lift.synthetic.shapes import Rays
from lift.synthetic.worlds import FIELD_OF_VIEW, ring_cameras
from lift.types import Cameras, Depth


@datasets.register("ray_cast")
class RayCast(Dataset):
    """The built-in scenes, ray-cast, with exact depth in metres.

    View 0 is the input with a field of view of 55 degrees. A ring of eight views follows for each
    of `angles`, along cameras that no planner uses. Views behind a surface, such as under the
    floor, are left out.

    Args:
        scenes: Names of the scenes to use. None uses all.
        size: Width and height of a view in pixels. If they are equal, the input is the built-in
            picture that depth=known and prior=synthetic recognize.
        angles: Angles in degrees between the input and a ring's cameras, about the scene's centre.

    Raises:
        ValueError: A setting is out of range.
    """

    licence = "Apache-2.0"

    def __init__(
        self,
        scenes: tuple[str, ...] | None = None,
        size: tuple[
            Annotated[int, Interval(ge=1, le=4096)], Annotated[int, Interval(ge=1, le=4096)]
        ] = (512, 512),
        angles: Annotated[tuple[Annotated[float, Interval(gt=0, lt=90)], ...], Len(0, 100)] = (
            4.0,
            9.0,
            16.0,
        ),
    ) -> None:
        for name in scenes or ():
            if name not in SCENES:
                raise ValueError(f"dataset.scenes has {name!r}; choose among {', '.join(SCENES)}")
        self.scene_names = scenes
        self.size = size
        self.angles = angles

    def scenes(self) -> list[str]:
        """List the scenes to use.

        Returns:
            Names of the scenes.
        """
        return list(self.scene_names or SCENES)

    def capture(self, scene: str) -> CalibratedCapture:
        """Render the views of a scene.

        Args:
            scene: Name of the scene.

        Returns:
            The scene.

        Raises:
            ValueError: There is no such scene.
        """
        if scene not in self.scenes():
            raise ValueError(f"there is no scene {scene!r}; there are {', '.join(self.scenes())}")
        width, height = self.size
        camera = pinhole(width, height, width / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2))
        depths = render(scene, camera).depth
        assert depths is not None
        depth = depths[0]
        rings = ring_cameras(camera, Depth(depth, depth > 0, "metric"), self.angles)
        visible = visible_cameras(scene, camera, rings)
        names = [
            f"{angle:g} degrees, {turn:g}"
            for angle in self.angles
            for turn in (22.5 + 45 * torch.arange(8.0)).tolist()
        ]
        cameras = Cameras.cat([camera, rings[visible]])

        def inner_camera(view: int, longer_side: int) -> Cameras:
            if longer_side < 1:
                raise ValueError(f"the longer side is {longer_side}; choose at least 1 pixel")
            sides = [max(1, round(longer_side * side / max(self.size))) for side in self.size]
            # Rounding may have changed the aspect. The larger factor keeps pixels square.
            zoom = max(sides[0] / width, sides[1] / height)
            target = pinhole(sides[0], sides[1], zoom * float(camera.intrinsics[0, 0, 0]))
            return replace(target, world_to_camera=cameras.world_to_camera[[view]])

        return CalibratedCapture(
            scene=scene,
            views=(
                "input",
                *(name for name, keep in zip(names, visible.tolist(), strict=True) if keep),
            ),
            cameras=cameras,
            inner_camera=inner_camera,
            load_view=lambda view, camera: render(scene, camera),
            image=scene if width == height else None,
            metric=True,
            notes={"licence": self.licence, "source": "built in"},
        )


def visible_cameras(scene: str, start: Cameras, cameras: Cameras) -> Bool[Tensor, "view"]:
    """Find the cameras that are visible from another one, with a margin of a tenth of the distance.

    Args:
        scene: Name of the scene.
        start: The other camera, one view.
        cameras: The cameras.

    Returns:
        True for each camera that is visible.
    """
    x, y, z = start.centers[0].unbind()
    dx, dy, dz = (cameras.centers - start.centers).T
    rays = Rays((x, y, z), (dx.contiguous(), dy.contiguous(), dz.contiguous()))
    return SCENES[scene].cast(rays, list(range(len(SCENES[scene].shapes))))[0] > 1.1
