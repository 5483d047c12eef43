"""Lift the scenes of a dataset and compare them with the truth: `lift eval`.

A task is a scene of the dataset and a seed. Its input is lifted by `lift.pipeline`, and the result
is measured as `lift.evaluation.protocol` says. Results are stored in one JSON file for each task,
and used again as long as nothing that they depend on has changed.
"""

import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from lift.config import escape_text
from lift.config.loggers import read_callbacks
from lift.evaluation import (
    alignment,
    case,
    dists,
    lpips,
    matching,
    measures,
    metrics,
    protocol,
    storage,
)
from lift.evaluation.alignment import (
    Alignment,
    align_to_input,
    align_views,
    median_scale,
    sweep_scale,
)
from lift.evaluation.case import Case, field_of_view, typical_depth
from lift.evaluation.description import draw_sheet, save_input
from lift.evaluation.measures import Measures
from lift.evaluation.metrics import depth_errors
from lift.evaluation.protocol import rescale_depth, visible_pixels
from lift.evaluation.resources import SharedResources
from lift.evaluation.tables import stage_costs
from lift.geometry import rotation_angle
from lift.io.image import save_image
from lift.io.names import safe_name
from lift.io.sizing import PICTURE_SIZE
from lift.io.splats import read_splats
from lift.pipeline import run
from lift.registry import SLOTS, ComponentError, source_fingerprint
from lift.renderers import renderers
from lift.runtime.atomic_io import make_folder
from lift.runtime.cache import hash_key
from lift.runtime.kept_files import scene_file
from lift.runtime.session import STAGE_VERSIONS, Session, plain_settings
from lift.training.callbacks import callback_key
from lift.training.fit import fit
from lift.types import Cameras, Depth

VERSION = 2
"""Incremented when figures change though no setting does."""

MODULES = (metrics, protocol, lpips, dists, alignment, case, matching, measures)
"""Modules whose source decides about the figures."""

_NOT_IN_KEY = {"protocol": ("seeds", "bins", "weights"), "dataset": ("scenes",)}
"""Settings that decide what is measured, but not with which result."""

_NOT_IN_RUN_KEY = ("image", "output", "name", "seed", "export", "logger", "wandb", *storage.COSTS)
"""Settings of the runs that the figures do not depend on, or that differ between tasks."""

RenderFunction = Callable[[Cameras], tuple[Tensor, Tensor]]
"""Renders a camera, one view: colours [height width 3] and depth [height width], 0 where empty."""


@dataclass(frozen=True)
class Task:
    """A scene that is lifted with a seed."""

    scene: str
    """Name of the scene."""
    seed: int
    """Seed of the run."""

    @property
    def name(self) -> str:
        """Name of the task's files."""
        return storage.task_name(self.scene, self.seed)


