"""Which distortion module gives back most of what a generator's mistakes take from the canonical
scene?

    python experiments/distortion.py --quick
        one small scene on a CPU, about ten minutes
    python experiments/distortion.py --quick distortion=mine
        your module beside `identity`; --modules adds others
    python experiments/distortion.py --device cuda --to FILE
        every scene, corruption, severity and seed
    python experiments/distortion.py --show --to FILE
        the table of the results in FILE

Frames of scenes whose truth is known are spoiled in known ways (`lift.synthetic.worlds`); each
module is fitted to them, and the canonical scene compared with true views from cameras that no fit
was given. No alignment: the input view, which is right, and its depth or the scene's points fix the
world. Rows that are in the results already are not made again, so a killed run goes on. Further
arguments are settings of `lift run` (`fit.`, `trainer.`) for all fits, which then have a table of
their own; `distortion=...` is a row of that name.

Scenes: four ray-cast ones, and photographs with cameras under LIFT_SHARED (default ../shared) where
they are; LPIPS is measured where its weights are there. How large the mistakes are and how they
grow is chosen, not measured: no frames of a real video generator were at hand to match them to.
"""

import argparse
import json
import logging
import math
import os
import signal
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from hydra.errors import HydraException
from jaxtyping import Float
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from torch.nn.functional import interpolate

from lift.config import compose_run, resolve_fit
from lift.distortions import Distortion, distortions, validate_settings
from lift.distortions.blur import gaussian_blur
from lift.distortions.image_warp import warp_render
from lift.errors import format_error, is_interrupt
from lift.evaluation.lpips import LPIPS
from lift.evaluation.metrics import psnr, ssim
from lift.geometry import pinhole, project, rotation_angle
from lift.renderers import Renderer, renderers
from lift.runtime.machine import machine_info
from lift.runtime.parallel import torch_on_one_thread
from lift.synthetic.photographs import load_photographs
from lift.synthetic.scenes import render
from lift.synthetic.worlds import (
    CORRUPTION_KINDS,
    CorruptedScene,
    World,
    corrupt_world,
    ray_cast_world,
)
from lift.training.fit import fit
from lift.training.module import SceneModule
from lift.training.splats import initialise
from lift.types import Cameras, Frames, Gaussians, Render

SHARED = Path(os.environ.get("LIFT_SHARED", Path(__file__).parents[2] / "shared"))
WEIGHTS = SHARED / "weights" / "lpips_backbones"

TOLD = "told the truth"
MODULES = {
    "identity": ["distortion=identity"],
    "rigid": ["distortion=composed", "distortion.parts=[rigid]"],
    "image_warp": ["distortion=composed", "distortion.parts=[image_warp]"],
    "appearance": ["distortion=composed", "distortion.parts=[appearance]"],
    "blur": ["distortion=composed", "distortion.parts=[blur]"],
    "field": ["distortion=composed", "distortion.parts=[field]"],
    "hexplane": ["distortion=composed", "distortion.parts=[hexplane]"],
    "hexplane as_released": ["distortion=hexplane", "distortion.as_released=true"],
    TOLD: ["distortion=identity"],
    "composed, no part dropped": ["distortion=composed", "distortion.prune_after=0"],
    "composed, frames trusted alike": ["distortion=composed"],
    "composed": ["distortion=composed", "fit.robust.frames=2.5"],
}
"""What is compared, and by which settings: each alone within `composed`, which lets it begin late
and drops it where it explains hardly anything, and all frames trusted alike; last the default of
`lift run`. What `Told` cannot give back nobody can who keeps frames for what they are.
"""

RAY_CAST, PHOTOGRAPHS = (
    ("room", "terrace", "thin", "plain"),
    ("llff_fern", "llff_flower", "sceaux_castle"),
)
FITS = {
    "quick": ["fit.steps=900", "fit.initial_gaussians=9000", "fit.max_gaussians=14000"],
    "full": [
        "fit.steps=1200",
        "fit.batch_size=4",
        "fit.initial_gaussians=40000",
        "fit.max_gaussians=80000",
    ],
}
DEVICES = {"cpu": [], "cuda": ["renderer=gsplat", "trainer=gpu"]}
SETTINGS = [
    "image=room",
    "fit.test_every=0",
    "fit.checkpoint_every=1000000",
    "fit.coarse_to_fine.scales=[0.5]",
    "fit.coarse_to_fine.until=[0.3]",
    "fit.robust.frames=0",
]


