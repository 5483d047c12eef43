"""Densification by gradients in the picture, as in 3D Gaussian splatting.

A Gaussian is cloned or split where moving it in the picture would reduce the loss much. Gaussians
of low opacity are removed, and large ones too if the settings say so.

Reference: Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering", SIGGRAPH
2023, section 5.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.distributed
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lift.geometry import quat_to_rotation
from lift.training.densify import Densifier
from lift.training.schedule import stage_start
from lift.training.splats import Splats
from lift.types import Cameras, Gaussians, Render

RESET_OPACITY = 0.01
"""Largest opacity after a reset, or twice `fit.densify.min_opacity` if that is larger."""

SPLIT_SHRINKAGE = 1.6
"""Factor by which the standard deviations of the two parts of a split Gaussian are smaller."""


@dataclass
class _Statistics:
    """What was measured of each Gaussian since the last round."""

    gradients: Float[Tensor, "gaussian"]
    """Sum of the gradient norms of its position in the picture, per half the picture's size."""
    visible: Float[Tensor, "gaussian"]
    """Number of times that it was visible."""
    radii: Float[Tensor, "gaussian"]
    """Largest radius in pixels of the full-size picture."""

    @classmethod
    def zeros(cls, count: int, device: torch.device | str) -> "_Statistics":
        """Return the statistics of Gaussians that were not rendered yet."""
        return cls(*(torch.zeros(count, device=device) for _ in fields(cls)))

    def select(self, index: Int[Tensor, "row"]) -> "_Statistics":
        """Return the statistics of some Gaussians."""
        return _Statistics(*(getattr(self, f.name)[index] for f in fields(self)))


