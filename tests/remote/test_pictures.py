"""Pictures at URLs are fetched once, and again when they change."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import fsspec
import pytest

from lift.batch.pictures import BatchPicture, parse_arguments
from lift.config import compose_run
from lift.errors import is_transient
from lift.registry import ComponentError
from lift.remote import pictures, store
from lift.remote.pictures import fetch, forget_pictures, local_image
from lift.runtime.finished import request_key


@pytest.fixture
def memory(request):
    """The store in memory, which holds nothing of other tests."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def test_a_picture_is_fetched_once(memory, tmp_path, monkeypatch):
    memory.pipe("memory://in/a.png", b"1")
    path = fetch("memory://in/a.png", tmp_path)
    assert path.name == "a.png" and path.read_bytes() == b"1"
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "download", None)
        assert fetch("memory://in/a.png", tmp_path) == path
    memory.pipe("memory://in/a.png", b"2")
    assert fetch("memory://in/a.png", tmp_path).read_bytes() == b"2"


def test_processes_share_a_fetch(memory, tmp_path, monkeypatch):
    memory.pipe("memory://in/a.png", b"1")
    calls = []
    download = pictures.download
    monkeypatch.setattr(
        pictures, "download", lambda *given: calls.append(given) or download(*given)
    )
    threads = [threading.Thread(target=fetch, args=("memory://in/a.png", tmp_path)) for _ in "1234"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_a_cut_download_leaves_nothing(memory, tmp_path, monkeypatch):
    memory.pipe("memory://in/a.png", b"123")
    monkeypatch.setattr(
        pictures, "download", lambda _, pairs: [path.write_bytes(b"1") for _, path in pairs]
    )
    with pytest.raises(ConnectionError, match="3 bytes, but 1 have arrived") as failed:
        fetch("memory://in/a.png", tmp_path)
    assert is_transient(failed.value)
    assert not list(tmp_path.rglob("a.png*"))


def test_settings_keep_the_url_and_stages_get_files(memory, tmp_path):
    memory.pipe("memory://in/a.png", b"1")
    config = compose_run(["image=[memory://in/a.png,b.png]", f"output={tmp_path}"])
    fetched, other = local_image(config)
    assert fetched.startswith(str(tmp_path)) and other == "b.png"
    assert list(config.image) == ["memory://in/a.png", "b.png"]
    forget_pictures(config)
    assert not list(tmp_path.rglob("a.png"))


def test_a_changed_object_is_another_request(memory, tmp_path):
    memory.pipe("memory://in/a.png", b"1")
    config = compose_run(["image=memory://in/a.png", f"output={tmp_path}"])
    before = request_key(config)
    assert before is not None and request_key(config) == before
    memory.pipe("memory://in/a.png", b"2")
    assert request_key(config) not in (None, before)
    memory.rm("/in/a.png")
    assert request_key(config) is None


def test_a_missing_object_is_named_in_one_line(memory, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^there is no object memory://in/no.png$") as e:
        fetch("memory://in/no.png", tmp_path)
    assert not is_transient(e.value)


def test_a_folder_is_no_picture(memory, tmp_path):
    memory.pipe("memory://in/a.png", b"1")
    with pytest.raises(IsADirectoryError, match="memory://in is a folder"):
        fetch("memory://in", tmp_path)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    def fail(_scheme: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", fail)
    with pytest.raises(ImportError, match=r"^s3://b/a.jpg needs the package s3fs: pip install"):
        fetch("s3://b/a.jpg", tmp_path)


@pytest.mark.parametrize(
    ("error", "kind", "transient"),
    [
        (TimeoutError("slow"), ConnectionError, True),
        (OSError(16, "slow down"), ConnectionError, True),
        (PermissionError("no"), PermissionError, False),
        (ValueError("odd"), OSError, False),
        (OSError(28, "No space left on device"), OSError, True),
    ],
)
def test_errors_of_stores_say_whether_another_try_helps(error, kind, transient):
    with pytest.raises(kind) as failed, store.store_errors("s3://b/a.jpg"):
        raise error
    assert is_transient(failed.value) is transient


class _Server(BaseHTTPRequestHandler):
    status = 200

    def _answer(self, body: bytes) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "7")
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self):  # noqa: N802, the base class calls it
        self._answer(b"")

    def do_GET(self):  # noqa: N802
        self._answer(b"picture")

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """A web server on this machine, and its handler."""
    pytest.importorskip("aiohttp")

    class Handler(_Server):
        pass

    instance = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=instance.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{instance.server_port}", Handler
    instance.shutdown()
    instance.server_close()


def test_a_picture_comes_from_a_web_server(server, tmp_path):
    address, _ = server
    path = fetch(f"{address}/in/a%20b.png?x=1", tmp_path)
    assert path.name == "a b.png" and path.read_bytes() == b"picture"


@pytest.mark.parametrize(
    ("status", "kind"), [(404, FileNotFoundError), (503, ConnectionError), (403, PermissionError)]
)
def test_the_status_of_a_web_server_says_what_is_wrong(server, tmp_path, status, kind):
    address, handler = server
    handler.status = status
    with pytest.raises(kind) as failed:
        fetch(f"{address}/a.png", tmp_path)
    assert is_transient(failed.value) is (status == 503)


def test_no_network_is_transient(tmp_path):
    pytest.importorskip("aiohttp")
    with pytest.raises(ConnectionError, match="cannot be reached") as failed:
        fetch("http://127.0.0.1:9/a.png", tmp_path)
    assert is_transient(failed.value)


def test_a_batch_takes_urls_lists_folders_and_patterns(memory, tmp_path):
    for name in ("a.png", "b.jpg", "notes.md"):
        memory.pipe(f"memory://in/{name}", b"1")
    memory.pipe("memory://in/list.csv", b"image,seed\na.png,3\nhttps://h/c.png?x=1,\ncoffee,\n")
    found, settings = parse_arguments(["https://h/c.png?x=1", "memory://in/a.png", "seed=1"])
    assert [picture.image for picture in found] == ["https://h/c.png?x=1", "memory://in/a.png"]
    assert settings == ["seed=1"]
    found, _ = parse_arguments(["memory://in/list.csv"])
    assert found == [
        BatchPicture("memory://in/a.png", ("seed=3",)),
        BatchPicture("https://h/c.png?x=1"),
        BatchPicture("coffee"),
    ]
    folder, _ = parse_arguments(["memory://in/"])
    assert [picture.image for picture in folder] == ["memory://in/a.png", "memory://in/b.jpg"]
    pattern, _ = parse_arguments(["memory://in/*.png"])
    assert [picture.image for picture in pattern] == ["memory://in/a.png"]
    with pytest.raises(ComponentError, match="no object matches"):
        parse_arguments(["memory://in/*.gif"])


def test_a_local_list_names_urls(tmp_path):
    (tmp_path / "list.txt").write_text("s3://b/a.jpg\nhttps://h/c.png?x=1\n")
    found, _ = parse_arguments([str(tmp_path / "list.txt")])
    assert [picture.image for picture in found] == ["s3://b/a.jpg", "https://h/c.png?x=1"]


def test_local_names_with_colons_stay_local(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("odd:name.png", "s3:x=1.png"):
        (tmp_path / name).write_bytes(b"1")
    found, settings = parse_arguments(["odd:name.png", "s3:x=1.png"])
    assert [picture.image for picture in found] == ["odd:name.png", "s3:x=1.png"] and not settings
    config = compose_run(["image=odd:name.png", "output=o:ut"])
    assert local_image(config) == "odd:name.png"
