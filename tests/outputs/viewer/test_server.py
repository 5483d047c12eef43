"""The viewer answers on the loopback device, and on no other unless it is told to."""

import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace

import psutil
import pytest

from lift.outputs.viewer import file_content, serve, start_viewer
from lift.registry import ComponentError
from tests.helpers.scenes import write_small_scene


@pytest.fixture
def content(tmp_path):
    return file_content(write_small_scene(tmp_path))


def test_it_serves_this_machine_only_until_interrupted(tmp_path):
    pytest.importorskip("viser")
    ply = write_small_scene(tmp_path)
    code = (
        "import sys; from pathlib import Path; from lift.outputs.viewer import file_content, serve;"
        " serve(file_content(Path(sys.argv[1])), 0)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(ply)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = next(
            (
                word
                for line in process.stderr
                for word in line.split()
                if line.startswith("http://127.0.0.1:")
            ),
            None,
        )
        assert url is not None, "the URL is printed on stderr"
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.status == 200 and b"<html" in answer.read().lower()
        listening = [
            c
            for c in psutil.Process(process.pid).net_connections()
            if c.status == psutil.CONN_LISTEN
        ]
        assert listening and {c.laddr.ip for c in listening} == {"127.0.0.1"}

        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0 and out == "" and "Traceback" not in err
    finally:
        process.kill()
        process.wait()


def test_used_port_is_an_error_and_not_another_port(content):
    pytest.importorskip("viser")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ValueError, match=f"port is {port}, which another program uses"):
            start_viewer(content, port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "", "a b"])
def test_an_address_of_another_machine_is_an_error(content, host):
    pytest.importorskip("viser")
    with pytest.raises(ComponentError, match="--host is .*, which is no address of this machine"):
        start_viewer(content, 0, host)


def test_a_port_out_of_range_is_an_error(content):
    pytest.importorskip("viser")
    with pytest.raises(ComponentError, match="--port is 65536; choose 0 to 65535"):
        start_viewer(content, 65536)


def test_missing_viser_gives_an_install_hint(content, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(ImportError, match=r"pip install 'lift\[viewer\]'"):
        serve(content, 0)


def test_all_networks_get_a_url_with_a_token(content):
    pytest.importorskip("viser")
    viewer = start_viewer(content, 0, "0.0.0.0")
    try:
        address, _, token = viewer.url.partition("/?token=")
        assert len(token) >= 32 and "0.0.0.0" not in address
        plain = f"http://127.0.0.1:{viewer.server.get_port()}/"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(plain, timeout=30)
    finally:
        viewer.stop()


def test_other_gaussians_replace_the_present_ones(content):
    pytest.importorskip("viser")
    viewer = start_viewer(content, 0)
    try:
        fewer = content.gaussians[:7]
        viewer.set_gaussians(fewer, "step 10 of 30")
        assert viewer.content.gaussians is fewer and viewer.content.status == "step 10 of 30"
        viewer.set_status("finished")
        assert viewer.content.gaussians is fewer and viewer.content.status == "finished"
        viewer.set_content(replace(content, label="done"))
        assert len(viewer.content.gaussians.means) == 20 and viewer.content.label == "done"
    finally:
        viewer.stop()
