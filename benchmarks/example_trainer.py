"""Compare the training step of lift with that of gsplat's example trainer on CUDA.

    python benchmarks/example_trainer.py [--quick] [--results FOLDER]

Both fit the same pictures with the same number of Gaussians of degree 3. The number of Gaussians
does not change while a step is timed. Learning rates are so small that the scene does not change
either. The steps take turns in one process, because the speed of a host drifts:

- `example`: the step of gsplat 1.5.3's examples/simple_trainer.py with its default settings. It has
  one view, copies the picture from the host, evaluates colours inside `rasterization`, has L1 and
  fused SSIM, one Adam per parameter and the bookkeeping of its default strategy, and reads the loss
  in every step. It is rebuilt from its description. SSIM is the fused-ssim package, which the
  trainer uses, if it is installed, and lift's otherwise. Batches are in pinned memory. The
  trainer's loader, which decodes files, is left out.
- `plain_loop`: lift's step in a plain loop: colours, losses with depth, regularisers, fused Adam,
  errors of frames.
- `lift`: the same step as a run does it, under Lightning's Trainer with the data module: drawing
  views, hooks, logging.
- `rigid`: `lift` with a distortion that corrects cameras.
- `composed`: `lift` with the default distortion, all parts active. In a fit they start after a
  tenth and a quarter of the steps.

Rows hold the ratios to `example`, and Lightning's overhead (`lift` / `plain_loop` - 1).
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
from measure import add_results_option, quartiles, write_results
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

SEED = 0
FRAMES = 16
WARM_UP = 40
STEPS = 100
ROUNDS = 5
WIDTH = 1024
HEIGHT = 768
CASES = [(100_000, 1), (500_000, 1), (500_000, 4), (1_000_000, 1)]
"""Gaussians, and views per step."""


def make_scene(count: int, renderer: Renderer) -> tuple[Gaussians, Cameras, Frames, Tensor]:
    """Make Gaussians that fill the view, and noisy pictures of them from cameras side by side.

    Args:
        count: Number of Gaussians of about one pixel, at depths 2 to 6.
        renderer: Renders the pictures.

    Returns:
        Gaussians, cameras, frames and depth.
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
    up_axis = torch.tensor([0.0, 1, 0]).expand(FRAMES, 3)
    target = torch.tensor([0.0, 0, 4]).expand(FRAMES, 3)
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


class ExampleTrainer:
    """The step of gsplat's example trainer."""

    def __init__(self, gaussians: Gaussians, cameras: Cameras, frames: Frames, batch: int) -> None:
        from gsplat import DefaultStrategy, rasterization

        self.rasterization = rasterization
        self.ssim = _load_ssim()
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
        """Take a step.

        Args:
            number: Number of the step.
        """
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


def _load_ssim() -> Callable[[Tensor, Tensor], Tensor]:
    """Return fused-ssim if it is installed, and lift's SSIM otherwise."""
    if importlib.util.find_spec("fused_ssim"):
        from fused_ssim import fused_ssim

        return lambda a, b: fused_ssim(
            a.permute(0, 3, 1, 2), b.permute(0, 3, 1, 2), padding="valid"
        )
    return lambda a, b: losses.photometric(a, (b * 255).to(torch.uint8))[1]


def distortion_arguments(gaussians: Gaussians, cameras: Cameras) -> dict[str, Any]:
    """Return the keyword-only arguments of a distortion for these frames."""
    trajectory = Trajectory(cameras[0], (Clip("right", 0, cameras[1:]),))
    points = PointCloud(gaussians.means.cpu(), torch.zeros(len(gaussians), 3))
    return {
        "num_views": FRAMES,
        "extent": 4.0,
        "size": (WIDTH, HEIGHT),
        "trajectory": trajectory,
        "points": points,
    }


def create_module(
    gaussians: Gaussians,
    cameras: Cameras,
    frames: Frames,
    depth: Tensor,
    renderer: Renderer,
    distortion: Distortion,
    batch: int,
) -> SceneModule:
    """Create a module whose parameters hardly change."""
    names = ("means", "scales", "quats", "opacities", "colors")
    tiny = dict.fromkeys(names, 1e-9)
    changes = {
        "steps": 10**6,
        "batch_size": batch,
        "log_every": 100,
        "learning_rate": tiny,
        "densify": {"start": 10**9},
        "sh_degree": 3,
    }
    reconstruction = Reconstruction(
        cameras, PointCloud(torch.zeros(1, 3), torch.zeros(1, 3)), depth, (depth > 0).float()
    )
    return SceneModule(
        gaussians.to("cpu"),
        distortion,
        renderer,
        frames,
        reconstruction,
        OmegaConf.merge(OmegaConf.structured(Fit), changes),
        4.0,
        SEED,
    )