class GradientDensifier(Densifier):
    """Clone, split and remove Gaussians by a schedule.

    Each process measures the views that it renders. `update` and `state` add what all processes
    have measured.

    Args:
        settings: Settings `fit` of the configuration, without null.
        count: Number of Gaussians at the start.
        scene_scale: Value of `fit.scene_scale` in scene units.
        size: Width and height of the full-size pictures in pixels.
    """

    def __init__(
        self, settings: Any, count: int, scene_scale: float, size: tuple[int, int]
    ) -> None:
        self.fit = settings
        self.settings = settings.densify
        self.scene_scale = scene_scale
        self.size = size
        self._total = _Statistics.zeros(count, "cpu")
        self._recent = _Statistics.zeros(count, "cpu")
        self._watched: Tensor | None = None

    def watch(self, gaussians: Gaussians, views: int, step: int) -> Gaussians:
        """Let the means of each view keep their gradient, while there are rounds to come.

        Args:
            gaussians: The distorted Gaussians, shared by the views or one set a view.
            views: Number of views of the step.
            step: Step count before this step.

        Returns:
            Equal Gaussians.
        """
        self._watched = None
        if step - stage_start(self.fit, step) >= self.settings.stop * self.fit.steps:
            return gaussians
        if gaussians.means.ndim == 2 and views > 1:
            gaussians = gaussians.map(lambda value: value.expand(views, *value.shape))
        self._watched = gaussians.means.view_as(gaussians.means)
        self._watched.retain_grad()
        return replace(gaussians, means=self._watched)

    @torch.no_grad()
    def record(self, splats: Splats, cameras: Cameras, render: Render) -> None:
        """Add the gradients and radii of the Gaussians that `watch` returned.

        A Gaussian's gradient in the picture is that of moving it in parallel to the picture.

        Args:
            splats: The raw parameters.
            cameras: The distorted cameras, one a view.
            render: Renders of the Gaussians.
        """
        if self._watched is None or self._watched.grad is None:
            return
        gradients = _picture_gradients(self._watched, cameras)
        self._watched = None
        if self._recent.radii.device != gradients.device:
            self._recent = _Statistics.zeros(splats.count, gradients.device)
        radii = render.info["radii"]
        is_visible = radii > 0
        if self.settings.gradient.per_view:
            # The loss is a mean over the views.
            norms = len(gradients) * gradients.norm(dim=-1)
            visible = is_visible.sum(0)
        else:
            norms = gradients.sum(0, keepdim=True).norm(dim=-1)
            is_visible = is_visible.any(0, keepdim=True)
            visible = is_visible[0]
        recent = self._recent
        recent.gradients += (norms * is_visible).sum(0)
        recent.visible += visible
        full_size = radii.amax(0) * (self.size[0] / cameras.width)
        recent.radii = torch.maximum(recent.radii, full_size.to(recent.radii))

    def update(
        self,
        splats: Splats,
        optimiser: torch.optim.Optimizer,
        previous_step: int,
        step: int,
        rng: torch.Generator,
    ) -> None:
        """Clone, split and remove Gaussians and reset opacities, if it is their turn.

        Args:
            splats: The raw parameters.
            optimiser: Their optimiser.
            previous_step: Step count before this optimiser step.
            step: Step count after it.
            rng: Generator on the Gaussians' device.
        """
        settings = self.settings
        gradient = settings.gradient
        start = stage_start(self.fit, previous_step)
        before = previous_step - start
        after = step - start
        if after > settings.stop * self.fit.steps:
            return

        def is_due(every: int) -> bool:
            return bool(every) and after // every > before // every

        has_round = after >= settings.start and is_due(settings.every)
        if has_round:
            self._merge(splats)
            self._grow(splats, optimiser, rng)
        if after >= settings.start and is_due(gradient.prune_every or settings.every):
            self._merge(splats)
            self._prune(splats, optimiser, after >= gradient.prune_size_start)
        if has_round:
            self.restart(splats)
        if is_due(gradient.reset_every):
            limit = max(RESET_OPACITY, 2 * settings.min_opacity)
            reset_opacities(splats, optimiser, min(limit, 0.5))

    def restart(self, splats: Splats) -> None:
        """Drop all statistics.

        Args:
            splats: The raw parameters.
        """
        device = splats["means"].device
        self._total = _Statistics.zeros(splats.count, device)
        self._recent = _Statistics.zeros(splats.count, device)

    def state(self, splats: Splats) -> dict[str, Any]:
        """Return the statistics of all processes.

        Args:
            splats: The raw parameters.
        """
        self._merge(splats)
        return {f"densify_{f.name}": getattr(self._total, f.name) for f in fields(_Statistics)}

    def load_state(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore what `state` returned.

        Args:
            state: The checkpoint.
            device: Device of the Gaussians.
        """
        count = state["shapes"]["means"][0]
        self._total = _Statistics(
            *(
                state.get(f"densify_{f.name}", torch.zeros(count)).to(device)
                for f in fields(_Statistics)
            )
        )
        self._recent = _Statistics.zeros(count, device)

    def _merge(self, splats: Splats) -> None:
        """Add what all processes have measured since the last call to the totals."""
        count = splats.count
        device = splats["means"].device
        for name in ("_total", "_recent"):
            if getattr(self, name).radii.device != device:
                setattr(self, name, _Statistics.zeros(count, device))
        recent = self._recent
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for values in (recent.gradients, recent.visible):
                torch.distributed.all_reduce(values)
            torch.distributed.all_reduce(recent.radii, torch.distributed.ReduceOp.MAX)
        self._total.gradients += recent.gradients
        self._total.visible += recent.visible
        self._total.radii = torch.maximum(self._total.radii, recent.radii)
        self._recent = _Statistics.zeros(count, device)

    def _grow(self, splats: Splats, optimiser: torch.optim.Optimizer, rng: torch.Generator) -> None:
        """Clone small Gaussians with large gradients, and split large ones into two."""
        gradients = self._total.gradients / self._total.visible.clamp(min=1)
        selected = gradients >= self.settings.gradient.grow_grad2d
        room = max(0, self.fit.max_gaussians - splats.count)
        if int(selected.sum()) > room:
            order = gradients.where(selected, -1.0).argsort(descending=True, stable=True)
            selected = torch.zeros_like(selected)
            selected[order[:room]] = True
        limit = self.settings.gradient.grow_scale3d * self.scene_scale
        is_large = splats["scales"].data.amax(-1).exp() > limit
        self._total = self._total.select(
            clone_and_split(splats, optimiser, selected, is_large, rng)
        )
        self._recent = _Statistics.zeros(splats.count, splats["means"].device)

    def _prune(self, splats: Splats, optimiser: torch.optim.Optimizer, by_size: bool) -> None:
        """Remove Gaussians of low opacity, and large ones.

        If that removed all, the most opaque one stays.
        """
        gradient = self.settings.gradient
        opacities = splats["opacities"].data.sigmoid()
        removed = opacities < self.settings.min_opacity
        if by_size and gradient.prune_scale3d:
            sizes = splats["scales"].data.amax(-1).exp()
            removed |= sizes > gradient.prune_scale3d * self.scene_scale
        if by_size and gradient.prune_radius:
            removed |= self._total.radii > gradient.prune_radius
        removed[opacities.argmax()] &= ~removed.all()
        kept = (~removed).nonzero()[:, 0]
        if len(kept) < splats.count:
            select_rows(splats, optimiser, kept, len(kept))
            self._total = self._total.select(kept)
            self._recent = _Statistics.zeros(splats.count, splats["means"].device)


def clone_and_split(
    splats: Splats,
    optimiser: torch.optim.Optimizer,
    selected: Bool[Tensor, "gaussian"],
    is_large: Bool[Tensor, "gaussian"],
    rng: torch.Generator,
) -> Int[Tensor, "row"]:
    """Clone the selected small Gaussians, and replace the selected large ones by two smaller ones.

    The parts of a split Gaussian are drawn from it.

    Args:
        splats: The raw parameters.
        optimiser: Their optimiser; moments of new Gaussians are zero.
        selected: Which Gaussians to clone or to split.
        is_large: Which of these to split.
        rng: Generator on the Gaussians' device.

    Returns:
        The former index of each Gaussian.
    """
    is_split = selected & is_large
    kept = (~is_split).nonzero()[:, 0]
    clones = (selected & ~is_large).nonzero()[:, 0]
    parts = is_split.nonzero()[:, 0].repeat(2)
    index = torch.cat([kept, clones, parts])
    select_rows(splats, optimiser, index, len(kept))
    if count := len(parts):
        scales = splats["scales"].data[-count:].exp()
        rotation = quat_to_rotation(splats["quats"].data[-count:])
        noise = torch.randn(scales.shape, generator=rng, device=rng.device)
        splats["means"].data[-count:] += (rotation @ (scales * noise)[..., None])[..., 0]
        splats["scales"].data[-count:] -= math.log(SPLIT_SHRINKAGE)
    return index


def select_rows(
    splats: Splats, optimiser: torch.optim.Optimizer, index: Int[Tensor, "row"], num_kept: int
) -> None:
    """Replace every Parameter by some of its rows, in the optimiser, too.

    Args:
        splats: The raw parameters.
        optimiser: Their optimiser.
        index: Former index of each row. An index may occur several times.
        num_kept: Number of rows that keep their moments. Those of the others are zero.
    """
    for group in optimiser.param_groups:
        name = group["name"]
        old = splats[name]
        splats[name] = nn.Parameter(old.data[index])
        group["params"] = [splats[name]]
        if state := optimiser.state.pop(old, None):
            for key, value in state.items():
                if isinstance(value, Tensor) and value.shape == old.shape:
                    state[key] = value[index]
                    state[key][num_kept:] = 0
            optimiser.state[splats[name]] = state


def reset_opacities(splats: Splats, optimiser: torch.optim.Optimizer, limit: float) -> None:
    """Lower all opacities to a limit, so that only needed Gaussians become opaque again.

    Args:
        splats: The raw parameters.
        optimiser: Their optimiser; the moments of the opacities become zero.
        limit: Largest opacity, above 0 and below 1.
    """
    opacities = splats["opacities"]
    opacities.data.clamp_(max=math.log(limit / (1 - limit)))
    for value in optimiser.state.get(opacities, {}).values():
        if isinstance(value, Tensor) and value.shape == opacities.shape:
            value.zero_()


def _picture_gradients(
    means: Float[Tensor, "*view gaussian 3"], cameras: Cameras
) -> Float[Tensor, "view gaussian 2"]:
    """Return the gradient of each position in the picture, per half the picture's size.

    Args:
        means: Centres with their gradient, one set a view; shared ones are of one view.
        cameras: The cameras, one a view.
    """
    assert means.grad is not None
    pose = cameras.world_to_camera.detach()
    focal = cameras.intrinsics.detach().diagonal(dim1=-2, dim2=-1)[:, None, :2]
    half = focal.new_tensor([cameras.width / 2, cameras.height / 2])
    depth = means.detach() @ pose[:, 2, :3, None] + pose[:, 2, 3, None, None]
    in_camera = means.grad @ pose[:, :2, :3].mT
    return in_camera * depth.abs() / focal * half
