"""Train by the released recipe of LiftImage3D, rebuilt from its description.

    python benchmarks/published.py train --frames FOLDER [--field factored] [--seconds 600]
    python benchmarks/published.py step [--field plain] [--stage fine] [--counts 150000 500000]

benchmarks/frames.py makes the frames. The recipe is that of the distortion-aware 3DGS stage of
arXiv 2412.09597 as released. 3D Gaussians start from the input view's points. A five-dimensional
HexPlane (Cao and Johnson, CVPR 2023; K-Planes, Fridovich-Keil et al., CVPR 2023) deforms them for
each frame. Its dimensions are x, y, z and the position (u, v) of the frame in the articulated tree.
Defects that change the results are kept: which planes are regularised, the similarity that counts
twice, and the reset of opacities at the end of the coarse stage. The released code was neither read
nor used.

The recipe deviates from the released one in these points:

- The rasteriser is gsplat's (CUDA) or lift's (CPU) instead of Inria's. Radii, which only decide
  what is pruned by size, depend on opacity. It is faster.
- Pictures and depths stay on the device instead of being copied in every step. It is faster.
- Adam is fused, and the similarity is separable. It is faster.
- Gradients that are not finite count as zero. The released code copies its network in every step
  and restores the copy, which its optimiser does not know. Here it is faster and goes on learning.
- Depth and cameras are those of the `Reconstruction`, not estimated again and quantised to 8 bits.
  The data are better.
- `field="factored"` evaluates the same function in a faster order. A view has one (u, v). So the
  six planes with u or v are first interpolated to lines, and the plane of both to a vector. The
  views of a step share the features of x, y and z. It is for runs whose quality is compared.
- `field="plain"` looks up all thirty planes for every Gaussian and view, as released. It is for
  runs whose time is compared.
"""

import argparse
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from frames import load_frame_set
from measure import add_results_option, measure, write_results
from scipy.spatial import cKDTree
from torch import Tensor, nn
from torch.nn.functional import normalize

from lift.distortions.hexplane import SCENE_HALF_SIZE
from lift.distortions.parameters.planes import TreePlanes, tree_codes
from lift.evaluation.metrics import psnr
from lift.geometry import pinhole, quat_to_rotation, transform_cameras, unproject
from lift.renderers import EPS2D, NEAR_PLANE, Renderer, renderers
from lift.runtime.serialization import save
from lift.spherical_harmonics import evaluate, from_rgb
from lift.training.losses import ssim
from lift.training.splats import Splats
from lift.types import Cameras, Frames, Gaussians, Reconstruction, Trajectory

INPUT_WIDTH = 448
"""Width of the input in the released pose stage. Each pixel becomes a Gaussian."""

Field = Literal["plain", "factored"]
Stage = Literal["coarse", "fine"]


@dataclass(frozen=True)
class Schedule:
    """Iterations of each stage. The defaults are the released ones."""

    grow_from: int = 500
    grow_until: int = 10_000
    grow_every: int = 100
    prune_every: int = 3000
    reset_every: int = 3000
    degree_every: int = 1000
    rates_over: int = 20_000
    depth_over: int = 14_000


@dataclass(frozen=True)
class Record:
    """An evaluation during a run."""

    stage: Stage
    iteration: int
    """Iteration within the stage."""
    seconds: float
    """Time since the start, without evaluations."""
    gaussians: int
    loss: float
    held_out_psnr: float | None
    """Mean PSNR of the canonical scene over the held-out frames, None if there are none."""
    true_psnr: float | None
    """The same over true views from cameras of no frame."""


@dataclass(frozen=True)
class Result:
    """The result of a run."""

    gaussians: Gaussians
    """The canonical scene in the world of the reconstruction."""
    history: list[Record]
    """Evaluations. The last one is at the end of the run."""


@dataclass(frozen=True)
class View:
    """A rendered view."""

    rgb: Tensor
    """Colours over black, [height, width, 3]."""
    inverse_depth: Tensor
    """Inverse depth, weighted by opacity, [height, width]."""
    alpha: Tensor
    """Opacity, [height, width]."""
    radii: Tensor
    """Radii in pixels, [gaussian]."""
    positions: Tensor
    """A tensor that gets the gradient of the image positions in pixels, [1, gaussian, 2]."""


