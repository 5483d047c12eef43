"""Runs in stores: a folder with a manifest is complete, and is passed over."""

import json
from pathlib import Path

import fsspec
import pytest

from lift import pipeline
from lift.batch.records import Summary
from lift.batch.tasks import BatchTask, find_finished
from lift.config import compose_run
from lift.remote import results, views
from lift.remote.results import local_run, share, upload_run
from lift.remote.store import check_writable, open_store, read_text
from lift.remote.urls import local_output
from lift.remote.views import StoreSnapshot, StoreView
from lift.runtime.finished import find_remote, request_key
from lift.runtime.integrity import MANIFEST, DamagedFileError, checksum
from tests.helpers.commands import here
from tests.helpers.settings import MINIMAL
from tests.helpers.stores import FILES, make_run, upload_finished


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """The store in memory, which holds nothing of other tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def complete(output: str = "memory://out", title: str = "a") -> dict[str, str]:
    return dict(StoreView().requests(output, title))


def test_the_manifest_comes_last(memory, tmp_path, monkeypatch):
    run = make_run(tmp_path / "a" / "run", "key")
    order = []
    put = memory.put_file
    monkeypatch.setattr(
        type(memory),
        "put_file",
        lambda self, file, url, **more: order.append(Path(file).name) or put(file, url, **more),
    )
    upload_run(run, "memory://out/a/run")
    assert order[-1] == MANIFEST and sorted(order[:-1]) == sorted(Path(name).name for name in FILES)
    assert complete() == {"run": "key"}


def test_an_interrupted_upload_is_not_complete(memory, tmp_path, monkeypatch):
    upload_run(make_run(tmp_path / "a" / "run", "old"), "memory://out/a/run")
    assert complete() == {"run": "old"}
    make_run(tmp_path / "a" / "run", "new")
    put = results.upload

    def fail(store, pairs):
        put(store, pairs[:1])
        raise ConnectionError("lost")

    with monkeypatch.context() as patch:
        patch.setattr(results, "upload", fail)
        with pytest.raises(ConnectionError):
            upload_run(tmp_path / "a" / "run", "memory://out/a/run")
    assert complete() == {}, "a mixture has no manifest"
    with pytest.raises(FileNotFoundError, match="there is no finished run"):
        local_run("memory://out/a/run")
    upload_run(tmp_path / "a" / "run", "memory://out/a/run")
    assert complete() == {"run": "new"}


def test_files_of_the_old_result_go_and_others_stay(memory, tmp_path):
    old = make_run(tmp_path / "old", "old", FILES | {"video.mp4": "film"})
    upload_run(old, "memory://out/a/run")
    memory.pipe("memory://out/a/run/notes.txt", b"mine")
    upload_run(make_run(tmp_path / "new", "new"), "memory://out/a/run")
    names = {path.removeprefix("/out/a/run/") for path in memory.find("/out/a/run")}
    assert names == {*FILES, MANIFEST, "notes.txt"}


def test_an_upload_that_lost_a_file_has_no_manifest(memory, tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", "key")
    monkeypatch.setattr(results, "list_sizes", lambda *_: {"metrics.json": 1})
    with pytest.raises(ConnectionError, match="is not complete"):
        upload_run(run, "memory://out/a/run")
    assert not memory.exists(f"/out/a/run/{MANIFEST}")


@pytest.mark.parametrize("change", ["size", "missing", "manifest"])
def test_a_damaged_run_is_not_complete(memory, tmp_path, change):
    upload_run(make_run(tmp_path / "run", "key"), "memory://out/a/run")
    if change == "size":
        memory.pipe("/out/a/run/metrics.json", b"{}")
    elif change == "missing":
        memory.rm("/out/a/run/frames/000000.png")
    else:
        memory.pipe(f"/out/a/run/{MANIFEST}", b'{"request": "key", "files": {}}')
    assert complete() == {}


def test_a_fetched_run_is_verified_and_kept(memory, tmp_path, monkeypatch):
    upload_run(make_run(tmp_path / "run", "key"), "memory://out/a/run")
    folder = local_run("memory://out/a/run/")
    assert folder.parts[-2:] == ("a", "run")
    assert (folder / "frames/000000.png").read_text() == "a picture"
    with monkeypatch.context() as patch:
        patch.setattr(results, "download", None)
        assert local_run("memory://out/a/run") == folder
    upload_run(make_run(tmp_path / "run", "other"), "memory://out/a/run")
    memory.pipe("/out/a/run/metrics.json", b"x" * len(FILES["metrics.json"]))
    with pytest.raises(DamagedFileError, match="metrics.json"):
        local_run("memory://out/a/run")
    assert json.loads((folder / MANIFEST).read_text())["request"] == "key", "the old one stays"
    assert local_run(folder) == folder and local_run("runs/a") == "runs/a"


def test_a_manifest_cannot_write_elsewhere(memory, tmp_path):
    run = make_run(tmp_path / "run", "key")
    manifest = json.loads((run / MANIFEST).read_text())
    manifest["files"]["../../evil"] = [1, checksum(run / "metrics.json")]
    memory.pipe(f"/out/a/run/{MANIFEST}", json.dumps(results_seal(manifest)).encode())
    with pytest.raises(DamagedFileError, match="it names '../../evil'"):
        local_run("memory://out/a/run")


def results_seal(manifest):
    from lift.runtime.integrity import seal

    return seal(manifest)


def test_a_shared_result_is_the_url_of_its_folder(memory, tmp_path):
    config = compose_run(["image=coffee", "output=memory://out", f"cache.folder={tmp_path}"])
    run = make_run(local_output(config) / "coffee" / "run", "key")
    assert share(config, run) == "memory://out/coffee/run" and run.is_dir()
    config.cache.keep = False
    assert share(config, run) == "memory://out/coffee/run" and not run.exists()
    local = compose_run(["image=coffee", f"output={tmp_path / 'local'}"])
    run = make_run(tmp_path / "local" / "coffee" / "run", "key")
    assert share(local, run) == run


def test_the_same_request_finds_the_run_in_the_store(memory, tmp_path):
    settings = [*MINIMAL, "image=coffee", "output=memory://out"]
    config = compose_run(settings)
    key = request_key(config)
    assert key is not None and find_remote(config) is None
    upload_run(make_run(tmp_path / "run", key), "memory://out/coffee/run")
    assert find_remote(config) == "memory://out/coffee/run"
    assert find_remote(compose_run([*settings, "seed=1"])) is None
    assert find_remote(compose_run([*settings, "name=other"])) is None
    assert find_remote(compose_run([*settings, "redeliver=true"])) is None
    local = compose_run([*MINIMAL, "image=coffee", f"output={tmp_path}"])
    assert request_key(local) == key, "where results are does not change them"


@pytest.mark.parametrize("others", [0, 100])
def test_a_batch_asks_a_store_for_all_pictures_at_once(memory, tmp_path, monkeypatch, others):
    images = [f"memory://in/{number}.png" for number in range(20)]
    for image in images:
        memory.pipe(image, b"1")
    titles = [str(number) for number in range(20)]
    settings = tuple(MINIMAL)
    upload_finished(tmp_path, "memory://out", images, titles, settings)
    for number in range(others):
        memory.pipe(f"/out/other-{number}/run/metrics.json", b"1")
    tasks = [
        BatchTask(image, title, (*settings, "output=memory://out"))
        for image, title in zip(images, titles, strict=True)
    ]
    calls = []
    for name in ("ls", "find", "info"):
        method = getattr(type(memory), name)

        def counted(self, path, *given, _method=method, _name=name, **more):
            calls.append((_name, path))
            return _method(self, path, *given, **more)

        monkeypatch.setattr(type(memory), name, counted)
    view = StoreSnapshot(images, titles)
    found = [find_finished(task, view) for task in tasks]
    assert [record and record.result for record in found] == [
        f"memory://out/{title}/run" for title in titles
    ]
    listed = [path for name, path in calls if name == "find"]
    assert len(listed) == (20 if others else 1)
    assert not [path for name, path in calls if name == "info" and "in/" in path]
    assert len([call for call in calls if call[0] == "ls" and call[1].endswith("in")]) == 1


def test_a_snapshot_looks_up_web_pictures_together(monkeypatch):
    asked = []
    monkeypatch.setattr(views, "object_state", lambda url: asked.append(url))
    monkeypatch.setattr(views, "open_store", lambda _: fsspec.filesystem("memory"))
    view = StoreSnapshot([f"https://h/{number}.png" for number in range(300)], [])
    view.state("https://h/0.png")
    assert len(asked) == views._AHEAD
    view.state("https://h/256.png")
    assert len(asked) == 300


def test_an_output_is_checked_before_the_work(memory, tmp_path):
    check_writable("memory://out")
    assert memory.find("/out") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file://"):
        check_writable(f"file://{tmp_path}/file/out")


def store_of(folder: Path) -> str:
    return f"file://{folder}/store"


def test_a_batch_passes_over_runs_in_a_store(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    output = store_of(tmp_path)
    (tmp_path / "in").mkdir()
    images = [f"file://{tmp_path}/in/{name}.png" for name in "abc"]
    for name in "abc":
        (tmp_path / "in" / f"{name}.png").write_bytes(b"1")
    upload_finished(tmp_path / "work", output, images, [*"abc"], MINIMAL)
    command = ["batch", f"file://{tmp_path}/in/", *MINIMAL, f"output={output}"]
    done = here(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"{output}/{name}/run" for name in "abc"]
    lines = read_text(open_store(output), f"{output}/summary.jsonl").splitlines()
    assert [json.loads(line)["psnr"] for line in lines] == [30.0] * 3
    # A new machine has the summary from the store, and reads no results.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setattr("lift.batch.driver.read_result", None)
    again = here(*command, cwd=tmp_path)
    assert again.returncode == 0 and again.stdout == done.stdout, again.stderr


def test_summaries_of_machines_are_merged(memory, tmp_path):
    from lift.batch.summaries import fetch_summary, share_summary

    config = compose_run(["image=coffee", "output=memory://out"])
    for number, machine in enumerate("xy"):
        path = tmp_path / machine / "summary.jsonl"
        summary = Summary(path)
        summary.add(BatchTask("a", "a", ()).record("failed", error=machine, when=float(number)))
        summary.add(
            BatchTask(machine, machine, ()).record("finished", result=f"memory://out/{machine}")
        )
        summary.close()
        share_summary(config, path)
    fetch_summary(config, tmp_path / "z" / "summary.jsonl")
    lines = (tmp_path / "z" / "summary.jsonl").read_text().splitlines()
    records = {json.loads(line)["title"]: json.loads(line) for line in lines}
    assert set(records) == {"a", "x", "y"} and records["a"]["error"] == "y"


@pytest.mark.slow
def test_a_run_is_uploaded_passed_over_and_loaded(tmp_path, monkeypatch):
    import lift
    from lift.remote.urls import working_folder

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    output = store_of(tmp_path)
    command = ("run", "image=coffee", *MINIMAL, f"output={output}")
    first = here(*command, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    url = first.stdout.splitlines()[-1]
    assert url.startswith(f"{output}/coffee/")
    remote = Path(url.removeprefix("file://"))
    assert (remote / "gaussians.ply").is_file() and not (tmp_path / "store/cache").exists()
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "run", None)
        second = here(*command, cwd=tmp_path)
        assert second.stdout == first.stdout and "finished before" in second.stderr
        # An upload that was interrupted goes on from the local copy.
        (remote / MANIFEST).unlink()
        third = here(*command, cwd=tmp_path)
        assert third.stdout == first.stdout and (remote / MANIFEST).is_file()
    scene = lift.load(url)
    assert scene.folder == working_folder(output) / remote.parent.name / remote.name
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert len(lift.load(url).gaussians) == len(scene.gaussians)
