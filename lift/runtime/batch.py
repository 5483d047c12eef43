"""Run the pipeline on many pictures, or on many scenes of a dataset, in several processes.

Each picture is a run of its own. A free process takes the next one.
"""

import gc
import json
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lift.errors import format_bug, format_error, is_interrupt, is_user_error
from lift.io.names import add_hash, safe_name, user_path
from lift.registry import ComponentError
from lift.runtime import distributed
from lift.runtime.finished import Request
from lift.runtime.quick_import import quick_import

_MAX_LISTED = 5
"""Largest number of missing files that a message names."""


@dataclass(frozen=True)
class Outcome:
    """The result of one picture or scene, or why there is none."""

    name: str
    """Name of the picture or scene."""
    result: str | None
    """File or folder with the result."""
    error: str | None
    """Message of the error, on one line."""


def parse_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split the arguments of `lift batch` into pictures and settings.

    Args:
        arguments: Command line arguments. An existing file is a picture, whatever its name.

    Returns:
        The pictures, each once, and the settings.

    Raises:
        ComponentError: An argument is neither, or there is no picture.
    """
    images = []
    settings = []
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if Path(argument).is_dir():
            raise ComponentError(
                f"{argument!r} is a folder; give the pictures in it, such as "
                f"{Path(argument) / '*.jpg'}"
            )
        if key in ("image", "+image") and equals:
            raise ComponentError(
                f"{argument!r}: give pictures by name alone, lift batch a.jpg b.jpg"
            )
        if argument.startswith("-"):
            raise ComponentError(
                f"{argument!r} is not an option of lift batch; see lift batch --help"
            )
        (settings if equals and not Path(argument).exists() else images).append(argument)
    if not images:
        raise ComponentError(
            "no picture is given: lift batch PICTURE [PICTURE ...] [setting=value ...]"
        )
    missing = [image for image in images if not user_path(image).is_file() and not _built_in(image)]
    if missing:
        names = ", ".join(map(repr, missing[:_MAX_LISTED]))
        more = " ..." if len(missing) > _MAX_LISTED else ""
        raise ComponentError(f"there is no file {names}{more}")
    unique: dict[Path, str] = {}
    for image in images:
        unique.setdefault(user_path(image).resolve(), image)
    return list(unique.values()), settings


def scene_titles(images: list[str]) -> list[str]:
    """Return a different title for each picture.

    Files of the same name are distinguished by their folders, then by their suffixes, then by a
    hash of their paths. A title is the name of a folder (`lift.io.names.safe_name`).

    Args:
        images: Files or names of pictures.
    """
    paths = [user_path(image) for image in images]
    parts = [(*path.resolve().parts[1:-1], path.stem) for path in paths]
    titles = [path.stem for path in paths]
    length = 1
    while length < max(map(len, parts)) and (duplicates := _duplicates(titles)):
        length += 1
        titles = [
            "-".join(part[-length:]) if title in duplicates else title
            for title, part in zip(titles, parts, strict=True)
        ]
    duplicates = _duplicates(titles)
    titles = [
        f"{title}{path.suffix}" if title in duplicates else title
        for title, path in zip(titles, paths, strict=True)
    ]
    names = [safe_name(title) for title in titles]
    duplicates = _duplicates(names)
    return [
        add_hash(name, str(path.resolve())) if name in duplicates else name
        for name, path in zip(names, paths, strict=True)
    ]


def _duplicates(names: list[str]) -> set[str]:
    """Return the names that stand for the same folder as another one."""
    ignores_case = sys.platform in ("win32", "darwin")
    folders = [name.casefold() if ignores_case else name for name in names]
    counts = Counter(folders)
    return {name for name, folder in zip(names, folders, strict=True) if counts[folder] > 1}


def run_images(images: list[str], compose: Callable[[str], DictConfig]) -> list[Outcome]:
    """Run the pipeline on pictures, distributed over the processes.

    Args:
        images: Files or names of pictures.
        compose: Returns the configuration of a picture.

    Returns:
        The outcomes on the main process; nothing on others.
    """
    titles = scene_titles(images)
    first = compose(images[0])
    shared = None if "${image" in OmegaConf.to_yaml(first) else Request(first)

    def make(index: int) -> str:
        request = shared or Request(compose(images[index]))
        if not first.redeliver and (folder := request.find(images[index], titles[index])):
            return str(folder)
        with quick_import():
            from lift.pipeline import run

        with released_memory():
            return str(run(compose(images[index]), titles[index]))

    return run_distributed(images, make)


def run_distributed(
    names: list[str], make: Callable[[int], str], queue: "WorkQueue | None" = None
) -> list[Outcome]:
    """Distribute work over the processes, and print each result.

    An error is reported, and the others go on.

    Args:
        names: Name of each picture or scene.
        make: Does the work of an index, and returns a file or folder.
        queue: The processes' queue, if they have one already.

    Returns:
        All outcomes on the main process; nothing on others.
    """
    queue = queue or WorkQueue()
    process = distributed.process_info()
    distributed.clear_ranks()
    for index in queue.indices(len(names)):
        position = f"[{index + 1}/{len(names)}]"
        print(f"{position} {names[index]}", file=sys.stderr, flush=True)
        try:
            result = make(index)
            print(result, flush=True)
            queue.finish(index, Outcome(names[index], result, None))
        except Exception as error:  # an error of any kind must not stop the others
            if is_interrupt(error):
                raise KeyboardInterrupt from error
            if is_user_error(error):
                line = format_error(error)
            else:
                traceback.print_exc()
                line = format_bug(error)
            print(f"{position} {names[index]} failed: {line}", file=sys.stderr, flush=True)
            queue.finish(index, Outcome(names[index], None, line))
    return queue.outcomes(len(names)) if process.rank == 0 else []


@contextmanager
def released_memory() -> Iterator[None]:
    """Release the memory of a run after the block, however it ends."""
    try:
        yield
    finally:
        release_memory()


def release_memory() -> None:
    """Release the memory of a finished run."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class WorkQueue:
    """Indices, each for one process, and the outcomes.

    Processes share them in a key-value store of torch.distributed. Make it before
    `lift.runtime.distributed.clear_ranks`, at most once a process.
    """

    def __init__(self) -> None:
        process = distributed.process_info()
        self._rank = process.rank
        self._world_size = process.world_size
        self._store: Any = None
        self._local: dict[int, Outcome] = {}
        if process.world_size > 1:
            from torch.distributed.rendezvous import rendezvous

            distributed.set_main_address()
            self._store, _, _ = next(rendezvous("env://", process.rank, process.world_size))

    def once(self, name: str, make: Callable[[], str]) -> str:
        """Return a text that the main process makes. All processes have to call.

        Args:
            name: Name of the text, different from other names.
            make: Makes the text; called on the main process.
        """
        if self._store is None:
            return make()
        if self._rank == 0:
            self._store.set(f"once {name}", make())
        self._store.wait([f"once {name}"], distributed.BROADCAST_TIMEOUT)
        return self._store.get(f"once {name}").decode()

    def indices(self, count: int) -> Iterator[int]:
        """Yield the indices below `count` that this process has to work on."""
        index = -1
        while True:
            index = self._store.add("next index", 1) - 1 if self._store else index + 1
            if index >= count:
                break
            yield index
        if self._store:
            self._store.set(f"left {self._rank}", "")

    def finish(self, index: int, outcome: Outcome) -> None:
        """Publish the outcome of an index."""
        if self._store:
            self._store.set(f"outcome {index}", json.dumps(vars(outcome)))
        else:
            self._local[index] = outcome

    def outcomes(self, count: int) -> list[Outcome]:
        """Wait for the outcomes of all indices below `count`, and return them."""
        if not self._store:
            return [self._local[index] for index in range(count)]
        names = [f"outcome {index}" for index in range(count)]
        left = [f"left {rank}" for rank in range(self._world_size)]
        self._store.wait([*names, *left], distributed.BROADCAST_TIMEOUT)
        return [Outcome(**json.loads(self._store.get(name))) for name in names]


def _built_in(image: str) -> bool:
    from lift.io.image import PHOTOS
    from lift.synthetic.scenes import SCENES

    return image in PHOTOS or image in SCENES
