"""List and fetch published weights: their files, sizes, licences and checksums."""

import glob
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift.errors import model_not_loaded_error
from lift.weights.collect import Requirement
from lift.weights.sources import CachedUrl, HubFiles, HubPipeline
from lift.weights.urls import default_folder, ensure_file, remote_size


@dataclass(frozen=True)
class CacheFolders:
    """Where files are kept."""

    hub: Path
    """Cache of the Hugging Face Hub, the variable HF_HUB_CACHE."""
    urls: Path
    """Cache of torch.hub, the folder `hub/checkpoints` of the variable TORCH_HOME."""

    @classmethod
    def default(cls) -> "CacheFolders":
        """Return the folders that a run reads."""
        from huggingface_hub import constants

        return cls(Path(constants.HF_HUB_CACHE), default_folder())

    @classmethod
    def within(cls, folder: Path) -> "CacheFolders":
        """Return folders below another one.

        Args:
            folder: The folder, such as one that is carried to a machine without network.
        """
        return cls(folder / "hub", folder / "hub" / "checkpoints")


@dataclass(frozen=True)
class ListedFile:
    """A file that is needed."""

    name: str
    """Path in the repository, or the name in the cache."""
    size: int | None
    """Size in bytes. None: the server does not say."""
    cached: bool
    """Whether it is in the cache already."""


@dataclass(frozen=True)
class Listing:
    """The files of a requirement."""

    requirement: Requirement
    """What is needed, and by what."""
    files: tuple[ListedFile, ...]
    """The files."""
    licence: str
    """Licence of the weights: that of the hub, or the one that the component declares."""
    gated: bool
    """Whether the licence must be accepted on the hub."""

    @property
    def missing(self) -> list[ListedFile]:
        """The files that are not in the cache."""
        return [file for file in self.files if not file.cached]

    @property
    def place(self) -> str:
        """Name of the repository, or the address."""
        weights = self.requirement.weights
        return weights.url if isinstance(weights, CachedUrl) else weights.repository


def list_files(requirement: Requirement, folders: CacheFolders) -> Listing:
    """Ask a server for the files of a requirement. Only small indices are downloaded.

    Args:
        requirement: What is needed.
        folders: The caches.

    Raises:
        FileNotFoundError: The repository or a file does not exist, must be granted, or cannot be
            reached. The message says which, and what to do.
        OSError: The server of a file cannot be reached.
    """
    weights = requirement.weights
    if isinstance(weights, CachedUrl):
        path = folders.urls / weights.name
        cached = path.is_file()
        size = path.stat().st_size if cached else remote_size(weights)
        file = ListedFile(weights.name, size, cached)
        return Listing(requirement, (file,), weights.licence, False)
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(weights.repository, files_metadata=True)
        sizes = {item.rfilename: item.size for item in info.siblings or ()}
        components = _read_components(weights, sizes, folders.hub)
    except Exception as error:  # the hub's library raises many classes
        raise model_not_loaded_error(weights.setting, weights.repository, error) from None
    names = weights.select(sorted(sizes), components)
    if absent := [name for name in names if name not in sizes]:
        raise FileNotFoundError(
            f"{weights.setting} is {weights.repository!r}, which has no {absent[0]} on the hub; "
            "check the name of the model"
        )
    files = tuple(
        ListedFile(name, sizes[name], _is_cached(weights.repository, name, info.sha, folders.hub))
        for name in names
    )
    published = (info.card_data or {}).get("license") if info.card_data else None
    licence = weights.licence
    if published and str(published) not in (licence, "other"):
        licence = f"{licence} (hub: {published})"
    return Listing(requirement, files, licence, bool(info.gated))


def fetch(listing: Listing, folders: CacheFolders) -> None:
    """Download the files of a listing that are missing. Interrupted downloads go on.

    Args:
        listing: What to download.
        folders: The caches.

    Raises:
        FileNotFoundError: The hub does not give the files; the message says why.
        OSError: A file cannot be downloaded.
        ValueError: A file is damaged.
    """
    weights = listing.requirement.weights
    if isinstance(weights, CachedUrl):
        ensure_file(weights, folders.urls)
        return
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(
            weights.repository,
            cache_dir=folders.hub,
            allow_patterns=[glob.escape(file.name) for file in listing.files],
        )
    except Exception as error:  # the hub's library raises many classes
        raise model_not_loaded_error(weights.setting, weights.repository, error) from None


def pipeline_components(index: dict[str, Any]) -> list[str]:
    """Return the names of the parts that a model_index.json lists.

    Args:
        index: Its content.
    """
    return [
        name
        for name, value in index.items()
        if isinstance(value, (list, tuple)) and len(value) == 2 and value[0] is not None
    ]


def _read_components(
    weights: HubFiles | HubPipeline, names: Sequence[str] | dict[str, Any], folder: Path
) -> list[str]:
    """Download the index of a pipeline and return the names of its parts."""
    if not isinstance(weights, HubPipeline) or weights.index not in names:
        return []
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(weights.repository, weights.index, cache_dir=folder)
    return pipeline_components(json.loads(Path(path).read_text(encoding="utf-8")))


def _is_cached(repository: str, name: str, commit: str | None, folder: Path) -> bool:
    """Whether the cache has a file of the newest commit."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, name, cache_dir=folder, revision=commit)
    return isinstance(found, str) and Path(found).is_file()
