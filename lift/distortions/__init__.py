"""Distortions: learned corrections of each frame, so that the canonical Gaussians stay clean."""

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
    """Learn how every frame deviates from the canonical scene.

    Three hooks change what a frame shows: `cameras`, `gaussians` and `image`. Each is the
    identity unless it is overridden. At initialisation a distortion is exactly the identity.
    For view 0, the input, it always stays so, because the scene must look like the input.
    `keeps_input` is False if only a penalty pulls the input there.

    The positional parameters of a constructor are settings. A constructor may also take these
    keyword-only parameters, which the pipeline passes:

    - num_views (int): the number of frames, the input included.
    - extent (float): the scene's typical depth, its unit of length.
    - size (tuple[int, int]): width and height of the pictures in pixels.
    - trajectory (Trajectory): the tree of clips, with the estimated cameras of their frames.
    - points (PointCloud): the points that the frames show, in world coordinates.
    - multiview_consistent (bool): whether the prior guarantees that all frames show one scene.
    """

    learning_rate: float
    """Learning rate of all parameters, unless `groups` is overridden."""

    progress: float = 1.0
    """Fraction of the fit's steps that are done, 0 to 1. The fit sets it before each step."""

    steps: int | None = None
    """Length of the fit that `learning_rate` is meant for, in steps of one view.

    A longer fit lowers the rate in proportion, so that parameters move equally far in total.
    None keeps the rate in fits of any length.
    """

    keeps_input: bool = True
    """Whether view 0, the input, stays exactly as it is. Runs check this."""

    replayable: bool = False
    """Whether `image` and `penalty` are the same operations of torch in every step.

    Then a fit on a GPU replays them as a CUDA graph. They must not depend on `progress`, on
    `render.info`, or on what `cameras` and `gaussians` leave behind. They must not read values of
    tensors in Python, nor draw random numbers. A subclass that overrides one of them says it again.
    """

    start: float = 0.25
    """When this distortion starts as a part of `composed`, as a fraction of the steps.

    A distortion that starts before there is a scene to compare frames with learns errors.
    """

    def cameras(self, cameras: Cameras, view: Int[Tensor, "view"]) -> Cameras:
        """Correct where the frames were taken.

        Args:
            cameras: The nominal cameras, one a view.
            view: Indices of the frames; 0 is the input.

        Returns:
            The cameras from which the frames show the scene.
        """
        return cameras

    def gaussians(self, gaussians: Gaussians, view: Int[Tensor, "view"]) -> Gaussians:
        """Deform the scene to what it was in each frame.

        Args:
            gaussians: The canonical scene, or one set a view from an earlier distortion.
            view: Indices of the frames; 0 is the input.

        Returns:
            The deformed scene. An override returns one set a view: leading axis `view`.
        """
        return gaussians

    def image(self, render: Render, view: Int[Tensor, "view"]) -> Render:
        """Change the pixels, colours or sharpness of renders to those of the frames.

        Args:
            render: Renders of the scene, one a view.
            view: Indices of the frames; 0 is the input.

        Returns:
            The distorted renders. `info["weight"]` [view height width], if it is set, says how
            much each pixel counts in the loss.
        """
        return render

    def active_parts(self) -> "list[Distortion]":
        """Return the distortions that act now, in their order: this one, unless it is composed."""
        return [self]

    def is_replayable(self) -> bool:
        """Return whether all distortions that act now are `replayable`."""
        return all(_says_replayable(part) for part in self.active_parts())

    def prepare(self, expected_views: float) -> None:
        """Prepare for a fit; called once before it.

        Args:
            expected_views: Number of times that the fit will render each frame, on average.
        """

    def prune(self, errors: Callable[[], Float[Tensor, "frame"]]) -> None:
        """Drop parts that explain too little; called before each step.

        Parts of `composed` are not called, because `composed` prunes them.

        Args:
            errors: Renders some of the frames with the distortion as it is at that moment, and
                returns the mean squared error of each.
        """

    def summary(self) -> dict[str, Any]:
        """Return what the distortion reports after the fit, for `metrics.json`.

        Returns:
            Numbers, texts, lists and dictionaries of these. The report shows `parts` in the
            form that `composed` gives it.
        """
        return {}

    def penalty(self) -> Float[Tensor, ""]:
        """Return the term of the loss that keeps scene content out of the distortion.

        A step calls it once, after `cameras` and `gaussians` and before `image`, unless the step is
        replayed.

        Returns:
            The weighted penalty, a scalar.
        """
        return torch.zeros((), device=next((p.device for p in self.parameters()), None))

    def groups(self) -> Iterator[dict[str, Any]]:
        """Yield parameter groups for the optimiser.

        Yields:
            A dictionary with `params`, the learning rate `lr` and, optionally, `steps`. By
            default all parameters are one group with the module's `learning_rate`.
        """
        if parameters := list(self.parameters()):
            yield {"params": parameters, "lr": self.learning_rate, "steps": self.steps}


