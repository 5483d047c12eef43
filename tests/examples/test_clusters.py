"""The files for SLURM, Kubernetes and Ray cover each picture of a list once."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "examples" / "clusters"
SCRIPT = FOLDER / "slurm-array.sh"
RECORDER = """#!{python}
import json, os, sys
with open(os.environ["RECORD"], "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
"""
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / name).read_text())


def directives() -> dict[str, str]:
    """The options that sbatch reads from the script."""
    return dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", SCRIPT.read_text(), re.M))


def array_range(words: str) -> range:
    first, last = words.split("-")
    return range(int(first), int(last) + 1)


def shard_of(words: list[str]) -> tuple[int, int]:
    index, count = words[words.index("--shard") + 1].split("/")
    return int(index), int(count)


def run_job(folder: Path, task: int, *words: str, **variables: str) -> subprocess.CompletedProcess:
    """Run the script as a job of the array, with commands that record their arguments."""
    programs = folder / "programs"
    if not programs.is_dir():
        programs.mkdir()
        (programs / "lift").write_text(RECORDER.format(python=sys.executable))
        (programs / "srun").write_text(
            '#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n'
        )
        for program in programs.iterdir():
            program.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    environment |= {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "RECORD": str(folder / "record.jsonl"),
        "SLURM_ARRAY_TASK_ID": str(task),
        "SLURM_CPUS_PER_TASK": directives()["cpus-per-task"],
    }
    return subprocess.run(
        ["bash", SCRIPT, *words],
        cwd=folder,
        env={**environment, **variables},
        capture_output=True,
        text=True,
    )


def recorded(folder: Path) -> list[list[str]]:
    lines = (folder / "record.jsonl").read_text().splitlines()
    return [yaml.safe_load(line) for line in lines]


def test_every_file_is_tested():
    tested = Path(__file__).read_text()
    assert all(path.name in tested for path in FOLDER.iterdir())


@needs_bash
def test_the_slurm_script_is_bash():
    done = subprocess.run(["bash", "-n", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert SCRIPT.stat().st_mode & stat.S_IXUSR
    lines = SCRIPT.read_text().splitlines()
    commands = [k for k, line in enumerate(lines) if line and not line.startswith("#")]
    options = [k for k, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert max(options) < min(commands), "sbatch reads options before the first command only"


@needs_bash
@pytest.mark.parametrize("shards", [None, 3])
def test_slurm_jobs_cover_the_list_once(tmp_path, shards):
    pictures = [f"{k}.jpg" for k in range(20)]
    (tmp_path / "list.txt").write_text("\n".join(pictures))
    tasks = array_range(directives()["array"]) if shards is None else range(shards)
    variables = {} if shards is None else {"SHARDS": str(shards)}
    for task in tasks:
        done = run_job(tmp_path, task, "fit.steps=4", **variables)
        assert done.returncode == 0, done.stderr
    covered = []
    for words in recorded(tmp_path):
        assert words[:2] == ["batch", "list.txt"] and words[-2:] == [
            "output=outputs",
            "fit.steps=4",
        ]
        index, count = shard_of(words)
        assert 0 <= index < count == len(tasks)
        covered += (tmp_path / words[1]).read_text().splitlines()[index::count]
    assert sorted(covered) == sorted(pictures)


@needs_bash
def test_a_slurm_job_submitted_alone_keeps_its_shard(tmp_path):
    done = run_job(tmp_path, 7, SLURM_ARRAY_TASK_COUNT="1", LIST="a b.txt", OUTPUT="/scenes")
    assert done.returncode == 0, done.stderr
    (words,) = recorded(tmp_path)
    assert words == ["batch", "a b.txt", "--shard", "7/16", "output=/scenes"]


@needs_bash
def test_a_slurm_job_without_a_shard_is_an_error(tmp_path):
    done = run_job(tmp_path, 4, SHARDS="4")
    assert done.returncode == 2 and "SHARDS=4" in done.stderr
    assert not (tmp_path / "record.jsonl").exists()


@needs_bash
def test_a_failed_slurm_job_fails(tmp_path):
    assert run_job(tmp_path, 0).returncode == 0
    (tmp_path / "programs" / "lift").write_text("#!/bin/sh\nexit 3\n")
    assert run_job(tmp_path, 0).returncode == 3


def test_kubernetes_pods_cover_the_list_once():
    job = load("kubernetes-job.yaml")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert re.fullmatch("[a-z0-9-]+", job["metadata"]["name"])
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    (container,) = spec["template"]["spec"]["containers"]
    words = container["args"]
    # Kubernetes replaces $(NAME) in arguments.
    shards = [
        word.replace("$(JOB_COMPLETION_INDEX)", str(k))
        for k in range(spec["completions"])
        for word in words
        if "JOB_COMPLETION_INDEX" in word
    ]
    assert shards == [f"{k}/{spec['completions']}" for k in range(spec["completions"])]
    assert words[:1] == ["batch"] and words[words.index("--shard") + 1].startswith("$(")
    assert 0 < spec["parallelism"] <= spec["completions"]


def test_kubernetes_pods_may_run_as_another_user_without_rights():
    spec = load("kubernetes-job.yaml")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    # `backoffLimitPerIndex` needs it.
    assert spec["restartPolicy"] == "Never"
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0
    limits = container["securityContext"]
    assert limits["readOnlyRootFilesystem"] and not limits["allowPrivilegeEscalation"]
    assert {"requests", "limits"} == set(container["resources"])
    for resources in container["resources"].values():
        assert {"cpu", "memory"} <= set(resources)
    volumes = {volume["name"] for volume in spec["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert not container["image"].endswith(":latest") and ":" in container["image"]
    values = {variable["name"]: variable["value"] for variable in container["env"]}
    assert values["OMP_NUM_THREADS"] == container["resources"]["limits"]["cpu"]


def test_the_ray_cluster_has_what_ray_requires():
    cluster = load("ray-cluster.yaml")
    # The required fields of ray-schema.json, and of the provider `local`.
    assert {"cluster_name", "provider", "auth"} <= set(cluster)
    provider = cluster["provider"]
    assert provider["type"] == "local" and provider["head_ip"]
    assert cluster["max_workers"] == len(provider["worker_ips"])
    assert cluster["auth"]["ssh_user"]
    head, workers = cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]
    assert " --head " in head[-1] and "--autoscaling-config=" in head[-1]
    assert "--address=$RAY_HEAD_IP:6379" in workers[-1] and "--port=6379" in head[-1]


def test_the_ray_cluster_installs_locked_packages():
    commands = load("ray-cluster.yaml")["setup_commands"]
    (lock,) = [word for line in commands for word in line.split() if "/locks/" in word]
    assert (FOLDER.parents[1] / lock.removeprefix("~/lift-source/")).is_file()
    tag = Path(lock).stem.removeprefix("py")
    assert any(f"python{tag[0]}.{tag[1:]} -m venv" in line for line in commands)
