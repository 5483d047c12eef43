"""What each frame got wrong, so that the canonical Gaussians need not."""

from abc import ABC
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from lift.registry import ComponentError, Registry
from lift.types import Cameras, Clip, Gaussians, PointCloud, Render, Trajectory


class Distortion(nn.Module, ABC):
    """Learns, for every frame, how it deviates from the canonical scene. Three hooks, each the identity unless overridden.

    At initialisation a distortion is exactly the identity, and for view 0, the input, it always stays so: the input is what the
    scene must look like. A constructor may ask for (keyword-only): `num_views` (int, the input included), `extent` (float: the
    scene's typical depth, its unit of length), `size` (tuple: picture width, height), `trajectory` (Trajectory: the
    tree of clips), `points` (PointCloud: what the frames show), `agree` (bool: the prior vouches that they all show the same scene).
    """

    progress: float = 1.0
    """Share of the fit's steps that are done; the fit sets it before each step."""

    steps: int | None = None
    """How long a fit `learning_rate` is meant for, in steps of one view: in a longer one it is smaller in proportion, so that what is learned
    can go as far and no farther. None: it is meant for any."""

    begins: float = 0.25
    """When it begins as a part of `composed` that is told nothing else, as a share of the steps: before there is a scene to compare frames with,
    it learns what it has to unlearn."""

    def cameras(self, cameras: Cameras, view: Int[Tensor, "view"]) -> Cameras:
        """The frame was not taken where it says."""
        return cameras

    def gaussians(self, gaussians: Gaussians, view: Int[Tensor, "view"]) -> Gaussians:
        """The scene had moved or changed shape in that frame. An override returns a set a view: leading axis `view`."""
        return gaussians

    def image(self, render: Render, view: Int[Tensor, "view"]) -> Render:
        """The frame's pixels, colours or sharpness are off. `info["weight"]` [view height width], if set, says how much each pixel counts."""
        return render

    def acting(self) -> "list[Distortion]":
        """What it is made of and has begun, in order: itself, unless it is composed."""
        return [self]

    def plan(self, looks: float) -> None:
        """Called before a fit. looks: how often it will have looked at each frame in the end, in the mean."""

    def judge(self, errors: Callable[[], Float[Tensor, "frame"]]) -> None:
        """Called before each step, but not of parts: `composed` judges them. `errors()` renders some of the frames with the distortion as it then is: the mean squared error of each."""

    def account(self) -> dict[str, Any]:
        """What it has to tell of itself after the fit, for `metrics.json`: numbers, texts, lists and dictionaries of them. The report shows `parts` as
        `composed` has them.
        """
        return {}

    def penalty(self) -> Float[Tensor, ""]:
        """Added to the loss: what keeps the distortion from taking over what belongs to the scene. Asked for once a step, after `cameras` and
        `gaussians` and before there is a picture.
        """
        return torch.zeros((), device=next((p.device for p in self.parameters()), None))

    def groups(self) -> Iterator[dict[str, Any]]:
        """Parameter groups for the optimiser, each with its learning rate and `steps`; the setting `learning_rate` of the module unless overridden."""
        if parameters := list(self.parameters()):
            yield {"params": parameters, "lr": self.learning_rate, "steps": self.steps}


def rehearse(settings: Mapping[str, Any], camera: Cameras) -> None:
    """Builds a distortion, `settings` with its `name`, for two frames that stand in for those to come, so that a value it does not take is told before
    they are made. camera: the input's. Raises what the constructor raises where that names a setting (`distortion.`...), and ComponentError for what is
    asked for that nobody supplies and for parameters without a learning rate: other faults may be the stand-ins'.
    """
    ahead = torch.tensor(
        [[x, y, z] for x in (-0.3, 0, 0.3) for y in (-0.3, 0, 0.3) for z in (1.0, 2.0)]
    )
    points = PointCloud(
        ahead @ camera.world_to_camera[0, :3, :3] + camera.centers, torch.zeros(len(ahead), 3)
    )
    trajectory = Trajectory(camera, (Clip("right", 0, camera),))
    try:
        built = distortions.build(
            settings,
            num_views=2,
            extent=1.5,
            size=(camera.width, camera.height),
            trajectory=trajectory,
            points=points,
            agree=False,
        )
    except Exception as error:
        if isinstance(error, ComponentError) or str(error).startswith("distortion."):
            raise
        return
    try:
        list(built.groups())
    except AttributeError as error:
        raise ComponentError(
            f"distortion {settings['name']!r} has no learning rates ({error}); set learning_rate, or override groups"
        ) from None


def deformed(
    gaussians: Gaussians,
    moved: Float[Tensor, "view gaussian 3"],
    turned: Float[Tensor, "view gaussian 4"],
    grown: Float[Tensor, "view gaussian 3"],
) -> Gaussians:
    """A set a view: means and quaternions with what is added to them, scales by the exponential; exactly as they were where that is zero."""
    return Gaussians(
        gaussians.means + moved,
        normalize(gaussians.quats + turned, dim=-1).where(
            turned.any(-1, keepdim=True), gaussians.quats.expand_as(turned)
        ),
        gaussians.scales * grown.exp(),
        gaussians.opacities.expand(moved.shape[:-1]),
        gaussians.sh_coeffs.expand(*moved.shape[:-1], *gaussians.sh_coeffs.shape[-2:]),
    )


distortions: Registry[Distortion] = Registry("distortion", Distortion)
