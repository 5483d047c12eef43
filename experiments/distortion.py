"""Which distortion module gives back most of what a generator's mistakes take from the canonical scene?

    python experiments/distortion.py --quick                        one scene, small, on a CPU: some ten minutes
    python experiments/distortion.py --quick distortion=mine        your module's rows beside those that are there
    python experiments/distortion.py --device cuda --to FILE        every scene, kind of mistake, strength and seed

Frames of scenes whose truth is known are spoiled in known ways (`lift.evaluation.worlds`); each module is fitted to them, and the
canonical scene compared with true views from cameras that no fit was given. No alignment: the input view, which is right, and its depth or
the scene's points fix the world. Rows that are in the results already are not made again, so a killed run goes on. What is written after
the options are settings of `lift run` for all fits; one that chooses a distortion is measured alone, as a row of that name.

Scenes: four ray-cast ones, and photographs with cameras under LIFT_SHARED (default ../shared) where they are; LPIPS is measured where its
weights are there. How large the mistakes are
and how they grow is chosen, not measured: no frames of a real video generator were at hand to match them to.
"""

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from lift.config import check, store_schemas
from lift.distortions import Distortion, distortions
from lift.distortions.image_warp import ImageWarp
from lift.evaluation.lpips import LPIPS
from lift.evaluation.metrics import psnr, ssim
from lift.evaluation.worlds import KINDS, Spoiled, World, photographs, ray_cast, spoil
from lift.geometry import project, rotation_angle
from lift.parallel import torch_on_one_thread
from lift.registry import ComponentError
from lift.renderers import Renderer, renderers
from lift.scenes import render
from lift.training.fit import fit
from lift.training.module import SceneModule
from lift.training.splats import initialise
from lift.types import Cameras, Frames, Gaussians

SHARED = Path(os.environ.get("LIFT_SHARED", Path(__file__).parents[2] / "shared"))
WEIGHTS = SHARED / "weights" / "lpips_backbones"

MODULES = {
    "identity": ["distortion=identity"],
    "rigid": ["distortion=composed", "distortion.parts=[rigid]"],
    "image_warp": ["distortion=composed", "distortion.parts=[image_warp]"],
    "appearance": ["distortion=composed", "distortion.parts=[appearance]"],
    "blur": ["distortion=composed", "distortion.parts=[blur]"],
    "field": ["distortion=composed", "distortion.parts=[field]"],
    "hexplane": ["distortion=composed", "distortion.parts=[hexplane]"],
    "hexplane as_released": ["distortion=hexplane", "distortion.as_released=true"],
    "composed": ["distortion=composed"],
    "composed, no part dropped": ["distortion=composed", "distortion.sift=0"],
    "composed, frames trusted by their error": ["distortion=composed", "fit.trust.frames=2.5"],
}
"""What is compared, and by which settings: each alone within `composed`, which lets it begin late and drops it where it explains nothing."""

RAY_CAST, PHOTOGRAPHS = ("room", "terrace", "thin", "plain"), ("llff_fern", "llff_flower", "sceaux_castle")
FITS = {
    "quick": ["fit.steps=900", "fit.initial_gaussians=9000", "fit.max_gaussians=14000"],
    "full": ["fit.steps=1200", "fit.views_per_step=4", "fit.initial_gaussians=40000", "fit.max_gaussians=80000"],
}
DEVICES = {"cpu": [], "cuda": ["renderer=gsplat", "trainer=gpu"]}
SETTINGS = ["image=room", "fit.held_out=0", "fit.checkpoint_every=1000000", "fit.coarse.sizes=[0.5]", "fit.coarse.until=[0.3]"]


