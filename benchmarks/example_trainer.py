"""A step of lift on CUDA beside a step of gsplat's own example trainer: python
benchmarks/example_trainer.py [--quick]

Both fit the same pictures with the same number of Gaussians of degree 3; neither grows while it is
timed, and learning rates are so small that the scene stays what its row says. In one run, by turns
(a host's speed drifts more than what is compared differs):
- `example`: what gsplat 1.5.3's examples/simple_trainer.py does in a step with its default settings
(one view, picture copied from the
  host, colours from harmonics inside `rasterization`, L1 and fused SSIM, one Adam a parameter, its
  default strategy's bookkeeping, the loss read back every step). Written anew from its description;
  its SSIM is the fused-ssim package where that is installed (it is what the trainer uses), else
  lift's. Batches wait in pinned memory: the trainer's loader, which decodes files, is left out.
- `bare`: lift's step (colours, losses with depth, regularisers, fused Adam, the frames' errors) in
a plain loop.
- `lift`: the product's path, the same under Lightning's Trainer with the data module: drawing
views, hooks, logging.
- `rigid`: that with a distortion that corrects cameras.
- `composed`: that with the default distortion, all its parts at work (in a fit they begin after a
tenth and a quarter of the steps). Rows hold the ratio to `example` in views a second, and
Lightning's overhead (`lift` / `bare` - 1).
"""

import argparse
import importlib.util
import logging
import time
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytorch_lightning as lightning
import torch
from measure import quartiles, write
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn.functional import l1_loss

from lift.config import Fit
from lift.distortions import Distortion, distortions
from lift.geometry import look_at, pinhole
from lift.renderers import Renderer, renderers
from lift.training import losses
from lift.training.data import STEPS_PER_BATCH, SceneData
from lift.training.module import SceneModule
from lift.types import Cameras, Clip, Frames, Gaussians, PointCloud, Reconstruction, Trajectory

SEED, FRAMES, WARM_UP, STEPS, ROUNDS = 0, 16, 40, 100, 5
WIDTH, HEIGHT = 1024, 768
CASES = [(100_000, 1), (500_000, 1), (500_000, 4), (1_000_000, 1)]
"""Gaussians, views a step."""


def scene(count: int, renderer: Renderer) -> tuple[Gaussians, Cameras, Frames, Tensor]:
    """Gaussians of about one pixel at depths 2 to 6 that fill the view, and noisy pictures of them
    from cameras side by side.
    """
    rng = torch.Generator().manual_seed(SEED)
    depth = 2 + 4 * torch.rand(count, 1, generator=rng)
    aspect = torch.tensor([1.0, HEIGHT / WIDTH])
    means = torch.cat([(torch.rand(count, 2, generator=rng) - 0.5) * aspect * depth, depth], dim=-1)
    scales = depth / WIDTH * (0.5 + torch.rand(count, 3, generator=rng))
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=rng), dim=-1)
    opacities = 0.1 + 0.8 * torch.rand(count, generator=rng)
    sh_coeffs = 0.3 * torch.randn(count, 16, 3, generator=rng)
    gaussians = Gaussians(means, quats, scales, opacities, sh_coeffs).to("cuda")
    eyes = torch.stack(
        [torch.linspace(0, 0.1, FRAMES), torch.zeros(FRAMES), torch.zeros(FRAMES)], dim=-1
    )
    up_axis, target = (
        torch.tensor([0.0, 1, 0]).expand(FRAMES, 3),
        torch.tensor([0.0, 0, 4]).expand(FRAMES, 3),
    )
    cameras = Cameras(
        look_at(eyes, target, up_axis),
        pinhole(WIDTH, HEIGHT, float(WIDTH)).intrinsics.repeat(FRAMES, 1, 1),
        WIDTH,
        HEIGHT,
    )
    with torch.no_grad():
        rendered = renderer(gaussians, cameras.to("cuda"))
    noisy = (rendered.rgb + 0.1 * torch.randn_like(rendered.rgb)).clamp(0, 1)
    return (
        gaussians,
        cameras,
        Frames((noisy * 255).round().to(torch.uint8).cpu()),
        rendered.depth.cpu(),
    )


