"""The doctor names what is there and what is not, and survives every patient."""

import importlib.metadata
import os
import subprocess
import sys

import pytest
import torch

from lift import __version__
from lift.cli import doctor
from lift.registry import SLOTS, catalogue
from lift.runtime import compile_ahead


@pytest.fixture
def quick(monkeypatch):
    """No processes: starting torch anew takes seconds."""
    monkeypatch.setattr(doctor, "_try", lambda code, timeout=None: (True, "fine"))


def test_it_names_versions_devices_and_every_extra(quick):
    text = doctor.report()
    assert f"lift {__version__}" in text and f"torch {torch.__version__}" in text
    assert "GiB" in text and "CPU: " in text
    for extra in importlib.metadata.metadata("lift").get_all("Provides-Extra"):
        assert f"\n  {extra} " in text
    enabled = {
        f"{slot}={name}": entry.extra
        for slot in SLOTS
        for name, entry in catalogue().entries[slot].items()
        if entry.extra
    }
    for component, extra in enabled.items():
        line = next(line for line in text.splitlines() if line.startswith(f"  {extra} "))
        assert component in line


def test_a_missing_extra_comes_with_the_command_that_adds_it(quick, monkeypatch):
    versions = {"viser": None}
    monkeypatch.setattr(doctor, "_version", lambda package: versions.get(package, "1.0"))
    text = doctor.report()
    assert "lift view" in text and "not installed: viser; pip install 'lift[viewer]'" in text
    assert "lift[onnx]" not in text


def test_trials_run_in_their_own_process(monkeypatch):
    trials = {
        "torch": "print('CUDA: none')",
        "numba": "import os; os.abort()",
        "ffmpeg": "raise OSError('no such codec')",
    }
    monkeypatch.setattr(doctor, "_TRIALS", trials)
    text = doctor.report()
    assert "\n  CUDA: none" in text
    assert "numba does not work: exit status" in text
    assert "ffmpeg does not work: OSError: no such codec" in text


def test_what_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(doctor, "_TRIAL_TIMEOUT", 0.2)
    assert doctor._try("import time; time.sleep(60)") == (
        False,
        "no answer within 0.2 s: it hangs, or the machine is very busy",
    )


def test_a_broken_torchvision_is_called_by_name(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda package: "0.20")
    outcome = {"import torchvision": (False, "operator torchvision::nms does not exist")}
    monkeypatch.setattr(doctor, "_try", lambda code, _=None: outcome.get(code, (True, "")))
    text = doctor.report()
    assert (
        "torchvision does not work: operator torchvision::nms does not exist" in text
        and "pip uninstall torchvision" in text
    )


def network_line(name: str) -> str:
    return next(line for line in doctor.report().splitlines() if f"pose {name} " in line)


def test_networks_without_their_package_come_with_the_command(quick):
    for name in ("mast3r", "vggt", "depth_anything_3"):
        if catalogue()("pose", name).missing:
            hint = catalogue()("pose", name).install
            assert f"not installed: {hint}" in network_line(name)


def test_networks_whose_import_fails_say_why(monkeypatch):
    entry = catalogue()("pose", "vggt")
    monkeypatch.setattr(entry, "requires", ("json",))
    outcome = (False, "ImportError: libcudart.so.12")
    monkeypatch.setattr(
        doctor,
        "_try",
        lambda code, timeout=None: outcome if "import Vggt" in code else (True, ""),
    )
    line = network_line("vggt")
    assert (
        f"cannot be imported: ImportError: libcudart.so.12; install it by: {entry.install}" in line
    )


def test_networks_that_can_be_imported_name_their_licence(quick, monkeypatch):
    monkeypatch.setattr(catalogue()("pose", "mast3r"), "requires", ("json",))
    assert "can be imported; licence: CC-BY-NC-SA-4.0" in network_line("mast3r")


def test_broken_plugins_and_a_broken_installation_become_lines(quick, monkeypatch):
    monkeypatch.setitem(catalogue().broken, "sad_plugin", RuntimeError("two\nlines"))

    def gone(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", gone)
    text = doctor.report()
    assert "plugin sad_plugin is broken: RuntimeError: two lines" in text
    assert "not available: PackageNotFoundError" in text


@pytest.mark.parametrize("name", list(doctor._TRIALS))
def test_every_trial_is_python(name):
    compile(doctor._TRIALS[name], name, "exec")


@pytest.mark.slow
def test_doctor_distinguishes_empty_and_full_cache(tmp_path):
    ask = "from lift.runtime import compile_ahead; print(compile_ahead.fit_loops_cached())"
    compile_ahead.compile_fit_loops()
    for variables, expected in (
        ({**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}, "False"),
        (dict(os.environ), "True"),
    ):
        assert (
            subprocess.run(
                [sys.executable, "-c", ask], env=variables, capture_output=True, text=True
            ).stdout.strip()
            == expected
        )