@torch.no_grad()
def score(renderer: Renderer, gaussians: Gaussians, world: World, lpips: LPIPS | None = None) -> dict[str, float]:
    """Of the canonical scene on true views that were never given: means of PSNR (dB), SSIM, LPIPS, and relative depth error where depth is known."""
    device, rows = renderer.device, []
    gaussians = gaussians.to(device)
    for view in range(len(world.unseen)):
        shown, truth = renderer(gaussians, world.unseen_cameras[view].to(device)), world.unseen[view]
        row = {"psnr": psnr(shown.rgb[0].cpu(), truth.rgb[0]), "ssim": ssim(shown.rgb[0].cpu(), truth.rgb[0])}
        if lpips:
            row["lpips"] = lpips(shown.rgb[0], truth.rgb[0])
        if truth.depth is not None:
            known = (truth.depth[0] > 0) & (shown.alpha[0].cpu() > 0.5)
            row["depth"] = float((shown.depth[0].cpu()[known] / truth.depth[0][known]).log().abs().median())
        rows.append(row)
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


@torch.no_grad()
def recovered(distortion: Distortion, gaussians: Gaussians, world: World, spoiled: Spoiled) -> dict[str, float]:
    """How far what was learned is from what was done, over generated frames that are not gone bad: medians.

    place: pixels between where a Gaussian is seen in a frame according to the distortion, and where the truth would put it; `place_told`,
    where no distortion was learned. turn: degrees, shift: share of the typical depth, zoom: logarithm, each of the cameras.
    """
    true, told = world.trajectory.cameras, spoiled.reconstruction.cameras
    some = gaussians[torch.randperm(len(gaussians), generator=torch.Generator().manual_seed(0))[:2000]]
    found: dict[str, list[float]] = {}
    warp = next((part for part in distortion.acting() if isinstance(part, ImageWarp)), None)  # of a composed one, unless it was dropped
    for index in range(1, len(told)):
        if spoiled.bad[index]:
            continue
        view = torch.tensor([index])
        camera = distortion.cameras(told[index], view)
        seen = distortion.gaussians(some, view).means.reshape(-1, 3)
        straight, depth = (value[0] for value in project(seen, camera))
        where, ahead = (value[0] for value in project(some.means, true[index]))
        plain, _ = (value[0] for value in project(some.means, told[index]))
        learned = warp.flow(view, told.width, told.height)[0] if warp else torch.zeros_like(spoiled.flow[0])
        margin = 0.05 * told.width
        sound = (depth > 0) & (ahead > 0) & (where > margin).all(-1) & (where < where.new_tensor([told.width, told.height]) - margin).all(-1)
        if not bool(sound.any()):
            continue
        truth = _unbent(where, spoiled.flow[index])
        row = {
            "place": float((_unbent(straight, learned) - truth).norm(dim=-1)[sound].median()),
            "place_told": float((plain - truth).norm(dim=-1)[sound].median()),
            "turn": float(rotation_angle(camera.world_to_camera[:, :3, :3], true[index].world_to_camera[:, :3, :3])[0]),
            "shift": float((camera.centers - true[index].centers).norm()) / world.typical,
            "zoom": float((camera.intrinsics[0, 0, 0] / true[index].intrinsics[0, 0, 0]).log().abs()),
        }
        for key, value in row.items():
            found.setdefault(key, []).append(value)
    return {key: float(torch.tensor(values).median()) for key, values in found.items()}


def _unbent(pixels: Tensor, flow: Tensor) -> Tensor:
    """Where in a bent picture is what the straight one shows at `pixels`: y + flow(y) = x, by iteration."""
    height, width = flow.shape[1:]
    at = pixels
    for _ in range(4):
        x, y = at[:, 0].long().clamp(0, width - 1), at[:, 1].long().clamp(0, height - 1)
        at = pixels - flow[:, y, x].T
    return at


