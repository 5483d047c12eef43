"""Places, launching, and stages that several processes make."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from lift.geometry import pinhole
from lift.io.image import Picture
from lift.pipeline import generate
from lift.planners.articulated import Articulated
from lift.priors.synthetic import Synthetic
from lift.registry import ComponentError
from lift.runtime import devices, distributed
from lift.runtime.devices import device_indices
from lift.runtime.distributed import ProcessInfo
from lift.runtime.session import Session
from lift.types import Depth, Frames
from tests.helpers.commands import StartedProgram, here, lift, start_lift
from tests.helpers.settings import TINY
from tests.helpers.workers import on_each

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
SRUN = {
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_JOB_NAME": "x",
}


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({}, ProcessInfo()),
        (TORCHRUN, ProcessInfo(3, 4, 1, 2)),
        (SRUN, ProcessInfo(3, 4, 1, 2)),
        ({**SRUN, **TORCHRUN, "RANK": "2"}, ProcessInfo(2, 4, 1, 2)),
        ({**SRUN, "SLURM_JOB_NAME": "bash"}, ProcessInfo()),
    ],
)
def test_a_process_knows_its_place(monkeypatch, variables, expected):
    for name in (*TORCHRUN, *SRUN):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert distributed.process_info() == expected
    distributed.clear_ranks()
    assert distributed.process_info() == ProcessInfo()


def test_srun_gives_the_address_of_the_first_process(monkeypatch):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "to be put back")
        monkeypatch.delenv(name)
    for name, value in {**SRUN, "SLURM_NODELIST": "node[07-09]", "SLURM_JOB_ID": "51234"}.items():
        monkeypatch.setenv(name, value)
    distributed.set_main_address()
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("node07", "16234")


@pytest.mark.parametrize("setting, count", [(1, 1), ("1", 1), (3, 3), ("auto", 1)])
def test_devices_of_a_cpu(setting, count, monkeypatch):
    monkeypatch.setattr(devices, "cpu_cores", lambda: 4)
    assert device_indices({"accelerator": "cpu", "devices": setting}) == list(range(count))


def test_more_processes_than_cores_are_refused(monkeypatch):
    monkeypatch.setattr(devices, "cpu_cores", lambda: 4)
    with pytest.raises(ComponentError, match=r"trainer.devices is 5.*4 cores.*choose 1 to 4"):
        device_indices({"accelerator": "cpu", "devices": 5})


@pytest.mark.parametrize("setting", [0, -2, "many", True, [], 1.5, [0, 1], -1])
def test_other_devices_are_named_with_the_choices(setting):
    with pytest.raises(ComponentError, match=r"trainer.devices is .*choose a number"):
        device_indices({"accelerator": "cpu", "devices": setting})


def test_gpus_are_counted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for setting, expected in {
        "auto": [0, 1, 2, 3],
        -1: [0, 1, 2, 3],
        2: [0, 1],
        "2,3": [2, 3],
    }.items():
        assert device_indices({"accelerator": "gpu", "devices": setting}) == expected
    assert device_indices({"accelerator": "gpu", "devices": [1, 3]}) == [1, 3]
    for setting in (5, [0, 4], [1, 1]):
        with pytest.raises(ComponentError, match="torch sees 4 GPUs, 0 to 3"):
            device_indices({"accelerator": "gpu", "devices": setting})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for setting in (1, 2, "auto"):
        with pytest.raises(
            ComponentError,
            match="trainer.accelerator is 'gpu', but torch sees no CUDA device; choose",
        ):
            device_indices({"accelerator": "gpu", "devices": setting})
    with pytest.raises(
        ComponentError, match="trainer.accelerator is 'gpus'; choose auto, cpu or gpu"
    ):
        device_indices({"accelerator": "gpus", "devices": 1})


CAMERA = pinhole(64, 64, 58.0)
DEPTH = Depth(torch.full((64, 64), 4.0), torch.ones(64, 64, dtype=torch.bool), "metric")


class Slow(Synthetic):
    """Each clip takes its time, and is noted with who made it, from how many frames."""

    def __init__(self, context: str, log: Path, rank: int, seconds: float) -> None:
        super().__init__(image="plain")
        self.context, self.log, self.rank, self.seconds = context, log, rank, seconds

    def __call__(self, frames, cameras, clip, seed):
        assert len(frames) == len(cameras) and 0 <= clip.source < len(frames)
        begun = time.time()
        time.sleep(self.seconds)
        made = super().__call__(frames, cameras, clip, seed)
        with self.log.open("a") as log:
            log.write(
                json.dumps([clip.name, self.rank, len(frames), clip.source, begun, time.time()])
                + "\n"
            )
        return made


def clips(folder: Path, context: str, seconds: float = 0.0) -> tuple[Frames, list]:
    config = OmegaConf.create(
        {
            "output": str(folder),
            "device": "cpu",
            "seed": 0,
            "image": "plain",
            "prior": {"name": "synthetic"},
            "trainer": {"accelerator": "cpu"},
        }
    )
    session = Session(config)
    prior = Slow(context, folder / "log", session.process.rank, seconds)
    plan = Articulated(2, ("right", "up"), num_frames=2)(CAMERA, DEPTH, None)
    picture = Picture("plain", prior.render_truth(CAMERA), CAMERA, "digest", ())
    frames, _ = generate(session, picture, DEPTH, prior, plan, "before")
    assert [stage.cached for stage in session.stages] == [False] * 6
    return frames, [json.loads(line) for line in (folder / "log").read_text().split("\n") if line]


def make_clips(
    rank: int, world: int, device: torch.device, folder: Path, context: str, seconds: float
) -> None:
    frames, _ = clips(folder, context, seconds)
    torch.save(frames.images, folder / f"images{rank}")


@pytest.mark.slow
@pytest.mark.parametrize("context", ["ancestors", "all"])
def test_independent_clips_are_spread_over_processes(tmp_path, context):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    alone, log = clips(tmp_path / "one", context)
    names = ["right", "up", "right/right", "right/up", "up/right", "up/up"]
    assert [line[0] for line in log] == names
    # The frames that are passed on, and the continued one: last of its chain or of the plan.
    expected = (
        [(1, 0), (1, 0), *[(3, 2)] * 4]
        if context == "ancestors"
        else [(1, 0), (3, 0), (5, 2), (7, 2), (9, 4), (11, 4)]
    )
    assert [tuple(line[2:4]) for line in log] == expected

    on_each(make_clips, 2, "cpu", tmp_path / "two", context, 1.0)
    _, log = (
        [],
        [json.loads(line) for line in (tmp_path / "two" / "log").read_text().split("\n") if line],
    )
    assert sorted(line[0] for line in log) == sorted(names), "every clip is made once"
    for rank in (0, 1):
        assert torch.load(tmp_path / "two" / f"images{rank}").equal(alone.images), (
            "in the plan's order on every process"
        )
    makers = [line[1] for line in log]
    if context == "all":
        assert set(makers) == {0} and [line[0] for line in log] == names
    else:
        assert makers.count(0) >= 2 and makers.count(1) >= 2
        spans = sorted(line[4:6] for line in log)
        assert any(
            later[0] < earlier[1] for earlier, later in zip(spans, spans[1:], strict=False)
        ), "at the same time"


# A plugin that ends one process of two in its fit.
SABOTAGE = """
import os, signal, time
from pathlib import Path
from lift.training import fit
keep = fit.CheckpointCallback.on_train_epoch_end
def on_train_epoch_end(self, trainer, module):
    # The first process writes its checkpoint without waiting for the second one.
    # So an epoch may be repeated.
    if os.environ.get("RANK") == "1":
        if os.environ["HOW"] == "error" and trainer.current_epoch == 0:
            raise ValueError("fit.steps is 30; choose otherwise")
        if os.environ["HOW"] == "kill" and trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    keep(self, trainer, module)
