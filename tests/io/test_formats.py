"""Every place that names the formats of camera files names all of them."""

import re
from pathlib import Path

import pytest

from lift.cli import build_parser
from lift.config.schema import Config
from lift.io.cameras import read_cameras
from lift.io.formats import CAMERA_FORMATS, camera_formats
from lift.registry import catalogue

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "lift").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_the_phrase_names_all_formats() -> None:
    assert camera_formats() == (
        "npz, transforms.json, camera_path.json, RealEstate10K text or a COLMAP folder"
    )
    assert all(name in camera_formats() for name in CAMERA_FORMATS)


def test_settings_and_commands_name_all_formats(capsys: pytest.CaptureFixture[str]) -> None:
    assert camera_formats() in one_line(catalogue()("planner", "path").doc)
    schema = (ROOT / "lift/config/schema.py").read_text(encoding="utf-8")
    assert "cameras" in Config.__dataclass_fields__ and camera_formats() in one_line(schema)
    with pytest.raises(SystemExit):
        build_parser().parse_args(["render", "--help"])
    assert camera_formats() in one_line(capsys.readouterr().out)


def test_messages_name_all_formats(tmp_path: Path) -> None:
    (tmp_path / "path.json").write_text("{")
    with pytest.raises(ValueError, match=re.escape(camera_formats())):
        read_cameras(tmp_path / "path.json")


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_no_text_lists_some_of_the_formats(file: Path) -> None:
    """A list of formats is the one of `lift.io.formats`, apart from quotes of code."""
    text = one_line(file.read_text(encoding="utf-8")).replace("`", "")
    for match in re.finditer(r"transforms\.json, [^.;]*(RealEstate10K text|COLMAP folder)", text):
        phrase = text[max(0, match.start() - 5) : match.end() + 60]
        assert camera_formats() in phrase, phrase
