"""Time the renderers.

    python benchmarks/renderers.py [--device cuda] [--quick] [--results FOLDER]

One view of random Gaussians whose standard deviation is about one pixel. The forward pass is timed
alone, and the backward pass of all gradients alone.
"""

import argparse
from typing import Any

import torch
from measure import add_results_option, measure, write_results

from lift.geometry import pinhole
from lift.renderers import Renderer, renderers
from lift.types import Cameras, Gaussians

SEED = 0
CASES = [(count, size) for count in (10_000, 50_000, 100_000) for size in (256, 512)]


def scene(count: int, size: int, sigma: float = 1.0) -> tuple[Gaussians, torch.Tensor, Cameras]:
    """Make Gaussians that fill the view at depths 2 to 6. `sigma` is in pixels."""
    generator = torch.Generator().manual_seed(SEED)
    depth = 2 + 4 * torch.rand(count, 1, generator=generator)
    means = torch.cat([(torch.rand(count, 2, generator=generator) - 0.5) * depth, depth], dim=-1)
    scales = sigma * depth / size * (0.5 + torch.rand(count, 3, generator=generator))
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1)
    opacities = 0.1 + 0.8 * torch.rand(count, generator=generator)
    colors = torch.rand(1, count, 3, generator=generator)
    return (
        Gaussians(means, quats, scales, opacities, torch.zeros(count, 1, 3)),
        colors,
        pinhole(size, size, float(size)),
    )


def time_case(
    renderer: Renderer, count: int, size: int, device: str, seconds: float
) -> dict[str, Any]:
    """Time a renderer with some number of Gaussians and side of the picture."""
    gaussians, colors, cameras = (value.to(device) for value in scene(count, size))
    gaussians = gaussians.map(lambda value: value.requires_grad_())
    colors.requires_grad_()
    leaves = [gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, colors]

    def forward() -> torch.Tensor:
        rgb, alpha, depth, _ = renderer.rasterize(gaussians, colors, cameras)
        return rgb.sum() + alpha.sum() + depth.sum()

    loss = forward()
    return {
        "forward": measure(forward, device, seconds=seconds),
        "backward": measure(
            lambda: torch.autograd.grad(loss, leaves, retain_graph=True), device, seconds=seconds
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument(
        "--quick", action="store_true", help="one case, little time; writes nothing"
    )
    add_results_option(parser)
    arguments = parser.parse_args()
    names = ["numba", "reference"] if arguments.device == "cpu" else ["gsplat", "reference"]
    rows = []
    for name in names:
        renderer = renderers.build({"name": name})
        renderer.warm_up()
        for count, size in CASES[:1] if arguments.quick else CASES:
            times = time_case(
                renderer, count, size, arguments.device, seconds=0.2 if arguments.quick else 1.5
            )
            rows.append({"renderer": name, "gaussians": count, "size": size, **times})
            forward = times["forward"]["median"]
            backward = times["backward"]["median"]
            print(
                f"{name:10} {count:7} at {size}: forward {forward:8.1f} ms, backward "
                f"{backward:8.1f} ms",
                flush=True,
            )
    if not arguments.quick:
        file = write_results("renderers", SEED, arguments.device, rows, folder=arguments.results)
        print(file)


if __name__ == "__main__":
    main()
