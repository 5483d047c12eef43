"""The results of `distortion.py`: their file, and the tables that are made of it."""

import json
import statistics
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from distortion_trials import MODULES, SETTING_ERRORS, compose, config_hash

Row = dict[str, Any]
MEASURES = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "depth_error": "depth error",
    "position_error_px": "position error, px",
    "rotation_error_deg": "rotation error, °",
    "translation_error": "translation error",
    "log_focal_error": "log focal error",
    "log_color_error": "log color error",
    "blur_variance_error": "blur variance error, px²",
    "seconds": "seconds",
    "peak_gib": "GiB",
}
"""Title of each measure. `distortion_measures.measure_corruption_errors` defines the errors."""


@cache
def _present_hash(fit_settings: tuple[str, ...], module_settings: tuple[str, ...]) -> str | None:
    """Hash settings with the present defaults; None if they are not valid any more."""
    try:
        return config_hash(compose(list(fit_settings), list(module_settings)))
    except SETTING_ERRORS:
        return None


def defaults_of(row: Row) -> str:
    """Say with which defaults a row was made: `present`, `other` or `unknown`."""
    if row.get("config_hash") is None:
        return "unknown"
    present = _present_hash(tuple(row["fit_settings"]), tuple(row["module_settings"]))
    return "present" if row["config_hash"] == present else "other"


def read_results(path: Path) -> dict[str, Any]:
    """Read results, or return none if there is no file.

    Raises:
        ValueError: If the file holds something else.
    """
    required = ("scene", "case", "seed", "module", "fit_settings", "module_settings", "psnr")
    try:
        if not path.exists():
            return {"machines": [], "rows": []}
        record = json.loads(path.read_text(encoding="utf-8"))
        for row in record["rows"]:
            if missing := [key for key in required if key not in row]:
                raise KeyError(missing[0])
        return {"machines": list(record["machines"]), "rows": list(record["rows"])}
    except (OSError, UnicodeError, ValueError, TypeError, KeyError, IndexError) as error:
        raise ValueError(
            f"{path} does not hold results of this experiment ({type(error).__name__}: {error}); "
            "choose another file with --results"
        ) from None


def write_results(record: dict[str, Any], path: Path) -> None:
    """Write results atomically, a row a line, with five significant digits."""
    lines = ",\n".join(json.dumps(row) for row in _round_values(record["rows"]))
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(
        '{"benchmark": "distortion", "unit": "dB, pixels, degrees, seconds", '
        f'"machines": {json.dumps(record["machines"])}, "rows": [\n{lines}\n]}}\n',
        encoding="utf-8",
    )
    draft.replace(path)


def _round_values(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _round_values(item) for key, item in value.items()}
    return [_round_values(item) for item in value] if isinstance(value, list) else value


def tables(rows: list[Row]) -> str:
    """Format the results of fits that differ only in their distortion.

    Args:
        rows: Rows of the results.

    Returns:
        Two Markdown tables: PSNR by module and case, and all measures of the case `all x 1`.
    """
    parts = [_psnr_table(rows)]
    if any(row["case"] == "all x 1" for row in rows):
        parts += ["All corruptions together at severity 1:", _measures_table(rows)]
    return "\n\n".join(parts)


def _modules_of(rows: list[Row]) -> list[str]:
    present = dict.fromkeys(row["module"] for row in rows)
    known = [name for name in MODULES if name in present]
    return [*known, *(name for name in present if name not in MODULES)]


def _index(rows: list[Row]) -> dict[tuple[str, str, int, str], Row]:
    return {(row["scene"], row["case"], row["seed"], row["module"]): row for row in rows}


def _psnr_table(rows: list[Row]) -> str:
    """Format PSNR, and mean and standard deviation of the gain over `identity`.

    Brackets hold the number of fits of a cell that has fewer than others.
    """
    index = _index(rows)
    modules = _modules_of(rows)
    cases = sorted(
        {row["case"] for row in rows},
        key=lambda case: (case != "clean", not case.startswith("all"), case),
    )
    groups = {
        (module, case): [row for row in rows if (row["module"], row["case"]) == (module, case)]
        for module in modules
        for case in cases
    }
    counts = {case: max(len(groups[module, case]) for module in modules) for case in cases}
    head = ["module", *(f"{case} ({counts[case]} fits)" for case in cases)]
    body = [
        [module, *(_psnr_cell(groups[module, case], index, counts[case]) for case in cases)]
        for module in modules
    ]
    return _markdown(head, body)


def _psnr_cell(rows: list[Row], index: dict[tuple[str, str, int, str], Row], count: int) -> str:
    if not rows:
        return ""
    gains = []
    for row in rows:
        base = index.get((row["scene"], row["case"], row["seed"], "identity"))
        if base is not None and base is not row:
            gains.append(row["psnr"] - base["psnr"])
    cell = f"{_mean(rows, 'psnr'):.2f}"
    if gains:
        deviation = f" ± {statistics.stdev(gains):.2f}" if len(gains) > 1 else ""
        cell += f" ({statistics.mean(gains):+.2f}{deviation})"
    return cell + (f" [{len(rows)}]" if len(rows) < count else "")


def _measures_table(rows: list[Row]) -> str:
    """Format all measures of `all x 1`, and how much of the lost PSNR a module restores."""
    index = _index(rows)
    corrupted = [row for row in rows if row["case"] == "all x 1"]
    names = [name for name in MEASURES if any(name in row for row in corrupted)]
    body = []
    for module in _modules_of(rows):
        group = [row for row in corrupted if row["module"] == module]
        cells = [
            f"{_mean(group, name):.3g}" if any(name in row for row in group) else ""
            for name in names
        ]
        body.append([module, *cells, _restored_fraction(group, index), str(len(group))])
    return _markdown(["module", *(MEASURES[name] for name in names), "restored", "fits"], body)


def _restored_fraction(rows: list[Row], index: dict[tuple[str, str, int, str], Row]) -> str:
    """Format the gain over `identity` as a fraction of what the corruptions take from it."""
    restored = 0.0
    lost = 0.0
    for row in rows:
        corrupted = index.get((row["scene"], "all x 1", row["seed"], "identity"))
        clean = index.get((row["scene"], "clean", row["seed"], "identity"))
        if corrupted and clean:
            restored += row["psnr"] - corrupted["psnr"]
            lost += clean["psnr"] - corrupted["psnr"]
    return f"{100 * restored / lost:.0f} %" if lost else ""


def _mean(rows: list[Row], key: str) -> float:
    return statistics.mean(row[key] for row in rows if key in row)


def _markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(line)} |" for line in (head, *body)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def write_page(rows: list[Row], results: Path, description: str) -> None:
    """Write the tables beside the results, as Markdown.

    Args:
        rows: Rows of the results, with common settings of the fit.
        results: The JSON file.
        description: Text before the tables. Its first line is the title.
    """
    settings = f"Settings of all fits: `{' '.join(rows[0]['fit_settings'])}`."
    text = f"# {description.strip()}\n\n{settings}\n\n{tables(rows)}\n"
    results.with_suffix(".md").write_text(text, encoding="utf-8")
