"""Time a training step and its parts.

    python benchmarks/training_step.py [--device cuda] [--quick] [--results FOLDER]

The step is that of a run: a SceneModule under Lightning's Trainer with its data module, one view
per step and default losses. The scene is that of `renderers.py` (Gaussians of about one pixel),
fitted to eight pictures of itself. Learning rates are so small that the scene does not change. The
work is the same.

`step` is the time from the start of a step to the start of the next one. `between_steps` is the
time for drawing views and for Lightning's loops, per step. `parts` come from a second run with a
timer around each function. The timer waits for the device. `densification` is timed alone (one per
cent of the Gaussians relocated, five per cent added). `total` adds to a step its fraction of
`fit.densify.every`.
"""

import argparse
import copy
import logging
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import pytorch_lightning as lightning
import torch
from measure import add_results_option, quartiles, synchronize, write_results
from omegaconf import OmegaConf
from renderers import SEED, scene

import lift.renderers.numba
from lift.config import Fit
from lift.distortions.identity import Identity
from lift.geometry import look_at
from lift.renderers import Renderer, renderers
from lift.runtime.parallel import torch_on_one_thread
from lift.spherical_harmonics import from_rgb
from lift.training import densify
from lift.training.data import STEPS_PER_BATCH, SceneData
from lift.training.module import SceneModule
from lift.training.splats import Splats
from lift.types import Cameras, Frames, PointCloud, Reconstruction

CASES = [(50_000, 256), (50_000, 512), (100_000, 512)]
VIEWS = 8
WARM_UP = 3

PARTS = {
    "activations": (Splats, "gaussians"),
    "render": (SceneModule, "render"),
    "loss": (SceneModule, "loss"),
    "backward": (SceneModule, "manual_backward"),
    "optimiser": (torch.optim.Adam, "step"),
    "optimise": (SceneModule, "optimise"),
}
"""Functions that are timed.

Times of nested functions overlap: `render` contains the forward kernels, `backward` the backward
kernels.
"""

KERNELS = ("project", "bin_by_tile", "composite", "composite_gradient", "project_gradient")


def create_module(renderer: Renderer, count: int, size: int, steps: int) -> SceneModule:
    """Create a module whose frames are pictures of its own Gaussians from cameras side by side."""
    gaussians, colors, camera = scene(count, size)
    gaussians = type(gaussians)(
        *list(gaussians.tensors().values())[:4], from_rgb(colors[0])[:, None]
    )
    eyes = torch.stack(
        [torch.linspace(0, 0.1, VIEWS), torch.zeros(VIEWS), torch.zeros(VIEWS)], dim=-1
    )
    up_axis = torch.tensor([0.0, 1, 0]).expand(VIEWS, 3)
    target = torch.tensor([0.0, 0, 4]).expand(VIEWS, 3)
    cameras = Cameras(
        look_at(eyes, target, up_axis), camera.intrinsics.repeat(VIEWS, 1, 1), size, size
    )
    with torch.no_grad():
        rendered = renderers.build({"name": "numba"})(gaussians, cameras)
    generator = torch.Generator().manual_seed(SEED)
    noisy = rendered.rgb + 0.1 * torch.randn(rendered.rgb.shape, generator=generator)
    frames = Frames((noisy.clamp(0, 1) * 255).round().to(torch.uint8))
    reconstruction = Reconstruction(
        cameras,
        PointCloud(gaussians.means, colors[0]),
        rendered.depth * 1.05,
        (rendered.alpha > 0.5).float(),
    )
    tiny = dict.fromkeys(OmegaConf.structured(Fit).learning_rate, 1e-9)
    settings = OmegaConf.merge(
        OmegaConf.structured(Fit),
        {
            "steps": steps,
            "max_gaussians": count,
            "log_every": 20,
            "learning_rate": tiny,
            "densify": {"start": 10**9},
        },
    )
    return SceneModule(gaussians, Identity(), renderer, frames, reconstruction, settings, 4.0, SEED)


def train(scene_module: SceneModule, steps: int, device: str) -> tuple[list[float], float]:
    """Train and time the steps.

    Returns:
        Milliseconds from the start of each step to the start of the next one, without the first
        few, and the median time between steps, averaged over a batch of Lightning.
    """
    starts = []
    ends = []
    optimise = scene_module.optimise

    def timed(views: torch.Tensor) -> Any:
        synchronize(device)
        starts.append(1e3 * time.perf_counter())
        result = optimise(views)
        synchronize(device)
        ends.append(1e3 * time.perf_counter())
        return result

    scene_module.optimise = timed
    data = SceneData(list(range(1, VIEWS)), [], scene_module.settings.batch_size, steps, SEED)
    trainer = lightning.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )
    with warnings.catch_warnings(), torch_on_one_thread(scene_module.renderer.has_thread_pool):
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        trainer.fit(scene_module, data)
    between = [after - before for before, after in zip(ends, starts[1:], strict=False)]
    batches = [
        sum(between[k : k + STEPS_PER_BATCH])
        for k in range(0, len(between) - STEPS_PER_BATCH + 1, STEPS_PER_BATCH)
    ]
    times = [after - before for before, after in zip(starts, starts[1:], strict=False)]
    return times[WARM_UP:], statistics.median(batches or [0.0]) / STEPS_PER_BATCH