class StepTimer(lightning.Callback):
    """Record the time before the first and after the last timed step.

    The device is synchronised then, and not in between.
    """

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, number: int
    ) -> None:
        """Record the time."""
        if number * STEPS_PER_BATCH in (WARM_UP, WARM_UP + STEPS):
            torch.cuda.synchronize()
            self.times.append(time.perf_counter())


def time_lightning(module: SceneModule, batch: int) -> Callable[[], float]:
    """Return a function that trains under Lightning and returns milliseconds per step."""

    def run_round() -> float:
        timer = StepTimer()
        data = SceneData(list(range(1, FRAMES)), [], batch, WARM_UP + STEPS + STEPS_PER_BATCH, SEED)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            trainer = lightning.Trainer(
                accelerator="gpu",
                devices=1,
                max_epochs=1,
                logger=False,
                callbacks=[timer],
                enable_progress_bar=False,
                enable_checkpointing=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                limit_val_batches=0,
                use_distributed_sampler=False,
                log_every_n_steps=100,
            )
            trainer.fit(module, data)
        start, end = timer.times
        return 1e3 * (end - start) / STEPS

    return run_round


def time_loop(
    step: Callable[[int], None], warm_up: int = WARM_UP, steps: int = STEPS
) -> Callable[[], float]:
    """Return a function that takes steps in a loop and returns milliseconds per step."""

    def run_round() -> float:
        for number in range(warm_up):
            step(number)
        torch.cuda.synchronize()
        start = time.perf_counter()
        for number in range(steps):
            step(warm_up + number)
        torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - start) / steps

    return run_round


def plain_step(module: SceneModule, batch: int) -> Callable[[int], None]:
    """Return the step of the module without Lightning."""
    module.to(module.renderer.device)
    module.trainer = SimpleNamespace(world_size=1)
    module.trainer.optimizers = module.configure_optimizers()
    module.manual_backward = lambda loss: loss.backward()

    def step(number: int) -> None:
        views = torch.tensor([(number * batch + k) % FRAMES for k in range(batch)]).to(
            module.renderer.device, non_blocking=True
        )
        module.optimise(views)

    return step


def main() -> None:
    """Time all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the first case; writes nothing")
    add_results_option(parser)
    arguments = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.manual_seed(SEED)
    renderer = renderers.build({"name": "gsplat"}, device=torch.device("cuda"))
    rows = []
    for count, batch in CASES[:1] if arguments.quick else CASES:
        scene = make_scene(count, renderer)
        gaussians, cameras, frames, _ = scene

        def make(distortion, scene=scene, batch=batch):
            return create_module(*scene, renderer, distortion, batch)

        rigid = distortions.build(
            {"name": "rigid", "learning_rate": 1e-12}, **distortion_arguments(gaussians, cameras)
        )
        parts = ("rigid", "image_warp", "appearance", "blur")
        constant = {
            "starts": (0.0,) * len(parts),
            "prune_after": 0.0,
            "settings": {part: {"learning_rate": 1e-12} for part in parts},
        }
        composed = distortions.build(
            {"name": "composed", "parts": parts, **constant},
            **distortion_arguments(gaussians, cameras),
        )
        identity = [
            distortions.build({"name": "identity"}, **distortion_arguments(gaussians, cameras))
            for _ in range(2)
        ]
        rounds = {
            "example": time_loop(ExampleTrainer(gaussians, cameras, frames, batch).step),
            "plain_loop": time_loop(plain_step(make(identity[0]), batch)),
            "lift": time_lightning(make(identity[1]), batch),
            "rigid": time_lightning(make(rigid), batch),
            "composed": time_lightning(make(composed), batch),
        }
        times: dict[str, list[float]] = {name: [] for name in rounds}
        for _ in range(ROUNDS):
            for name, run_round in rounds.items():
                times[name].append(run_round())
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
            row[f"{name}_ratio_to_example"] = round(medians[name] / medians["example"], 3)
        row["lightning_overhead"] = round(medians["lift"] / medians["plain_loop"] - 1, 3)
        rows.append(row)
        print(
            count,
            batch,
            medians,
            *(row[f"{name}_ratio_to_example"] for name in ("lift", "rigid", "composed")),
            row["lightning_overhead"],
            flush=True,
        )
    if not arguments.quick:
        print(write_results("example-trainer", SEED, "cuda", rows, folder=arguments.results))


if __name__ == "__main__":
    main()
