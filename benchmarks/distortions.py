"""Time a training step with each distortion on CUDA.

    python benchmarks/distortions.py [--quick] [--profile DISTORTION] [--results FOLDER]

The scene is that of benchmarks/example_trainer.py (500k Gaussians, 1024 x 768, four views). The
step of `lift` runs in a plain loop, with the distortion active as in the middle of a fit.
Distortions take turns in one process. Rows have milliseconds, and the ratio to the released field
(`as_released`). --profile shows where the time of one distortion's step goes, on the device and on
the host. With few views a step waits for the host.
"""

import argparse
import cProfile
import pstats
from collections.abc import Callable

import torch
from example_trainer import (
    SEED,
    create_module,
    distortion_arguments,
    make_scene,
    plain_step,
    time_loop,
)
from measure import add_results_option, quartiles, write_results
from torch.profiler import ProfilerActivity, profile

from lift.distortions import distortions
from lift.renderers import renderers

GAUSSIANS = 500_000
VIEWS = 4
ROUNDS = 5
DISTORTIONS = {
    "identity": {"name": "identity"},
    **{
        name: {"name": name}
        for name in ("rigid", "image_warp", "appearance", "blur", "field", "hexplane")
    },
    "composed": {"name": "composed", "prune_after": 0.0},
    "as_released": {"name": "hexplane", "as_released": True},
}


def print_profile(step: Callable[[int], None], steps: int) -> None:
    """Print milliseconds per step of kernels, of torch's operators and of Python functions."""
    time_loop(step, 20, 1)()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        time_loop(step, 0, steps)()
    events = profiler.key_averages()
    for title, kernels in (("kernels on the device", True), ("operators on the host", False)):
        rows = [
            (e.self_device_time_total if kernels else e.self_cpu_time_total, e.count, e.key)
            for e in events
            if (e.device_type.name == "CUDA") == kernels
        ]
        print(
            f"\n{title}: {sum(time for time, *_ in rows) / 1e3 / steps:.2f} ms per step in "
            f"{sum(count for _, count, _ in rows) / steps:.0f} calls"
        )
        for time, count, name in sorted(rows, reverse=True)[:25]:
            print(f"{time / 1e3 / steps:8.3f} ms {count / steps:6.1f} x {name[:100]}")
    python = cProfile.Profile()
    python.runcall(time_loop(step, 0, steps))
    print(f"\nPython functions, {steps} steps:")
    pstats.Stats(python).sort_stats("tottime").print_stats(30)
    print(f"without a profiler: {time_loop(step, 5, steps)():.2f} ms per step")


def main() -> None:
    """Time all distortions, or profile one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="few steps and Gaussians; writes nothing"
    )
    parser.add_argument(
        "--profile",
        choices=tuple(DISTORTIONS),
        metavar="DISTORTION",
        help="profile its step; writes nothing",
    )
    parser.add_argument("--gaussians", type=int, default=GAUSSIANS, help="with --profile")
    parser.add_argument("--views", type=int, default=VIEWS, help="views per step, with --profile")
    add_results_option(parser)
    args = parser.parse_args()
    quick = args.quick
    warm_up, steps = (2, 5) if quick else (10, 20)
    count, views = (
        (args.gaussians, args.views) if args.profile else (20_000 if quick else GAUSSIANS, VIEWS)
    )
    renderer = renderers.build({"name": "gsplat"}, device=torch.device("cuda"))
    gaussians, cameras, frames, depth = make_scene(count, renderer)

    def step(settings: dict[str, object]) -> Callable[[int], None]:
        module = create_module(
            gaussians,
            cameras,
            frames,
            depth,
            renderer,
            distortions.build(settings, **distortion_arguments(gaussians, cameras)),
            views,
        )
        module.step = module.settings.steps // 2
        return plain_step(module, views)

    if args.profile:
        return print_profile(step(DISTORTIONS[args.profile]), steps)
    rounds = {
        name: time_loop(step(settings), warm_up, steps) for name, settings in DISTORTIONS.items()
    }
    times: dict[str, list[float]] = {name: [] for name in rounds}
    for _ in range(2 if quick else ROUNDS):
        for name, run_round in rounds.items():
            times[name].append(run_round())
    released = quartiles(times["as_released"])["median"]
    rows = [
        {
            "distortion": name,
            **quartiles(values),
            "ratio_to_as_released": round(quartiles(values)["median"] / released, 3),
        }
        for name, values in times.items()
    ]
    for row in rows:
        print(row, flush=True)
    if not quick:
        print(write_results("distortions", SEED, "cuda", rows, folder=args.results))


if __name__ == "__main__":
    main()
