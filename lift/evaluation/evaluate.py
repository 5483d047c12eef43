"""Lifted scenes beside the truth: `lift eval`.

A task is a scene of the dataset and a seed. Its input is lifted by `lift.pipeline`, the result measured as `lift.evaluation.protocol` says, and both kept in one JSON file
a task, which is found again as long as nothing of it has changed.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from lift.depths import depths
from lift.evaluation import metrics
from lift.evaluation.datasets import Capture, Dataset, datasets
from lift.evaluation.dists import DISTS
from lift.evaluation.lpips import LPIPS
from lift.evaluation.metrics import depth_errors
from lift.config import ALIGNMENTS
from lift.evaluation.protocol import Alignment, at_input, chosen, known_depth, median_scale, registered, shown, swept
from lift.geometry import rotation_angle
from lift.io.image import MULTIPLE, save_image
from lift.io.splats import read_ply
from lift.machine import machine
from lift.pipeline import run
from lift.registry import SLOTS
from lift.renderers import renderers
from lift.session import Session
from lift.store import key_of
from lift.training.fit import fit
from lift.types import Cameras, Frames

MEASURES = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "dists": "DISTS", "seen": "seen", "psnr_seen": "PSNR, seen", "ssim_seen": "SSIM, seen", "lpips_seen": "LPIPS, seen"}
"""Of a view: key and heading."""

OF_A_RUN = {"abs_rel": "AbsRel", "rank_correlation": "depth rank", "rotation": "rotation", "position": "position", "seconds": "s", "peak_gib": "GiB"}
"""Of the input's depth; of the cameras of its frames (degrees; share of the typical depth), where the generator knows the truth; of all stages."""

VERSION = 1
"""Raised when figures change though no setting does."""

SHOWN = 4
"""Targets on a sheet."""


@dataclass(frozen=True)
class Task:
    scene: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.scene.replace('/', '-')}-{self.seed}"


