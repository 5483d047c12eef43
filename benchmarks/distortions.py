"""What each distortion adds to a training step on CUDA: python benchmarks/distortions.py [--quick]

The step of `lift` on the scene of benchmarks/example_trainer.py (500k Gaussians, 1024 x 768, four views), in a plain loop, with every
distortion at work in the middle of a fit; by turns, in one run. Milliseconds, and the ratio to the released field (`as_released`).
"""

import argparse

import torch

from example_trainer import SEED, bare, in_a_loop, module, scene, supplied
from lift.distortions import distortions
from lift.renderers import renderers
from measure import spread, write

GAUSSIANS, VIEWS, ROUNDS = 500_000, 4, 5
KINDS = {
    "identity": {"name": "identity"},
    **{name: {"name": name} for name in ("rigid", "image_warp", "appearance", "blur", "field", "hexplane")},
    "composed": {"name": "composed", "sift": 0.0},
    "as_released": {"name": "hexplane", "as_released": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few steps and Gaussians; writes nothing")
    quick = parser.parse_args().quick
    warm_up, steps = (2, 5) if quick else (10, 20)
    renderer = renderers.build({"name": "gsplat"}, device=torch.device("cuda"))
    gaussians, cameras, frames, depth = scene(20_000 if quick else GAUSSIANS, renderer)
    rounds = {}
    for name, settings in KINDS.items():
        made = module(gaussians, cameras, frames, depth, renderer, distortions.build(settings, **supplied(gaussians, cameras)), VIEWS)
        made.step = made.how.steps // 2
        rounds[name] = in_a_loop(bare(made, VIEWS), warm_up, steps)
    times: dict[str, list[float]] = {name: [] for name in rounds}
    for _ in range(2 if quick else ROUNDS):
        for name, round_ in rounds.items():
            times[name].append(round_())
    slowest = spread(times["as_released"])["median"]
    rows = [{"distortion": name, **spread(values), "to_as_released": round(spread(values)["median"] / slowest, 3)} for name, values in times.items()]
    for row in rows:
        print(row, flush=True)
    if not quick:
        print(write("distortions", SEED, "cuda", rows))


if __name__ == "__main__":
    main()
