"""`lift cache` lists the stages of an output folder, and removes those that are chosen."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from lift.runtime.cache import Store
from lift.runtime.cache_contents import list_cache
from tests.helpers.commands import here

KEYS = {"plan": "0123456789ab", "clip": "aaaaaaaaaaaa", "fit": "bbbbbbbbbbbb"}


@pytest.fixture
def output(tmp_path) -> Path:
    """Three stages: of two runs, of one run, and of none. The last is the newest."""
    store = Store(tmp_path / "cache")
    for age, (name, key) in zip((30, 20, 1), KEYS.items(), strict=True):
        stage = store.folder(
            name, key, lambda draft: (draft / "a").write_bytes(bytes(1000)) and None
        )
        when = time.time() - 86_400 * age
        os.utime(stage.folder / "manifest.json", (when, when))
    for run, names in (("one", ("plan", "clip")), ("two", ("plan",))):
        folder = tmp_path / "photo" / run
        folder.mkdir(parents=True)
        stages = [{"stage": name, "key": KEYS[name]} for name in names]
        (folder / "provenance.json").write_text(json.dumps({"stages": stages}))
    (tmp_path / "cache" / "mine.txt").write_text("a file of the user")
    return tmp_path


def cache(output: Path, *arguments: str) -> subprocess.CompletedProcess:
    return here("cache", str(output), *arguments, cwd=output)


def names(output: Path) -> set[str]:
    return {stage.name for stage in list_cache(output)}


def test_stages_are_summed_and_listed(output):
    done = cache(output)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["clip", "fit", "plan", "all"]
    assert lines[-1][1] == "3" and "oldest 30 days" in done.stdout
    listed = cache(output, "--stages").stdout.splitlines()
    assert [line.split("-")[0] for line in listed[:-1]] == ["plan", "clip", "fit"], "oldest first"
    assert "photo/one, photo/two" in listed[0] and "no finished run" in listed[2]
    assert names(output) == {"plan", "clip", "fit"}


@pytest.mark.parametrize(
    ("conditions", "kept"),
    [
        (["--older-than", "10"], {"fit"}),
        (["--older-than", "10", "--unused"], {"plan", "clip", "fit"}),
        (["--run", "../{name}/photo/./one"], {"plan", "fit"}),
        (["--unused"], {"plan", "clip"}),
        (["--run", "photo/one"], {"plan", "fit"}),
        (["--run", "photo/two"], {"plan", "clip", "fit"}),
        (["--max-size", str(3000 / 2**30)], {"clip", "fit"}),
        (["--max-size", "1"], {"plan", "clip", "fit"}),
        (["--older-than", "0"], set()),
    ],
)
def test_what_is_chosen_is_removed(output, conditions, kept):
    conditions = [word.format(name=output.name) for word in conditions]
    assert cache(output, *conditions).returncode == 0
    assert names(output) == {"plan", "clip", "fit"}, "a list removes nothing"
    done = cache(output, *conditions, "--remove")
    assert done.returncode == 0 and "removed " in done.stderr, done.stderr
    assert names(output) == kept
    assert (output / "cache" / "mine.txt").is_file() and (output / "photo" / "one").is_dir()
    assert not list((output / "cache").glob(".*removed*"))


def test_a_stage_that_is_being_made_stays(output):
    store = Store(output / "cache")
    seen = []

    def make(draft: Path) -> None:
        (draft / "half").write_text("")
        done = cache(output, "--older-than", "0", "--remove")
        seen.append((done.returncode, done.stderr, draft.is_dir()))

    store.folder("fit", "cccccccccccc", make, resumable=True)
    ((status, errors, is_kept),) = seen
    assert status == 1 and is_kept and ".fit-cccccccccccc.draft is in use or another" in errors
    assert {stage.key for stage in list_cache(output)} == {"cccccccccccc"}


def test_what_is_left_of_stages_is_named(output):
    root = output / "cache"
    (root / ".clip-dddddddddddd.draft").mkdir()
    (root / "clip-eeeeeeeeeeee.damaged-1").mkdir()
    done = cache(output)
    assert "clip, damaged" in done.stdout and "clip, unfinished" in done.stdout
    (root / ".clip-ffffffffffff.removed-1").mkdir()
    kept = {"mine.txt", f"plan-{KEYS['plan']}", f"clip-{KEYS['clip']}"}

    def left() -> set[str]:
        return {path.name for path in root.iterdir() if not path.name.endswith(".lock")}

    assert cache(output, "--unused", "--remove").returncode == 0
    assert left() == kept | {".clip-dddddddddddd.draft"}, "a killed run may go on from it"
    old = time.time() - 86_400 * 9
    os.utime(root / ".clip-dddddddddddd.draft", (old, old))
    assert cache(output, "--unused", "--older-than", "8", "--remove").returncode == 0
    assert left() == kept
    (root / ".clip-dddddddddddd.draft").mkdir()
    assert cache(output, "--unused", "--older-than", "0", "--remove").returncode == 0
    assert left() == kept, "any age is one, too"


def test_drafts_of_results_use_no_stage(output):
    folder = output / "photo" / ".three.draft"
    folder.mkdir()
    stages = {"stages": [{"stage": "fit", "key": KEYS["fit"]}]}
    (folder / "provenance.json").write_text(json.dumps(stages))
    assert [stage.runs for stage in list_cache(output) if stage.name == "fit"] == [()]


def test_what_cannot_be_removed_stays(output, monkeypatch):
    monkeypatch.setattr("lift.runtime.cache_contents.is_own", lambda path: "clip" not in path.name)
    done = cache(output, "--older-than", "0", "--remove")
    assert done.returncode == 1 and names(output) == {"clip"}
    assert "removed " in done.stderr and "another user's, and stays" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--remove"], "--remove alone would empty the cache"),
        (["--run", "nowhere", "--remove"], "--run is 'nowhere', which is no folder of a finished"),
    ],
)
def test_wrong_arguments_are_one_line(output, arguments, message):
    done = cache(output, *arguments)
    assert done.returncode == 2 and done.stderr.startswith(f"lift: {message}")
    assert done.stderr.count("\n") == 1 and len(names(output)) == 3


def test_a_folder_without_cache_is_named(tmp_path):
    done = cache(tmp_path)
    assert done.returncode == 2 and f"{tmp_path} has no cache" in done.stderr
    for wrong in ("-1", "nan", "inf"):
        done = cache(tmp_path, "--older-than", wrong)
        assert done.returncode == 2 and f"{wrong} is no number of at least 0" in done.stderr
