"""Files on the web: downloaded once, resumed, verified."""

import errno
import hashlib
from contextlib import contextmanager

import pytest

from lift.weights import CachedUrl
from lift.weights.urls import ensure_file, remote_size
from tests.helpers.fake_hub import FakeHub

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@contextmanager
def served(sha256: str = SHA256):
    with FakeHub({"a/b": {"w.pt": CONTENT}}).serve() as hub:
        url = f"{hub.url}/a/b/resolve/main/w.pt"
        yield hub, CachedUrl("protocol.weights", url, "own-name.pt", "MIT", sha256)


def test_file_is_downloaded_once_under_its_own_name(tmp_path):
    with served() as (hub, source):
        assert remote_size(source) == len(CONTENT)
        paths = [ensure_file(source, tmp_path) for _ in range(2)]
    assert hub.downloads == ["w.pt"] and set(paths) == {tmp_path / "own-name.pt"}
    assert paths[0].read_bytes() == CONTENT and len(list(tmp_path.iterdir())) == 1


def test_interrupted_download_goes_on_where_it_ended(tmp_path):
    with served() as (_, source):
        draft = tmp_path / f"own-name.pt.{SHA256[:8]}.part"
        draft.write_bytes(CONTENT[:1000])
        assert ensure_file(source, tmp_path).read_bytes() == CONTENT


def test_complete_draft_is_not_downloaded_again(tmp_path):
    with served() as (_, source):
        (tmp_path / f"own-name.pt.{SHA256[:8]}.part").write_bytes(CONTENT)
        assert ensure_file(source, tmp_path).read_bytes() == CONTENT


def test_other_content_is_refused_and_removed(tmp_path):
    refused = pytest.raises(ValueError, match="damaged or replaced")
    with served("0" * 64) as (_, source), refused:
        ensure_file(source, tmp_path)
    assert not list(tmp_path.iterdir())


def test_offline_file_is_named_with_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    source = CachedUrl("protocol.weights", "http://127.0.0.1:1/w", "own.pt", "MIT", SHA256)
    with pytest.raises(
        FileNotFoundError, match=f"own.pt is not in the cache .{tmp_path}.*lift dow"
    ):
        ensure_file(source, tmp_path)


def test_unreachable_address_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    source = CachedUrl("protocol.weights", "http://127.0.0.1:1/w", "own.pt", "MIT", SHA256)
    with pytest.raises(OSError, match=r"http://127.0.0.1:1/w cannot be downloaded: \[Errno"):
        ensure_file(source, tmp_path)
    with pytest.raises(OSError, match=r"http://127.0.0.1:1/w cannot be downloaded: \[Errno"):
        remote_size(source)


def test_full_disk_is_not_called_a_failed_download(tmp_path, monkeypatch):
    def full(*_arguments) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lift.weights.urls._download", full)
    with served() as (_, source), pytest.raises(OSError, match="No space left") as raised:
        ensure_file(source, tmp_path)
    assert raised.value.errno == errno.ENOSPC