class Evaluation:
    """One dataset, one protocol and the settings of the runs.

    Args:
        config: Configuration of the runs. Image and seed are ignored.
        eval_config: The settings `dataset` and `protocol`.
        shared: What it shares with other evaluations of this process.
        folder: Folder of the results. None: a folder in OUTPUT/eval.
        label: Title of its row in a joint table, put before each message.

    Raises:
        ComponentError: The name of the evaluation is reserved.
        FileNotFoundError: The dataset does not exist.
        ValueError: A setting is invalid.
    """

    def __init__(
        self,
        config: DictConfig,
        eval_config: DictConfig,
        shared: SharedResources | None = None,
        folder: Path | None = None,
        label: str | None = None,
    ) -> None:
        if config.name == "inputs":
            raise ComponentError(
                "name is 'inputs', the folder of the photographs that were lifted; choose another"
            )
        self.config = config
        self.eval_config = eval_config
        self.protocol = eval_config.protocol
        self.shared = shared or SharedResources()
        self.label = label
        self.dataset_settings = cast(
            dict[str, Any], OmegaConf.to_container(eval_config.dataset, resolve=True)
        )
        scenes = self.shared.dataset(self.dataset_settings).scenes()
        self.tasks = [Task(scene, seed) for scene in scenes for seed in self.protocol.seeds]
        settings = storage.figure_settings(config, _NOT_IN_RUN_KEY)
        settings["callbacks"] = callback_key(read_callbacks(config))
        eval_settings = storage.to_json(eval_config)
        for group, names in _NOT_IN_KEY.items():
            for name in names:
                eval_settings[group].pop(name, None)
        sources = [source_fingerprint(Path(inspect.getfile(module))) for module in MODULES]
        self.code = hash_key(VERSION, sources)
        self.key = hash_key(VERSION, STAGE_VERSIONS, settings, eval_settings, sources)
        self.root = storage.evaluation_folder(config.output, "")
        name = config.name or f"{eval_config.dataset.name}-{self.key}"
        self.folder = folder or self.root / name

    @cached_property
    def device(self) -> torch.device:
        """Device of the runs and the measures."""
        if torch.cuda.is_available() and self.config.device != "cpu":
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("cpu")

    @cached_property
    def measures(self) -> Measures:
        """Measures of the targets."""
        return self.shared.measures(self.protocol.weights, self.device)

    def title(self, task: Task) -> str:
        """Name a task in messages: its row, if there are several, its scene and its seed.

        Args:
            task: The scene and the seed.
        """
        row = f"{self.label}: " if self.label else ""
        return f"{row}{task.scene}, seed {task.seed}"

    def make(self, task: Task) -> tuple[Path, bool]:
        """Lift and measure a scene, unless its result is stored.

        Errors of the dataset and of settings are raised before the scene is lifted.

        Args:
            task: The scene and the seed.

        Returns:
            The task's JSON file, and whether it is new.

        Raises:
            FileNotFoundError: A file of the scene does not exist.
            ValueError: The scene or a setting is invalid.
        """
        case = self.shared.case(
            self.dataset_settings,
            task.scene,
            self.protocol,
            self.config.preprocess.size or PICTURE_SIZE,
            plain_settings(self.config.prior),
        )
        reference = None
        if not case.dense:
            reference = self.shared.reference(case, self.protocol.reference, self.device)
        make_folder(self.folder)
        if case.capture.image and case.input_view == 0:
            source = case.capture.image
        else:
            source = str(self._save_input(case))
        config = cast(
            DictConfig,
            OmegaConf.merge(
                self.config,
                {
                    "image": escape_text(source),
                    "seed": task.seed,
                    "name": None,
                    "preprocess": {"field_of_view": field_of_view(case.camera)},
                },
            ),
        )
        # Two runs may have the same stages. Each has a folder of its own all the same.
        run_hash = hash_key(storage.run_settings(config))
        config.name = f"{config.prior.name}-{config.distortion.name}-{run_hash}"
        file = self.folder / f"{task.name}.json"
        lock = self.root / f".{task.name}-{run_hash}.lock"
        with storage.task_lock(lock):  # another evaluation may have the same run
            key = Session(config).key(
                "fit",
                self.key,
                source,
                case.digest(reference),
                self.measures.digest,
                slots=tuple(SLOTS),
                code=(fit,),
            )
            if (storage.read_row(file) or {}).get("key") == key:
                print(f"{self.title(task)}: measured before", file=sys.stderr, flush=True)
                return file, False
            folder = run(config, task.scene.replace("/", "-"), self.title(task))
            assert folder is not None, "a task runs in one process"
            self._write_result(task, key, case, reference, folder)
        return file, True

    def _write_result(
        self, task: Task, key: str, case: Case, reference: Depth | None, folder: Path
    ) -> None:
        """Measure a run, and write the files of a task."""
        row, picture = self._measure(case, reference, folder)
        stages = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["stages"]
        cameras = json.loads((folder / "metrics.json").read_text(encoding="utf-8")).get("cameras")
        content = {
            "key": key,
            "evaluation": self.key,
            "scene": task.scene,
            "seed": task.seed,
            "run": str(folder),
            **row,
            "cameras": cameras,
            "stages": stage_costs(stages),
        }
        file = self.folder / f"{task.name}.json"
        storage.write_row(file, content, lambda draft: save_image(draft, picture))

    def _save_input(self, case: Case) -> Path:
        """Save the input without lens distortion, for all evaluations of this output folder."""
        pixels = case.image.numpy().tobytes().hex()
        digest = hash_key(pixels, case.camera.intrinsics.tolist())
        name = f"{safe_name(case.capture.scene.replace('/', '-'))}-{digest}.png"
        return save_input(Path(self.config.output) / "eval" / "inputs" / name, case.image)

    @torch.no_grad()
    def _measure(
        self, case: Case, reference: Depth | None, folder: Path
    ) -> tuple[dict[str, Any], Tensor]:
        """Compare a lifted scene with the targets, and draw the sheet."""
        render = self._renderer(folder)
        start = replace(case.camera, world_to_camera=torch.eye(4)[None])
        lifted = render(start)[1]
        alignment = self._align(case, start, lifted, render)
        true_depth = case.true_depth
        if reference is None:
            depth = Depth(true_depth, true_depth > 0, "scale")
        else:
            depth = rescale_depth(reference, true_depth, lifted, alignment.scale)
        visible = visible_pixels(case.camera, case.image, depth, case.target_cameras)
        notes = dict(case.notes)
        unit = typical_depth(case, lifted, alignment.scale, notes)
        cameras = alignment(case.target_cameras)
        renders = [render(cameras[k])[0] for k in range(len(case.targets))]
        views = [
            self._measure_view(case, k, renders[k], visible[k], unit)
            for k in range(len(case.targets))
        ]
        valid = (lifted > 0) & (true_depth > 0)
        errors = depth_errors(lifted, true_depth, valid) if int(valid.sum()) > 2 else None
        row = {
            "input": case.capture.views[case.input_view],
            "views": views,
            "size": [case.camera.width, case.camera.height],
            "typical": unit,
            "alignment": alignment.details,
            "depth": errors,
            "missing": self.measures.missing,
            "notes": notes,
        }
        return row, draw_sheet(case, views, renders, visible)

    def _renderer(self, folder: Path) -> RenderFunction:
        """Return a function that renders the scene of a run."""
        settings = OmegaConf.to_container(self.config.renderer, resolve=True)
        renderer = renderers.build(cast(dict[str, Any], settings), device=self.device, image="")
        gaussians = read_splats(folder / scene_file(folder)).to(renderer.device)

        def render(cameras: Cameras) -> tuple[Tensor, Tensor]:
            result = renderer(gaussians, cameras.to(renderer.device))
            depth = result.depth[0] * (result.alpha[0] > 0.5)
            return result.rgb[0].cpu().clamp(0, 1), depth.cpu()

        return render

    def _measure_view(
        self, case: Case, k: int, rgb: Tensor, visible: Tensor, typical_depth: float
    ) -> dict[str, Any]:
        """Compare the render of target k with the truth."""
        truth = case.truth[k].rgb[0]
        camera = case.target_cameras[k]
        angle = rotation_angle(
            case.camera.world_to_camera[0, :3, :3], camera.world_to_camera[0, :3, :3]
        )
        distance = float((camera.centers - case.camera.centers).norm())
        return {
            "view": case.capture.views[case.targets[k]],
            "distance": distance / typical_depth,
            "angle": float(angle),
            **self.measures(rgb, truth, visible),
            "psnr_input": metrics.psnr(case.image.float() / 255, truth),
        }

    def _align(
        self, case: Case, start: Cameras, lifted: Tensor, render: RenderFunction
    ) -> Alignment:
        """Align the dataset's world with the lifted one by the setting `protocol.align`."""
        method = self.protocol.align
        camera = case.camera
        if method == "none":
            return align_to_input(camera, 1.0)
        if method == "similarity":
            return align_views(
                case.target_cameras, list(case.truth.images), case.image, start, lifted, camera
            )
        scale = median_scale(lifted, case.true_depth)
        if scale is None:
            if method == "median_depth":
                raise ValueError(
                    "protocol.align is median_depth, but the scene lifted from "
                    f"{case.capture.scene} is empty where its depth is known; choose sweep"
                )
            distances = (case.target_cameras.centers - camera.centers).norm(dim=-1)
            scale = float(lifted[lifted > 0].median()) / float(distances.max())
        if method == "median_depth":
            return align_to_input(camera, scale)

        def score(alignment: Alignment) -> float:
            cameras = alignment(case.target_cameras)
            values = [
                metrics.psnr(render(cameras[k])[0], case.truth[k].rgb[0])
                for k in range(len(cameras))
            ]
            return float(np.mean(values))

        return sweep_scale(camera, scale, score)