class Evaluation:
    """One dataset, one protocol, one way of lifting."""

    def __init__(self, config: DictConfig, asked: DictConfig) -> None:
        """config: a run's, its image and seed aside. asked: `dataset` and `protocol`. Raises what the dataset raises."""
        self.config, self.asked, self.protocol = config, asked, asked.protocol
        self.dataset: Dataset = datasets.build(OmegaConf.to_container(asked.dataset, resolve=True))
        self.tasks = [Task(scene, seed) for scene in self.dataset.scenes() for seed in self.protocol.seeds]
        settings = {key: value for key, value in OmegaConf.to_container(config, resolve=True).items() if key not in ("image", "output", "name", "seed", "deliver")}
        self.key = key_of(VERSION, settings, _plain(asked))
        self.folder = Path(config.output) / "eval" / (config.name or f"{asked.dataset.name}-{self.key}")
        self._measures: Measures | None = None

    def make(self, task: Task) -> Path:
        """Lifts and measures what is not there yet; the task's file."""
        capture = self.dataset.capture(task.scene)
        first, targets = chosen(capture, self.protocol)
        camera = even(capture.inner(first, self.config.intake.size))
        image = capture.image if capture.image and first == 0 else str(self._picture(capture, first, camera))
        config = OmegaConf.merge(self.config, {"image": image, "seed": task.seed, "name": None, "intake": {"field_of_view": field_of_view(camera)}})
        file = self.folder / f"{task.name}.json"
        truth = [first, targets, capture.views, *(value.tolist() for value in (capture.cameras.world_to_camera, capture.cameras.intrinsics))]
        key = Session(config).key("fit", self.key, image, truth, slots=tuple(SLOTS), code=(fit, type(self.dataset)))
        if file.is_file() and json.loads(file.read_text())["key"] == key:
            return file
        folder = run(config, task.scene.replace("/", "-"))
        if self._measures is None:
            self._measures = Measures.load(self.protocol.weights)
        row, sheet = self._measured(capture, first, targets, camera, folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        save_image(self.folder / f"{task.name}.png", sheet)
        stages = json.loads((folder / "provenance.json").read_text())["stages"]
        cameras = json.loads((folder / "metrics.json").read_text()).get("cameras")
        draft = file.with_suffix(".draft")
        draft.write_text(json.dumps({"key": key, "scene": task.scene, "seed": task.seed, "run": str(folder), **row, "cameras": cameras, "stages": costs(stages)}, indent=1) + "\n")
        draft.rename(file)
        return file

    def _picture(self, capture: Capture, view: int, camera: Cameras) -> Path:
        """The input as a file, at the run's size and with its lens straightened, the same for all evaluations under this output."""
        image = capture.look(view, camera).images[0]
        kept = key_of(image.numpy().tobytes().hex(), camera.intrinsics.tolist())
        path = Path(self.config.output) / "eval" / "inputs" / f"{capture.scene.replace('/', '-')}-{kept}.png"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".draft.png")
            save_image(draft, image)
            draft.rename(path)
        return path

    @torch.no_grad()
    def _measured(self, capture: Capture, first: int, targets: list[int], camera: Cameras, folder: Path) -> tuple[dict[str, Any], Tensor]:
        renderer = renderers.build(OmegaConf.to_container(self.config.renderer, resolve=True), device=_device(self.config), image="")
        gaussians = read_ply(folder / "gaussians.ply").to(renderer.device)

        def render(cameras: Cameras) -> tuple[Tensor, Tensor]:
            made = renderer(gaussians, cameras.to(renderer.device))
            return made.rgb[0].cpu().clamp(0, 1), (made.depth[0] * (made.alpha[0] > 0.5)).cpu()

        wanted = Cameras.cat([even(capture.inner(view, self.config.intake.size), camera) for view in targets])
        truth = Frames.cat([Frames(capture.look(view, wanted[k]).images) for k, view in enumerate(targets)])
        start = replace(camera, world_to_camera=torch.eye(4)[None])
        lifted = render(start)[1]
        known, dense = known_depth(capture, first, camera)
        alignment = self._aligned(capture, first, camera, start, lifted, known, wanted, truth, render)
        estimator = None if dense else depths.build({"name": self.protocol.reference}, image=self.config.image if capture.image is None else capture.image, device=torch.device("cpu"), camera=camera)
        image = capture.look(first, camera).images[0]
        seen = shown(capture, first, camera, image, estimator, wanted, alignment.scale)
        placed = alignment(wanted)
        typical = float(known[known > 0].median()) if (known > 0).any() else float(lifted[lifted > 0].median()) / alignment.scale
        views, pictures = [], []
        for k, view in enumerate(targets):
            rgb, photo = render(placed[k])[0], truth[k].rgb[0]
            pictures.append(rgb)
            turned = rotation_angle(camera.world_to_camera[0, :3, :3], wanted.world_to_camera[k, :3, :3])
            views.append({
                "view": capture.views[view], "distance": float((wanted[k].centers - camera.centers).norm()) / typical, "angle": float(turned),
                **self._measures(rgb, photo, seen[k]),
            })  # fmt: skip
        both = (lifted > 0) & (known > 0)
        depth = depth_errors(lifted, known, both) if int(both.sum()) > 2 else None
        row = {
            "input": capture.views[first], "views": views, "size": [camera.width, camera.height], "typical": typical, "alignment": alignment.found, "depth": depth,
            "missing": self._measures.missing, "notes": dict(capture.notes),
        }  # fmt: skip
        order = sorted(range(len(views)), key=lambda k: views[k]["distance"])
        picked = [order[round(k)] for k in np.linspace(0, len(order) - 1, min(SHOWN, len(order)))]
        return row, sheet(image.float() / 255, [(truth[k].rgb[0], pictures[k], seen[k]) for k in picked])

    def _aligned(
        self, capture: Capture, first: int, camera: Cameras, start: Cameras, lifted: Tensor, known: Tensor, wanted: Cameras, truth: Frames, render: Callable[[Cameras], tuple[Tensor, Tensor]]
    ) -> Alignment:
        how = self.protocol.align
        if how == "none":
            return at_input(camera, 1.0)
        if how == "similarity":
            return registered(wanted, list(truth.images), capture.look(first, camera).images[0], start, lifted, camera)
        scale = median_scale(lifted, known, how, capture.scene)
        if how == "median_depth":
            return at_input(camera, scale)

        def score(alignment: Alignment) -> float:
            placed = alignment(wanted)
            return float(np.mean([metrics.psnr(render(placed[k])[0], truth[k].rgb[0]) for k in range(len(wanted))]))

        return swept(camera, scale, score)

    # Tables

    def rows(self) -> list[dict[str, Any]]:
        """Of all tasks that are finished, in order."""
        files = [self.folder / f"{task.name}.json" for task in self.tasks]
        return [json.loads(file.read_text()) for file in files if file.is_file()]

    def write(self) -> Path:
        """`table.md` and `table.json` of what is finished; the first."""
        rows = self.rows()
        text = table(rows, self.about(), list(self.protocol.bins))
        content = _plain(self.asked) | {"settings": _plain(self.config), "mean": mean_of(rows), "rows": rows, "machine": machine("cuda" if torch.cuda.is_available() else "cpu")}
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "table.json").write_text(json.dumps(content, indent=1) + "\n")
        path = self.folder / "table.md"
        path.write_text(text + "\n", encoding="utf-8")
        return path

    def about(self) -> str:
        """What a table has to say of how its figures came about."""
        p, c = self.protocol, self.config
        made = ", ".join(f"{slot} `{c[slot].name}`" for slot in ("prior", "planner", "depth", "pose", "distortion", "renderer"))
        return (
            f"Dataset `{self.asked.dataset.name}`. One input view (`{p.input}`), targets `{p.targets}`{f', at most {p.most}' if p.most else ''}. Alignment `{p.align}`: "
            f"{ALIGNMENTS[p.align]}. Pictures of {c.intake.size} pixels. Distances in units of the input's typical depth. What the input shows of a target: by the dataset's "
            f"dense depth, else by `{p.reference}`. {made}; {c.fit.steps} steps; seeds {', '.join(map(str, p.seeds))}."
        )


