"""Many pictures, or many scenes of a dataset, through the pipeline, each a run of its own, spread over processes: whoever is free takes the next."""

import gc
import json
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from lift.errors import is_interrupt, is_users, one_line
from lift.registry import ComponentError
from lift.runtime import distributed


@dataclass(frozen=True)
class Outcome:
    """What became of a picture or scene: the result, or why there is none."""

    name: str
    made: str | None
    error: str | None


def read_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Pictures and settings among the arguments of `lift batch`, files whatever their names. Raises ComponentError for what is neither."""
    images, settings = [], []
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if Path(argument).is_dir():
            raise ComponentError(
                f"{argument!r} is a folder; give the pictures in it, such as {Path(argument) / '*.jpg'}"
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
    missing = [
        image for image in images if not Path(image).expanduser().is_file() and not _built_in(image)
    ]
    if missing:
        raise ComponentError(
            f"there is no file {', '.join(map(repr, missing[:5]))}{' ...' if len(missing) > 5 else ''}"
        )
    once: dict[Path, str] = {}
    for image in images:
        once.setdefault(Path(image).expanduser().resolve(), image)
    return list(once.values()), settings


def titles(images: list[str]) -> list[str]:
    """What to call the pictures, each by another name: files that share one are told apart by their folders', then by their suffixes."""
    paths = [Path(image).expanduser() for image in images]
    parts = [(*path.resolve().parts[1:-1], path.stem) for path in paths]
    names, length = [path.stem for path in paths], 1
    while length < max(map(len, parts)) and (twice := _repeated(names)):
        length += 1
        names = [
            "-".join(part[-length:]) if name in twice else name
            for name, part in zip(names, parts, strict=True)
        ]
    twice = _repeated(names)
    return [
        f"{name}{path.suffix}" if name in twice else name
        for name, path in zip(names, paths, strict=True)
    ]


def _repeated(names: list[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}


def run_all(images: list[str], compose: Callable[[str], DictConfig]) -> list[Outcome]:
    """The scenes of pictures, spread over processes (`spread`). compose: an image's configuration."""
    named = titles(images)

    def make(index: int) -> str:
        from lift.pipeline import run

        return str(run(compose(images[index]), named[index]))

    return spread(images, make)


def spread(names: list[str], make: Callable[[int], str]) -> list[Outcome]:
    """Makes what falls to this process, and on the first process returns what became of all; on others, nothing.

    make: of an index, a file or folder; it is printed. What fails is reported, and the others go on.
    """
    queue, outcomes = _Queue(), []
    here = distributed.place()
    distributed.forget_place()
    for index in queue.indices(len(names)):
        count = f"[{index + 1}/{len(names)}]"
        print(f"{count} {names[index]}", file=sys.stderr, flush=True)
        try:
            made = make(index)
            print(made, flush=True)
            queue.finish(index, Outcome(names[index], made, None))
        except Exception as error:  # of whatever kind, it must not hold up the others
            if is_interrupt(error):
                raise KeyboardInterrupt from error
            if not is_users(error):
                traceback.print_exc()
            line = one_line(error)
            print(f"{count} {names[index]} failed: {line}", file=sys.stderr, flush=True)
            queue.finish(index, Outcome(names[index], None, line))
        _release()
    if here.rank == 0:
        outcomes = queue.outcomes(len(names))
    return outcomes


def _release() -> None:
    """Gives the memory of a finished run back."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class _Queue:
    """Indices, each handed to one process, and what became of them. Processes meet in a store of torch.distributed."""

    def __init__(self) -> None:
        here = distributed.place()
        self._rank, self._world = here.rank, here.world
        self._store, self._own = None, {}
        if here.world > 1:
            from torch.distributed.rendezvous import rendezvous

            distributed.find_main()
            self._store, _, _ = next(rendezvous("env://", here.rank, here.world))

    def indices(self, count: int) -> Iterator[int]:
        index = -1
        while (index := self._store.add("taken", 1) - 1 if self._store else index + 1) < count:
            yield index
        if self._store:
            self._store.set(f"left {self._rank}", "")

    def finish(self, index: int, outcome: Outcome) -> None:
        if self._store:
            self._store.set(f"outcome {index}", json.dumps(vars(outcome)))
        else:
            self._own[index] = outcome

    def outcomes(self, count: int) -> list[Outcome]:
        """All of them, once all are there."""
        if not self._store:
            return [self._own[index] for index in range(count)]
        names = [f"outcome {index}" for index in range(count)]
        self._store.wait(
            [*names, *(f"left {rank}" for rank in range(self._world))], distributed.PATIENCE
        )
        return [Outcome(**json.loads(self._store.get(name))) for name in names]


def _built_in(image: str) -> bool:
    from lift.io.image import PHOTOS
    from lift.synthetic.scenes import SCENES

    return image in PHOTOS or image in SCENES