def trial(
    world: World, spoiled: Spoiled, config: Any, renderer: Renderer, seed: int, lpips: LPIPS | None = None
) -> tuple[dict[str, Any], Gaussians, Distortion]:
    """One fit and what is measured of it."""
    cameras = spoiled.reconstruction.cameras
    torch.manual_seed(seed)
    distortion = distortions.build(
        OmegaConf.to_container(config.distortion), num_views=len(cameras), extent=world.typical, size=(cameras.width, cameras.height), trajectory=world.trajectory,
        points=spoiled.reconstruction.points,
    )  # fmt: skip
    start = initialise(spoiled.reconstruction, config.fit.initial_gaussians, config.fit.sh_degree, renderer.device)
    module = SceneModule(start, distortion, renderer, spoiled.frames, spoiled.reconstruction, config.fit, world.typical, seed)
    if renderer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        fit(module, list(range(1, len(cameras))), Path(folder), config.fit, OmegaConf.to_container(config.trainer), seed)
    seconds = time.perf_counter() - began
    gaussians, distortion = module.splats.gaussians().map(lambda value: value.detach()), module.distortion.eval()
    row = {**score(renderer, gaussians, world, lpips), **recovered(distortion, gaussians, world, spoiled), "seconds": seconds, "gaussians": len(gaussians)}
    if account := distortion.account():
        row["account"] = account
    if renderer.device.type == "cuda":
        row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return row, gaussians, distortion


def cases(strengths: list[float], alone: bool) -> dict[str, dict[str, float]]:
    """Labels and sizes of mistakes: none, all together at each strength, and each kind alone at strength 1."""
    together = {f"all x {strength:g}": dict.fromkeys(KINDS, strength) for strength in strengths}
    return {"clean": {}} | together | ({kind: {kind: 1.0} for kind in KINDS} if alone else {})


