"""Many pictures at once."""

import os
import re
import sys
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from lift.io.names import safe_name
from lift.registry import ComponentError
from lift.runtime.batch import WorkQueue, parse_arguments, run_distributed, scene_titles
from tests.helpers.commands import here, lift
from tests.helpers.settings import TINY

SINGLE = (
    *(setting for setting in TINY if not setting.startswith("planner.")),
    "planner=single",
    "planner.num_frames=2",
    "fit.steps=4",
)


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Two different pictures of one name, and one that is none."""
    for folder, pixels in (("a", data.coffee()), ("b", data.chelsea())):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels[:96, :128]).save(tmp_path / folder / "photo.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    return tmp_path


def test_arguments_are_pictures_and_settings(pictures, monkeypatch):
    monkeypatch.chdir(pictures)
    Path("x=1.png").write_bytes(b"")
    assert parse_arguments(
        ["a/photo.png", "fit.steps=3", "x=1.png", "coffee", "a/../a/photo.png", "~fit.steps=1"]
    ) == (["a/photo.png", "x=1.png", "coffee"], ["fit.steps=3", "~fit.steps=1"])
    for wrong, message in {
        "a": r"'a' is a folder; .*a/\*",
        "no.jpg": "no file 'no.jpg'",
        "image=x": "by name alone",
        "--x": "not an option",
    }.items():
        with pytest.raises(ComponentError, match=message):
            parse_arguments(["a/photo.png", wrong])
    with pytest.raises(ComponentError, match="no picture is given"):
        parse_arguments(["fit.steps=3"])


def test_titles_of_files_with_the_same_name_differ():
    assert scene_titles(["x/a.jpg", "y/b.jpg"]) == ["a", "b"]
    assert scene_titles(["x/a.jpg", "y/a.jpg", "y/b.jpg"]) == ["x-a", "y-a", "b"]
    assert scene_titles(["p/x/a.jpg", "q/x/a.jpg"]) == ["p-x-a", "q-x-a"]
    assert (
        scene_titles(["x/a.jpg", "x/a.png", "x/a.jpg.png"])[0]
        != scene_titles(["x/a.jpg", "x/a.png"])[1]
    )
    many = scene_titles(["a.jpg", "a.png", "x/a.jpg", "x-a.jpg"])
    assert len(set(many)) == 4, many


def test_titles_are_names_of_different_folders():
    pictures = ["...png", "cache.png", ".a.png", "a.png", "b/x.png", "b/x.jpg", "b/x.png.png"]
    titles = scene_titles(pictures)
    assert len(set(titles)) == len(pictures), titles
    assert titles[3] == "a"
    assert all(safe_name(title) == title for title in titles)


def test_titles_differ_where_folders_ignore_case(monkeypatch):
    assert scene_titles(["x/A.png", "x/a.png"]) == ["A", "a"]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert len({title.casefold() for title in scene_titles(["x/A.png", "x/a.png"])}) == 2


def test_only_the_main_process_makes_what_is_made_once(monkeypatch):
    class Store(dict):
        """The key-value store of two processes."""

        def set(self, key: str, value: str) -> None:
            self[key] = value.encode()

        def wait(self, keys: list[str], timeout: object) -> None:
            assert set(keys) <= self.keys()

        def get(self, key: str) -> bytes:
            return self[key]

    assert WorkQueue().once("text", lambda: "alone") == "alone"
    store = Store()
    calls = []
    for rank in (0, 1):
        queue = WorkQueue()
        monkeypatch.setattr(queue, "_rank", rank)
        monkeypatch.setattr(queue, "_store", store)
        text = queue.once("text", lambda rank=rank: calls.append(rank) or f"of {rank}")
        assert text == "of 0"
    assert calls == [0]


def test_a_bug_is_listed_with_its_class_and_its_line(capsys):
    def make(index: int) -> str:
        return {"a": "b"}["x" if index else "a"]

    first, second = run_distributed(["good", "bad"], make)
    assert (first.result, first.error) == ("b", None)
    assert second.error is not None
    assert re.fullmatch(r"KeyError: 'x' \(\w+\.py:\d+\)", second.error)
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.slow
def test_every_picture_becomes_a_run_and_a_bad_one_holds_up_none(pictures):
    command = (
        "batch",
        "a/photo.png",
        "broken.jpg",
        "b/photo.png",
        *SINGLE,
        "--processes=2",
        "output=out",
        "name=run",
    )
    done = lift(*command, cwd=pictures)
    assert done.returncode == 1
    assert set(done.stdout.split()) == {"out/a-photo/run", "out/b-photo/run"}
    for run in done.stdout.split():
        assert (pictures / run / "report.html").exists()
    last = done.stderr.strip().split("\n")[-2:]
    assert (
        last[0] == "lift: 1 of 3 pictures failed:"
        and last[1].startswith("  broken.jpg: ")
        and "Traceback" not in done.stderr
    )
    assert "[1/3] a/photo.png" in done.stderr and "a-photo: fit" in done.stderr
    again = here(
        "batch", "a/photo.png", "b/photo.png", *SINGLE, "output=out", cwd=pictures
    )  # in one process
    assert again.returncode == 0 and again.stderr.count("found") == 2 * 5, again.stderr


@pytest.mark.parametrize(
    "wrong, expected",
    [
        (("no.jpg",), "there is no file 'no.jpg'"),
        (("coffee", "prior=foo"), "prior is 'foo'; choose one of"),
        (("coffee", "fit.stps=3"), "fit.stps"),
        (("coffee", "trainer.devices=2"), "makes each scene in one process"),
        (("coffee", "--processes=0"), "--processes is '0'; choose a number"),
        ((), "no picture is given"),
    ],
)
def test_error_is_found_before_any_output(tmp_path, wrong, expected):
    done = here("batch", *wrong, cwd=tmp_path)
    assert done.returncode == 2 and expected in done.stderr and done.stderr.count("\n") == 1, (
        done.stderr
    )
    assert not os.listdir(tmp_path)
