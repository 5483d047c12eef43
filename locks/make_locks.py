"""Write the lock files of this folder: `python locks/make_locks.py`.

It needs Python 3.11 or newer, `pip install uv packaging` and a package index. It resolves the
newest versions. Options go to uv: `--exclude-newer 2026-11-01` resolves as on that day.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
EXTRAS = {"3.10": ("gpu", "depth")} | dict.fromkeys(PYTHONS[1:], ("gpu", "depth", "diffusion"))
"""Extras of the lock files for CUDA. diffusers needs Python 3.11."""
CUDA_ONLY = re.compile(r"(nvidia|cuda)-|triton$")
"""Packages that only torch's build for CUDA needs."""
NVCC = "cuda-toolkit[nvcc,crt,nvvm,cccl,cudart]"
"""What compiles kernels of gsplat in an image, of the version that torch is built with."""
MAX_GLIBC = 39
"""Newest minor version of glibc 2 whose wheels are used."""

Package = dict[str, Any]
"""A package of a pylock.toml file."""


def resolve(requirements: list[str], python: str, options: list[str]) -> list[Package]:
    """Resolve requirements for Linux x86-64.

    Args:
        requirements: Arguments of `uv pip compile`: files and `--extra` options.
        python: Version of Python, as in "3.11".
        options: More options of uv.
    """
    import tomllib

    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "pylock.toml"
        command = ["uv", "pip", "compile", *requirements, "--output-file", str(lock), "--quiet"]
        target = ["--python-version", python, "--python-platform", "x86_64-unknown-linux-gnu"]
        subprocess.run([*command, *target, *options], check=True, cwd=ROOT)
        return tomllib.loads(lock.read_text(encoding="utf-8"))["packages"]


def supported_tags(python: str) -> set[str]:
    """Return tags of wheels that a version of Python can install on Linux x86-64.

    Args:
        python: Version of Python, as in "3.11".
    """
    from packaging import tags

    version = tuple(int(number) for number in python.split("."))
    names = [f"manylinux_2_{minor}_x86_64" for minor in range(MAX_GLIBC, 4, -1)]
    names += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    interpreter = f"cp{version[0]}{version[1]}"
    found = [*tags.cpython_tags(version, platforms=names)]
    found += tags.compatible_tags(version, interpreter, names)
    return {str(tag) for tag in found}


def package_hashes(package: Package, tags: set[str]) -> list[str]:
    """Return the SHA-256 hashes of a package's wheels, or of its source if no wheel fits.

    Args:
        package: The package.
        tags: Tags of wheels that fit.
    """
    from packaging.utils import parse_wheel_filename

    hashes = []
    for wheel in package.get("wheels", []):
        name = wheel.get("name") or wheel["url"].rpartition("/")[2]
        if tags & {str(tag) for tag in parse_wheel_filename(name)[3]}:
            hashes.append(wheel["hashes"]["sha256"])
    return sorted(hashes) or [package["sdist"]["hashes"]["sha256"]]


def write_lock(name: str, title: str, packages: list[Package], tags: set[str]) -> None:
    """Write a lock file.

    Args:
        name: Name of the file.
        title: What it is for.
        packages: The packages.
        tags: Tags of wheels that fit. Without any, sources are used.
    """
    lines = [f"# {title}, Linux x86-64. Written by locks/make_locks.py."]
    for package in packages:
        lines.append(f"{package['name']}=={package['version']} \\")
        hashes = [f"    --hash=sha256:{value}" for value in package_hashes(package, tags)]
        lines += [f"{line} \\" for line in hashes[:-1]] + hashes[-1:]
    (FOLDER / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(options: list[str]) -> None:
    """Write all lock files.

    Args:
        options: Options of uv.
    """
    needs = ["setup.cfg", "--constraints", "constraints.txt"]
    cuda: list[Package] = []
    for python in PYTHONS:
        tags = supported_tags(python)
        name = f"py{python.replace('.', '')}"
        packages = resolve(needs, python, options)
        packages = [p for p in packages if not CUDA_ONLY.match(p["name"])]
        write_lock(f"{name}.txt", f"lift for CPUs, Python {python}", packages, tags)
        extras = [word for extra in EXTRAS[python] for word in ("--extra", extra)]
        cuda = resolve([*needs, *extras], python, options)
        title = f"lift[{','.join(EXTRAS[python])}] for CUDA, Python {python}"
        write_lock(f"{name}-cuda.txt", title, cuda, tags)
    versions = {package["name"]: package["version"] for package in cuda}
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{NVCC}=={versions['cuda-toolkit']}\n", encoding="utf-8")
        packages = resolve([str(requirements)], PYTHONS[-1], options)
    write_lock("nvcc.txt", "Compiler of CUDA", packages, supported_tags(PYTHONS[-1]))
    gsplat = [package for package in cuda if package["name"] == "gsplat"]
    write_lock("gsplat.txt", "Source of gsplat", gsplat, set())


if __name__ == "__main__":
    main(sys.argv[1:])