def render_view(renderer: Renderer, gaussians: Gaussians, camera: Cameras) -> View:
    """Render the view of one camera."""
    colors = evaluate(gaussians.sh_coeffs, normalize(gaussians.means - camera.centers, dim=-1))
    rotation = camera.world_to_camera[0, :3, :3]
    translation = camera.world_to_camera[0, :3, 3]
    z = gaussians.means @ rotation[2] + translation[2]
    inverse = 1 / z.clamp(min=NEAR_PLANE)
    if renderer.device.type == "cuda":
        from gsplat import rasterization

        values, alpha, info = rasterization(
            gaussians.means,
            gaussians.quats,
            gaussians.scales,
            gaussians.opacities,
            torch.cat([colors, inverse[:, None]], dim=-1)[None],
            camera.world_to_camera,
            camera.intrinsics,
            camera.width,
            camera.height,
            near_plane=NEAR_PLANE,
            eps2d=EPS2D,
            packed=False,
        )
        info["means2d"].retain_grad()
        return View(
            values[0, ..., :3],
            values[0, ..., 3],
            alpha[0, ..., 0],
            info["radii"][0].amax(-1).float(),
            info["means2d"],
        )
    # Other renderers have no tensor of image positions. So the means are moved by zero pixels.
    positions = torch.zeros(1, len(z), 2, device=z.device, requires_grad=True)
    focal = camera.intrinsics[0, [0, 1], [0, 1]]
    deformed = replace(
        gaussians,
        means=gaussians.means + (positions[0] * z.detach()[:, None] / focal) @ rotation[:2],
    )
    rgb, alpha, _, info = renderer.rasterize(deformed, colors[None], camera)
    inverse_depth = renderer.rasterize(deformed, inverse[None, :, None].expand(1, -1, 3), camera)[0]
    return View(rgb[0], inverse_depth[0, ..., 0], alpha[0], info["radii"][0], positions)


