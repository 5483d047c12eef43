"""What each distortion adds to a training step on CUDA: python benchmarks/distortions.py [--quick]
[--profile DISTORTION]

The step of `lift` on the scene of benchmarks/example_trainer.py (500k Gaussians, 1024 x 768, four
views), in a plain loop, with every distortion at work in the middle of a fit; by turns, in one run.
Milliseconds, and the ratio to the released field (`as_released`). With --profile, where the time of
one distortion's step goes: on the device, and on the host, which with few views is what a step
waits for.
"""

import argparse
import cProfile
import pstats
from collections.abc import Callable

import torch
from example_trainer import SEED, bare, in_a_loop, module, scene, supplied
from measure import quartiles, write
from torch.profiler import ProfilerActivity, profile

from lift.distortions import distortions
from lift.renderers import renderers

GAUSSIANS, VIEWS, ROUNDS = 500_000, 4, 5
KINDS = {
    "identity": {"name": "identity"},
    **{
        name: {"name": name}
        for name in ("rigid", "image_warp", "appearance", "blur", "field", "hexplane")
    },
    "composed": {"name": "composed", "prune_after": 0.0},
    "as_released": {"name": "hexplane", "as_released": True},
}


def explain(step: Callable[[int], None], steps: int) -> None:
    """Prints milliseconds a step by what was called: kernels on the device, torch's operators on
    the host, functions of Python.
    """
    in_a_loop(step, 20, 1)()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        in_a_loop(step, 0, steps)()
    events = profiler.key_averages()
    for title, kernels in (("kernels on the device", True), ("operators on the host", False)):
        rows = [
            (e.self_device_time_total if kernels else e.self_cpu_time_total, e.count, e.key)
            for e in events
            if (e.device_type.name == "CUDA") == kernels
        ]
        print(
            f"\n{title}: {sum(time for time, *_ in rows) / 1e3 / steps:.2f} ms a step in "
            f"{sum(count for _, count, _ in rows) / steps:.0f} calls"
        )
        for time, count, name in sorted(rows, reverse=True)[:25]:
            print(f"{time / 1e3 / steps:8.3f} ms {count / steps:6.1f} x {name[:100]}")
    python = cProfile.Profile()
    python.runcall(in_a_loop(step, 0, steps))
    print(f"\nfunctions of Python, {steps} steps:")
    pstats.Stats(python).sort_stats("tottime").print_stats(30)
    print(f"undisturbed: {in_a_loop(step, 5, steps)():.2f} ms a step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].rstrip(":.") + ".")
    parser.add_argument(
        "--quick", action="store_true", help="few steps and Gaussians; writes nothing"
    )
    parser.add_argument(
        "--profile",
        choices=tuple(KINDS),
        metavar="DISTORTION",
        help="where the time of its step goes; writes nothing",
    )
    parser.add_argument("--gaussians", type=int, default=GAUSSIANS, help="with --profile")
    parser.add_argument("--views", type=int, default=VIEWS, help="a step, with --profile")
    args = parser.parse_args()
    quick = args.quick
    warm_up, steps = (2, 5) if quick else (10, 20)
    count, views = (
        (args.gaussians, args.views) if args.profile else (20_000 if quick else GAUSSIANS, VIEWS)
    )
    renderer = renderers.build({"name": "gsplat"}, device=torch.device("cuda"))
    gaussians, cameras, frames, depth = scene(count, renderer)

    def step(settings: dict[str, object]) -> Callable[[int], None]:
        distortion = module(
            gaussians,
            cameras,
            frames,
            depth,
            renderer,
            distortions.build(settings, **supplied(gaussians, cameras)),
            views,
        )
        distortion.step = distortion.settings.steps // 2
        return bare(distortion, views)

    if args.profile:
        return explain(step(KINDS[args.profile]), steps)
    rounds = {name: in_a_loop(step(settings), warm_up, steps) for name, settings in KINDS.items()}
    times: dict[str, list[float]] = {name: [] for name in rounds}
    for _ in range(2 if quick else ROUNDS):
        for name, round_ in rounds.items():
            times[name].append(round_())
    slowest = quartiles(times["as_released"])["median"]
    rows = [
        {
            "distortion": name,
            **quartiles(values),
            "to_as_released": round(quartiles(values)["median"] / slowest, 3),
        }
        for name, values in times.items()
    ]
    for row in rows:
        print(row, flush=True)
    if not quick:
        print(write("distortions", SEED, "cuda", rows))


if __name__ == "__main__":
    main()
