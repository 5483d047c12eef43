"""The commands that the viewer writes are those of `lift`."""

import shlex
from pathlib import Path

import pytest

import lift
from lift.api.running import compose_settings
from lift.config import compose_run
from lift.config.text import TextType, quote_value
from lift.outputs.viewer.commands import _write, changed_settings, render_command, run_command


def composed(command: str) -> dict:
    """Settings of a command of `lift run`."""
    from omegaconf import OmegaConf

    words = shlex.split(command)
    assert words[:2] == ["lift", "run"]
    config = OmegaConf.to_container(compose_run(words[2:]), resolve=True)
    assert isinstance(config, dict)
    return config


def test_a_command_repeats_the_settings_of_its_run(finished_run):
    settings = lift.load(finished_run).settings
    again = composed(run_command(settings, finished_run / "paths" / "path.json", 9))
    planner = again.pop("planner")
    assert planner["name"] == "path" and planner["total_frames"] == 9
    for key in ("preprocess", "prior", "depth", "distortion", "fit", "output", "image", "seed"):
        assert again[key] == settings[key], key


def test_a_command_keeps_texts_with_special_characters():
    from omegaconf import OmegaConf

    config = compose_settings("coffee", {"output": "my 'out' ${y}, z"})
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    settings["image"] = "a b=c.jpg"
    again = composed(run_command(settings, Path("p.json"), 9))
    assert again["output"] == "my 'out' ${y}, z" and again["image"] == "a b=c.jpg"


@pytest.mark.parametrize(
    "pictures",
    [
        ["a.jpg", "b,c.jpg"],
        ["my 'a'.jpg", 'b".jpg'],
        [" a.jpg", "[b].jpg", "(c)", "d=e", "${y}", "\\", "f\\'", ""],
    ],
)
def test_a_command_keeps_the_names_of_several_pictures(pictures):
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    kind = TextType(single=True, several=True)
    override = f"image={quote_value(_write(pictures), kind)}"
    value = OverridesParser.create().parse_override(override).value()
    assert OmegaConf.to_container(OmegaConf.create(value), resolve=True) == pictures


def test_plain_names_of_several_pictures_get_no_quotes():
    assert _write(["my a.jpg", "b/c-1.jpg"]) == "[my a.jpg,b/c-1.jpg]"


def test_default_settings_are_not_repeated():
    from omegaconf import OmegaConf

    settings = OmegaConf.to_container(compose_run(["image=coffee"]), resolve=True)
    assert isinstance(settings, dict)
    assert changed_settings(settings) == ["image=coffee"]


@pytest.mark.parametrize("folder", ["run", "my run"])
def test_the_command_of_a_render_is_quoted(folder):
    words = shlex.split(render_command(Path(folder), Path(folder) / "paths" / "p.json"))
    assert words[:3] == ["lift", "render", folder] and words[-1].endswith("p.mp4")
