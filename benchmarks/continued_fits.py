"""Compare continued fits with fits of as many steps in one go.

    python benchmarks/continued_fits.py [--seeds N] [--results FOLDER]

Each row has PSNR in dB, a mean over seeds: of held-out frames, and of true views of the ray-cast
scene `room`. `first` is the first part alone, `continued` the fit after more steps
(`lift.Scene.fit`), `whole` a fit of all steps.
"""

import argparse
import tempfile

from measure import add_results_option, write_results

import lift

PARTS = ((100, 100), (300, 30), (300, 300), (300, 1200))
"""Steps of the first part, and steps that are added."""

SETTINGS = {
    "prior": "warp",
    "preprocess": {"size": 192},
    "planner": {"levels": 1, "num_frames": 5},
    "fit": {
        "initial_gaussians": 8000,
        "max_gaussians": 12_000,
        "checkpoint_every": 50,
        "test_every": 4,
    },
    "export": {"film": {"seconds": 0.25}},
}


def fit(steps: int, seed: int, output: str) -> lift.Scene:
    """Fit a scene in one go."""
    return lift.run("room", seed=seed, output=output, **SETTINGS, **{"fit.steps": steps})


def psnrs(scene: lift.Scene) -> tuple[float, float]:
    """Return the PSNR of held-out frames and of true views in dB."""
    return scene.metrics["held_out_psnr"], scene.metrics["truth"]["psnr"]


def mean(values: list[tuple[float, float]]) -> dict[str, float]:
    """Average pairs of `psnrs`."""
    held_out, true = (sum(column) / len(values) for column in zip(*values, strict=True))
    return {"held_out_psnr": round(held_out, 2), "true_psnr": round(true, 2)}


def main() -> None:
    """Measure all parts and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    add_results_option(parser)
    arguments = parser.parse_args()
    rows = []
    for steps, more_steps in PARTS:
        found: dict[str, list] = {"first": [], "continued": [], "whole": []}
        for seed in range(arguments.seeds):
            with tempfile.TemporaryDirectory() as folder:
                first = fit(steps, seed, folder)
                found["first"].append(psnrs(first))
                found["continued"].append(psnrs(first.fit(more_steps)))
                found["whole"].append(psnrs(fit(steps + more_steps, seed, folder)))
        numbers = {name: mean(values) for name, values in found.items()}
        counts = {"steps": steps, "more_steps": more_steps, "seeds": arguments.seeds}
        rows.append({**counts, **numbers})
        print(rows[-1], flush=True)
    print(write_results("continued-fits", 0, "cpu", rows, unit="dB", folder=arguments.results))


if __name__ == "__main__":
    main()