class Measures:
    """Of a picture beside the truth."""

    def __init__(self, lpips: LPIPS | None, dists: DISTS | None, missing: list[str]) -> None:
        self.lpips, self.dists, self.missing = lpips, dists, missing

    @classmethod
    def load(cls, weights: str | None) -> "Measures":
        """weights: a folder, whose missing files are an error; without one, what cannot be downloaded is left out, and said."""
        folder, missing, found = Path(weights).expanduser() if weights else None, [], []
        for kind in (LPIPS, DISTS):
            try:
                with redirect_stdout(sys.stderr):  # torch.hub says there what it loads
                    found.append(kind.load(folder).eval())
            except (OSError, FileNotFoundError) as error:
                if folder is not None and kind is LPIPS:
                    raise
                found.append(None)
                missing.append(f"{kind.__name__}: {' '.join(str(error).split())[:160]}")
        return cls(*found, missing)

    def __call__(self, rgb: Tensor, truth: Tensor, seen: Tensor) -> dict[str, float | None]:
        values = {
            "psnr": metrics.psnr(rgb, truth), "ssim": metrics.ssim(rgb, truth), "lpips": self.lpips(rgb, truth) if self.lpips else None,
            "dists": self.dists(rgb, truth) if self.dists else None, "seen": float(seen.float().mean()), "psnr_seen": metrics.masked_psnr(rgb, truth, seen),
            "ssim_seen": metrics.masked_ssim(rgb, truth, seen), "lpips_seen": self.lpips(rgb, truth, seen) if self.lpips and seen.any() else None,
        }  # fmt: skip
        return {key: None if value is None or math.isnan(value) else value for key, value in values.items()}


