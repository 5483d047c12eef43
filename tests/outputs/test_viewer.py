"""The viewer answers on the loopback device, and on no other."""

import signal
import socket
import subprocess
import sys
import urllib.request

import psutil
import pytest

from lift.outputs.viewer import serve, start
from tests.helpers.scenes import write_small_scene


@pytest.fixture
def ply(tmp_path):
    return write_small_scene(tmp_path)


def test_it_serves_this_machine_only_until_interrupted(ply):
    pytest.importorskip("viser")
    code = (
        "import sys; from pathlib import Path; from lift.outputs.viewer import serve; "
        "serve(Path(sys.argv[1]), 0)"
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


def test_used_port_is_an_error_and_not_another_port(ply):
    pytest.importorskip("viser")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ValueError, match=f"port is {port}, which another program uses"):
            start(ply, port)


def test_missing_viser_gives_an_install_hint(ply, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(ImportError, match=r"pip install 'lift\[viewer\]'"):
        serve(ply, 0)
