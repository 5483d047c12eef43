"""Lifted scenes beside the truth: `lift eval`.

A task is a scene of the dataset and a seed. Its input is lifted by `lift.pipeline`, the result measured as `lift.evaluation.protocol` says, and both kept in one JSON file
a task, which is found again as long as nothing of it has changed.
"""

import hashlib
import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from lift.config import ALIGNMENTS, resolve_fit
from lift.depths import depths
from lift.evaluation import dists, lpips, metrics, protocol
from lift.evaluation.datasets import Capture, Dataset, datasets
from lift.evaluation.dists import DISTS
from lift.evaluation.lpips import LPIPS
from lift.evaluation.metrics import depth_errors
from lift.evaluation.protocol import (
    Alignment,
    at_input,
    check_alignment,
    chosen,
    median_scale,
    registered,
    scaled_to,
    shown,
    sparse_depth,
    swept,
    triangulated,
)
from lift.evaluation.tables import costs, mean_of, sheet, table
from lift.geometry import rotation_angle
from lift.io.image import MULTIPLE, save_image
from lift.io.splats import read_ply
from lift.pipeline import run
from lift.registry import SLOTS, ComponentError, catalogue, fingerprint
from lift.renderers import renderers
from lift.runtime.batch import Outcome
from lift.runtime.cache import key_of
from lift.runtime.machine import machine
from lift.runtime.parallel import each
from lift.runtime.session import VERSIONS, Session
from lift.training.fit import fit
from lift.types import Cameras, Depth, Frames

