"""Folders with configuration files, as a user or a plugin has them."""

from pathlib import Path

TINY_EXPERIMENT = """\
# @package _global_
# A small run for tests.
# It has a second line.
defaults:
  - override /distortion: identity  # nothing to correct

preprocess:
  size: 96  # the smallest size that shows something
# Few steps, because nobody looks at the result.
fit:
  steps: 20
  loss:
    ssim: 0  # SSIM takes time
"""


def write_experiment(folder: Path, name: str, text: str = TINY_EXPERIMENT) -> Path:
    """Write `FOLDER/experiment/NAME.yaml`, and return the folder."""
    return write_group_file(folder, "experiment", name, text)


def write_group_file(folder: Path, group: str, name: str, text: str) -> Path:
    """Write `FOLDER/GROUP/NAME.yaml`, and return the folder."""
    path = folder / group / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return folder


def install_package(site: Path, name: str, entry_points: str) -> Path:
    """Make a package with entry points, as pip would in a folder of `sys.path`."""
    package = site / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    return package
