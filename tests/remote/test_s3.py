"""Runs in S3, as moto's server emulates it. The tests skip where moto or s3fs is missing."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

from lift.errors import is_transient
from lift.remote.pictures import fetch
from lift.remote.results import local_run, upload_run
from lift.remote.store import check_writable, open_store
from lift.remote.views import StoreSnapshot, StoreView
from lift.runtime.integrity import MANIFEST
from tests.helpers.commands import here
from tests.helpers.settings import MINIMAL
from tests.helpers.stores import FILES, make_run, upload_finished

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a server, whose process ends with the tests of this module."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/moto-api/").close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def bucket(address, tmp_path, monkeypatch) -> str:
    """The URL of an empty bucket."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    url = f"s3://test-{os.getpid()}-{time.monotonic_ns()}"
    store = open_store(url)
    type(store).clear_instance_cache()  # of another server
    open_store(url).mkdir(url)
    return url


def test_a_run_is_uploaded_found_and_fetched(bucket, tmp_path):
    run = make_run(tmp_path / "run", "key", FILES | {"old [1].txt": "old"})
    upload_run(run, f"{bucket}/out/a b/run")
    assert StoreView().requests(f"{bucket}/out", "a b") == {"run": "key"}
    upload_run(make_run(tmp_path / "new", "other"), f"{bucket}/out/a b/run")
    assert StoreView().requests(f"{bucket}/out", "a b") == {"run": "other"}
    folder = local_run(f"{bucket}/out/a b/run")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {*FILES, MANIFEST}


def test_a_listing_and_a_request_see_the_same_picture(bucket, tmp_path):
    store = open_store(bucket)
    urls = [f"{bucket}/in/{number} [1].png" for number in range(9)]
    for url in urls:
        store.pipe_file(url, b"1")
    view = StoreSnapshot([*urls, f"{bucket}/in/no.png"], [])
    assert [view.state(url) for url in urls] == [StoreView().state(url) for url in urls]
    assert view.state(urls[0]) is not None and view.state(f"{bucket}/in/no.png") is None
    assert fetch(urls[0], tmp_path).name == "0 [1].png"
    with pytest.raises(FileNotFoundError, match="there is no object"):
        fetch(f"{bucket}/in/no.png", tmp_path)


def test_a_missing_bucket_is_named_before_the_work(bucket):
    check_writable(f"{bucket}/out")
    with pytest.raises(FileNotFoundError, match="there is no such bucket"):
        check_writable(f"{bucket}-no/out")


def test_a_server_that_is_gone_is_transient(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    type(open_store(bucket)).clear_instance_cache()
    with pytest.raises(ConnectionError, match="cannot be reached") as failed:
        fetch(f"{bucket}/in/a.png", tmp_path)
    assert is_transient(failed.value)
    type(open_store(bucket)).clear_instance_cache()


def test_a_batch_passes_over_runs_in_a_bucket(bucket, tmp_path):
    store = open_store(bucket)
    images = [f"{bucket}/in/{name}.png" for name in "abc"]
    for image in images:
        store.pipe_file(image, b"1")
    upload_finished(tmp_path / "work", f"{bucket}/out", images, [*"abc"], MINIMAL)
    done = here("batch", f"{bucket}/in/", *MINIMAL, f"output={bucket}/out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"{bucket}/out/{name}/run" for name in "abc"]
    lines = store.cat_file(f"{bucket}/out/summary.jsonl").decode().splitlines()
    assert [json.loads(line)["psnr"] for line in lines] == [30.0] * 3
