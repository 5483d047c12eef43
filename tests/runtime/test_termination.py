"""SIGTERM and Ctrl-C end a command with one line and an exit status of their own."""

import os
import signal
import subprocess
import sys
import time

import pytest

from lift.runtime import launcher, termination
from lift.runtime.launcher import stopped_message
from tests.helpers.commands import here
from tests.helpers.engines import InlineEngine
from tests.helpers.settings import MINIMAL

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")

MESSAGE = "lift: stopped by SIGTERM; run the same command again to go on\n"


def terminate(*_arguments, **_settings) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)  # the signal ends the sleep


COMMANDS = {
    "run": ("lift.pipeline.run", ("run", "image=coffee", *MINIMAL)),
    "batch": ("lift.pipeline.run", ("batch", "coffee", "rocket", *MINIMAL)),
    "eval": (
        "lift.cli.evaluate.build_evaluations",
        ("eval", "dataset=ray_cast", "dataset.scenes=[room]", *MINIMAL),
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_sigterm_ends_commands_with_143_and_one_line(name, tmp_path, monkeypatch):
    function, arguments = COMMANDS[name]
    monkeypatch.setattr(function, terminate)
    monkeypatch.setattr("lift.batch.jobs.LocalEngine", InlineEngine)
    done = here(*arguments, f"output={tmp_path}", cwd=tmp_path)
    assert done.returncode == 143 and done.stderr.endswith(MESSAGE), done.stderr
    assert "Traceback" not in done.stderr and "failed" not in done.stderr


@pytest.fixture
def handler():
    with termination.answer_stop_signals() as installed:
        yield installed


def test_sigterm_is_known_when_its_exception_is_replaced(handler):
    with pytest.raises(SystemExit):  # as Lightning does
        try:
            terminate()
        except KeyboardInterrupt:
            sys.exit(1)
    assert handler.received == signal.SIGTERM


def test_launched_processes_keep_the_default_of_sigterm(monkeypatch):
    monkeypatch.setenv("LIFT_REPORT", "/nowhere")
    with termination.answer_stop_signals():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_the_caller_stays():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with termination.answer_stop_signals():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


SWALLOWS = """
import os, signal, time
from lift.runtime import launcher, termination
termination.GRACE_SECONDS = 0.2
with termination.answer_stop_signals():
    for second in range({signals}):
        try:
            os.kill(os.getpid(), signal.{name})
            time.sleep(20)
        except KeyboardInterrupt:
            pass
    time.sleep(20)
"""


@pytest.mark.parametrize(
    ("name", "signals", "status"),
    [("SIGTERM", 1, 143), ("SIGTERM", 2, 143), ("SIGINT", 1, 130), ("SIGINT", 2, 130)],
)
def test_a_program_that_drops_the_exception_is_ended(name, signals, status):
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWS.format(name=name, signals=signals)],
        capture_output=True,
        text=True,
        timeout=15,
    )
    cause = " by SIGTERM" if name == "SIGTERM" else ""
    message = f"lift: stopped{cause}; run the same command again to go on\n"
    assert done.returncode == status and done.stderr == message, done.stderr


def test_the_message_of_ctrl_c_names_no_signal():
    assert stopped_message() == "stopped; run the same command again to go on"


def test_a_launch_puts_the_handlers_of_signals_back(monkeypatch):
    def program(*_arguments) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun installs one and leaves it
        os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGTERM"

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", lambda *_config: program)
    before = signal.getsignal(signal.SIGTERM)
    launcher.launch(["list"], 2)
    assert signal.getsignal(signal.SIGTERM) is before
    assert "TORCHELASTIC_SIGNALS_TO_HANDLE" not in os.environ
