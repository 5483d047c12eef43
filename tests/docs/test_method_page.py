"""The tables of docs/method.md agree with `experiment=liftimage3d`, row by row."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from lift.config import compose_run
from lift.registry import SLOTS

ROOT = Path(__file__).parents[2]
HEAD = "| released | `experiment=liftimage3d` | why |"
DEFECTS = "### Deliberately not as released"

Row = tuple[str, dict[str, Any], str]
"""The released value, settings with their values, and the reason."""


def read_rows(text: str) -> list[Row]:
    """Read the rows of all tables with the head `HEAD`."""
    rows = []
    for table in re.findall(rf"^{re.escape(HEAD)}\n\|[-|]+\|\n((?:\|.*\|\n)+)", text, re.M):
        for line in table.splitlines():
            released, ours, why = (cell.strip() for cell in line.strip("|").split(" | "))
            settings = re.findall(r"`([a-z0-9_.]+)=([^`]*)`", ours)
            rows.append((released, {key: yaml.safe_load(value) for key, value in settings}, why))
    return rows


PAGE = (ROOT / "docs/method.md").read_text(encoding="utf-8")
ROWS = read_rows(PAGE.split(DEFECTS)[0])
SETTINGS = {key: value for _, settings, _ in ROWS for key, value in settings.items()}


@pytest.fixture(scope="module")
def config() -> DictConfig:
    return compose_run(["image=coffee", "experiment=liftimage3d"])


def plain(value: Any) -> Any:
    """A value as YAML gives it. PyYAML takes 1e-15 for a text."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    if isinstance(value, list):
        return [plain(item) for item in value]
    try:
        return float(value) if isinstance(value, (str, int)) and value is not True else value
    except ValueError:
        return value


def mismatches(rows: list[Row], config: DictConfig) -> list[str]:
    """Settings of rows that differ from the configuration."""
    found = []
    for _, settings, _ in rows:
        for key, value in settings.items():
            if key == "trainer":
                same = compose_run(["image=coffee", f"trainer={value}"]).trainer == config.trainer
            else:
                path = f"{key}.name" if key in SLOTS else key
                missing = object()
                real = OmegaConf.select(config, path, default=missing)
                same = real is not missing and plain(real) == plain(value)
            if not same:
                found.append(f"{key}={value}")
    return found


def settings_of(node: dict[str, Any], prefix: str = "") -> set[str]:
    """Dotted names of the settings in an experiment file."""
    names: set[str] = set()
    for key, value in node.items():
        if key == "defaults":
            for entry in value:
                names |= {name.removeprefix("override /") for name in entry}
        elif isinstance(value, dict):
            names |= settings_of(value, f"{prefix}{key}.")
        else:
            names.add(f"{prefix}{key}")
    return names


def test_the_page_has_the_rows_of_all_parts() -> None:
    assert len(ROWS) >= 55 and len(SETTINGS) >= 85
    assert all(settings and why for _, settings, why in ROWS)
    assert sum(len(settings) for _, settings, _ in ROWS) == len(SETTINGS), "each once"


def test_each_row_agrees_with_the_experiment(config: DictConfig) -> None:
    assert mismatches(ROWS, config) == []


def test_each_setting_of_the_experiment_has_a_row() -> None:
    text = (ROOT / "configs/experiment/liftimage3d.yaml").read_text(encoding="utf-8")
    assert sorted(settings_of(yaml.safe_load(text)) - set(SETTINGS)) == []


def test_each_setting_of_the_fit_that_acts_has_a_row(config: DictConfig) -> None:
    fit: Any = OmegaConf.to_container(config.fit, resolve=True)
    without_effect = {
        *("fit.log_images_every", "fit.densify.growth_until"),
        *("fit.densify.gradient_power", "fit.densify.noise_scale"),
    }
    assert sorted(settings_of(fit, "fit.") - set(SETTINGS) - without_effect) == []


def test_what_differs_on_purpose_has_a_reason_and_no_setting() -> None:
    rows = read_rows(PAGE.split(DEFECTS)[1])
    assert len(rows) >= 12
    assert all(why and not settings for _, settings, why in rows)


def test_a_wrong_row_is_noticed(config: DictConfig) -> None:
    rows = read_rows(f"{HEAD}\n|---|---|---|\n| a | `fit.batch_size=3` `fit.nothing=1` | b |\n")
    assert mismatches(rows, config) == ["fit.batch_size=3", "fit.nothing=1"]