@contextmanager
def timers(device: str, numba: bool) -> Iterator[dict[str, list[float]]]:
    """Time each call of each part within the context, in milliseconds."""
    times: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, function: Callable) -> Callable:
        def call(*arguments: Any, **keywords: Any) -> Any:
            synchronize(device)
            start = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                synchronize(device)
                times[name].append(1e3 * (time.perf_counter() - start))

        return call

    targets = dict(PARTS) | (
        {f"kernel {name}": (lift.renderers.numba, name) for name in KERNELS} if numba else {}
    )
    with ExitStack() as stack:
        for name, (owner, attribute) in targets.items():
            stack.enter_context(
                patch.object(owner, attribute, timed(name, getattr(owner, attribute)))
            )
        yield times


def densification(scene_module: SceneModule, device: str) -> list[float]:
    """Time rounds of densification from the same state, in milliseconds.

    A round relocates one per cent of the Gaussians and adds five per cent.
    """
    densify_settings = scene_module.settings.densify
    times = []
    for _ in range(6):
        splats = copy.deepcopy(scene_module.splats)
        optimiser = torch.optim.Adam(
            [{"name": name, "params": [parameter]} for name, parameter in splats.items()],
            fused=True,
        )
        sum(parameter.sum() for parameter in splats.values()).backward()
        optimiser.step()
        rng = torch.Generator(device).manual_seed(SEED)
        with torch.no_grad():
            splats["opacities"][: splats.count // 100] = -9.0
            synchronize(device)
            start = time.perf_counter()
            importance = splats["opacities"].sigmoid()
            densify.relocate(
                splats,
                optimiser,
                densify_settings.min_opacity,
                lambda importance=importance: importance,
                rng,
            )
            densify.grow(splats, optimiser, round(1.05 * splats.count), importance, rng)
            synchronize(device)
        times.append(1e3 * (time.perf_counter() - start))
    return times[1:]


def time_case(
    name: str, count: int, size: int, device: str, steps: int, parts: bool = True
) -> dict[str, Any]:
    """Time the steps of one case.

    Args:
        name: Name of the renderer.
        count: Number of Gaussians.
        size: Side of the pictures in pixels.
        device: `cpu` or `cuda`.
        steps: Number of steps.
        parts: Whether to time the parts and densification.

    Returns:
        A row of the results.
    """
    renderer = renderers.build({"name": name}, device=torch.device(device))
    renderer.warm_up()
    times, between = train(create_module(renderer, count, size, steps), steps, device)
    row = {
        "renderer": name,
        "gaussians": count,
        "size": size,
        "step": quartiles(times),
        "between_steps": round(between, 3),
    }
    if parts:
        with timers(device, name == "numba") as calls:
            train(scene_module := create_module(renderer, count, size, steps), steps, device)
        rounds = densification(scene_module.to(device), device)
        per_step = statistics.median(rounds) / scene_module.settings.densify.every
        row["densification"] = {"round": quartiles(rounds), "per_step": round(per_step, 2)}
        row["total"] = round(row["step"]["median"] + between + per_step, 2)
        row["parts"] = {part: quartiles(times[WARM_UP:]) for part, times in calls.items()}
    return row


def main() -> None:
    """Time all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument(
        "--quick", action="store_true", help="the first case, without the reference; writes nothing"
    )
    add_results_option(parser)
    arguments = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    rows = []
    for name in ["numba" if arguments.device == "cpu" else "gsplat"] + ["reference"] * (
        not arguments.quick
    ):
        for count, size in CASES[: 1 if arguments.quick else None]:
            slow = name == "reference"
            row = time_case(
                name, count, size, arguments.device, WARM_UP + (4 if slow else 80), parts=not slow
            )
            rows.append(row)
            total_text = f", total {row['total']:.1f} ms" if "total" in row else ""
            print(
                f"{name:10} {count:7} at {size}: step {row['step']['median']:8.1f} ms{total_text}",
                flush=True,
            )
            for part, times in row.get("parts", {}).items():
                print(
                    f"    {part:22} {times['median']:8.2f} ms  ({times['lower_quartile']:.2f} to "
                    f"{times['upper_quartile']:.2f})"
                )
    if not arguments.quick:
        folder = arguments.results
        print(write_results("training-step", SEED, arguments.device, rows, folder=folder))


if __name__ == "__main__":
    main()