class Example:
    """gsplat's example trainer's step."""

    def __init__(self, gaussians: Gaussians, cameras: Cameras, frames: Frames, batch: int) -> None:
        from gsplat import DefaultStrategy, rasterization

        self.rasterization = rasterization
        self.ssim = _their_ssim()
        values = {
            "means": gaussians.means,
            "scales": gaussians.scales.log(),
            "quats": gaussians.quats,
            "opacities": gaussians.opacities.logit(),
            "sh0": gaussians.sh_coeffs[:, :1],
            "shN": gaussians.sh_coeffs[:, 1:],
        }
        self.splats = torch.nn.ParameterDict(
            {name: torch.nn.Parameter(value.clone().contiguous()) for name, value in values.items()}
        )
        self.optimisers = {
            name: torch.optim.Adam([{"params": p, "lr": 1e-9, "name": name}], eps=1e-15)
            for name, p in self.splats.items()
        }
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(
            self.optimisers["means"], gamma=0.01 ** (1 / 30_000)
        )
        self.strategy = DefaultStrategy(refine_start_iter=10**9)
        self.strategy.check_sanity(self.splats, self.optimisers)
        self.state = self.strategy.initialize_state(scene_scale=1.0)
        inputs = (cameras.camera_to_world, cameras.intrinsics, frames.images.float())
        self.batches = list(
            zip(
                *(
                    [part.contiguous().pin_memory() for part in value.split(batch)]
                    for value in inputs
                ),
                strict=True,
            )
        )

    def step(self, number: int) -> None:
        poses, intrinsics, pixels = (
            value.to("cuda") for value in self.batches[number % len(self.batches)]
        )
        pixels = pixels / 255.0
        rgb, _, info = self.rasterization(
            self.splats["means"],
            self.splats["quats"],
            self.splats["scales"].exp(),
            self.splats["opacities"].sigmoid(),
            torch.cat([self.splats["sh0"], self.splats["shN"]], 1),
            torch.linalg.inv(poses),
            intrinsics,
            WIDTH,
            HEIGHT,
            sh_degree=3,
            packed=False,
            absgrad=False,
            render_mode="RGB",
            near_plane=0.01,
            far_plane=1e10,
        )
        self.strategy.step_pre_backward(self.splats, self.optimisers, self.state, number, info)
        loss = 0.8 * l1_loss(rgb, pixels) + 0.2 * (1 - self.ssim(rgb, pixels))
        loss.backward()
        loss.item()
        for optimiser in self.optimisers.values():
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.schedule.step()
        self.strategy.step_post_backward(
            self.splats, self.optimisers, self.state, number, info, packed=False
        )


def _their_ssim() -> Callable[[Tensor, Tensor], Tensor]:
    if importlib.util.find_spec("fused_ssim"):
        from fused_ssim import fused_ssim

        return lambda a, b: fused_ssim(
            a.permute(0, 3, 1, 2), b.permute(0, 3, 1, 2), padding="valid"
        )
    return lambda a, b: losses.photometric(a, (b * 255).to(torch.uint8))[1]


def supplied(gaussians: Gaussians, cameras: Cameras) -> dict[str, Any]:
    """What a distortion of these frames may ask for."""
    trajectory, points = (
        Trajectory(cameras[0], (Clip("right", 0, cameras[1:]),)),
        PointCloud(gaussians.means.cpu(), torch.zeros(len(gaussians), 3)),
    )
    return {
        "num_views": FRAMES,
        "extent": 4.0,
        "size": (WIDTH, HEIGHT),
        "trajectory": trajectory,
        "points": points,
    }


def module(
    gaussians: Gaussians,
    cameras: Cameras,
    frames: Frames,
    depth: Tensor,
    renderer: Renderer,
    distortion: Distortion,
    batch: int,
) -> SceneModule:
    still = dict.fromkeys(OmegaConf.structured(Fit).learning_rate, 1e-9)
    changes = {
        "steps": 10**6,
        "batch_size": batch,
        "log_every": 100,
        "learning_rate": still,
        "densify": {"start": 10**9},
        "sh_degree": 3,
    }
    reconstruction = Reconstruction(
        cameras, PointCloud(torch.zeros(1, 3), torch.zeros(1, 3)), depth, (depth > 0).float()
    )
    scene_module = SceneModule(
        gaussians.to("cpu"),
        distortion,
        renderer,
        frames,
        reconstruction,
        OmegaConf.merge(OmegaConf.structured(Fit), changes),
        4.0,
        SEED,
    )
    return scene_module


class Marks(lightning.Callback):
    """The clock at the first and the last timed step, the device's work done; between them nothing
    is waited for.
    """

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, number: int
    ) -> None:
        if number * STEPS_PER_BATCH in (WARM_UP, WARM_UP + STEPS):
            torch.cuda.synchronize()
            self.times.append(time.perf_counter())