class Told(Distortion):
    """Has nothing to learn: it is told cameras, displacements, blur, colours and which frames are
    gone bad. Not how their texture is mottled.
    """

    def __init__(self, cameras: Cameras, spoiled: CorruptedScene) -> None:
        super().__init__()
        self.size, self.max_variance = (
            (cameras.width, cameras.height),
            float(spoiled.variance.max()),
        )
        corruption_tensors = {
            name: getattr(spoiled, name) for name in ("flow", "tone", "saturation", "variance")
        }
        corruption_tensors |= {
            "poses": cameras.world_to_camera,
            "intrinsics": cameras.intrinsics,
            "sound": (~spoiled.bad).float(),
        }
        for name, value in corruption_tensors.items():
            self.register_buffer(name, value)

    def cameras(self, cameras: Cameras, view: Tensor) -> Cameras:
        return Cameras(self.poses[view], self.intrinsics[view], *self.size).resized(
            cameras.width, cameras.height
        )

    def image(self, render: Render, view: Tensor) -> Render:
        height, width = render.rgb.shape[1:3]
        smaller = width / self.size[0]
        render = warp_render(
            render, smaller * interpolate(self.flow[view], (height, width), mode="area")
        )
        rgb = gaussian_blur(
            render.rgb, smaller**2 * self.variance[view], smaller**2 * self.max_variance
        )
        grey = rgb.mean(-1, keepdim=True)
        rgb = (grey + (1 + self.saturation[view])[:, None, None, None] * (rgb - grey)) * self.tone[
            view
        ].exp()[:, None, None]
        return replace(
            render,
            rgb=rgb,
            info={**render.info, "weight": render.info["weight"] * self.sound[view][:, None, None]},
        )


@torch.no_grad()
def score(
    renderer: Renderer, gaussians: Gaussians, world: World, lpips: LPIPS | None = None
) -> dict[str, float]:
    """Of the canonical scene on true views that were never given: means of PSNR (dB), SSIM, LPIPS,
    and relative depth error where depth is known.
    """
    device, rows = renderer.device, []
    gaussians = gaussians.to(device)
    for view in range(len(world.test_frames)):
        rendered_view, truth = (
            renderer(gaussians, world.test_cameras[view].to(device)),
            world.test_frames[view],
        )
        row = {
            "psnr": psnr(rendered_view.rgb[0].cpu(), truth.rgb[0]),
            "ssim": ssim(rendered_view.rgb[0].cpu(), truth.rgb[0]),
        }
        if lpips:
            row["lpips"] = lpips(rendered_view.rgb[0], truth.rgb[0])
        if truth.depth is not None:
            valid = (truth.depth[0] > 0) & (rendered_view.alpha[0].cpu() > 0.5)
            if valid.any():
                row["depth"] = float(
                    (rendered_view.depth[0].cpu()[valid] / truth.depth[0][valid])
                    .log()
                    .abs()
                    .median()
                )
        rows.append(row)
    return {key: _mean(rows, key) for key in dict.fromkeys(key for row in rows for key in row)}


