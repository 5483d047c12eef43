import json
from pathlib import Path

from skimage import data, io

from lift.config import load_config
from tests.helpers.commands import here
from tests.helpers.settings import TINY


def test_odd_names_reach_the_files_of_a_run_unchanged(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    image, output, name = "~/a${b}, (1).png", "été [1], ${seed}", " 2024_11_29 ${'q\" #% 😀"
    io.imsave(tmp_path / image.removeprefix("~/"), data.coffee()[::4, ::4])
    arguments = [f"image={image}", f"output={output}", f"name={name}", *TINY, "fit.steps=5"]
    done = here("run", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / output / "a${b}, (1)" / name
    assert done.stdout == f"{folder.relative_to(tmp_path)}\n"
    config = load_config(folder / "config.yaml")
    assert (config.image, config.output, config.name) == (image, output, name)
    assert config.fit.steps == 5 and config.preprocess.size == 96
    assert json.loads((folder / "provenance.json").read_text())["command"] == [
        "lift run",
        *arguments,
    ]