def even(camera: Cameras, like: Cameras | None = None) -> Cameras:
    """The middle of its picture, both sides multiples of what `lift run` works in; or of another camera's size."""
    width, height = (like.width, like.height) if like else (side // MULTIPLE * MULTIPLE for side in (camera.width, camera.height))
    intrinsics = camera.intrinsics.clone()
    if like and (camera.width < width or camera.height < height):  # of another shape than the input's: enlarged until it covers it
        factor = max(width / camera.width, height / camera.height)
        intrinsics[:, :2] *= factor
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = width / 2, height / 2
    return replace(camera, intrinsics=intrinsics, width=width, height=height)


def field_of_view(camera: Cameras) -> float:
    """Degrees along the longer side."""
    return math.degrees(2 * math.atan(0.5 * max(camera.width, camera.height) / float(camera.intrinsics[0, 0, 0])))


def _plain(settings: DictConfig) -> dict[str, Any]:
    """As JSON has it; a path is its name, not what lies there."""
    return json.loads(json.dumps(OmegaConf.to_container(settings, resolve=True), default=str))


def _device(config: DictConfig) -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() and config.device != "cpu" else torch.device("cpu")


def costs(stages: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Seconds and GiB at the peak by stage, clips summed, as they were when the stage was made."""
    out: dict[str, dict[str, float]] = {}
    for stage in stages:
        own = out.setdefault(stage["stage"], {"seconds": 0.0, "peak_gib": 0.0})
        own["seconds"] = round(own["seconds"] + stage["seconds"], 3)
        own["peak_gib"] = round(max(own["peak_gib"], stage["peak_bytes"] / 2**30), 3)
    return out


def mean_of(rows: Sequence[Mapping[str, Any]], choose: Callable[[Mapping[str, Any]], bool] = lambda view: True) -> dict[str, Any]:
    """Means over views, then over rows; a row without chosen views does not count. `std` is over seeds' means, where there are several."""
    out: dict[str, Any] = {"views": 0}
    for key in MEASURES:
        means: dict[int, list[float]] = {}
        for row in rows:
            values = [view[key] for view in row["views"] if choose(view) and view[key] is not None]
            if values:
                means.setdefault(row["seed"], []).append(float(np.mean(values)))
        seeds = [float(np.mean(values)) for values in means.values()]
        out[key] = float(np.mean(seeds)) if seeds else None
        if len(seeds) > 1:
            out[f"{key}_std"] = float(np.std(seeds, ddof=1))
    out["views"] = sum(choose(view) for row in rows for view in row["views"])
    for part, keys in (("depth", ("abs_rel", "delta1", "rank_correlation")), ("cameras", ("rotation", "position"))):
        for key in keys:
            values = [row[part][key] for row in rows if row[part]]
            out[key] = float(np.mean(values)) if values else None
    out["seconds"] = float(np.mean([sum(stage["seconds"] for stage in row["stages"].values()) for row in rows])) if rows else None
    out["peak_gib"] = max((stage["peak_gib"] for row in rows for stage in row["stages"].values()), default=None)
    return out


def measured(means: Sequence[Mapping[str, Any]], of: Mapping[str, str] = MEASURES) -> dict[str, str]:
    """Those of which there are figures."""
    return {key: name for key, name in of.items() if any(mean[key] is not None for mean in means)}


def figures(mean: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """Cells of a table."""
    cells = []
    for key in keys:
        value, spread = mean[key], mean.get(f"{key}_std")
        if value is None:
            cells.append("-")
        elif key in ("seen", "position"):
            cells.append(f"{100 * value:.{0 if key == 'seen' else 2}f} %")
        else:
            digits = {"seconds": 0, "peak_gib": 1, "rotation": 2}.get(key, 2 if key.startswith("psnr") else 3)
            cells.append(f"{value:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread is not None else ""))
    return cells


def table(rows: Sequence[Mapping[str, Any]], about: str, bins: Sequence[float]) -> str:
    """Markdown: scenes, distances, stages."""
    whole = mean_of(rows)
    measures = measured([whole])
    every = measures | measured([whole], OF_A_RUN)
    lines = [about, "", "| scene | seed | views | " + " | ".join(every.values()) + " |", "|---" * (3 + len(every)) + "|"]

    def line(name: str, seed: str, mean: Mapping[str, Any]) -> str:
        return f"| {name} | {seed} | {mean['views']} | " + " | ".join(figures(mean, every)) + " |"

    lines += [line(row["scene"], str(row["seed"]), mean_of([row])) for row in rows]
    if len(rows) > 1:
        lines.append(line("mean", "all", whole))
    edges = [0.0, *bins, math.inf]
    lines += ["", "| distance | views | " + " | ".join(measures.values()) + " |", "|---" * (2 + len(measures)) + "|"]
    for low, high in zip(edges, edges[1:]):
        mean = mean_of(rows, lambda view: low <= view["distance"] < high)
        name = f"from {low:g}" if high == math.inf else f"{low:g} to {high:g}"
        if mean["views"]:
            lines.append(f"| {name} | {mean['views']} | " + " | ".join(figures(mean, measures)) + " |")
    stages = list(dict.fromkeys(stage for row in rows for stage in row["stages"]))
    lines += ["", "| stage | seconds | peak GiB |", "|---|---|---|"]
    for stage in stages:
        own = [row["stages"][stage] for row in rows if stage in row["stages"]]
        lines.append(f"| {stage} | {np.mean([one['seconds'] for one in own]):.1f} | {max(one['peak_gib'] for one in own):.2f} |")
    for note in dict.fromkeys(note for row in rows for note in row["missing"]):
        lines += ["", f"Not measured: {note}"]
    notes: dict[str, list[str]] = {}
    for row in rows:
        for key, value in row["notes"].items():
            if row["scene"] not in (told := notes.setdefault(f"{key}: {value}", [])):
                told.append(row["scene"])
    if notes:
        lines += ["", *(f"- {note} ({', '.join(scenes)})" for note, scenes in notes.items())]
    return "\n".join(lines)


def sheet(image: Tensor, targets: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """A picture [y x 3] of the input, and below it a row a target: truth, render, absolute error (full brightness at a quarter), what the input shows of the truth."""
    blank, gap = torch.ones_like(image), 4

    def row(pictures: Sequence[Tensor]) -> Tensor:
        return torch.cat([torch.nn.functional.pad(picture.permute(2, 0, 1), (0, gap, 0, gap), value=1.0).permute(1, 2, 0) for picture in pictures], 1)

    lines = [row([image, blank, blank, blank])]
    for truth, rgb, seen in targets:
        error = ((rgb - truth).abs().mean(-1, keepdim=True) * 4).clamp(0, 1).expand_as(truth)
        lines.append(row([truth, rgb, error, torch.where(seen[..., None], truth, torch.ones_like(truth))]))
    return torch.cat(lines)
