"""Record which published weights a run used: revisions and checksums, read from the cache."""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lift.weights.collect import collect_weights, computes_in_half
from lift.weights.fetch import pipeline_components
from lift.weights.sources import CachedUrl, HubFiles, HubPipeline

_HASHES = {64: "sha256", 40: "git_sha1"}
"""Number of hexadecimal digits of a name in the hub's cache -> kind of the hash."""


def record_weights(config: DictConfig, slots: Iterable[str]) -> list[dict[str, Any]]:
    """Describe the published weights of a run, without network.

    The names of files in the hub's cache are their hashes, so nothing is read.

    Args:
        config: Configuration of the run.
        slots: Slots whose components take part in the run.

    Returns:
        For each repository in the cache: the component, the repository, the commit, and the size
        and the SHA-256 of each file. Small text files have the SHA-1 of git.
    """
    records = []
    half = computes_in_half(config)
    for requirement in collect_weights(config, half, metrics=False, slots=slots):
        weights = requirement.weights
        if isinstance(weights, CachedUrl):
            continue
        snapshot = _snapshot(weights.repository)
        if snapshot is not None:
            records.append(
                {
                    "component": requirement.owner,
                    "repository": weights.repository,
                    "commit": snapshot.name,
                    "licence": weights.licence,
                    "files": {
                        name: describe_file(snapshot / name)
                        for name in _used_files(weights, snapshot)
                    },
                }
            )
    return records


def describe_file(path: Path) -> dict[str, Any]:
    """Return the size and the hash of a file in the hub's cache.

    Args:
        path: The file. Its link names the hash; without links there is no hash.
    """
    name = Path(os.path.realpath(path)).name
    kind = _HASHES.get(len(name)) if re.fullmatch(r"[0-9a-f]+", name) else None
    return {"bytes": path.stat().st_size, **({kind: name} if kind else {})}


def _snapshot(repository: str) -> Path | None:
    """Return the folder of a repository's main branch in the hub's cache."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    reference = folder / "refs" / "main"
    if not reference.is_file():
        return None
    snapshot = folder / "snapshots" / reference.read_text(encoding="utf-8").strip()
    return snapshot if snapshot.is_dir() else None


def _used_files(weights: HubFiles | HubPipeline, snapshot: Path) -> list[str]:
    """Return the files of a snapshot that a component reads."""
    names = sorted(
        path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()
    )
    components = []
    if isinstance(weights, HubPipeline) and weights.index in names:
        components = pipeline_components(
            json.loads((snapshot / weights.index).read_text(encoding="utf-8"))
        )
    return [name for name in weights.select(names, components) if name in names]