class Trainer:
    """Gaussians, field, optimiser and frames of one run.

    Args:
        start: The initial Gaussians.
        frames: All frames, the input first.
        cameras: Their cameras.
        depth: Their z-depth, [view, height, width], 0 where it is unknown.
        codes: Position (u, v) of each frame in the tree.
        views: Indices of the frames to train on. The input is always used.
        field: How the field is evaluated.
        renderer: The renderer.
        schedule: Iterations of growth, pruning and learning rates.
        max_gaussians: Number of Gaussians above which there is no growth.
        input_copies: How many more times than another view the input is drawn.
        batch: Views per step.
        seed: Random seed.
    """

    def __init__(
        self,
        start: Gaussians,
        frames: Frames,
        cameras: Cameras,
        depth: Tensor,
        codes: list[tuple[float, float]],
        views: list[int],
        field: Field,
        renderer: Renderer,
        schedule: Schedule,
        max_gaussians: int,
        input_copies: int = 50,
        batch: int = 2,
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        device = renderer.device
        self.renderer = renderer
        self.schedule = schedule
        self.max_gaussians = max_gaussians
        self.batch = batch
        self.images = frames.images.to(device)
        self.depth = depth.to(device)
        self.codes = codes
        self.half = torch.tensor([cameras.width / 2, cameras.height / 2], device=device)
        device_cameras = cameras.to(device)
        self.cameras = [device_cameras[view] for view in range(len(cameras))]
        distance = (cameras.centers - cameras.centers.mean(0)).norm(dim=-1)
        self.extent = 1.1 * float(distance.max())
        self.field = TreePlanes(start.means.amin(0), start.means.amax(0), field).to(device)
        self.splats = Splats.from_gaussians(start).to(device)
        self.draws = _draw_views(
            [0, *(view for view in views if view)], input_copies, random.Random(seed)
        )
        self.degree = 0
        self.max_degree = start.sh_degree
        self.loss = math.nan

    def start_stage(self, stage: Stage) -> None:
        """Start a stage with a new optimiser and new statistics."""
        if stage not in ("coarse", "fine"):
            raise ValueError(f"stage is {stage!r}; choose coarse or fine")
        self.stage = stage
        extent = self.extent
        rates = {
            "means": (1.6e-4 * extent, 0.01),
            "sh0": (0.0025, 1.0),
            "shN": (0.0025 / 20, 1.0),
            "opacities": (0.05, 1.0),
            "scales": (0.005, 1.0),
            "quats": (0.001, 1.0),
        }
        groups = [
            {"name": name, "params": [self.splats[name]], "start": start, "decay": decay}
            for name, (start, decay) in rates.items()
        ]
        if stage == "fine":
            network = [*self.field.trunk.parameters(), *self.field.heads.parameters()]
            groups.append(
                {"name": "network", "params": network, "start": 1.6e-4 * extent, "decay": 0.1}
            )
            groups.append(
                {
                    "name": "planes",
                    "params": list(self.field.planes),
                    "start": 1.6e-3 * extent,
                    "decay": 0.1,
                }
            )
        self.optimiser = torch.optim.Adam(
            [{**group, "lr": group["start"]} for group in groups], eps=1e-15, fused=True
        )
        self._reset_statistics()

    def step(self, iteration: int) -> None:
        """Take one iteration: loss, gradients, growth and pruning, optimiser.

        Args:
            iteration: Number of the iteration in its stage, from 1.
        """
        schedule = self.schedule
        for group in self.optimiser.param_groups:
            group["lr"] = group["start"] * group["decay"] ** min(
                1.0, iteration / schedule.rates_over
            )
        if iteration % schedule.degree_every == 0:
            self.degree = min(self.degree + 1, self.max_degree)
        views = [next(self.draws) for _ in range(self.batch)]
        loss, rendered = self._loss(
            views, 5e-4 * (1e-6 / 5e-4) ** min(1.0, iteration / schedule.depth_over)
        )
        loss.backward()
        self.loss = loss.detach()
        for group in self.optimiser.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
        with torch.no_grad():
            if iteration < schedule.grow_until:
                self._update_statistics(rendered)
                if (
                    iteration > schedule.grow_from
                    and iteration % schedule.grow_every == 0
                    and self.splats.count < self.max_gaussians
                ):
                    self._grow()
                if iteration > schedule.grow_from and iteration % schedule.prune_every == 0:
                    self._prune()
                if iteration % schedule.reset_every == 0:
                    self._reset_opacities()
        self.optimiser.step()  # new parameters have no gradient yet
        self.optimiser.zero_grad(set_to_none=True)

    def _loss(self, views: list[int], depth_weight: float) -> tuple[Tensor, list[View]]:
        deltas = (
            self.field(self.splats["means"], [self.codes[view] for view in views])
            if self.stage == "fine"
            else [None] * len(views)
        )
        background = torch.rand(3, device=self.images.device)
        rendered = [
            render_view(self.renderer, self._gaussians(delta), self.cameras[view])
            for view, delta in zip(views, deltas, strict=True)
        ]
        rgb = torch.stack(
            [view.rgb + (1 - view.alpha)[..., None] * background for view in rendered]
        )
        target = torch.stack([self.images[view] for view in views]).float() / 255
        loss = (
            0.8 * (rgb - target).abs().mean()
            + 0.2 * (1 - ssim(rgb[-1:], target[-1:]))
            + 0.2 * (1 - ssim(rgb, target))
        )
        inverse = torch.stack([view.inverse_depth for view in rendered])
        valid = torch.stack([self.depth[view] for view in views])
        mask = (valid > 0) & (inverse > 1e-10)
        loss = loss + depth_weight * ((inverse - 1 / (valid + 1e-7)) * mask).abs().mean()
        if self.stage == "fine":
            loss = loss + self.field.penalty()
            if views[-1] == 0:  # the input shows the canonical scene
                translation, scaling, rotation = deltas[-1]
                loss = loss + translation.square().mean()
                loss = loss + scaling.abs().mean() + rotation.abs().mean()
        return loss, rendered

    def _gaussians(self, delta: tuple[Tensor, Tensor, Tensor] | None) -> Gaussians:
        means, scales, quats = (self.splats[name] for name in ("means", "scales", "quats"))
        if delta is not None:
            means = means + delta[0]
            scales = scales + delta[1]
            quats = quats + delta[2]
        # One gradient that is not finite must not spoil the gradients of the whole network.
        for value in (means, scales, quats):
            if value.requires_grad:
                value.register_hook(lambda gradient: gradient.nan_to_num(0.0, 0.0, 0.0))
        higher = self.splats["shN"][:, : (self.degree + 1) ** 2 - 1]
        sh_coeffs = torch.cat([self.splats["sh0"], higher], dim=1)
        return Gaussians(
            means,
            normalize(quats, dim=-1),
            scales.exp(),
            self.splats["opacities"].sigmoid(),
            sh_coeffs,
        )

    def _reset_statistics(self) -> None:
        device = self.images.device
        self.gradient_sum = torch.zeros(self.splats.count, device=device)
        self.visible_count = torch.zeros(self.splats.count, device=device)
        self.radii = torch.zeros(self.splats.count, device=device)

    def _update_statistics(self, rendered: list[View]) -> None:
        """Add up gradients of image positions, visibility and largest radius of each Gaussian.

        Gradients are summed over the views of a step, in units of half the picture's size.
        """
        gradient = sum(view.positions.grad[0] for view in rendered)
        radii = torch.stack([view.radii for view in rendered]).amax(0)
        visible = radii > 0
        self.gradient_sum += (gradient * self.half).norm(dim=-1) * visible
        self.visible_count += visible
        self.radii = torch.maximum(self.radii, radii)

    def _grow(self) -> None:
        """Clone small Gaussians with large gradients, and split large ones into two.

        Reference:
            Kerbl et al. 2023, section 5.2.
        """
        selected = self.gradient_sum / self.visible_count.clamp(min=1) >= 2e-4
        large = self.splats["scales"].amax(-1).exp() > 0.01 * self.extent
        cloned = (selected & ~large).nonzero()[:, 0]
        split = (selected & large).nonzero()[:, 0].repeat(2)
        added = {
            name: torch.cat([value.data[cloned], value.data[split]])
            for name, value in self.splats.items()
        }
        halves = slice(len(cloned), None)
        axes = quat_to_rotation(added["quats"][halves]) * added["scales"][halves].exp()[:, None]
        added["means"][halves] += (axes @ torch.randn_like(added["means"][halves])[..., None])[
            ..., 0
        ]
        added["scales"][halves] -= math.log(0.8 * 2)
        self._replace((~(selected & large)).nonzero()[:, 0], added)
        self._reset_statistics()

    def _prune(self) -> None:
        """Remove Gaussians of low opacity and large ones, from the first time on."""
        bad = self.splats["opacities"].sigmoid() < 0.0025
        bad |= (self.radii > 20) | (self.splats["scales"].amax(-1).exp() > 0.5 * self.extent)
        kept = (~bad).nonzero()[:, 0]
        self._replace(kept, {name: value.data[:0] for name, value in self.splats.items()})
        self.gradient_sum, self.visible_count, self.radii = (
            self.gradient_sum[kept],
            self.visible_count[kept],
            self.radii[kept],
        )

    def _reset_opacities(self) -> None:
        opacities = self.splats["opacities"]
        opacities.data.clamp_(max=math.log(0.01 / 0.99))
        opacities.grad = None
        for moment in self._moments(opacities).values():
            moment.zero_()

    def _replace(self, kept: Tensor, added: dict[str, Tensor]) -> None:
        """Replace the parameters by kept and added rows. Moments of added rows are zero."""
        for group in self.optimiser.param_groups:
            if (name := group["name"]) not in self.splats:
                continue
            old = self.splats[name]
            moments = self._moments(old)
            state = self.optimiser.state.pop(old, None)
            self.splats[name] = nn.Parameter(torch.cat([old.data[kept], added[name]]))
            group["params"] = [self.splats[name]]
            if state:
                for key, moment in moments.items():
                    state[key] = torch.cat([moment[kept], torch.zeros_like(added[name])])
                self.optimiser.state[self.splats[name]] = state

    def _moments(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        state = self.optimiser.state.get(parameter, {})
        return {key: state[key] for key in ("exp_avg", "exp_avg_sq") if key in state}


def _draw_views(views: list[int], input_copies: int, rng: random.Random) -> Iterator[int]:
    """Yield all views and the copies of the input in random order, again and again."""
    while True:
        order = views + [0] * input_copies
        rng.shuffle(order)
        yield from order


def initial_gaussians(
    frames: Frames, reconstruction: Reconstruction, sh_degree: int = 3
) -> Gaussians:
    """Make a Gaussian of each pixel of the input view, at most INPUT_WIDTH across.

    Scales are the root mean square distance to three neighbours. Opacities are 0.1.

    Args:
        frames: All frames, the input first.
        reconstruction: Their cameras and depth.
        sh_degree: Degree of the spherical harmonics.

    Raises:
        ValueError: If the input has fewer than four pixels of known depth.
    """
    height, width = frames.images.shape[1:3]
    columns = min(INPUT_WIDTH, width)
    rows = max(1, round(height * columns / width))
    row, column = (
        (torch.arange(n) + 0.5) * full / n for n, full in ((rows, height), (columns, width))
    )
    row = row.long()[:, None]
    column = column.long()
    depth = reconstruction.depth[:1].cpu()
    valid = ((depth[0] > 0) & (reconstruction.confidence[0].cpu() > 0.5))[row, column]
    points = unproject(depth, reconstruction.cameras[0].to("cpu"))[0][row, column][valid]
    if len(points) < 4:
        raise ValueError(
            f"the input view has {len(points)} pixels of known depth; the published recipe needs 4"
        )
    distance = torch.from_numpy(cKDTree(points.numpy()).query(points.numpy(), 4)[0][:, 1:]).float()
    scales = distance.square().mean(-1).clamp(min=1e-7).sqrt()[:, None].repeat(1, 3)
    sh_coeffs = torch.zeros(len(points), (sh_degree + 1) ** 2, 3)
    sh_coeffs[:, 0] = from_rgb(frames.images[0].cpu()[row, column][valid].float() / 255)
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(points), 1)
    return Gaussians(points, quats, scales, torch.full((len(points),), 0.1), sh_coeffs)


def train(
    frames: Frames,
    reconstruction: Reconstruction,
    trajectory: Trajectory,
    train_views: list[int],
    held_out_views: list[int],
    *,
    truth: tuple[Cameras, Frames] | None = None,
    coarse: int = 3000,
    fine: int = 14_000,
    field: Field = "factored",
    max_gaussians: int = 500_000,
    device: torch.device | str = "cpu",
    schedule: Schedule = Schedule(),
    batch: int = 2,
    input_copies: int = 50,
    seed: int = 0,
    evaluate_every: int = 1000,
    seconds_limit: float | None = None,
    on_progress: Callable[[Record], None] = lambda record: None,
) -> Result:
    """Train by the released recipe.

    The world is scaled to the recipe's cube of side 20, and the result is scaled back.

    Args:
        frames: All frames, the input first.
        reconstruction: Their cameras, depth and points.
        trajectory: The tree of clips.
        train_views: Indices of generated frames to train on. The input is always used.
        held_out_views: Indices of generated frames to evaluate on.
        truth: Cameras of no frame, and true views from them.
        coarse: Iterations of the coarse stage.
        fine: Iterations of the fine stage.
        field: How the field is evaluated.
        max_gaussians: Number of Gaussians above which there is no growth.
        device: Device of the training.
        schedule: Iterations of growth, pruning and learning rates.
        batch: Views per step.
        input_copies: How many more times than another view the input is drawn.
        seed: Random seed.
        evaluate_every: Iterations between evaluations.
        seconds_limit: Time after which the run ends. It includes the setup, but neither
            compilation nor evaluation.
        on_progress: Called with each evaluation.

    Returns:
        The canonical scene and the evaluations.
    """
    renderer = renderers.build(
        {"name": "gsplat" if torch.device(device).type == "cuda" else "numba"}
    )
    renderer.warm_up()
    timer = _Timer(renderer.device)
    points = reconstruction.points.points
    center = points.mean(0)
    scale = SCENE_HALF_SIZE / float((points - center).abs().max())
    identity = torch.eye(3)
    cameras = transform_cameras(reconstruction.cameras, scale, identity, -scale * center)
    initial = initial_gaussians(frames, reconstruction)
    start = replace(initial, means=scale * (initial.means - center), scales=scale * initial.scales)
    trainer = Trainer(
        start,
        frames,
        cameras,
        scale * reconstruction.depth,
        tree_codes(trajectory),
        train_views,
        field,
        renderer,
        schedule,
        max_gaussians,
        input_copies,
        batch,
        seed,
    )
    held_out = [(trainer.cameras[view], trainer.images[view]) for view in held_out_views]
    true: list[tuple[Cameras, Tensor]] = []
    if truth is not None:
        aligned = transform_cameras(truth[0], scale, identity, -scale * center).to(renderer.device)
        true = [
            (aligned[view], image.to(renderer.device)) for view, image in enumerate(truth[1].images)
        ]

    history: list[Record] = []
    timed_out = False
    for stage, iterations in (("coarse", coarse), ("fine", fine)):
        trainer.start_stage(stage)
        for iteration in range(1, iterations + 1):
            trainer.step(iteration)
            timed_out = (
                seconds_limit is not None
                and iteration % 10 == 0
                and timer.seconds() > seconds_limit
            )
            if iteration % evaluate_every == 0 or iteration == iterations or timed_out:
                with timer.paused():
                    scores = [
                        _psnr(renderer, trainer.splats.gaussians(), pairs)
                        for pairs in (held_out, true)
                    ]
                    history.append(
                        Record(
                            stage,
                            iteration,
                            timer.seconds(),
                            trainer.splats.count,
                            float(trainer.loss),
                            *scores,
                        )
                    )
                    on_progress(history[-1])
            if timed_out:
                break
        if timed_out:
            break
    result = trainer.splats.gaussians().map(lambda value: value.detach().cpu())
    return Result(
        replace(result, means=result.means / scale + center, scales=result.scales / scale), history
    )


class _Timer:
    """Measures seconds without pauses."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.paused_seconds = 0.0
        self.since = time.perf_counter()
        self.stopped: float | None = None

    def seconds(self) -> float:
        if self.stopped is None and self.device.type == "cuda":
            torch.cuda.synchronize()
        return (self.stopped or time.perf_counter()) - self.since - self.paused_seconds

    def paused(self) -> "_Timer":
        return self

    def __enter__(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.stopped = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.paused_seconds += time.perf_counter() - self.stopped
        self.stopped = None


@torch.no_grad()
def _psnr(
    renderer: Renderer, gaussians: Gaussians, pairs: list[tuple[Cameras, Tensor]]
) -> float | None:
    """Average over pairs of a camera and its picture, uint8 [height, width, 3]."""
    scores = [
        psnr(renderer(gaussians, camera).rgb[0], image.float() / 255) for camera, image in pairs
    ]
    return sum(scores) / len(scores) if scores else None


def time_step(
    count: int,
    field: Field = "plain",
    stage: Stage = "fine",
    *,
    size: tuple[int, int] = (1024, 768),
    device: torch.device | str = "cpu",
    batch: int = 2,
    seconds: float = 5.0,
    max_rounds: int = 100,
    sigma: float = 1.0,
) -> dict[str, float]:
    """Time an iteration without growth.

    Args:
        count: Number of random Gaussians.
        field: How the field is evaluated.
        stage: Stage of the training.
        size: Width and height in pixels.
        device: Device of the training.
        batch: Views per step.
        seconds: Duration of the measurement.
        max_rounds: Number of iterations, at most.
        sigma: Standard deviation of the Gaussians in pixels, about.

    Returns:
        Milliseconds. See `measure.quartiles`.
    """
    renderer = renderers.build(
        {"name": "gsplat" if torch.device(device).type == "cuda" else "numba"}
    )
    renderer.warm_up()
    width, height = size
    generator = torch.Generator().manual_seed(0)
    z = 2 + 4 * torch.rand(count, 1, generator=generator)
    means = torch.cat(
        [
            (torch.rand(count, 2, generator=generator) - 0.5)
            * z
            * torch.tensor([1.0, height / width]),
            z,
        ],
        dim=-1,
    )
    scales = sigma * z / width * (0.5 + torch.rand(count, 3, generator=generator))
    quats = normalize(torch.randn(count, 4, generator=generator), dim=-1)
    sh_coeffs = 0.1 * torch.randn(count, 16, 3, generator=generator)
    views = 24
    start = Gaussians(
        means, quats, scales, 0.1 + 0.8 * torch.rand(count, generator=generator), sh_coeffs
    )
    cameras = Cameras.cat([pinhole(width, height, float(width))] * views)
    cameras.world_to_camera[:, 0, 3] = torch.linspace(-0.2, 0.2, views)
    frames = Frames(
        torch.randint(0, 256, (views, height, width, 3), generator=generator, dtype=torch.uint8)
    )
    depth = torch.full((views, height, width), 4.0)
    codes = [(0.5 + 0.02 * view, 0.5) for view in range(views)]
    trainer = Trainer(
        start,
        frames,
        cameras,
        depth,
        codes,
        list(range(1, views)),
        field,
        renderer,
        Schedule(),
        count,
        input_copies=5,
        batch=batch,
    )
    trainer.degree = trainer.max_degree
    trainer.start_stage(stage)
    iteration = Schedule().grow_until - 1  # statistics are updated, but nothing grows
    return measure(
        lambda: trainer.step(iteration),
        torch.device(device).type,
        warm_up=5,
        seconds=seconds,
        max_rounds=max_rounds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("train")
    step = commands.add_parser("step")
    for command in (run, step):
        command.add_argument(
            "--device",
            default="cuda" if torch.cuda.is_available() else "cpu",
            choices=["cpu", "cuda"],
        )
        command.add_argument(
            "--field",
            default="factored" if command is run else "plain",
            choices=["plain", "factored"],
        )
    run.add_argument("--frames", type=Path, required=True, help="a folder of frames.py")
    run.add_argument("--coarse", type=int, default=3000)
    run.add_argument("--fine", type=int, default=14_000)
    run.add_argument("--max-gaussians", type=int, default=500_000)
    run.add_argument("--seconds", type=float, help="end after this time")
    run.add_argument("--output", type=Path, metavar="FOLDER", help="write the canonical scene here")
    step.add_argument("--stage", default="fine", choices=["coarse", "fine"])
    step.add_argument("--counts", type=int, nargs="+", default=[150_000, 500_000])
    step.add_argument("--width", type=int, default=1024)
    for command in (run, step):
        add_results_option(command)
    args = parser.parse_args()
    if args.command == "step":
        size = (args.width, args.width * 3 // 4)
        rows = []
        for count in args.counts:
            times = time_step(count, args.field, args.stage, size=size, device=args.device)
            rows.append(
                {
                    "gaussians": count,
                    "size": size,
                    "field": args.field,
                    "stage": args.stage,
                    "batch": 2,
                    **times,
                }
            )
            print(rows[-1], flush=True)
        name = f"published-step-{args.stage}-{args.field}"
        print(write_results(name, 0, args.device, rows, folder=args.results))
        return
    frame_set = load_frame_set(args.frames)
    training, held_out = frame_set.views
    result = train(
        frame_set.frames,
        frame_set.reconstruction,
        frame_set.trajectory,
        training,
        held_out,
        truth=(frame_set.true_cameras, frame_set.true_frames),
        coarse=args.coarse,
        fine=args.fine,
        field=args.field,
        max_gaussians=args.max_gaussians,
        device=args.device,
        seconds_limit=args.seconds,
        on_progress=lambda record: print(record, flush=True),
    )
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        save(result.gaussians, args.output)
    file = write_results(
        f"published-{args.field}",
        0,
        args.device,
        [asdict(record) for record in result.history],
        unit="seconds",
        folder=args.results,
    )
    print(file)


if __name__ == "__main__":
    main()
