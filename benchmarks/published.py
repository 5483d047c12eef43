"""The released trainer of LiftImage3D, rebuilt from its description, as a yardstick for `lift`'s
own fit.

    python benchmarks/published.py train --frames FOLDER [--field factored] [--seconds 600]
    python benchmarks/published.py step [--field plain] [--stage fine] [--counts 150000 500000]

FOLDER is made by benchmarks/frames.py. The recipe is that of the distortion-aware 3DGS stage of
arXiv 2412.09597 as released: 3D Gaussians from the input view's points, deformed a frame by a
five-dimensional HexPlane (Cao and Johnson, CVPR 2023; K-Planes, Fridovich-Keil et al., CVPR 2023)
over x, y, z and the frame's place (u, v) in the articulated tree; defects that change its results
are kept (which planes are regularised, similarity counted twice, opacities reset at the very end of
the coarse stage). No code of it was read for this or is used.

Where it deviates:
- gsplat's rasteriser (CUDA) or lift's (CPU) for Inria's; radii, which only decide what is pruned
for its size, follow opacity. Faster.
- Pictures and depths stay on the device; the released one copies them there at every step. Faster.
- Fused Adam, separable similarity. Faster.
- Gradients that are not finite, which this recipe meets, count as zero; the released one copies its
network at every step and goes back
  to the copy, whose weights its optimiser does not know. Faster, and it goes on learning.
- Depth and cameras are what the `Reconstruction` says, not estimated anew and quantised to 8 bits.
Better data.
- A size limit of pruning applies once opacities were reset, as in 3DGS (Kerbl et al. 2023); growth
checks the limit before it grows.
- `field="factored"`: the same function, evaluated in the order that suits it. A view has one (u,
v), so the six planes that hold one
  of them are first interpolated to lines and the plane of both to a vector; x, y, z features are
  shared by the views of a step. Much faster; for runs whose quality is compared. `field="plain"`
  looks up all thirty planes for every Gaussian and view, as released: for runs whose time is
  compared.
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
from measure import measure, write
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
"""Pixels across in which the released pose stage sees the input: one Gaussian each."""

Field = Literal["plain", "factored"]
Stage = Literal["coarse", "fine"]


@dataclass(frozen=True)
class Schedule:
    """Iterations, counted anew in each stage; defaults as released."""

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
    """How far a run has come. iteration: in its stage. seconds: since the start, evaluation left
    out. psnr: of the canonical scene, mean over the held-out frames, and over true views that no
    frame was generated for; None without any.
    """

    stage: Stage
    iteration: int
    seconds: float
    gaussians: int
    loss: float
    held_out_psnr: float | None
    true_psnr: float | None


@dataclass(frozen=True)
class Result:
    """The canonical scene, in the world of the reconstruction, and the run's history, the last
    record at its end.
    """

    gaussians: Gaussians
    history: list[Record]


@dataclass(frozen=True)
class Drawn:
    """One view: sums over black of colour [height width 3] and of inverse depth [height width],
    alpha, radii in pixels [gaussian], and a tensor whose gradient will be that of the positions in
    the picture, in pixels.
    """

    rgb: Tensor
    inverse_depth: Tensor
    alpha: Tensor
    radii: Tensor
    probe: Tensor


def draw(renderer: Renderer, gaussians: Gaussians, camera: Cameras) -> Drawn:
    """Renders one camera's view."""
    colors = evaluate(gaussians.sh_coeffs, normalize(gaussians.means - camera.centers, dim=-1))
    rotation, translation = camera.world_to_camera[0, :3, :3], camera.world_to_camera[0, :3, 3]
    z = gaussians.means @ rotation[2] + translation[2]
    inverse = 1 / z.clamp(min=NEAR_PLANE)
    if renderer.device.type == "cuda":
        from gsplat import rasterization

        shown, alpha, info = rasterization(
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
        return Drawn(
            shown[0, ..., :3],
            shown[0, ..., 3],
            alpha[0, ..., 0],
            info["radii"][0].amax(-1).float(),
            info["means2d"],
        )
    # These renderers do not give away positions in the picture: move the means by pixels of it.
    probe = torch.zeros(1, len(z), 2, device=z.device, requires_grad=True)
    focal = camera.intrinsics[0, [0, 1], [0, 1]]
    deformed = replace(
        gaussians, means=gaussians.means + (probe[0] * z.detach()[:, None] / focal) @ rotation[:2]
    )
    rgb, alpha, _, info = renderer.rasterize(deformed, colors[None], camera)
    inverse_depth = renderer.rasterize(deformed, inverse[None, :, None].expand(1, -1, 3), camera)[0]
    return Drawn(rgb[0], inverse_depth[0, ..., 0], alpha[0], info["radii"][0], probe)


class Trainer:
    """Gaussians, field, optimiser and frames of one run, in the world they are given in."""

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
        """depth: [view height width], 0 unknown. codes: of every frame. views: to train on; 0, the
        input, is drawn `input_copies` times more.
        """
        torch.manual_seed(seed)
        device = renderer.device
        self.renderer, self.schedule, self.max_gaussians, self.batch = (
            renderer,
            schedule,
            max_gaussians,
            batch,
        )
        self.images, self.depth, self.codes = frames.images.to(device), depth.to(device), codes
        self.half = torch.tensor([cameras.width / 2, cameras.height / 2], device=device)
        device_cameras = cameras.to(device)
        self.cameras = [device_cameras[view] for view in range(len(cameras))]
        distance = (cameras.centers - cameras.centers.mean(0)).norm(dim=-1)
        self.extent = 1.1 * float(distance.max())
        self.field = TreePlanes(start.means.amin(0), start.means.amax(0), field).to(device)
        self.splats = Splats.from_gaussians(start).to(device)
        self.draws = _draws(
            [0, *(view for view in views if view)], input_copies, random.Random(seed)
        )
        self.degree, self.max_degree = 0, start.sh_degree
        self.loss = math.nan

    def begin(self, stage: Stage) -> None:
        """A fresh optimiser and fresh statistics: each stage has its own."""
        if stage not in ("coarse", "fine"):
            raise ValueError(f"stage is {stage!r}; choose coarse or fine")
        self.stage = stage
        e = self.extent
        rates = {
            "means": (1.6e-4 * e, 0.01),
            "sh0": (0.0025, 1.0),
            "shN": (0.0025 / 20, 1.0),
            "opacities": (0.05, 1.0),
            "scales": (0.005, 1.0),
            "quats": (0.001, 1.0),
        }
        groups = [
            {"name": name, "params": [self.splats[name]], "start": start, "fall": fall}
            for name, (start, fall) in rates.items()
        ]
        if stage == "fine":
            network = [*self.field.trunk.parameters(), *self.field.heads.parameters()]
            groups.append({"name": "network", "params": network, "start": 1.6e-4 * e, "fall": 0.1})
            groups.append(
                {
                    "name": "planes",
                    "params": list(self.field.planes),
                    "start": 1.6e-3 * e,
                    "fall": 0.1,
                }
            )
        self.optimiser = torch.optim.Adam(
            [{**group, "lr": group["start"]} for group in groups], eps=1e-15, fused=True
        )
        self._forget()

    def step(self, iteration: int) -> None:
        """One iteration, the first being 1: loss, gradients, growth and pruning, optimiser."""
        schedule = self.schedule
        for group in self.optimiser.param_groups:
            group["lr"] = group["start"] * group["fall"] ** min(
                1.0, iteration / schedule.rates_over
            )
        if iteration % schedule.degree_every == 0:
            self.degree = min(self.degree + 1, self.max_degree)
        views = [next(self.draws) for _ in range(self.batch)]
        loss, drawings = self._loss(
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
                self._watch(drawings)
                if (
                    iteration > schedule.grow_from
                    and iteration % schedule.grow_every == 0
                    and self.splats.count < self.max_gaussians
                ):
                    self._grow()
                if iteration > schedule.grow_from and iteration % schedule.prune_every == 0:
                    self._prune(sizes=iteration > schedule.reset_every)
                if iteration % schedule.reset_every == 0:
                    self._reset_opacities()
        self.optimiser.step()  # what was replaced just now has no gradient and waits
        self.optimiser.zero_grad(set_to_none=True)

    def _loss(self, views: list[int], depth_weight: float) -> tuple[Tensor, list[Drawn]]:
        deltas = (
            self.field(self.splats["means"], [self.codes[view] for view in views])
            if self.stage == "fine"
            else [None] * len(views)
        )
        background = torch.rand(3, device=self.images.device)
        drawings = [
            draw(self.renderer, self._gaussians(delta), self.cameras[view])
            for view, delta in zip(views, deltas, strict=True)
        ]
        rgb = torch.stack(
            [view.rgb + (1 - view.alpha)[..., None] * background for view in drawings]
        )
        target = torch.stack([self.images[view] for view in views]).float() / 255
        loss = (
            0.8 * (rgb - target).abs().mean()
            + 0.2 * (1 - ssim(rgb[-1:], target[-1:]))
            + 0.2 * (1 - ssim(rgb, target))
        )
        inverse, valid = (
            torch.stack([view.inverse_depth for view in drawings]),
            torch.stack([self.depth[view] for view in views]),
        )
        mask = (valid > 0) & (inverse > 1e-10)
        loss = loss + depth_weight * ((inverse - 1 / (valid + 1e-7)) * mask).abs().mean()
        if self.stage == "fine":
            loss = loss + self.field.penalty()
            if views[-1] == 0:  # the canonical scene is the input's
                shift, scaling, rotation = deltas[-1]
                loss = loss + shift.square().mean() + scaling.abs().mean() + rotation.abs().mean()
        return loss, drawings

    def _gaussians(self, delta: tuple[Tensor, Tensor, Tensor] | None) -> Gaussians:
        means, scales, quats = (self.splats[name] for name in ("means", "scales", "quats"))
        if delta is not None:
            means, scales, quats = means + delta[0], scales + delta[1], quats + delta[2]
        for value in (
            means,
            scales,
            quats,
        ):  # one Gaussian without a slope must not leave the whole network without one
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

    def _forget(self) -> None:
        device = self.images.device
        self.pull, self.visible_count, self.radii = (
            torch.zeros(self.splats.count, device=device) for _ in range(3)
        )

    def _watch(self, drawings: list[Drawn]) -> None:
        """How much the picture pulls at each Gaussian, in units of half its size, summed over the
        step's views; how often; how large.
        """
        pull = sum(view.probe.grad[0] for view in drawings)
        radii = torch.stack([view.radii for view in drawings]).amax(0)
        visible = radii > 0
        self.pull += (pull * self.half).norm(dim=-1) * visible
        self.visible_count += visible
        self.radii = torch.maximum(self.radii, radii)

    def _grow(self) -> None:
        """Clones small Gaussians that are pulled at, replaces large ones by two (Kerbl et al. 2023,
        section 5.2).
        """
        pulled = self.pull / self.visible_count.clamp(min=1) >= 2e-4
        large = self.splats["scales"].amax(-1).exp() > 0.01 * self.extent
        cloned, divided = (
            (pulled & ~large).nonzero()[:, 0],
            (pulled & large).nonzero()[:, 0].repeat(2),
        )
        added = {
            name: torch.cat([value.data[cloned], value.data[divided]])
            for name, value in self.splats.items()
        }
        parts = slice(len(cloned), None)
        axes = quat_to_rotation(added["quats"][parts]) * added["scales"][parts].exp()[:, None]
        added["means"][parts] += (axes @ torch.randn_like(added["means"][parts])[..., None])[..., 0]
        added["scales"][parts] -= math.log(0.8 * 2)
        self._replace((~(pulled & large)).nonzero()[:, 0], added)
        self._forget()

    def _prune(self, sizes: bool) -> None:
        bad = self.splats["opacities"].sigmoid() < 0.0025
        if sizes:
            bad |= (self.radii > 20) | (self.splats["scales"].amax(-1).exp() > 0.5 * self.extent)
        stay = (~bad).nonzero()[:, 0]
        self._replace(stay, {name: value.data[:0] for name, value in self.splats.items()})
        self.pull, self.visible_count, self.radii = (
            self.pull[stay],
            self.visible_count[stay],
            self.radii[stay],
        )

    def _reset_opacities(self) -> None:
        opacities = self.splats["opacities"]
        opacities.data.clamp_(max=math.log(0.01 / 0.99))
        opacities.grad = None
        for moment in self._moments(opacities).values():
            moment.zero_()

    def _replace(self, stay: Tensor, added: dict[str, Tensor]) -> None:
        """New parameters of the rows that stay and those added, whose moments start at zero."""
        for group in self.optimiser.param_groups:
            if (name := group["name"]) not in self.splats:
                continue
            old = self.splats[name]
            moments, state = self._moments(old), self.optimiser.state.pop(old, None)
            self.splats[name] = nn.Parameter(torch.cat([old.data[stay], added[name]]))
            group["params"] = [self.splats[name]]
            if state:
                for key, moment in moments.items():
                    state[key] = torch.cat([moment[stay], torch.zeros_like(added[name])])
                self.optimiser.state[self.splats[name]] = state

    def _moments(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        state = self.optimiser.state.get(parameter, {})
        return {key: state[key] for key in ("exp_avg", "exp_avg_sq") if key in state}


def _draws(views: list[int], input_copies: int, rng: random.Random) -> Iterator[int]:
    """Without end: all views and the copies of the input in random order, then anew."""
    while True:
        stack = views + [0] * input_copies
        rng.shuffle(stack)
        yield from stack


def initial_gaussians(
    frames: Frames, reconstruction: Reconstruction, sh_degree: int = 3
) -> Gaussians:
    """One a pixel of the input view, at most INPUT_WIDTH across: as wide as the root mean square
    distance to three neighbours, opacity 0.1.

    Raises ValueError if the input has fewer than four pixels of known depth.
    """
    height, width = frames.images.shape[1:3]
    columns = min(INPUT_WIDTH, width)
    rows = max(1, round(height * columns / width))
    row, column = (
        (torch.arange(n) + 0.5) * full / n for n, full in ((rows, height), (columns, width))
    )
    row, column = row.long()[:, None], column.long()
    depth = reconstruction.depth[:1].cpu()
    valid = ((depth[0] > 0) & (reconstruction.confidence[0].cpu() > 0.5))[row, column]
    points = unproject(depth, reconstruction.cameras[0].to("cpu"))[0][row, column][valid]
    if len(points) < 4:
        raise ValueError(
            f"the input view has {len(points)} pixels of known depth; the published start needs 4"
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
    """The released recipe on these frames. The world is moved to its cube of side 20 and the result
    back.

    train_views, held_out_views: indices of generated frames; the input is always trained on. truth:
    cameras that no frame was generated for, and what they would see. seconds_limit: the run ends
    there, evaluation left out. Compiling is not counted, setting up is.
    """
    renderer = renderers.build(
        {"name": "gsplat" if torch.device(device).type == "cuda" else "numba"}
    )
    renderer.warm_up()
    clock = _Clock(renderer.device)
    points = reconstruction.points.points
    center = points.mean(0)
    scale = SCENE_HALF_SIZE / float((points - center).abs().max())
    still = torch.eye(3)
    cameras = transform_cameras(reconstruction.cameras, scale, still, -scale * center)
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
        aligned = transform_cameras(truth[0], scale, still, -scale * center).to(renderer.device)
        true = [
            (aligned[view], image.to(renderer.device)) for view, image in enumerate(truth[1].images)
        ]

    history: list[Record] = []
    late = False
    for stage, iterations in (("coarse", coarse), ("fine", fine)):
        trainer.begin(stage)
        for iteration in range(1, iterations + 1):
            trainer.step(iteration)
            late = (
                seconds_limit is not None
                and iteration % 10 == 0
                and clock.seconds() > seconds_limit
            )
            if iteration % evaluate_every == 0 or iteration == iterations or late:
                with clock.paused():
                    scores = [
                        _psnr(renderer, trainer.splats.gaussians(), pairs)
                        for pairs in (held_out, true)
                    ]
                    history.append(
                        Record(
                            stage,
                            iteration,
                            clock.seconds(),
                            trainer.splats.count,
                            float(trainer.loss),
                            *scores,
                        )
                    )
                    on_progress(history[-1])
            if late:
                break
        if late:
            break
    result = trainer.splats.gaussians().map(lambda value: value.detach().cpu())
    return Result(
        replace(result, means=result.means / scale + center, scales=result.scales / scale), history
    )


class _Clock:
    """Seconds of work done, pauses left out."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.paused_seconds, self.since = device, 0.0, time.perf_counter()
        self.stopped: float | None = None

    def seconds(self) -> float:
        if self.stopped is None and self.device.type == "cuda":
            torch.cuda.synchronize()
        return (self.stopped or time.perf_counter()) - self.since - self.paused_seconds

    def paused(self) -> "_Clock":
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
    """Mean over pairs of a camera and its picture, uint8 [height width 3]."""
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
    """Milliseconds (`measure.measure`) of a whole iteration, growth left out, at `count` random
    Gaussians of about `sigma` pixels.
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
    trainer.begin(stage)
    quiet = Schedule().grow_until - 1  # statistics are kept, nothing grows
    return measure(
        lambda: trainer.step(quiet),
        torch.device(device).type,
        warm_up=5,
        seconds=seconds,
        max_rounds=max_rounds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].rstrip(":.") + ".")
    commands = parser.add_subparsers(dest="command", required=True)
    run, step = commands.add_parser("train"), commands.add_parser("step")
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
    run.add_argument("--frames", type=Path, required=True, help="a folder made by frames.py")
    run.add_argument("--coarse", type=int, default=3000)
    run.add_argument("--fine", type=int, default=14_000)
    run.add_argument("--max-gaussians", type=int, default=500_000)
    run.add_argument("--seconds", type=float, help="end there")
    run.add_argument("--to", type=Path, help="folder for the canonical Gaussians")
    step.add_argument("--stage", default="fine", choices=["coarse", "fine"])
    step.add_argument("--counts", type=int, nargs="+", default=[150_000, 500_000])
    step.add_argument("--width", type=int, default=1024)
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
        print(write(f"published-step-{args.stage}-{args.field}", 0, args.device, rows))
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
    if args.to:
        args.to.mkdir(parents=True, exist_ok=True)
        save(result.gaussians, args.to)
    print(
        write(
            f"published-{args.field}",
            0,
            args.device,
            [asdict(record) for record in result.history],
            unit="seconds",
        )
    )


if __name__ == "__main__":
    main()
