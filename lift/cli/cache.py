"""`lift cache`: what the cache holds, and how it is made smaller."""

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from lift.cli.processes import add_command

GIBIBYTE = 2**30


def add_parser(commands: Any) -> None:
    """Add the command to the command line.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands, "cache", manage_cache, "list the stages in the cache, and remove some"
    )
    parser.add_argument(
        "output",
        nargs="?",
        default=Path("outputs"),
        type=_output_folder,
        metavar="OUTPUT",
        help="output folder of the runs (outputs), or its URL: the default cache.folder of it",
    )
    parser.add_argument("--stages", action="store_true", help="list each stage")
    parser.add_argument(
        "--older-than", type=_positive, metavar="DAYS", help="only stages of at least this age"
    )
    parser.add_argument(
        "--max-size",
        type=_positive,
        metavar="GIB",
        help="only as many of the oldest stages as must go so that the rest has this size",
    )
    parser.add_argument(
        "--run", type=Path, metavar="RUN", help="only stages of this finished run and of no other"
    )
    parser.add_argument(
        "--unused",
        action="store_true",
        help="only stages that no finished run uses; fits that were interrupted only with "
        "--older-than",
    )
    parser.add_argument("--remove", action="store_true", help="remove the stages that are listed")
    parser.epilog = (
        "A run that needs a removed stage makes it again. Finished runs stay as they are. "
        "A stage that a process is making is not removed. Those that a running job has finished "
        "are: let jobs end first, or choose by age."
    )


def _output_folder(text: str) -> Path:
    """Return the local folder of an output, which may be a URL."""
    if "://" not in text:
        return Path(text)
    from lift.remote.urls import is_url, working_folder

    return working_folder(text) if is_url(text) else Path(text)


def manage_cache(options: argparse.Namespace) -> int:
    """List stages of the cache; remove them with `--remove`.

    Args:
        options: `output`, `stages`, `older_than`, `max_size`, `run`, `unused` and `remove`.

    Returns:
        The exit status: 1 if a stage to be removed is in use.

    Raises:
        ComponentError: `--remove` without a condition, or a folder that is no run.
        FileNotFoundError: There is no cache.
    """
    from lift.registry import ComponentError
    from lift.runtime.cache_contents import choose_stages, list_cache, remove_stages

    conditions = (options.older_than, options.max_size, options.run)
    if options.remove and not options.unused and all(value is None for value in conditions):
        raise ComponentError(
            "--remove alone would empty the cache; choose with --older-than DAYS, --max-size GIB, "
            "--run RUN or --unused (--older-than 0 chooses all)"
        )
    if options.run is not None:
        is_run = (options.run / "provenance.json").is_file()
        if not is_run or options.run.resolve().parents[1] != options.output.resolve():
            raise ComponentError(
                f"--run is {str(options.run)!r}, which is no folder of a finished run in "
                f"{str(options.output)!r}"
            )
    chosen = choose_stages(
        list_cache(options.output),
        min_days=options.older_than,
        max_bytes=None if options.max_size is None else options.max_size * GIBIBYTE,
        run=options.run,
        unused=options.unused,
    )
    if options.stages:
        for stage in chosen:
            users = ", ".join(str(Path(*run.parts[-2:])) for run in stage.runs) or "no finished run"
            print(f"{stage.folder.name:<32} {_size(stage.bytes):>10} {_age(stage.age):>9}  {users}")
    else:
        groups: dict[tuple[str, str], list] = defaultdict(list)
        for stage in chosen:
            groups[stage.name, stage.state].append(stage)
        for (name, state), stages in sorted(groups.items()):
            title = name if state == "finished" else f"{name}, {state}"
            size = _size(sum(stage.bytes for stage in stages))
            print(f"{title:<24} {len(stages):>6} {size:>10}  oldest {_age(stages[0].age)}")
    total = _size(sum(stage.bytes for stage in chosen))
    print(f"{'all':<24} {len(chosen):>6} {total:>10}")
    if not options.remove:
        return 0
    freed, busy = remove_stages(chosen)
    print(f"removed {_size(freed)}", file=sys.stderr)
    for stage in busy:
        print(f"{stage.folder} is in use or another user's, and stays", file=sys.stderr)
    return int(bool(busy))


def _positive(text: str) -> float:
    """Parse a number of at least 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of at least 0")
    return value


def _size(count: float | int) -> str:
    """Format a number of bytes."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _age(seconds: float) -> str:
    """Format an age."""
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
