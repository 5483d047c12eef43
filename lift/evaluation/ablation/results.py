"""Read finished evaluations, and find out whether they can be compared."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift.evaluation.ablation.grid import Factor, Variant
from lift.evaluation.storage import read_sealed
from lift.registry import ALL_SLOTS, ComponentError

TABLE = "table.json"
"""File with all results of an evaluation, or with the rows of a joint table."""

_NOT_MEASUREMENT = {"dataset": ("scenes",), "protocol": ("seeds", "bins", "weights")}
"""Settings that decide what is measured, but not how."""

_CODE = "the hash of the measuring code"
"""Stands for the version of `lift` in messages."""

_NOT_VARIED = (
    "image",
    "output",
    "name",
    "seed",
    "deliver",
    "export",
    "cache",
    "logger",
    "wandb",
)
"""Settings of a run that do not change its scene."""

_NOT_VARIED_PARTS = ("fit.log_every", "fit.log_images_every")
"""The same, by dotted names."""


@dataclass(frozen=True)
class EvaluationResult:
    """A finished evaluation as a row of a joint table."""

    variant: Variant
    """What distinguishes it from the other rows."""
    folder: Path
    """Folder with its results."""
    content: Mapping[str, Any]
    """Content of its `table.json`."""

    @property
    def label(self) -> str:
        """Title of the row."""
        return self.variant.label

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Result of each scene and seed."""
        return self.content["rows"]

    @property
    def failed(self) -> dict[str, str]:
        """Error of each scene and seed that failed, by name."""
        return self.content["failed"]

    @property
    def unmeasured(self) -> list[str]:
        """Names of the scenes and seeds that nobody has measured yet."""
        return self.content.get("unmeasured", [])


def load_result(folder: Path, variant: Variant) -> EvaluationResult:
    """Read an evaluation.

    Args:
        folder: Its folder.
        variant: What distinguishes it from other rows.

    Raises:
        FileNotFoundError: The folder has no results.
        ValueError: The file is not one that `lift eval` wrote.
    """
    return EvaluationResult(variant, folder, _read_table(folder))


def load_results(folder: Path) -> list[EvaluationResult]:
    """Read an evaluation, or all rows of a joint table.

    Args:
        folder: Folder of one of them, or the JSON file in it.

    Returns:
        The rows. An evaluation has the name of its folder.

    Raises:
        FileNotFoundError: The folder has no results.
        ValueError: The file is not one that `lift eval` wrote.
    """
    content = _read_table(folder)
    folder = folder.parent if folder.is_file() else folder
    if "variants" in content:
        return [
            load_result(
                Path(os.path.normpath(folder / row["folder"])), Variant.from_json(row["factors"])
            )
            for row in content["variants"]
        ]
    name = folder.resolve().name
    return [EvaluationResult(Variant((Factor((), name),)), folder, content)]


def _read_table(folder: Path) -> dict[str, Any]:
    """Read the table of a folder, or a table itself."""
    file = folder if folder.is_file() else folder / TABLE
    if file.suffix != ".json":
        raise ValueError(
            f"{file} is no table of `lift eval`; give folders or {TABLE}. `{folder.parent}/*/` are "
            "the folders there"
        )
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder} has no {TABLE}; give a folder that `lift eval` wrote, such as "
            "outputs/eval/NAME; an evaluation that was stopped has none until it is run again"
        )
    content = read_sealed(file)
    expected = {"rows", "failed", "dataset", "protocol", "settings"}
    if not isinstance(content, dict) or not ("variants" in content or expected <= content.keys()):
        raise ValueError(f"{file} is not a table of `lift eval`")
    return content


def merge_results(sources: Sequence[Sequence[EvaluationResult]]) -> list[EvaluationResult]:
    """Join the rows of several tables. Rows that differ in more than their label say so.

    Args:
        sources: The rows of each table.

    Returns:
        All rows, each folder once. Rows of a single joint table stay as they are.
    """
    by_folder = {result.folder.resolve(): result for source in sources for result in source}
    results = list(by_folder.values())
    tables = [source for source in sources if source]
    if len(tables) == 1 and len(tables[0]) > 1:
        return results
    labels = _distinct_labels(results)
    return [
        EvaluationResult(
            Variant((Factor(tuple(f"{key}={value}" for key, value in own.items()), label),)),
            result.folder,
            result.content,
        )
        for result, label, own in zip(results, labels, varied_settings(results), strict=True)
    ]


