"""The pictures of a batch, and the command."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage import data

from lift.batch.jobs import make_tasks
from lift.batch.pictures import BatchPicture, parse_arguments, scene_titles, shard
from lift.batch.tasks import LOCKS, BatchTask, record_errors, request
from lift.io.names import safe_name
from lift.registry import ComponentError
from lift.runtime.atomic_io import open_lock
from tests.helpers.commands import here, lift
from tests.helpers.engines import InlineEngine
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
    Path("empty").mkdir()
    assert parse_arguments(
        ["a/photo.png", "fit.steps=3", "x=1.png", "coffee", "a/../a/photo.png", "~fit.steps=1"]
    ) == (
        [BatchPicture("a/photo.png"), BatchPicture("x=1.png"), BatchPicture("coffee")],
        ["fit.steps=3", "~fit.steps=1"],
    )
    assert parse_arguments(["a", "*/photo.png"])[0] == [
        BatchPicture("a/photo.png"),
        BatchPicture("b/photo.png"),
    ]
    for wrong, message in {
        "empty": "'empty' has no picture",
        "x*.jpg": "no file matches",
        "no.jpg": "no file 'no.jpg'",
        "image=x": "by name alone",
        "--x": "not an option",
    }.items():
        with pytest.raises(ComponentError, match=message):
            parse_arguments(["a/photo.png", wrong])
    with pytest.raises(ComponentError, match="no picture is given"):
        parse_arguments(["fit.steps=3"])


def test_lists_name_pictures_and_their_settings(pictures, monkeypatch):
    monkeypatch.chdir(pictures.parent)
    files = {
        "list.txt": "# two\na/photo.png\n\ncoffee\n",
        "list.csv": "image,seed,fit.steps\na/photo.png,3,\ncoffee,,7\n",
        "list.jsonl": '{"image": "a/photo.png", "seed": 3}\n'
        '{"image": "coffee", "export.formats": ["ply", "sog"]}\n',
    }
    found = {}
    for name, text in files.items():
        (pictures / name).write_text(text)
        found[name] = parse_arguments([str(pictures / name)])[0]
    photo = str(pictures / "a/photo.png")
    assert found["list.txt"] == [BatchPicture(photo), BatchPicture("coffee")]
    assert found["list.csv"] == [
        BatchPicture(photo, ("seed=3",)),
        BatchPicture("coffee", ("fit.steps=7",)),
    ]
    assert found["list.jsonl"][1] == BatchPicture("coffee", ('export.formats=["ply", "sog"]',))
    (pictures / "here.txt").write_text(f"{pictures.name}/a/photo.png\n")  # of the working folder
    assert parse_arguments([str(pictures / "here.txt")])[0] == [
        BatchPicture(f"{pictures.name}/a/photo.png")
    ]
    for text, message in {
        "picture\na.png\n": "no column 'image'",
        "image\na.png,3\n": "line 2: it has more cells",
        "image\n": "names no picture",
        "image\nno.png\n": "there is no file",
    }.items():
        (pictures / "bad.csv").write_text(text)
        with pytest.raises(ComponentError, match=message):
            parse_arguments([str(pictures / "bad.csv")])
    for text, message in {
        "[1]": "not a JSON object",
        "{": "line 1",
        '{"seed": 1}': "column",
    }.items():
        (pictures / "bad.jsonl").write_text(text)
        with pytest.raises(ComponentError, match=message):
            parse_arguments([str(pictures / "bad.jsonl")])


def test_shards_are_the_whole_list_once():
    pictures = [BatchPicture(str(number)) for number in range(10)]
    parts = [shard(pictures, number, 4) for number in range(4)]
    assert sorted(sum(parts, []), key=pictures.index) == pictures
    assert [len(part) for part in parts] == [3, 3, 2, 2]


def test_a_picture_has_one_title_with_any_settings():
    assert scene_titles(["x/a.jpg", "x/a.jpg", "y/a.jpg"]) == ["x-a", "x-a", "y-a"]


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


def test_a_bug_is_listed_with_its_class_and_its_line(capsys):
    task = BatchTask("a.png", "a", ())
    record = record_errors(task, lambda: {"a": task.record("finished")}["x"])
    assert record.cause == "permanent" and record.error is not None
    assert re.fullmatch(r"KeyError: 'x' \(\w+\.py:\d+\)", record.error)
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.slow
def test_every_picture_becomes_a_run_and_a_bad_one_holds_up_none(pictures, monkeypatch):
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
    records = [json.loads(line) for line in (pictures / "out/summary.jsonl").open()]
    states = {record["image"]: (record["state"], record["cause"]) for record in records}
    assert states == {
        "a/photo.png": ("finished", None),
        "b/photo.png": ("finished", None),
        "broken.jpg": ("failed", "permanent"),
    }
    good = next(record for record in records if record["state"] == "finished")
    assert good["psnr"] > 10 and good["peak_gib"] > 0 and good["stages"]["fit"] > 0
    monkeypatch.setattr("lift.batch.jobs.LocalEngine", InlineEngine)
    again = here("batch", "a/photo.png", "b/photo.png", *SINGLE, "output=out", cwd=pictures)
    assert again.returncode == 0 and again.stderr.count("found") == 2 * 5, again.stderr


@pytest.mark.slow
def test_rows_of_a_list_and_shards_are_runs_of_their_own(pictures, monkeypatch):
    (pictures / "list.csv").write_text("image,seed,name\na/photo.png,1,one\na/photo.png,2,two\n")
    monkeypatch.setattr("lift.batch.jobs.LocalEngine", InlineEngine)
    command = ("batch", "list.csv", *SINGLE, "output=out")
    plan = here(*command, "--plan", cwd=pictures)
    assert "2 pictures: 0 finished before, 2 to make" in plan.stdout, plan.stderr
    assert not (pictures / "out").exists()
    second = here(*command, "--shard", "1/2", cwd=pictures)
    assert second.stdout == "out/photo/two\n", second.stderr
    assert (pictures / "out/summary-1-of-2.jsonl").exists()
    both = here(*command, cwd=pictures)
    assert both.stdout.split() == ["out/photo/one", "out/photo/two"], both.stderr
    assert "1 finished, 1 passed over" in both.stderr


def test_what_another_job_makes_is_left_to_it(pictures, monkeypatch):
    monkeypatch.setattr("lift.batch.jobs.LocalEngine", InlineEngine)
    monkeypatch.setattr("lift.batch.driver.HELD_SECONDS", 0.0)
    command = ("batch", "a/photo.png", *SINGLE, "output=out", "name=run")
    monkeypatch.chdir(pictures)
    (task,) = make_tasks([BatchPicture("a/photo.png")], (*SINGLE, "output=out", "name=run"))
    lock = open_lock(pictures / "out" / LOCKS / f"{request(task).key(task.image)}.lock")
    Path("out", LOCKS).mkdir(parents=True)
    with lock:
        done = here(*command, cwd=pictures)
    assert done.returncode == 0 and not done.stdout
    assert "is being made by another job" in done.stderr


def test_a_wrong_row_fails_alone_and_the_exit_status_tells_the_kind(pictures, monkeypatch):
    monkeypatch.setattr("lift.batch.jobs.LocalEngine", InlineEngine)
    (pictures / "list.csv").write_text("image,fit.stps\na/photo.png,1\nb/photo.png,\n")
    done = here("batch", "list.csv", *SINGLE, "output=out", cwd=pictures)
    assert done.returncode == 1 and "a/photo.png failed: " in done.stderr
    assert "fit.stps" in done.stderr and done.stdout.startswith("out/b-photo/")

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("lift.pipeline.run", fail)
    done = here("batch", "a/photo.png", *SINGLE, "output=out", cwd=pictures)
    assert done.returncode == 75 and "is tried again" in done.stderr
    done = here(
        "batch", "a/photo.png", *SINGLE, "output=out", "--retries=0", "--json", cwd=pictures
    )
    events = [json.loads(line) for line in done.stderr.splitlines() if line[0] == "{"]
    assert [event["event"] for event in events] == ["started", "done"]


@pytest.mark.parametrize(
    "wrong, expected",
    [
        (("no.jpg",), "there is no file 'no.jpg'"),
        (("coffee", "prior=foo"), "prior is 'foo'; choose one of"),
        (("coffee", "fit.stps=3"), "fit.stps"),
        (("coffee", "trainer.devices=2"), "makes each scene in one process"),
        (("coffee", "--processes=0"), "--processes is '0'; choose a number"),
        (("coffee", "--shard=3/3"), "--shard is '3/3'; choose I/N"),
        (("coffee", "--engine=dask"), "--engine is 'dask'; choose one of local, ray, slurm"),
        (("coffee", "--engine-option", "gpus"), "write KEY=VALUE"),
        (("coffee", "--timeout=0"), "choose a number from 1"),
        ((), "no picture is given"),
    ],
)
def test_error_is_found_before_any_output(tmp_path, wrong, expected):
    done = here("batch", *wrong, cwd=tmp_path)
    assert done.returncode == 2 and expected in done.stderr and done.stderr.count("\n") == 1, (
        done.stderr
    )
    assert not os.listdir(tmp_path)