fit.CheckpointCallback.on_train_epoch_end = on_train_epoch_end
"""


def two(folder: Path, how: str, *more: str) -> StartedProgram:
    (folder / "sabotage.py").write_text(SABOTAGE)
    command = ("run", "image=coffee", *TINY, "trainer.devices=2", f"output={folder / 'out'}")
    return start_lift(*command, *more, cwd=folder, LIFT_PLUGINS="sabotage", HOW=how)


def members(parent: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(parent).children(recursive=True)]


def gone(pids: list[int]) -> bool:
    import psutil

    for _ in range(200):
        if not any(
            psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
            for pid in pids
        ):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_failed_process_ends_all_and_the_run_resumes(tmp_path):
    killed = "kill", 128 + signal.SIGKILL, "lift: process 1 of 2 was ended by SIGKILL"
    for how, status, message in (("error", 2, "lift: fit.steps is 30; choose otherwise"), killed):
        done = two(tmp_path, how).finish()
        out, err = done.stdout, done.stderr
        assert done.returncode == status and err.count("found") == (
            0 if how == "error" else 3 + 4
        ), (how, err)
        lines = err.strip().split("\n")
        assert lines[-1].startswith(message) and err.count(message) == 1 and out == "", (how, err)
        assert "Traceback" not in err and "torch.distributed.elastic" not in err
    # After a kill in epoch one on two processes, one process completes the run.
    # It finds every stage and the checkpoint.
    one = here("run", "image=coffee", *TINY, f"output={tmp_path / 'out'}", cwd=tmp_path)
    assert one.returncode == 0 and one.stderr.count("found") == 3 + 4, one.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_launched_processes_end_with_their_launcher(tmp_path, how):
    process = two(tmp_path, "nothing", "fit.steps=100000")
    for _ in range(1200):
        if list((tmp_path / "out" / "cache").glob(".fit-*.draft/checkpoint.ckpt")):
            break
        time.sleep(0.1)
    pids = members(process.process.pid)
    assert len(pids) >= 2
    process.send_signal(how)
    done = process.finish()
    assert gone(pids)
    status, message = {
        signal.SIGINT: (130, "stopped; run the same command again"),
        signal.SIGTERM: (143, "stopped by SIGTERM; run the same command again"),
        signal.SIGKILL: (-signal.SIGKILL, ""),
    }[how]
    assert done.returncode == status
    assert "Traceback" not in done.stderr and message in done.stderr.strip().split("\n")[-1]


@pytest.mark.slow
def test_jobs_of_hydras_submitit_launcher(tmp_path):
    """The local executor runs jobs in processes. The user gets their errors as one line."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    launcher = (
        "run",
        "-m",
        "hydra/launcher=submitit_local",
        *TINY,
        "fit.steps=5",
        f"output={tmp_path}",
    )
    failed = lift(*launcher, "image=nowhere.jpg,elsewhere.jpg", cwd=tmp_path)
    assert (
        failed.returncode == 2 and "image is 'nowhere.jpg'" in failed.stderr.strip().split("\n")[-1]
    )
    assert "Traceback" not in failed.stderr


@pytest.mark.slow
def test_srun_starts_a_run_without_our_launcher(tmp_path):
    """Two processes with the variables that srun sets: one scene, one voice."""
    command = ("run", "image=coffee", *TINY, f"output={tmp_path / 'out'}")
    variables = {
        **SRUN,
        "SLURM_NTASKS": "2",
        "SLURM_NODELIST": "localhost",
        "SLURM_JOB_ID": str(50000 + os.getpid() % 10000),
        "SLURM_NODEID": "0",
    }
    both = [
        start_lift(*command, **{**variables, "SLURM_PROCID": rank, "SLURM_LOCALID": rank})
        for rank in ("0", "1")
    ]
    first, silent = [started.finish() for started in both]
    assert first.returncode == silent.returncode == 0, (first.stderr, silent.stderr)
    assert (Path(first.stdout.strip()) / "report.html").exists()
    assert (silent.stdout, silent.stderr) == ("", "")