def table(rows: list[dict[str, Any]]) -> str:
    """PSNR by module and mistakes, mean and standard deviation over scenes and seeds of what it gains on `identity`, in Markdown."""
    known = {(row["scene"], row["case"], row["seed"], row["module"]): row for row in rows}
    columns = sorted({row["case"] for row in rows}, key=lambda case: (case != "clean", not case.startswith("all"), case))
    lines = ["| module | " + " | ".join(columns) + " | seconds |", "|---" * (len(columns) + 2) + "|"]
    modules = list(dict.fromkeys(row["module"] for row in rows))
    for module in modules:
        # What a module gains is told by `identity` with the same further settings, where there is such a row.
        base_of = [name for name in modules if name.split()[0] == "identity" and module.endswith(name.removeprefix("identity"))]
        base_name = max(base_of, key=len, default="identity")
        cells = []
        for case in columns:
            mine = [row for key, row in known.items() if key[1] == case and key[3] == module]
            gains = [row["psnr"] - base["psnr"] for row in mine if (base := known.get((row["scene"], case, row["seed"], base_name)))]
            spread = f" ± {statistics.stdev(gains):.2f}" if len(gains) > 1 and module != base_name else ""
            gain = f" ({statistics.mean(gains):+.2f}{spread})" if gains and module != base_name else ""
            cells.append(f"{statistics.mean(row['psnr'] for row in mine):.2f}{gain}" if mine else "")
        seconds = statistics.mean(row["seconds"] for row in rows if row["module"] == module)
        lines.append(f"| {module} | " + " | ".join(cells) + f" | {seconds:.0f} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Trial:
    """One fit to make: a row of the results, and where it is made."""

    scene: str
    case: str
    seed: int
    module: str
    sizes: dict[str, float]
    settings: list[str]
    quick: bool
    worlds: Path
    """Folder of the scenes that were made already."""

    @property
    def label(self) -> dict[str, Any]:
        """What a row is known by."""
        return {"scene": self.scene, "case": self.case, "seed": self.seed, "module": self.module, "settings": self.settings}

    def world(self, cast: Callable[[str, Cameras], Frames] = render) -> World:
        """Made once, and read from a file by other processes."""
        path = self.worlds / f"{self.scene}.pt"
        if not path.exists():
            size, frames = ((128, 96), 4) if self.quick else ((256, 192), 8)
            torch.save(ray_cast(self.scene, size, frames, cast) if self.scene in RAY_CAST else photographs(SHARED / "data" / self.scene, size), path)
        return torch.load(path, weights_only=False)


class Bench:
    """What one process keeps from one trial to the next."""

    def __init__(self, device: str) -> None:
        if device != "cpu":
            torch.cuda.set_device(device)
        self.renderer = renderers.build({"name": "numba" if device == "cpu" else "gsplat"}, device=torch.device(device))
        self.lpips = LPIPS.load(WEIGHTS).to(device) if WEIGHTS.is_dir() else None
        self.scene, self.world, self.spoiled = "", None, {}
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        store_schemas()

    def row(self, asked: Trial) -> dict[str, Any]:
        if asked.scene != self.scene:
            self.scene, self.world, self.spoiled = asked.scene, asked.world(), {}
        if (asked.case, asked.seed) not in self.spoiled:
            self.spoiled = {(asked.case, asked.seed): spoil(self.world, asked.sizes, asked.seed)}
        with initialize_config_module("lift.configs", version_base="1.3"):
            config = compose("lift", [*SETTINGS, *asked.settings])
        row, *_ = trial(self.world, self.spoiled[asked.case, asked.seed], config, self.renderer, asked.seed, self.lpips)
        return {**asked.label, **row}


_bench: Bench | None = None


def _settle(device: str, turn: Any) -> None:
    """A process of its own, on the GPU whose turn it is."""
    global _bench
    with turn.get_lock():
        mine, turn.value = turn.value, turn.value + 1
    _bench = Bench(device if device == "cpu" else f"cuda:{mine % torch.cuda.device_count()}")


def _row(asked: Trial) -> dict[str, Any]:
    assert _bench is not None
    return _bench.row(asked)


def made(trials: list[Trial], device: str, workers: int) -> Iterator[dict[str, Any]]:
    """Rows, as they are ready; what fails is told, and the others are made all the same."""
    if workers == 1:
        bench = Bench(device if device == "cpu" else "cuda:0")
        for asked in trials:
            try:
                yield bench.row(asked)
            except Exception:
                _tell(asked)
        return
    spawn = torch.multiprocessing.get_context("spawn")
    # One core for each process. Said before they start: what is set in them is undone when numba's threads start.
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    with torch_on_one_thread(), ProcessPoolExecutor(workers, spawn, _settle, (device, spawn.Value("i", 0))) as pool:

        def cast(name: str, cameras: Cameras) -> Frames:
            return Frames.cat(list(pool.map(render, [name] * len(cameras), [cameras[view] for view in range(len(cameras))])))

        for asked in {asked.scene: asked for asked in trials}.values():
            asked.world(cast)
        ahead = {pool.submit(_row, asked): asked for asked in trials}
        try:
            for done in as_completed(ahead):
                try:
                    row = done.result()
                except BrokenExecutor:
                    raise SystemExit("a process was ended, by want of memory perhaps; choose fewer --workers and run the same command again") from None
                except Exception:
                    _tell(ahead[done])
                else:
                    yield row
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _tell(asked: Trial) -> None:
    print(f"{asked.scene}, {asked.case}, seed {asked.seed}, {asked.module} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="python experiments/distortion.py --quick")
    parser.add_argument("--quick", action="store_true", help="the room at 128 x 96, short fits, one seed, no kind of mistake alone")
    parser.add_argument("--scenes", nargs="+", metavar="SCENE", help=", ".join((*RAY_CAST, *PHOTOGRAPHS)))
    parser.add_argument("--modules", nargs="+", metavar="MODULE", help=", ".join(MODULES))
    parser.add_argument("--strengths", nargs="+", help="of all mistakes together; 1 0.5 2 if not given, 1 with --quick")
    parser.add_argument("--cases", nargs="+", metavar="CASE", help="some of them alone: clean, 'all x 1', ..., " + ", ".join(KINDS))
    parser.add_argument("--seeds", type=_positive, help="how many; 3 if not given, 1 with --quick")
    parser.add_argument("--device", default="cpu", choices=tuple(DEVICES))
    parser.add_argument("--workers", type=_positive, default=1, help="processes, which share the GPUs; let them use one at once: nvidia-cuda-mps-control -d")
    parser.add_argument("--to", type=Path, help="the results, added to if they are there; outputs/distortion.json, with --quick distortion-quick.json")
    parser.add_argument("settings", nargs="*", metavar="setting=value")
    asked = parser.parse_intermixed_args()  # settings may stand anywhere
    lists = {name: getattr(asked, name) or [] for name in ("scenes", "modules", "cases", "strengths")}
    # Settings come last, so a list of names before them takes them in.
    settings = [*asked.settings, *(item for items in lists.values() for item in items if "=" in item)]
    scenes, names, wanted, strengths = ([item for item in items if "=" not in item] for items in lists.values())
    for kind, given, known in (("scene", scenes, (*RAY_CAST, *PHOTOGRAPHS)), ("module", names, MODULES)):
        for name in given:
            if name not in known:
                parser.error(f"{kind} {name!r} is not known; choose among {', '.join(known)}")
    for name in scenes:
        if name in PHOTOGRAPHS and not (SHARED / "data" / name).is_dir():
            parser.error(f"scene {name!r} is not in {SHARED / 'data'}, where LIFT_SHARED={SHARED} would have it")
    try:
        sizes = cases([float(text) for text in strengths] or ([1.0] if asked.quick else [1.0, 0.5, 2.0]), not asked.quick)
    except ValueError:
        parser.error(f"--strengths are {' '.join(strengths)}; choose numbers")
    for name in wanted:
        if name not in sizes:
            parser.error(f"case {name!r} is not known; choose among {', '.join(sizes)}")
    sizes = {name: size for name, size in sizes.items() if name in wanted or not wanted}
    found = [name for name in PHOTOGRAPHS if (SHARED / "data" / name).is_dir()]
    scenes = scenes or (["room"] if asked.quick else [*RAY_CAST, *found])
    if any(setting.startswith("distortion=") for setting in settings):
        modules = {" ".join(setting.removeprefix("distortion=") for setting in settings): settings}
    else:
        modules = {" ".join([name, *settings]): [*MODULES[name], *settings] for name in names or MODULES}
    preset = [*FITS["quick" if asked.quick else "full"], *DEVICES[asked.device]]
    store_schemas()
    for name, overrides in modules.items():
        try:
            with initialize_config_module("lift.configs", version_base="1.3"):
                check(compose("lift", [*SETTINGS, *preset, *overrides]))
        except (ComponentError, HydraException, OmegaConfBaseException) as error:
            parser.error(f"{name}: {error}")
    to = asked.to or Path("outputs", "distortion-quick.json" if asked.quick else "distortion.json")
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        rows = json.loads(to.read_text()) if to.exists() else []
    except json.JSONDecodeError as error:
        parser.error(f"{to} does not hold results ({error}); choose another file with --to")
    with tempfile.TemporaryDirectory() as worlds:
        trials = [
            Trial(scene, case, seed, module, size, [*preset, *overrides], asked.quick, Path(worlds))
            for case, size in sizes.items()
            for scene in scenes
            for seed in range(asked.seeds or (1 if asked.quick else 3))
            for module, overrides in modules.items()
        ]
        there = {json.dumps({key: row.get(key) for key in trials[0].label}) for row in rows}
        missing, before = [trial for trial in trials if json.dumps(trial.label) not in there], len(rows)
        for row in made(missing, asked.device, asked.workers):
            rows.append(row)
            draft = to.with_suffix(".draft")
            draft.write_text(json.dumps(rows, indent=1))
            draft.replace(to)
            print("{scene}, {case}, seed {seed}, {module}: {psnr:.2f} dB, {seconds:.0f} s".format(**row), flush=True)
    print(table(rows))
    if failed := len(missing) - (len(rows) - before):
        raise SystemExit(f"{failed} of {len(trials)} fits failed; run the same command again to make them")


if __name__ == "__main__":
    main()