def _distinct_labels(results: Sequence[EvaluationResult]) -> list[str]:
    """Return the label of each row, with its folder where two rows have the same one."""
    labels = [result.label for result in results]
    labels = [
        f"{result.folder.resolve().parent.name}/{label}" if labels.count(label) > 1 else label
        for result, label in zip(results, labels, strict=True)
    ]
    return [
        str(result.folder) if labels.count(label) > 1 else label
        for result, label in zip(results, labels, strict=True)
    ]


def varied_settings(results: Sequence[EvaluationResult]) -> list[dict[str, str]]:
    """Find the settings in which evaluations differ.

    Args:
        results: The evaluations.

    Returns:
        Values by the names of settings, for each evaluation. Settings of a component are compared
        between evaluations with the same component only.
    """
    flat = []
    for result in results:
        settings = {k: v for k, v in result.content["settings"].items() if k not in _NOT_VARIED}
        varied = {k: v for k, v in _flatten(settings) if k not in _NOT_VARIED_PARTS}
        flat.append(varied | dict(_measurement(result.content)))
    out: list[dict[str, str]] = [{} for _ in results]
    for key in dict.fromkeys(key for settings in flat for key in settings if key != _CODE):
        slot = key.split(".")[0]
        groups: dict[str, list[int]] = {}
        for k, settings in enumerate(flat):
            if key in settings:
                component = settings[slot] if slot in ALL_SLOTS and key != slot else ""
                groups.setdefault(component, []).append(k)
        for group in groups.values():
            if len({flat[k][key] for k in group}) > 1:
                for k in group:
                    out[k][key] = flat[k][key]
    return out


def measurement_differences(results: Sequence[EvaluationResult]) -> list[str]:
    """Find out in what the measurement of evaluations differs.

    Settings that all rows of a table state themselves may differ.

    Args:
        results: The evaluations.

    Returns:
        A sentence for each difference.
    """
    stated = set.intersection(*(set(result.variant.settings) for result in results))
    out = []
    settings = [dict(_measurement(result.content)) for result in results]
    for key in dict.fromkeys(key for own in settings for key in own):
        if key in stated or key.split(".")[0] in stated:
            continue
        for result, own in zip(results[1:], settings[1:], strict=True):
            if own.get(key) != settings[0].get(key):
                out.append(
                    f"{key} is {settings[0].get(key)} in {results[0].label!r} and {own.get(key)} "
                    f"in {result.label!r}"
                )
                break
    # Targets of another protocol differ anyway.
    return (
        out
        if any(not text.startswith(_CODE) for text in out)
        else out + _target_differences(results)
    )


def check_same_measurement(results: Sequence[EvaluationResult]) -> None:
    """Check that evaluations can be compared. Another version of the code is no obstacle.

    Args:
        results: The evaluations.

    Raises:
        ComponentError: They were measured in different ways.
    """
    differences = [text for text in measurement_differences(results) if not text.startswith(_CODE)]
    if differences:
        raise ComponentError(
            f"these results cannot be compared: {'; '.join(differences)}; measure them alike, or "
            "join them with --anyway"
        )


def _measurement(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the settings that decide how an evaluation is measured."""
    for group, excluded in _NOT_MEASUREMENT.items():
        own = {key: value for key, value in content[group].items() if key not in excluded}
        if group == "dataset" and own.get("path"):
            own["path"] = os.path.abspath(os.path.expanduser(own["path"]))
        yield from _flatten({group: own})
    yield "preprocess.size", str(content["settings"]["preprocess"]["size"])
    if "code" in content:
        yield _CODE, content["code"]


def _target_differences(results: Sequence[EvaluationResult]) -> list[str]:
    """Find scenes whose input or targets differ between evaluations."""
    out = []
    known: dict[str, tuple[str, Any]] = {}
    for result in results:
        for row in result.rows:
            views = [row.get("input"), *(view.get("view") for view in row["views"])]
            label, other = known.setdefault(row["scene"], (result.label, views))
            if views != other and label != result.label:
                out.append(
                    f"the scene {row['scene']!r} has other targets in {label!r} than in "
                    f"{result.label!r}"
                )
    return list(dict.fromkeys(out))


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted names and values. The name of a slot stands for its component."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        elif key == "name" and prefix.rstrip(".") in ALL_SLOTS:
            yield prefix.rstrip("."), str(value)
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else _format(value)


def _format(value: Any) -> str:
    """Format a value as it is typed on the command line."""
    if isinstance(value, list):
        return f"[{','.join(item if isinstance(item, str) else _format(item) for item in value)}]"
    return json.dumps(value)