@torch.no_grad()
def measure_recovery(
    distortion: Distortion,
    gaussians: Gaussians,
    world: World,
    spoiled: CorruptedScene,
    max_frames: int = 32,
) -> dict[str, float]:
    """How far what was learned is from what was done, over at most `most` generated frames that are
    not gone bad: medians.

    place: pixels between where a Gaussian is seen in a frame according to the distortion, and where
    the truth would put it; turn: degrees,
    shift: share of the typical depth, zoom: logarithm, each of the cameras; tone: logarithm of the
    colours' gain; soft: pixels squared, of the variance of the blur. With `_told`, the same where
    no distortion was learned.
    """
    true, nominal_cameras, nothing = (
        world.trajectory.cameras,
        spoiled.reconstruction.cameras,
        Distortion(),
    )
    subset = gaussians[
        torch.randperm(len(gaussians), generator=torch.Generator().manual_seed(0))[:2000]
    ]
    errors: dict[str, list[float]] = {}
    views = [view for view in range(1, len(nominal_cameras)) if not spoiled.bad[view]]
    for index in views[:: max(1, -(-len(views) // max_frames))]:
        for suffix, learned in (("", distortion), ("_told", nothing)):
            for key, value in _corruption_errors(
                learned, index, subset, true[index], nominal_cameras[index], spoiled, world.typical
            ).items():
                errors.setdefault(key + suffix, []).append(value)
    medians = {key: float(torch.tensor(values).nanmedian()) for key, values in errors.items()}
    return {key: value for key, value in medians.items() if not math.isnan(value)}


def _corruption_errors(
    distortion: Distortion,
    index: int,
    gaussians: Gaussians,
    true: Cameras,
    nominal_camera: Cameras,
    spoiled: CorruptedScene,
    typical: float,
) -> dict[str, float]:
    """Of one frame, as `recovered` says."""
    view = torch.tensor([index])
    camera = distortion.cameras(nominal_camera, view)
    straight, depth = (
        value[0]
        for value in project(distortion.gaussians(gaussians, view).means.reshape(-1, 3), camera)
    )
    pixels, ahead = (value[0] for value in project(gaussians.means, true))
    margin = 0.05 * nominal_camera.width
    sound = (
        (depth > 0)
        & (ahead > 0)
        & (pixels > margin).all(-1)
        & (pixels < pixels.new_tensor([nominal_camera.width, nominal_camera.height]) - margin).all(
            -1
        )
    )
    flow, tone, variance = _image_effect(
        distortion, view, nominal_camera.width, nominal_camera.height, typical
    )
    pixel_errors = (_unbent(straight, flow) - _unbent(pixels, spoiled.flow[index])).norm(dim=-1)[
        sound
    ]
    return {
        "place": float(pixel_errors.median()) if len(pixel_errors) else math.nan,
        "turn": float(
            rotation_angle(camera.world_to_camera[:, :3, :3], true.world_to_camera[:, :3, :3])[0]
        ),
        "shift": float((camera.centers - true.centers).norm()) / typical,
        "zoom": float((camera.intrinsics[0, 0, 0] / true.intrinsics[0, 0, 0]).log().abs()),
        "tone": float((tone - spoiled.tone[index]).abs().mean()),
        "soft": float((variance - spoiled.variance[index]).abs()),
    }


def _image_effect(
    distortion: Distortion, view: Tensor, width: int, height: int, typical: float
) -> tuple[Float[Tensor, "2 height width"], Float[Tensor, "3"], Float[Tensor, ""]]:
    """What `distortion.image` does, whatever it is made of: where each pixel comes from, relative
    to itself; the logarithm of what a grey is multiplied by; the variance of what a dot becomes, in
    pixels squared.
    """
    rows, columns = torch.meshgrid(
        torch.arange(float(height)), torch.arange(float(width)), indexing="ij"
    )
    grey, dot = torch.full((height, width, 3), 0.5), torch.zeros(height, width, 1)
    dot[height // 2, width // 2] = 1

    def distorted(rgb: Tensor, depth: Tensor) -> Render:
        return distortion.image(Render(rgb[None], torch.ones(1, height, width), depth[None]), view)

    columns_render, rows_render = (
        distorted(grey, typical + columns),
        distorted(grey + dot, typical + rows),
    )  # pixels that move take their depth with them
    flow = torch.stack(
        [columns_render.depth[0] - typical - columns, rows_render.depth[0] - typical - rows]
    )
    spot = (rows_render.rgb - columns_render.rgb)[0].sum(-1)
    spot = spot / spot.sum()
    variance = sum(((at - (spot * at).sum()).square() * spot).sum() for at in (rows, columns)) / 2
    return flow, (columns_render.rgb[0] / 0.5).clamp(min=1e-3).log().mean((0, 1)), variance


def _unbent(pixels: Tensor, flow: Tensor) -> Tensor:
    """Where in a bent picture is what the straight one shows at `pixels`: y + flow(y) = x, by
    iteration.
    """
    height, width = flow.shape[1:]
    at = pixels
    for _ in range(4):
        x, y = at[:, 0].long().clamp(0, width - 1), at[:, 1].long().clamp(0, height - 1)
        at = pixels - flow[:, y, x].T
    return at


def trial(
    world: World,
    spoiled: CorruptedScene,
    config: Any,
    renderer: Renderer,
    seed: int,
    lpips: LPIPS | None = None,
    told: bool = False,
) -> tuple[dict[str, Any], Gaussians, Distortion]:
    """One fit and what is measured of it. told: by `Told`, in place of the distortion that `config`
    names.
    """
    cameras = spoiled.reconstruction.cameras
    torch.manual_seed(seed)
    distortion = (
        Told(world.trajectory.cameras, spoiled)
        if told
        else distortions.build(
            OmegaConf.to_container(config.distortion),
            num_views=len(cameras),
            extent=world.typical,
            size=(cameras.width, cameras.height),
            trajectory=world.trajectory,
            points=spoiled.reconstruction.points,
            multiview_consistent=False,
        )
    )
    start = initialise(
        spoiled.reconstruction,
        config.fit.initial_gaussians,
        resolve_fit(config.fit).sh_degree,
        renderer.device,
    )
    module = SceneModule(
        start,
        distortion,
        renderer,
        spoiled.frames,
        spoiled.reconstruction,
        config.fit,
        world.typical,
        seed,
    )
    if renderer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        fit(
            module,
            list(range(1, len(cameras))),
            Path(folder),
            config.fit,
            OmegaConf.to_container(config.trainer),
            seed,
        )
    seconds = time.perf_counter() - began
    gaussians, distortion = (
        module.splats.gaussians().map(lambda value: value.detach()),
        module.distortion.eval(),
    )
    row = {
        **score(renderer, gaussians, world, lpips),
        **measure_recovery(distortion, gaussians, world, spoiled),
        "seconds": seconds,
        "gaussians": len(gaussians),
    }
    if summary := distortion.summary():
        row["summary"] = summary
    if renderer.device.type == "cuda":
        row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return row, gaussians, distortion


def cases(strengths: list[float], single_only: bool) -> dict[str, dict[str, float]]:
    """Labels and sizes of mistakes: none, all together at each strength, and each kind alone at
    strength 1.
    """
    together = {
        f"all x {strength:g}": dict.fromkeys(CORRUPTION_KINDS, strength) for strength in strengths
    }
    return (
        {"clean": {}}
        | together
        | ({kind: {kind: 1.0} for kind in CORRUPTION_KINDS} if single_only else {})
    )


def tables(rows: list[dict[str, Any]]) -> str:
    """Of fits alike in all but their distortion, in Markdown: PSNR by module and mistakes, with
    mean and standard deviation over scenes and seeds of what a module gains on `identity`, in
    brackets the number of fits where it is smaller; and all that was measured with all mistakes
    together at strength 1.
    """
    row_of = {(row["scene"], row["case"], row["seed"], row["module"]): row for row in rows}
    cases = sorted(
        {row["case"] for row in rows},
        key=lambda case: (case != "clean", not case.startswith("all"), case),
    )
    modules = [name for name in MODULES if any(row["module"] == name for row in rows)]
    modules += dict.fromkeys(row["module"] for row in rows if row["module"] not in MODULES)

    def gain(row: dict[str, Any]) -> float | None:
        base = row_of.get((row["scene"], row["case"], row["seed"], "identity"))
        return None if base is None or base is row else row["psnr"] - base["psnr"]

    counts = {
        case: max(
            sum(row["case"] == case and row["module"] == module for row in rows)
            for module in modules
        )
        for case in cases
    }
    lines = [
        "| module | " + " | ".join(f"{case} ({counts[case]} fits)" for case in cases) + " |",
        "|---" * (len(cases) + 1) + "|",
    ]
    for module in modules:
        cells = []
        for case in cases:
            case_rows = [row for row in rows if row["case"] == case and row["module"] == module]
            gains = [value for row in case_rows if (value := gain(row)) is not None]
            deviation = f" ± {statistics.stdev(gains):.2f}" if len(gains) > 1 else ""
            fewer = f" [{len(case_rows)}]" if len(case_rows) < counts[case] else ""
            cells.append(
                f"{_mean(case_rows, 'psnr'):.2f}"
                + (f" ({statistics.mean(gains):+.2f}{deviation})" if gains else "")
                + fewer
                if case_rows
                else ""
            )
        lines.append(f"| {module} | " + " | ".join(cells) + " |")
    full_rows = [row for row in rows if row["case"] == "all x 1"]
    titles = {
        "psnr": "PSNR",
        "ssim": "SSIM",
        "lpips": "LPIPS",
        "depth": "depth error",
        "place": "place, px",
        "turn": "turn, °",
        "shift": "shift",
        "zoom": "zoom",
        "tone": "tone",
        "soft": "blur, px²",
        "seconds": "seconds",
        "peak_gib": "GiB",
    }
    columns = [key for key in titles if any(key in row for row in full_rows)]
    if full_rows:
        lines += [
            "",
            "All mistakes together at strength 1:",
            "",
            "| module | " + " | ".join(titles[key] for key in columns) + " | given back | fits |",
        ]
        lines.append("|---" * (len(columns) + 3) + "|")
    for module in modules if full_rows else []:
        case_rows = [row for row in full_rows if row["module"] == module]
        explained, lost_quality = 0.0, 0.0  # of what the mistakes take from `identity`
        for row in case_rows:
            spoiled, clean = (
                row_of.get((row["scene"], case, row["seed"], "identity"))
                for case in ("all x 1", "clean")
            )
            if spoiled and clean:
                explained, lost_quality = (
                    explained + row["psnr"] - spoiled["psnr"],
                    lost_quality + clean["psnr"] - spoiled["psnr"],
                )
        cells = [
            f"{_mean(case_rows, key):.3g}" if any(key in row for row in case_rows) else ""
            for key in columns
        ]
        lines.append(
            f"| {module} | "
            + " | ".join(cells)
            + f" | {f'{100 * explained / lost_quality:.0f} %' if lost_quality else ''} "
            f"| {len(case_rows)} |"
        )
    return "\n".join(lines)


def _mean(rows: list[dict[str, Any]], key: str) -> float:
    return statistics.mean(row[key] for row in rows if key in row)


@dataclass(frozen=True)
class Trial:
    """One fit to make: a row of the results, and where it is made."""

    scene: str
    case: str
    seed: int
    module: str
    sizes: dict[str, float]
    fit: list[str]
    """Settings that this fit has in common with those that it is compared with."""
    settings: list[str]
    """And its module's own."""
    quick: bool
    worlds: Path
    """Folder of the scenes that were made already."""

    @property
    def label(self) -> dict[str, Any]:
        """What a row is known by."""
        return {
            "scene": self.scene,
            "case": self.case,
            "seed": self.seed,
            "module": self.module,
            "fit": self.fit,
            "settings": self.settings,
        }

    def world(self, cast: Callable[[str, Cameras], Frames] = render) -> World:
        """Made once, and read from a file by other processes."""
        path = self.worlds / f"{self.scene}.pt"
        if not path.exists():
            size, frames = ((128, 96), 4) if self.quick else ((256, 192), 8)
            torch.save(
                ray_cast_world(self.scene, size, frames, cast)
                if self.scene in RAY_CAST
                else load_photographs(SHARED / "data" / self.scene, size),
                path,
            )
        return torch.load(path, weights_only=False)


class Bench:
    """What one process keeps from one trial to the next."""

    def __init__(self, device: str) -> None:
        if device != "cpu":
            torch.cuda.set_device(device)
        self.renderer = renderers.build(
            {"name": "numba" if device == "cpu" else "gsplat"}, device=torch.device(device)
        )
        self.lpips = LPIPS.load(WEIGHTS).to(device) if WEIGHTS.is_dir() else None
        self.scene, self.world, self.spoiled = "", None, {}
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

    def row(self, request: Trial) -> dict[str, Any]:
        if request.scene != self.scene:
            self.scene, self.world, self.spoiled = request.scene, request.world(), {}
        if (request.case, request.seed) not in self.spoiled:
            self.spoiled = {
                (request.case, request.seed): corrupt_world(self.world, request.sizes, request.seed)
            }
        config = compose_run([*SETTINGS, *request.fit, *request.settings])
        told = request.module.startswith(TOLD)
        row, *_ = trial(
            self.world,
            self.spoiled[request.case, request.seed],
            config,
            self.renderer,
            request.seed,
            self.lpips,
            told,
        )
        return {**request.label, **row}


_bench: Bench | None = None


def _settle(device: str, turn: Any) -> None:
    """A process of its own, on the GPU whose turn it is. Ctrl-C is for the one that started it."""
    global _bench
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with turn.get_lock():
        index, turn.value = turn.value, turn.value + 1
    _bench = Bench(device if device == "cpu" else f"cuda:{index % torch.cuda.device_count()}")


def _row(request: Trial) -> dict[str, Any]:
    assert _bench is not None
    return _bench.row(request)


def run_trials(trials: list[Trial], device: str, workers: int) -> Iterator[dict[str, Any]]:
    """Rows, as they are ready; what fails is told, and the others are made all the same."""
    if workers == 1:
        bench = Bench(device if device == "cpu" else "cuda:0")
        for request in trials:
            try:
                yield bench.row(request)
            except Exception as error:
                if is_interrupt(error):
                    raise KeyboardInterrupt from None
                _tell(request)
        return
    spawn = torch.multiprocessing.get_context("spawn")
    # One core for each process. Said before they start: what is set in them is undone when numba's
    # threads start.
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    with (
        torch_on_one_thread(),
        ProcessPoolExecutor(workers, spawn, _settle, (device, spawn.Value("i", 0))) as pool,
    ):

        def cast(name: str, cameras: Cameras) -> Frames:
            return Frames.cat(
                list(
                    pool.map(
                        render,
                        [name] * len(cameras),
                        [cameras[view] for view in range(len(cameras))],
                    )
                )
            )

        failed = set()
        for request in {request.scene: request for request in trials}.values():
            try:
                request.world(cast)
            except Exception:
                _tell(request)
                failed.add(request.scene)
        ahead = {
            pool.submit(_row, request): request for request in trials if request.scene not in failed
        }
        try:
            for future in as_completed(ahead):
                try:
                    row = future.result()
                except BrokenExecutor:
                    raise SystemExit(
                        "a process was ended, by want of memory perhaps; choose fewer --workers "
                        "and run the same command again"
                    ) from None
                except Exception:
                    _tell(ahead[future])
                else:
                    yield row
        except BaseException:
            for worker in active_children():  # a fit takes minutes
                worker.terminate()
            pool.shutdown(cancel_futures=True)
            raise


def _tell(request: Trial) -> None:
    print(
        f"{request.scene}, {request.case}, seed {request.seed}, {request.module} "
        f"failed:\n{traceback.format_exc()}",
        file=sys.stderr,
        flush=True,
    )


def save_record(record: dict[str, Any], to: Path) -> None:
    """Writes the results, a row a line and five digits a number, whole or not at all."""
    lines = ",\n".join(json.dumps(row) for row in _round_values(record["rows"]))
    draft = to.with_name(f".{to.name}.draft")
    draft.write_text(
        '{"benchmark": "distortion", "unit": "dB, pixels, degrees, seconds", '
        f'"machines": {json.dumps(record["machines"])}, "rows": [\n{lines}\n]}}\n'
    )
    draft.replace(to)


def _round_values(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _round_values(item) for key, item in value.items()}
    return [_round_values(item) for item in value] if isinstance(value, list) else value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"is {text!r}; choose a number of at least 1")
    return int(text)


def read(path: Path) -> dict[str, Any]:
    """Results that are there, or none. Raises ValueError where something else is."""
    try:
        if not path.exists():
            return {"machines": [], "rows": []}
        record = json.loads(path.read_text())
        for row in record["rows"]:
            [row[key] for key in ("scene", "case", "seed", "module", "fit", "settings", "psnr")]
        return {"machines": list(record["machines"]), "rows": list(record["rows"])}
    except (OSError, UnicodeError, ValueError, TypeError, KeyError, IndexError) as error:
        raise ValueError(
            f"{path} does not hold results of this experiment ({type(error).__name__}: {error}); "
            "choose another file with --to"
        ) from None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0].rstrip(":.") + ".",
        epilog="python experiments/distortion.py --quick",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="the room at 128 x 96, short fits, one seed, no kind of mistake alone",
    )
    parser.add_argument(
        "--scenes", nargs="+", metavar="SCENE", help=", ".join((*RAY_CAST, *PHOTOGRAPHS))
    )
    parser.add_argument("--modules", nargs="+", metavar="MODULE", help=", ".join(MODULES))
    parser.add_argument(
        "--strengths",
        nargs="+",
        help="of all mistakes together; 1 0.5 2 if not given, 1 with --quick",
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        metavar="CASE",
        help="some of them alone: clean, 'all x 1', ..., " + ", ".join(CORRUPTION_KINDS),
    )
    parser.add_argument("--seeds", type=_count, help="how many; 3 if not given, 1 with --quick")
    parser.add_argument("--device", default="cpu", choices=tuple(DEVICES))
    parser.add_argument(
        "--workers",
        type=_count,
        default=1,
        help="processes, which share the GPUs; let them use one at once: nvidia-cuda-mps-control "
        "-d",
    )
    parser.add_argument(
        "--to",
        type=Path,
        help="the results, added to if they are there; outputs/distortion.json, with --quick "
        "distortion-quick.json",
    )
    parser.add_argument(
        "--show",
        action="store_true",
        help="print the tables of the results that are there, and fit nothing",
    )
    parser.add_argument("settings", nargs="*", metavar="setting=value")
    args = parser.parse_intermixed_args()  # settings may stand anywhere
    lists = {
        name: getattr(args, name) or [] for name in ("scenes", "modules", "cases", "strengths")
    }
    # Settings come last, so a list of names before them takes them in.
    settings = [
        *args.settings,
        *(item for items in lists.values() for item in items if "=" in item),
    ]
    scenes, names, case_names, strengths = (
        [item for item in items if "=" not in item] for items in lists.values()
    )
    for kind, choice, choices in (
        ("scene", scenes, (*RAY_CAST, *PHOTOGRAPHS)),
        ("module", names, MODULES),
    ):
        for name in choice:
            if name not in choices:
                parser.error(f"{kind} {name!r} is not known; choose among {', '.join(choices)}")
    for name in scenes:
        if name in PHOTOGRAPHS and not (SHARED / "data" / name).is_dir():
            parser.error(
                f"scene {name!r} is not in {SHARED / 'data'}, where LIFT_SHARED={SHARED} would "
                "have it"
            )
    try:
        choice = [float(text) for text in strengths]
        if not all(0 < strength < math.inf for strength in choice):
            raise ValueError
    except ValueError:
        parser.error(
            f"--strengths are {' '.join(strengths)}; choose numbers above 0, 1 for what the prior "
            "synthetic does"
        )
    sizes = cases(choice or ([1.0] if args.quick else [1.0, 0.5, 2.0]), not args.quick)
    for name in case_names:
        if name not in sizes:
            parser.error(f"case {name!r} is not known; choose among {', '.join(sizes)}")
    sizes = {name: size for name, size in sizes.items() if name in case_names or not case_names}
    photograph_names = [name for name in PHOTOGRAPHS if (SHARED / "data" / name).is_dir()]
    scenes = scenes or (["room"] if args.quick else [*RAY_CAST, *photograph_names])
    for setting in settings:
        if not setting.lstrip("+~").startswith(("distortion=", "distortion.", "fit.", "trainer.")):
            parser.error(
                f"{setting} changes nothing here; choose settings of distortion, fit and trainer, "
                "and --device for the renderer"
            )
    distortion_settings = [
        setting for setting in settings if setting.lstrip("+~").startswith("distortion")
    ]
    preset = [
        *FITS["quick" if args.quick else "full"],
        *DEVICES[args.device],
        *sorted(setting for setting in settings if setting not in distortion_settings),
    ]
    if any(setting.startswith("distortion=") for setting in distortion_settings):
        modules = {name: MODULES[name] for name in ["identity", *names]} | {
            " ".join(distortion_settings): distortion_settings
        }
    else:
        modules = {
            " ".join([name, *distortion_settings]): [*MODULES[name], *distortion_settings]
            for name in names or MODULES
        }
    if args.device == "cuda" and not args.show and not torch.cuda.is_available():
        parser.error("--device is cuda, but torch sees no CUDA device; choose cpu")
    for name, overrides in modules.items():
        try:
            config = compose_run([*SETTINGS, *preset, *overrides])
            validate_settings(OmegaConf.to_container(config.distortion), pinhole(64, 48, 60.0))
        except (ValueError, HydraException, OmegaConfBaseException) as error:
            parser.error(f"{name}: {format_error(error)}")
    to = args.to or Path("outputs", "distortion-quick.json" if args.quick else "distortion.json")
    with ExitStack() as held:
        try:
            if not args.show:
                to.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(FileLock(to.with_name(f".{to.name}.lock")).acquire(timeout=0))
            record = read(to)
        except Timeout:
            if not os.access(to.parent, os.W_OK):
                parser.error(f"{to.parent} cannot be written to; choose another file with --to")
            parser.error(
                f"another run of this experiment adds to {to}; wait for it, or choose another "
                "file with --to"
            )
        except (OSError, ValueError) as error:
            parser.error(str(error))
        rows = record["rows"]
        if args.show:
            rows = [
                row
                for row in rows
                if (row["scene"] in scenes or not args.scenes)
                and (
                    row["module"] in ("identity", *modules)
                    or not (args.modules or distortion_settings)
                )
                and row["seed"] < (args.seeds or math.inf)
                and (row["case"] in sizes or not (case_names or strengths))
                and (row["fit"] == preset or settings == distortion_settings)
            ]
            if not any(
                row["module"] != "identity"
                or set(modules) == {"identity"}
                or not (args.modules or distortion_settings)
                for row in rows
            ):
                parser.error(
                    f"{to} has no such results; choose another file with --to, or make them "
                    "without --show"
                )
            for common in {json.dumps(row["fit"]): row["fit"] for row in rows}.values():
                text = tables([row for row in rows if row["fit"] == common])
                print(f"{' '.join(common)}\n\n{text}\n")
            return
        machines = record["machines"]
        worlds = held.enter_context(tempfile.TemporaryDirectory())
        trials = [
            Trial(scene, case, seed, module, size, preset, overrides, args.quick, Path(worlds))
            for case, size in sizes.items()
            for scene in scenes
            for seed in range(args.seeds or (1 if args.quick else 3))
            for module, overrides in modules.items()
        ]
        stored_rows = {
            json.dumps({key: row.get(key) for key in trials[0].label}): row for row in rows
        }
        missing, before = (
            [trial for trial in trials if json.dumps(trial.label) not in stored_rows],
            len(rows),
        )
        if len(missing) < len(trials):
            made_by = {
                machines[row["machine"]]["commit"]
                for trial in trials
                if (row := stored_rows.get(json.dumps(trial.label))) and "machine" in row
            }
            print(
                f"{len(trials) - len(missing)} of {len(trials)} fits are there already, of commit "
                f"{', '.join(sorted(map(str, made_by)))}; --to another file makes them anew"
            )
        if missing:
            machines.append({**machine_info(args.device), "workers": args.workers})
        for row in run_trials(missing, args.device, args.workers):
            rows.append({**row, "machine": len(machines) - 1})
            save_record(record, to)
            print(
                "{scene}, {case}, seed {seed}, {module}: {psnr:.2f} dB, {seconds:.0f} s".format(
                    **row
                ),
                flush=True,
            )
    text = tables([row for row in rows if row["fit"] == preset])
    print(text)
    to.with_suffix(".md").write_text(f"# {__doc__.strip()}\n\n{text}\n", encoding="utf-8")
    if failed := len(missing) - (len(rows) - before):
        raise SystemExit(
            f"{failed} of {len(trials)} fits failed; run the same command again to make them"
        )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("stopped; run the same command again to go on") from None