CPU = torch.device("cpu")
VERSION = 2
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
        if config.name == "inputs":
            raise ComponentError(
                "name is 'inputs', the folder of the photographs that were lifted; choose another"
            )
        self.config, self.asked, self.protocol = config, asked, asked.protocol
        self.dataset: Dataset = datasets.build(OmegaConf.to_container(asked.dataset, resolve=True))
        self.tasks = [
            Task(scene, seed) for scene in self.dataset.scenes() for seed in self.protocol.seeds
        ]
        settings = {
            key: value
            for key, value in _plain(config).items()
            if key not in ("image", "output", "name", "seed", "deliver")
        }
        told = _plain(asked)
        for group, names in (
            ("protocol", ("seeds", "bins", "weights")),
            ("dataset", ("scenes",)),
        ):  # which decide what is measured, not what comes of it
            for name in names:
                told[group].pop(name, None)
        self.key = key_of(
            VERSION,
            VERSIONS,
            settings,
            told,
            [
                fingerprint(Path(inspect.getfile(module)))
                for module in (metrics, protocol, lpips, dists)
            ],
        )
        self.folder = (
            Path(config.output) / "eval" / (config.name or f"{asked.dataset.name}-{self.key}")
        )
        self._references: dict[str, Depth] = {}

    @cached_property
    def device(self) -> torch.device:
        return (
            torch.device("cuda", torch.cuda.current_device())
            if torch.cuda.is_available() and self.config.device != "cpu"
            else torch.device("cpu")
        )

    @cached_property
    def measures(self) -> "Measures":
        return Measures.load(self.protocol.weights, self.device)

    def make(self, task: Task) -> Path:
        """Lifts and measures what is not there yet; the task's file. Whatever can be known to be wrong before a scene is lifted is."""
        capture, longer = self.dataset.capture(task.scene), self.config.intake.size
        if capture.image is None:  # a photograph is never enlarged
            longer = min(longer, max(capture.cameras.width, capture.cameras.height))
        first, targets = chosen(capture, self.protocol)
        camera = even(capture.inner(first, longer))
        wanted = Cameras.cat([even(capture.inner(view, longer), camera) for view in targets])
        image, truth = (
            capture.look(first, camera),
            Frames.cat(
                [
                    Frames(images)
                    for images in each(
                        lambda k: capture.look(targets[k], wanted[k]).images, range(len(targets))
                    )
                ]
            ),
        )
        known, dense = (
            (image.depth[0], True)
            if image.depth is not None
            else (sparse_depth(capture, camera), False)
        )
        notes = dict(capture.notes)
        if not (known > 0).any():
            known = triangulated(camera, image.images[0], wanted, truth.images)
            notes["what is known of the input's depth"] = (
                "matches with the targets, triangulated by the true cameras"
            )
        check_alignment(self.protocol.align, known, capture.scene)
        case = Case(
            capture,
            notes,
            first,
            targets,
            camera,
            image.images[0],
            known,
            wanted,
            truth,
            None if dense else self._reference(capture, camera, image.images[0]),
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        source = capture.image if capture.image and first == 0 else str(self._picture(case))
        config = OmegaConf.merge(
            self.config,
            {
                "image": source,
                "seed": task.seed,
                "name": None,
                "intake": {"field_of_view": field_of_view(camera)},
            },
        )
        file = self.folder / f"{task.name}.json"
        with FileLock(
            self.folder.parent / f".{task.name}-{key_of(_plain(config))}.lock"
        ):  # another evaluation may have the same run
            key = Session(config).key(
                "fit",
                self.key,
                source,
                case.digest(),
                self.measures.digest,
                slots=tuple(SLOTS),
                code=(fit,),
            )
            if (_row(file) or {}).get("key") == key and file.with_suffix(".png").is_file():
                return file
            folder = run(config, task.scene.replace("/", "-"))
            row, picture = self._measured(case, folder)
            stages = json.loads((folder / "provenance.json").read_text())["stages"]
            cameras = json.loads((folder / "metrics.json").read_text()).get("cameras")
            whole = {
                "key": key,
                "scene": task.scene,
                "seed": task.seed,
                "run": str(folder),
                **row,
                "cameras": cameras,
                "stages": costs(stages),
            }
            _published(self.folder / f"{task.name}.png", lambda draft: save_image(draft, picture))
            _published(file, lambda draft: draft.write_text(json.dumps(whole, indent=1) + "\n"))
        return file

    def _picture(self, case: "Case") -> Path:
        """The input as a file, at the run's size and with its lens straightened, the same for all evaluations under this output."""
        kept = key_of(case.image.numpy().tobytes().hex(), case.camera.intrinsics.tolist())
        path = (
            Path(self.config.output)
            / "eval"
            / "inputs"
            / f"{case.capture.scene.replace('/', '-')}-{kept}.png"
        )
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            _published(path, lambda draft: save_image(draft, case.image))
        return path

    def _reference(self, capture: Capture, camera: Cameras, image: Tensor) -> Depth:
        """The reference's depth of an input, estimated once for all seeds."""
        name = hashlib.sha256(image.numpy().tobytes()).hexdigest()
        if name not in self._references:
            estimator = depths.build(
                {"name": self.protocol.reference},
                image=capture.scene,
                device=self.device,
                camera=camera,
            )
            self._references[name] = estimator(image)
        return self._references[name]

    @torch.no_grad()
    def _measured(self, case: "Case", folder: Path) -> tuple[dict[str, Any], Tensor]:
        capture, camera, known, wanted, truth = (
            case.capture,
            case.camera,
            case.known,
            case.wanted,
            case.truth,
        )
        renderer = renderers.build(
            OmegaConf.to_container(self.config.renderer, resolve=True), device=self.device, image=""
        )
        gaussians = read_ply(folder / "gaussians.ply").to(renderer.device)

        def render(cameras: Cameras) -> tuple[Tensor, Tensor]:
            made = renderer(gaussians, cameras.to(renderer.device))
            return made.rgb[0].cpu().clamp(0, 1), (made.depth[0] * (made.alpha[0] > 0.5)).cpu()

        start = replace(camera, world_to_camera=torch.eye(4)[None])
        lifted = render(start)[1]
        alignment = self._aligned(case, start, lifted, render)
        depth = (
            Depth(known, known > 0, "scale")
            if case.reference is None
            else scaled_to(case.reference, known, lifted, alignment.scale)
        )
        seen, placed, notes = (
            shown(camera, case.image, depth, wanted),
            alignment(wanted),
            dict(case.notes),
        )
        if (known > 0).any():
            typical = float(known[known > 0].median())
        else:
            typical = float(lifted[lifted > 0].median()) / alignment.scale
            notes["distances and what is seen"] = (
                "by the lifted scene's own depth: the dataset knows none of the input"
            )
        views, pictures = [], []
        for k, view in enumerate(case.targets):
            rgb, photo = render(placed[k])[0], truth[k].rgb[0]
            pictures.append(rgb)
            turned = rotation_angle(
                camera.world_to_camera[0, :3, :3], wanted.world_to_camera[k, :3, :3]
            )
            views.append(
                {
                    "view": capture.views[view],
                    "distance": float((wanted[k].centers - camera.centers).norm()) / typical,
                    "angle": float(turned),
                    **self.measures(rgb, photo, seen[k]),
                    "psnr_input": metrics.psnr(case.image.float() / 255, photo),
                }
            )
        both = (lifted > 0) & (known > 0)
        errors = depth_errors(lifted, known, both) if int(both.sum()) > 2 else None
        row = {
            "input": capture.views[case.first],
            "views": views,
            "size": [camera.width, camera.height],
            "typical": typical,
            "alignment": alignment.found,
            "depth": errors,
            "missing": self.measures.missing,
            "notes": notes,
        }
        order = sorted(range(len(views)), key=lambda k: views[k]["distance"])
        picked = [order[round(k)] for k in np.linspace(0, len(order) - 1, min(SHOWN, len(order)))]
        lines = [
            f"{views[k]['view']}: {views[k]['distance']:.2f} typical depths away, {views[k]['psnr']:.1f} dB"
            for k in picked
        ]
        return row, sheet(
            case.image.float() / 255,
            [(truth[k].rgb[0], pictures[k], seen[k]) for k in picked],
            [f"input: {capture.views[case.first]}", *lines],
        )

    def _aligned(
        self,
        case: "Case",
        start: Cameras,
        lifted: Tensor,
        render: Callable[[Cameras], tuple[Tensor, Tensor]],
    ) -> Alignment:
        how, camera, wanted, truth = self.protocol.align, case.camera, case.wanted, case.truth
        if how == "none":
            return at_input(camera, 1.0)
        if how == "similarity":
            return registered(wanted, list(truth.images), case.image, start, lifted, camera)
        scale = median_scale(lifted, case.known)
        if scale is None:
            if how == "median_depth":
                raise ValueError(
                    f"protocol.align is median_depth, but the scene lifted from {case.capture.scene} is empty where its depth is known; choose sweep"
                )
            scale = float(lifted[lifted > 0].median()) / float(
                (wanted.centers - camera.centers).norm(dim=-1).max()
            )
        if how == "median_depth":
            return at_input(camera, scale)

        def score(alignment: Alignment) -> float:
            placed = alignment(wanted)
            return float(
                np.mean(
                    [
                        metrics.psnr(render(placed[k])[0], truth[k].rgb[0])
                        for k in range(len(wanted))
                    ]
                )
            )

        return swept(camera, scale, score)

    # Tables

    def write(self, outcomes: Sequence[Outcome]) -> Path:
        """`table.md` and `table.json` of what was made or found, and the names of what failed; the first."""
        rows = [json.loads(Path(outcome.made).read_text()) for outcome in outcomes if outcome.made]
        failed = {outcome.name: outcome.error for outcome in outcomes if outcome.error}
        text = table(rows, self.about(), list(self.protocol.bins), failed)
        content = _plain(self.asked) | {
            "settings": _plain(self.config),
            "mean": mean_of(rows),
            "failed": failed,
            "rows": rows,
            "machine": machine("cuda" if torch.cuda.is_available() else "cpu"),
        }
        _published(
            self.folder / "table.json",
            lambda draft: draft.write_text(json.dumps(content, indent=1) + "\n"),
        )
        path = self.folder / "table.md"
        _published(path, lambda draft: draft.write_text(text + "\n", encoding="utf-8"))
        return path

    def about(self) -> str:
        """What a table has to say of how its figures came about."""
        p, c = self.protocol, self.config
        made = ", ".join(
            f"{slot} `{c[slot].name}`"
            for slot in ("prior", "planner", "depth", "pose", "distortion", "renderer")
        )
        fit = resolve_fit(c.fit, real=not catalogue()("prior", c.prior.name).exact_depth)
        return (
            f"Dataset `{self.asked.dataset.name}`. One input view (`{p.input}`), targets `{p.targets}`{f', at most {p.most}' if p.most else ''}. Alignment `{p.align}`: "
            f"{ALIGNMENTS[p.align]}. Pictures of {c.intake.size} pixels along the longer side or as large as they are, straightened, cut to their middle and to multiples of {MULTIPLE}. LPIPS on AlexNet, SSIM as "
            f'torchmetrics has it, both over whole pictures; "seen": over what the input shows of a target, by the dataset\'s dense depth, else by `{p.reference}`, of targets of which it shows anything. Means over a '
            f"scene's targets, then over scenes, then over seeds (± their spread). \"PSNR of the input\": what the input itself has as every target's prediction. Distances in units of the input's typical depth. Seconds "
            f"as they were when a stage was made. {made}; {fit.steps} steps; seeds {', '.join(map(str, p.seeds))}."
        )


@dataclass(frozen=True)
class Case:
    """A scene's input and targets as they are compared; lengths are the dataset's. known: z-depth of the input, 0 where not known; reference: an estimate of it, if that is not dense."""

    capture: Capture
    notes: dict[str, str]
    first: int
    targets: list[int]
    camera: Cameras
    image: Tensor
    known: Tensor
    wanted: Cameras
    truth: Frames
    reference: Depth | None

    def digest(self) -> str:
        """Of all pictures, cameras and depths."""
        found = hashlib.sha256(json.dumps([self.first, self.targets, self.capture.views]).encode())
        parts = [
            *self.camera.tensors().values(),
            *self.wanted.tensors().values(),
            self.image,
            self.known,
            self.truth.images,
        ]
        for part in (
            parts
            if self.reference is None
            else [*parts, self.reference.depth, self.reference.valid]
        ):
            found.update(part.cpu().contiguous().numpy().tobytes())
        return found.hexdigest()


def _row(file: Path) -> dict[str, Any] | None:
    """A task's, if it is whole."""
    try:
        row = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return (
        row
        if isinstance(row, dict)
        and {"key", "scene", "seed", "run", "views", "depth", "cameras", "stages"} <= row.keys()
        else None
    )


def _published(path: Path, write: Callable[[Path], Any]) -> None:
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    write(draft)
    draft.replace(path)


class Measures:
    """Of a picture beside the truth."""

    def __init__(self, lpips: LPIPS | None, dists: DISTS | None, missing: list[str]) -> None:
        self.lpips, self.dists, self.missing = lpips, dists, missing

    @classmethod
    def load(cls, weights: str | None, device: torch.device = CPU) -> "Measures":
        """weights: a folder, without LPIPS's in it an error; without a folder, what cannot be downloaded is left out, and said."""
        folder, missing, found = Path(weights).expanduser() if weights else None, [], []
        for kind in (LPIPS, DISTS):
            try:
                with redirect_stdout(sys.stderr):  # torch.hub says there what it loads
                    found.append(kind.load(folder).eval().to(device))
            except OSError as error:
                if folder is not None and kind is LPIPS:
                    raise
                found.append(None)
                missing.append(f"{kind.__name__}: {' '.join(str(error).split())[:160]}")
        return cls(*found, missing)

    @cached_property
    def digest(self) -> list[str | None]:
        """Of the weights."""
        return [
            network
            and hashlib.sha256(
                b"".join(value.cpu().numpy().tobytes() for value in network.state_dict().values())
            ).hexdigest()
            for network in (self.lpips, self.dists)
        ]

    def __call__(self, rgb: Tensor, truth: Tensor, seen: Tensor) -> dict[str, float | None]:
        values = {
            "psnr": metrics.psnr(rgb, truth),
            "ssim": metrics.ssim(rgb, truth),
            "lpips": self.lpips(rgb, truth) if self.lpips else None,
            "dists": self.dists(rgb, truth) if self.dists else None,
            "seen": float(seen.float().mean()),
            "psnr_seen": metrics.masked_psnr(rgb, truth, seen),
            "ssim_seen": metrics.masked_ssim(rgb, truth, seen),
            "lpips_seen": self.lpips(rgb, truth, seen) if self.lpips and seen.any() else None,
        }
        return {
            key: None if value is None or math.isnan(value) else value
            for key, value in values.items()
        }


def even(camera: Cameras, like: Cameras | None = None) -> Cameras:
    """The middle of its picture, both sides multiples of what `lift run` works in; or of another camera's size."""
    width, height = (
        (like.width, like.height)
        if like
        else (side // MULTIPLE * MULTIPLE for side in (camera.width, camera.height))
    )
    intrinsics = camera.intrinsics.clone()
    if like and (
        camera.width < width or camera.height < height
    ):  # of another shape than the input's: enlarged until it covers it
        factor = max(width / camera.width, height / camera.height)
        intrinsics[:, :2] *= factor
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = width / 2, height / 2
    return replace(camera, intrinsics=intrinsics, width=width, height=height)


def field_of_view(camera: Cameras) -> float:
    """Degrees along the longer side."""
    return math.degrees(
        2 * math.atan(0.5 * max(camera.width, camera.height) / float(camera.intrinsics[0, 0, 0]))
    )


def _plain(settings: DictConfig) -> dict[str, Any]:
    """As JSON has it; a path is its name, not what lies there."""
    return json.loads(json.dumps(OmegaConf.to_container(settings, resolve=True), default=str))