def under_lightning(scene_module: SceneModule, batch: int) -> Callable[[], float]:
    """A round: milliseconds a step."""

    def round_() -> float:
        marks = Marks()
        data = SceneData(list(range(1, FRAMES)), [], batch, WARM_UP + STEPS + STEPS_PER_BATCH, SEED)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            trainer = lightning.Trainer(
                accelerator="gpu",
                devices=1,
                max_epochs=1,
                logger=False,
                callbacks=[marks],
                enable_progress_bar=False,
                enable_checkpointing=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                limit_val_batches=0,
                use_distributed_sampler=False,
                log_every_n_steps=100,
            )
            trainer.fit(scene_module, data)
        start, end = marks.times
        return 1e3 * (end - start) / STEPS

    return round_


def in_a_loop(
    step: Callable[[int], None], warm_up: int = WARM_UP, steps: int = STEPS
) -> Callable[[], float]:
    """A round: milliseconds a step."""

    def round_() -> float:
        for number in range(warm_up):
            step(number)
        torch.cuda.synchronize()
        start = time.perf_counter()
        for number in range(steps):
            step(warm_up + number)
        torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - start) / steps

    return round_


def bare(scene_module: SceneModule, batch: int) -> Callable[[int], None]:
    """The module's own step, called in a plain loop: what is Lightning's is left out, and nothing
    else.
    """
    scene_module.to(scene_module.renderer.device)
    scene_module.trainer = SimpleNamespace(world_size=1)
    scene_module.trainer.optimizers = scene_module.configure_optimizers()
    scene_module.manual_backward = lambda loss: loss.backward()

    def step(number: int) -> None:
        views = torch.tensor([(number * batch + k) % FRAMES for k in range(batch)]).to(
            scene_module.renderer.device, non_blocking=True
        )
        scene_module.optimise(views)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].rstrip(":.") + ".")
    parser.add_argument("--quick", action="store_true", help="the first case; writes nothing")
    arguments = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.manual_seed(SEED)
    renderer = renderers.build({"name": "gsplat"}, device=torch.device("cuda"))
    rows = []
    for count, batch in CASES[:1] if arguments.quick else CASES:
        world = scene(count, renderer)
        gaussians, cameras, frames, depth = world

        def make(distortion, world=world, batch=batch):
            return module(*world, renderer, distortion, batch)

        rigid = distortions.build(
            {"name": "rigid", "learning_rate": 1e-12}, **supplied(gaussians, cameras)
        )
        parts = ("rigid", "image_warp", "appearance", "blur")
        still = {
            "starts": (0.0,) * len(parts),
            "prune_after": 0.0,
            "settings": {part: {"learning_rate": 1e-12} for part in parts},
        }
        composed = distortions.build(
            {"name": "composed", "parts": parts, **still}, **supplied(gaussians, cameras)
        )
        identity = [
            distortions.build({"name": "identity"}, **supplied(gaussians, cameras))
            for _ in range(2)
        ]
        rounds = {
            "example": in_a_loop(Example(gaussians, cameras, frames, batch).step),
            "bare": in_a_loop(bare(make(identity[0]), batch)),
            "lift": under_lightning(make(identity[1]), batch),
            "rigid": under_lightning(make(rigid), batch),
            "composed": under_lightning(make(composed), batch),
        }
        times: dict[str, list[float]] = {name: [] for name in rounds}
        for _ in range(ROUNDS):
            for name, round_ in rounds.items():
                times[name].append(round_())
        row: dict[str, Any] = {
            "gaussians": count,
            "batch_size": batch,
            "width": WIDTH,
            "height": HEIGHT,
            "fused_ssim": bool(importlib.util.find_spec("fused_ssim")),
        }
        row |= {name: quartiles(values) for name, values in times.items()}
        medians = {name: row[name]["median"] for name in times}
        for name in ("lift", "rigid", "composed"):
            row[f"{name}_to_example"] = round(medians[name] / medians["example"], 3)
        row["lightning_overhead"] = round(medians["lift"] / medians["bare"] - 1, 3)
        rows.append(row)
        print(
            count,
            batch,
            medians,
            *(row[f"{name}_to_example"] for name in ("lift", "rigid", "composed")),
            row["lightning_overhead"],
            flush=True,
        )
    if not arguments.quick:
        print(write("example-trainer", SEED, "cuda", rows))


if __name__ == "__main__":
    main()
