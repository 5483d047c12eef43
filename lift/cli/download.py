"""`lift download`: fetch all published weights of a run ahead of time."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lift.cli.processes import add_command, take_options
from lift.io.names import user_path
from lift.registry import ComponentError

if TYPE_CHECKING:
    from lift.weights.collect import Requirement
    from lift.weights.fetch import CacheFolders, Listing

_PLAN = "--plan"
_TO = "--to"
_NO_METRICS = "--no-metrics"


def add_parser(commands: Any) -> None:
    """Add the command to the command line. Its arguments are settings.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands,
        "download",
        download,
        "fetch the published weights of a run ahead of time, and list sizes and licences first",
    )
    parser.usage = (
        "lift download [setting=value ...] [--config-dir DIR] [--plan] [--to FOLDER] [--no-metrics]"
    )
    parser.epilog = (
        "Settings are those of lift run, such as experiment=quality or prior=svd device=cuda; a "
        "GPU needs the files in half precision. --plan only lists the files. --to FOLDER fetches "
        "them for a machine without network. --no-metrics leaves out LPIPS and DISTS, which only "
        "lift eval needs. Files in the cache are not fetched again, and interrupted downloads go "
        "on."
    )


def download(arguments: list[str]) -> int:
    """List and fetch the weights of a run.

    Args:
        arguments: Settings, as `lift run` takes them, and options.

    Returns:
        The exit status.

    Raises:
        ComponentError: A setting or an option is wrong, or the network is turned off.
        OSError: A file cannot be had; the message says why.
    """
    from lift.weights.problems import is_offline

    rest = list(arguments)
    targets = take_options(rest, _TO)
    folder = user_path(targets[-1]).absolute() if targets else None
    flags = {_PLAN, _NO_METRICS} & set(rest)
    settings = [word for word in rest if word not in flags]
    _check_words(settings)
    requirements = _collect(settings, metrics=_NO_METRICS not in flags)
    if is_offline() and requirements:
        raise ComponentError(
            "HF_HUB_OFFLINE=1 is set, and lift download needs the network; unset the variable"
        )
    listings = _list_all(requirements, folder)
    if _PLAN in flags or not listings:
        return 0
    _fetch_all(listings, folder)
    return 0


def _check_words(settings: Sequence[str]) -> None:
    """Check that all words are settings, apart from folders with experiments."""
    from lift.config.folders import split_config_folders

    for word in split_config_folders(list(settings))[1]:
        if word.startswith("-") and "=" not in word:
            raise ComponentError(
                f"{word} is no option of lift download; choose {_PLAN}, {_TO} FOLDER, "
                f"{_NO_METRICS} or --config-dir DIR"
            )
        if "=" not in word:
            raise ComponentError(f"{word} is no setting; give setting=value, such as prior=svd")


def _collect(settings: Sequence[str], metrics: bool) -> list[Any]:
    """Compose the settings as `lift run` does, and list what they need."""
    from lift.config import compose_run
    from lift.config.overrides import check_dashes
    from lift.io.sources import is_capture
    from lift.registry import SLOTS
    from lift.remote.pictures import local_image
    from lift.weights.collect import check_local_weights, collect_weights, computes_in_half

    check_dashes(settings)
    # Every run has a picture. Which one does not matter here.
    config = compose_run(["image=coffee", *settings])
    half = computes_in_half(config)
    kind = "half precision, on a GPU" if half else "single precision, on the CPU"
    print(f"weights for {kind} (device={config.device})")
    unused = ("planner", "prior") if is_capture(local_image(config)) else ()
    slots = [slot for slot in SLOTS if slot not in unused]
    check_local_weights(config, half, slots)
    return collect_weights(config, half, metrics, slots)


def _list_all(requirements: Sequence[Any], folder: Path | None) -> list["Listing"]:
    """Print files, sizes and licences of all requirements, and return them."""
    from lift.weights.fetch import list_files

    folders = _folders(folder)
    listings = []
    for requirement in requirements:
        with _naming_owner(requirement):
            listing = list_files(requirement, folders)
        listings.append(listing)
        print(describe(listing))
    missing = sum(file.size or 0 for listing in listings for file in listing.missing)
    total = sum(file.size or 0 for listing in listings for file in listing.files)
    if listings:
        print(f"in all {format_bytes(total)}, of which {format_bytes(missing)} are to be fetched")
    else:
        print("nothing to fetch: these components have no published weights, or have them on disk")
    return listings


@contextmanager
def _naming_owner(requirement: "Requirement") -> Iterator[None]:
    """Say what needs a file on the web that cannot be had. Errors of the hub name a setting."""
    from lift.weights import CachedUrl

    try:
        yield
    except OSError as error:
        if not isinstance(requirement.weights, CachedUrl):
            raise
        hint = f"; {_NO_METRICS} leaves out LPIPS and DISTS" if requirement.is_metric else ""
        raise OSError(f"{error}; needed by {requirement.owner}{hint}") from error


def describe(listing: "Listing") -> str:
    """Describe what a component needs, in one line.

    Args:
        listing: The files.
    """
    missing = listing.missing
    size = format_bytes(sum(file.size or 0 for file in listing.files))
    unknown = " or more" if any(file.size is None for file in listing.files) else ""
    if not missing:
        state = "in the cache"
    elif len(missing) < len(listing.files):
        state = f"{format_bytes(sum(file.size or 0 for file in missing))} to fetch"
    else:
        state = "to fetch"
    gate = "; the licence must be accepted on its page" if listing.gated else ""
    return (
        f"{listing.requirement.owner}: {listing.place}, {len(listing.files)} files, "
        f"{size}{unknown}, {state}; licence: {listing.licence}{gate}"
    )


def _fetch_all(listings: Sequence["Listing"], folder: Path | None) -> None:
    """Fetch what is missing, and say where a run finds it."""
    from lift.weights.fetch import fetch

    folders = _folders(folder)
    for listing in listings:
        if listing.missing:
            print(f"fetching {listing.place}", flush=True)
            with _naming_owner(listing.requirement):
                fetch(listing, folders)
    if folder is None:
        print(f"complete in {folders.hub} and {folders.urls}")
    else:
        hub = shlex.quote(str(folders.hub))
        print("complete; on a machine without network:")
        print(f"export HF_HUB_CACHE={hub} TORCH_HOME={shlex.quote(str(folder))} HF_HUB_OFFLINE=1")


def _folders(folder: Path | None) -> "CacheFolders":
    """Return the caches: those of a run, or those below a folder."""
    from lift.weights.fetch import CacheFolders

    return CacheFolders.default() if folder is None else CacheFolders.within(folder)


def format_bytes(size: int) -> str:
    """Format a number of bytes.

    Args:
        size: The number.
    """
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1000:.0f} kB"