def _says_replayable(part: Distortion) -> bool:
    """Return `replayable`, unless a subclass overrides what it is about and does not repeat it."""
    for level in type(part).__mro__:
        members = vars(level)
        if "replayable" in members:
            return part.replayable
        if "image" in members or "penalty" in members:
            return False
    return False


def validate_settings(settings: Mapping[str, Any], camera: Cameras) -> None:
    """Check the settings of a distortion before there are frames.

    Builds the distortion for two frames that stand in for the real ones. A value that the
    distortion refuses is then reported before any frame is generated.

    Args:
        settings: Settings of the distortion with its `name`.
        camera: Camera of the input.

    Raises:
        ComponentError: If the distortion requires something that the pipeline does not supply,
            or has parameters without a learning rate.
        Exception: Whatever the constructor raises about a setting (`distortion.`...). Other
            errors may be due to the stand-ins and are ignored.
    """
    local = torch.tensor(
        [[x, y, z] for x in (-0.3, 0, 0.3) for y in (-0.3, 0, 0.3) for z in (1.0, 2.0)]
    )
    points = PointCloud(
        local @ camera.world_to_camera[0, :3, :3] + camera.centers, torch.zeros(len(local), 3)
    )
    trajectory = Trajectory(camera, (Clip("right", 0, camera),))
    try:
        distortion = distortions.build(
            settings,
            num_views=2,
            extent=1.5,
            size=(camera.width, camera.height),
            trajectory=trajectory,
            points=points,
            multiview_consistent=False,
        )
    except Exception as error:
        if isinstance(error, ComponentError) or str(error).startswith("distortion."):
            raise
        return
    try:
        list(distortion.groups())
    except AttributeError as error:
        raise ComponentError(
            f"distortion {settings['name']!r} has no learning rates ({error}); "
            "set learning_rate, or override groups"
        ) from None


def deform(
    gaussians: Gaussians,
    translations: Float[Tensor, "view gaussian 3"],
    quat_offsets: Float[Tensor, "view gaussian 4"],
    log_scale_offsets: Float[Tensor, "view gaussian 3"],
) -> Gaussians:
    """Deform Gaussians by one set of offsets a view; zero offsets change nothing, to the last bit.

    Args:
        gaussians: The scene, shared by the views or one set a view.
        translations: Added to the means.
        quat_offsets: Added to the quaternions, which are then normalised.
        log_scale_offsets: Logarithms of the factors of the scales.

    Returns:
        One set of Gaussians a view.
    """
    return Gaussians(
        gaussians.means + translations,
        normalize(gaussians.quats + quat_offsets, dim=-1).where(
            quat_offsets.any(-1, keepdim=True), gaussians.quats.expand_as(quat_offsets)
        ),
        gaussians.scales * log_scale_offsets.exp(),
        gaussians.opacities.expand(translations.shape[:-1]),
        gaussians.sh_coeffs.expand(*translations.shape[:-1], *gaussians.sh_coeffs.shape[-2:]),
    )


distortions: Registry[Distortion] = Registry("distortion", Distortion)
