"""The lock files pin what setup.cfg needs, by version and hash."""

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "locks"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
CPU = [f"py{python.replace('.', '')}.txt" for python in PYTHONS]
CUDA = [name.replace(".txt", "-cuda.txt") for name in CPU]


def read_lock(name: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes of each package."""
    text = (FOLDER / name).read_text()
    found = re.findall(r"^([a-z0-9-]+)==(\S+)((?: \\\n    --hash=\S+)+)$", text, re.M)
    assert len(found) == len(re.findall("^[^ #]", text, re.M)), "every package has a hash"
    return {
        name: (version, re.findall("--hash=(.+?)(?: |$)", rest)) for name, version, rest in found
    }


def requirements(*extras: str) -> list[Requirement]:
    """What setup.cfg needs on Linux x86-64, apart from versions of Python."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["options"]["install_requires"].splitlines()
    for extra in extras:
        lines += config["options.extras_require"][extra].splitlines()
    return [Requirement(line) for line in lines if line]


def extras(name: str) -> list[str]:
    """The extras that the first line of a lock file names."""
    title = (FOLDER / name).read_text().splitlines()[0]
    match = re.search(r"lift\[(.+?)\]", title)
    return match[1].split(",") if match else []


def test_each_python_has_a_lock_for_cpu_and_cuda():
    assert {path.name for path in FOLDER.glob("*.txt")} == {*CPU, *CUDA, "nvcc.txt", "gsplat.txt"}
    text = (ROOT / "CONTRIBUTING.md").read_text() + (ROOT / "README.md").read_text()
    # The tests need diffusers, which has no version for the first one.
    assert f"Python {PYTHONS[1]} to {PYTHONS[-1]}" in text


@pytest.mark.parametrize("name", [*CPU, *CUDA])
def test_a_lock_satisfies_setup_cfg(name):
    lock = read_lock(name)
    for requirement in requirements(*extras(name)):
        package = canonicalize_name(requirement.name)
        assert package in lock, package
        assert lock[package][0] in requirement.specifier, requirement


@pytest.mark.parametrize("name", [*CPU, *CUDA])
def test_a_lock_agrees_with_the_constraints(name):
    lock = read_lock(name)
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert pins
    for pin in pins:
        assert lock[pin.name][0] in pin.specifier


@pytest.mark.parametrize("name", [*CPU, *CUDA, "nvcc.txt", "gsplat.txt"])
def test_a_lock_has_hashes_and_no_address(name):
    for package, (version, hashes) in read_lock(name).items():
        assert hashes and "+" not in version, package
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", value) for value in hashes), package
    text = (FOLDER / name).read_text()
    assert "://" not in text and "index" not in text.replace("indexed", "")


def test_locks_for_cpus_have_no_cuda():
    for name in CPU:
        assert not [package for package in read_lock(name) if re.match("(nvidia|cuda)-", package)]
    for name in CUDA:
        assert "gsplat" in read_lock(name) and "nvidia-cublas" in read_lock(name)


def test_the_compiler_has_the_version_of_torch():
    version = read_lock(CUDA[0])["cuda-toolkit"][0]
    assert read_lock("nvcc.txt")["cuda-toolkit"][0] == version
    assert read_lock("gsplat.txt")["gsplat"][0] == read_lock(CUDA[0])["gsplat"][0]


def test_hashes_are_those_of_wheels_that_fit():
    pytest.importorskip("tomllib", reason="the program needs Python 3.11")
    import importlib.util

    spec = importlib.util.spec_from_file_location("make_locks", FOLDER / "make_locks.py")
    assert spec is not None and spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    tags = program.supported_tags("3.11")
    names = (
        "a-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "a-1-cp310-abi3-manylinux_2_28_x86_64.whl",
        "a-1-py3-none-any.whl",
        "a-1-cp312-cp312-manylinux_2_28_x86_64.whl",
        "a-1-cp311-cp311-manylinux_2_28_aarch64.whl",
        "a-1-cp311-cp311-musllinux_1_2_x86_64.whl",
        "a-1-cp311-cp311-win_amd64.whl",
    )
    wheels = [{"name": name, "hashes": {"sha256": str(k)}} for k, name in enumerate(names)]
    package = {"name": "a", "wheels": wheels, "sdist": {"hashes": {"sha256": "source"}}}
    assert program.package_hashes(package, tags) == ["0", "1", "2"]
    assert program.package_hashes(package, set()) == ["source"]
    assert program.PYTHONS == PYTHONS
