"""Files and folders are published as a whole, synced first, with ordinary permissions."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lift.runtime import atomic_io
from lift.runtime.atomic_io import (
    acquire,
    file_mode,
    folder_mode,
    hidden_path,
    make_folder,
    open_lock,
    prepare_draft,
    publish,
    publish_folder,
    recover_folder,
    set_aside,
    set_permissions,
)

posix = pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.fixture
def calls(monkeypatch) -> list[tuple[str, str]]:
    """Names of what is synced and renamed, in order."""
    record: list[tuple[str, str]] = []
    for name in ("replace", "rename"):
        function = getattr(os, name)

        def call(source, target, name=name, function=function):
            record.append((name, Path(target).name))
            function(source, target)

        monkeypatch.setattr(os, name, call)
    sync = atomic_io.sync

    def recorded_sync(path):
        record.append(("sync", path.name))
        sync(path)

    monkeypatch.setattr(atomic_io, "sync", recorded_sync)
    return record


def folder_with(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "file").write_text(text)
    return path


@posix
@pytest.mark.parametrize(
    ("mask", "files", "folders"),
    [
        (0o022, 0o644, 0o755),
        (0o002, 0o664, 0o775),
        (0o077, 0o600, 0o700),
        (0o000, 0o664, 0o775),
    ],
)
def test_modes_follow_the_umask_but_not_for_everyone(umask, mask, files, folders):
    umask(mask)
    assert (file_mode(), folder_mode()) == (files, folders)


@posix
def test_published_files_and_folders_have_these_modes(tmp_path, umask):
    umask(0)
    make_folder(tmp_path / "a" / "b")
    publish(tmp_path / "a" / "file", lambda draft: draft.write_text("x"))
    (tmp_path / "a" / "secret").touch(0o600)
    set_permissions(tmp_path / "a")
    assert {mode(path) for path in (tmp_path / "a", tmp_path / "a" / "b")} == {0o775}
    assert {mode(tmp_path / "a" / name) for name in ("file", "secret")} == {0o664}


def test_a_file_is_synced_before_it_is_renamed(tmp_path, calls):
    publish(tmp_path / "file", lambda draft: draft.write_text("x"))
    (first, draft), *others = calls
    assert first == "sync" and draft.startswith(".file-")
    assert others == [("replace", "file"), ("sync", tmp_path.name)]


def test_a_folder_is_synced_before_it_is_renamed(tmp_path, calls):
    draft = folder_with(tmp_path / "draft", "new")
    (draft / "inner").mkdir()
    (draft / "inner" / "deep").touch()
    publish_folder(draft, tmp_path / "final")
    renamed = calls.index(("rename", "final"))
    synced = {name for kind, name in calls[:renamed] if kind == "sync"}
    assert synced == {"draft", "file", "inner", "deep"}
    assert calls[renamed + 1 :] == [("sync", tmp_path.name)]


def test_a_failed_writer_leaves_the_old_file_and_no_draft(tmp_path):
    (tmp_path / "file").write_text("old")

    def fail(draft: Path) -> None:
        draft.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        publish(tmp_path / "file", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("name", ["missing/scene.ply", "x" * 300 + ".ply"])
def test_an_error_names_the_file_and_not_its_draft(tmp_path, name):
    with pytest.raises(OSError) as caught:
        publish(tmp_path / name, lambda draft: draft.write_text("x"))
    assert caught.value.filename == str(tmp_path / name) and caught.value.filename2 is None
    assert not list(tmp_path.iterdir())


def test_a_file_may_have_a_long_name(tmp_path):
    path = tmp_path / ("x" * 246 + ".ply")
    publish(path, lambda draft: draft.with_suffix(".ply").write_text("x"))
    assert path.read_text() == "x"


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_replaces_an_older_one(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(atomic_io, "_rename_function", lambda: None)
    final = folder_with(tmp_path / "final", "old")
    publish_folder(folder_with(tmp_path / "draft", "new"), final)
    assert (final / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux")
def test_readers_find_a_folder_at_every_moment(tmp_path):
    final = folder_with(tmp_path / "final", "0")
    missing: list[Exception] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                assert (final / "file").read_text().isdigit()
            except OSError as error:
                missing.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(30):
        publish_folder(folder_with(tmp_path / "draft", str(number)), final)
    done.set()
    reader.join()
    # A path may be resolved to the old folder just before that one is removed.
    assert len(missing) <= 2 and final.is_dir()


def test_a_kill_between_two_renames_is_repaired(tmp_path):
    old = folder_with(tmp_path / ".final.old", "old")
    recover_folder(tmp_path / "final")
    assert (tmp_path / "final" / "file").read_text() == "old"
    folder_with(old, "older")
    recover_folder(tmp_path / "final")
    assert (tmp_path / "final" / "file").read_text() == "old" and not old.exists()


@posix
@pytest.mark.parametrize("has_final", [True, False])
def test_old_folders_of_others_are_not_restored(tmp_path, monkeypatch, has_final):
    old = folder_with(tmp_path / ".final.old", "theirs")
    if has_final:
        folder_with(tmp_path / "final", "mine")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    recover_folder(tmp_path / "final")
    assert (old / "file").read_text() == "theirs" and (tmp_path / "final").exists() == has_final


@posix
def test_a_link_in_place_of_an_old_folder_is_removed(tmp_path):
    outside = folder_with(tmp_path / "outside", "precious")
    (tmp_path / ".final.old").symlink_to(outside)
    recover_folder(tmp_path / "final")
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert (outside / "file").read_text() == "precious"


def test_few_damaged_copies_are_kept(tmp_path):
    for number in range(5):
        (tmp_path / "stage").write_text(str(number))
        set_aside(tmp_path / "stage")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["stage.damaged-4", "stage.damaged-5"]
    assert (tmp_path / "stage.damaged-5").read_text() == "4"


@posix
def test_links_in_place_of_drafts_and_locks_are_not_followed(tmp_path):
    outside = folder_with(tmp_path / "outside", "precious")
    (tmp_path / "draft").symlink_to(outside)
    prepare_draft(tmp_path / "draft", resumable=True)
    assert not (tmp_path / "draft").is_symlink() and not list((tmp_path / "draft").iterdir())
    (tmp_path / "lock").symlink_to(tmp_path / "target")
    lock = open_lock(tmp_path / "lock")
    assert acquire(lock) and not (tmp_path / "target").exists()
    lock.release()
    assert (outside / "file").read_text() == "precious"


@posix
def test_drafts_of_other_users_are_set_aside(tmp_path, monkeypatch):
    folder_with(tmp_path / ".x.draft", "theirs")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    aside = prepare_draft(tmp_path / ".x.draft", resumable=True)
    assert aside is not None and (aside / "file").read_text() == "theirs"
    assert not list((tmp_path / ".x.draft").iterdir())


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="changes the user")
def test_locks_of_other_users_are_named(tmp_path):
    (tmp_path / "lock").touch(0o600)
    tmp_path.chmod(0o777)
    code = (
        "import os, sys; from pathlib import Path; from lift.runtime.atomic_io import *; "
        "lock = open_lock(Path(sys.argv[1])); os.setuid(65534)\n"
        "try: acquire(lock)\n"
        "except PermissionError as error: print(error)"
    )
    for parent in (tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "lock")], capture_output=True, text=True
    )
    assert "another user's lock" in done.stdout and "umask 002" in done.stdout, done.stderr


@posix
def test_the_group_may_use_a_lock(tmp_path, umask):
    umask(0o002)
    lock = open_lock(tmp_path / "lock")
    assert acquire(lock) and mode(tmp_path / "lock") == 0o664
    lock.release()


def test_a_lock_waits_or_tells_that_it_is_taken(tmp_path):
    first = open_lock(tmp_path / "lock")
    assert acquire(first)
    assert not acquire(open_lock(tmp_path / "lock"))
    waits = []

    def wait() -> None:
        waits.append(True)
        first.release()

    second = open_lock(tmp_path / "lock")
    assert acquire(second, wait) and waits
    second.release()


def test_hidden_names_fit_into_a_file_system(tmp_path):
    assert hidden_path(tmp_path / "run", ".lock").name == ".run.lock"
    long = [hidden_path(tmp_path / ("x" * 250 + end), ".draft") for end in "ab"]
    assert len(long[0].name) < 255 and long[0] != long[1]
    long[0].mkdir()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name")
def test_devices_and_pipes_are_never_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    draft = tmp_path / "draft"
    draft.mkdir()
    for path in (pipe, tmp_path / "link"):
        with pytest.raises(ValueError, match="is a device or another special file"):
            publish(path, lambda draft: draft.write_bytes(b"x"))
        with pytest.raises(ValueError, match="is a device or another special file"):
            publish_folder(draft, path)
    assert pipe.is_fifo() and (tmp_path / "link").is_symlink() and draft.is_dir()
