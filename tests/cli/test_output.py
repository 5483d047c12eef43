"""What is printed: names in other bytes, other locales, and a terminal that takes no more."""

import errno
import io
import os
import subprocess
import sys

import pytest

from lift.cli.output import _replace, flush_output

PRINT = (
    "from lift.cli.output import prepare_output; prepare_output(); import sys\n"
    "print(sys.argv[1]); print(sys.argv[1], file=sys.stderr)"
)
C_LOCALE = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}


@pytest.mark.parametrize("variables", [{}, C_LOCALE], ids=["utf-8", "C"])
@pytest.mark.parametrize("name", [b"caf\xe9", "写真".encode(), b"plain"])
def test_names_of_files_come_out_as_their_bytes(variables, name):
    command = [os.fsencode(sys.executable), b"-c", PRINT.encode(), name]
    done = subprocess.run(command, capture_output=True, env={**os.environ, **variables})
    assert (done.returncode, done.stdout, done.stderr) == (0, name + b"\n", name + b"\n")


def test_characters_that_the_locale_has_not_are_escaped():
    code = "from lift.cli.output import prepare_output; prepare_output(); print('\\xe9 \\u5199')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={**os.environ, **C_LOCALE}
    )
    assert done.stdout == rb"\xe9 \u5199" + b"\n"


def test_a_mixed_text_is_escaped():
    error = UnicodeEncodeError("ascii", "a\udce9é", 1, 3, "no")
    assert _replace(error) == ("\\udce9\\xe9", 3)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has /dev/full")
def test_a_full_disk_of_the_output_is_one_line():
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lift", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.stderr.startswith("lift: the disk is full: ")
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_a_full_disk_at_the_end_names_the_output(monkeypatch):
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(OSError, match="No space left on device: 'standard output'"):
        flush_output()


def test_a_full_disk_in_a_thread_is_one_line():
    code = (
        "import errno, threading; from lift.cli.output import report_in_threads\n"
        "report_in_threads()\n"
        "def fail(): raise OSError(errno.ENOSPC, 'No space left on device', 'x.events')\n"
        "thread = threading.Thread(target=fail); thread.start(); thread.join()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.startswith("lift: the disk is full: x.events; "), done.stderr
    assert done.stderr.count("\n") == 1


def test_a_reader_that_ends_early_is_no_error():
    command = f"{sys.executable} -m lift list | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout == "planner\n" and done.stderr == ""
