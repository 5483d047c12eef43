"""Make many scenes of a dataset in several processes. A free process takes the next one."""

import gc
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lift.errors import format_bug, format_error, is_interrupt, is_user_error
from lift.runtime import distributed


@dataclass(frozen=True)
class Outcome:
    """The result of one picture or scene, or why there is none."""

    name: str
    """Name of the picture or scene."""
    result: str | None
    """File or folder with the result."""
    error: str | None
    """Message of the error, on one line."""


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
