"""Runs that are killed, interrupted or started twice at once."""

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.commands import StartedProgram, start_lift
from tests.helpers.settings import TINY

# A plugin that dies at a chosen point of an ordinary run of the program.
SABOTAGE = """
import os, signal
from pathlib import Path
from lift.runtime import cache
from lift.training import fit

stage, log = os.environ.get("DIE_IN"), os.environ["LOG"]
draft, finish = cache.Store._draft, cache.Store._finish
keep = fit.CheckpointCallback.on_train_epoch_end

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def _draft(self, final, resumable):
    Path(log).open("a").write(final.name + "\\n")
    return draft(self, final, resumable)

def _finish(self, folder, final, name, *args):
    if name == stage:
        die()
    finish(self, folder, final, name, *args)

def on_train_epoch_end(self, trainer, module):
    keep(self, trainer, module)
    if stage == "fit" and trainer.current_epoch == 1:
        die()

cache.Store._draft, cache.Store._finish = _draft, _finish
fit.CheckpointCallback.on_train_epoch_end = on_train_epoch_end
"""


@pytest.fixture
def sabotage(tmp_path) -> Path:
    (tmp_path / "sabotage.py").write_text(SABOTAGE)
    return tmp_path


def start_run(folder: Path, *more: str, **environment: str) -> StartedProgram:
    environment |= {"LIFT_PLUGINS": "sabotage", "LOG": str(folder / "log")}
    command = ("run", "image=coffee", *TINY, *more, f"output={folder / 'out'}")
    return start_lift(*command, cwd=folder, **environment)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_run_killed_in_any_stage_is_resumed(sabotage, finished_run):
    for stage in (
        "plan",
        "clip",
        "fit",
    ):  # one of each kind: a value, one of several values, what goes on from a checkpoint
        killed = start_run(sabotage, DIE_IN=stage).finish()
        assert killed.returncode == -signal.SIGKILL, stage
        assert not list((sabotage / "out" / "cache").glob(f"{stage}-*")), (
            "a half-made stage looks finished"
        )
    last = start_run(sabotage).finish()
    assert last.returncode == 0, last.stderr
    made = (sabotage / "log").read_text().split()
    assert Counter(name.split("-")[0] for name in made) == {
        "depth": 1,
        "plan": 2,
        "clip": 4 + 1,
        "reconstruct": 1,
        "fit": 2,
    }
    # The killed and resumed fit equals the uninterrupted one.
    # Without export of other formats, the scenes are equal bit for bit.
    run = Path(last.stdout.strip().split("\n")[-1])
    assert (run / "gaussians.ply").read_bytes() == (finished_run / "gaussians.ply").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGINT is POSIX")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_explains_how_to_resume(sabotage, how):
    process = start_run(sabotage, "fit.steps=100000")
    for _ in range(600):
        if list((sabotage / "out" / "cache").glob(".fit-*.draft/checkpoint.ckpt")):
            break
        time.sleep(0.1)
    process.send_signal(how)
    done = process.finish()
    assert done.returncode == 128 + how and "Traceback" not in done.stderr
    cause = " by SIGTERM" if how == signal.SIGTERM else ""
    expected = f"lift: stopped{cause}; run the same command again to go on\n"
    assert done.stderr.endswith(expected), done.stderr


@pytest.mark.slow
def test_two_runs_that_want_the_same_make_every_stage_once(sabotage):
    both = [start_run(sabotage) for _ in range(2)]
    results = [process.finish() for process in both]
    assert [result.returncode for result in results] == [0, 0], results
    assert results[0].stdout == results[1].stdout
    made = (sabotage / "log").read_text().split()
    assert len(made) == len(set(made)) == 4 + 4
