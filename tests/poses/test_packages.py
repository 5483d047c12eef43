"""The documented way to install each network: on every Python, as far as the registry goes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lift.registry import catalogue

NETWORKS = ("mast3r", "vggt", "depth_anything_3")
PYTHONS = ("3.10.0", "3.11.0", "3.12.0", "3.13.5")
NO_NETWORK = r"NewConnectionError|Name or service not known|Max retries|Temporary failure|timed out"
DOCS = Path(__file__).parents[2] / "docs" / "pose-estimators.md"


def words(name: str) -> list[str]:
    return catalogue()("pose", name).install.split()


@pytest.mark.parametrize("name", NETWORKS)
def test_documentation_has_the_command_of_the_component(name):
    assert catalogue()("pose", name).install in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NETWORKS)
def test_command_installs_nothing_but_what_it_names(name):
    command = words(name)
    assert command[:3] == ["pip", "install", "--no-deps"], "torch and numpy must stay as they are"
    sources = [word for word in command[3:] if word.startswith("git+")]
    assert all(re.search(r"@[0-9a-f]{40}$", word) for word in sources), "a fixed commit"
    assert not {"instantsplat", "roma"} & set(command)


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
def test_packages_of_the_registry_exist_for_every_python(python, tmp_path):
    flags = ["--dry-run", "--target", str(tmp_path), "--only-binary=:all:", "--ignore-installed"]
    for name in NETWORKS:
        chosen = [word for word in words(name)[2:] if not word.startswith("git+")]
        found = subprocess.run(
            [sys.executable, "-m", "pip", "install", *flags, "--python-version", python, *chosen],
            capture_output=True,
            text=True,
        )
        if found.returncode and re.search(NO_NETWORK, found.stderr):
            pytest.skip("needs a network with a package registry")
        assert found.returncode == 0, found.stderr[-600:]
        assert "Would install" in found.stdout
