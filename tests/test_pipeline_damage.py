"""Caches, half-finished fits and results that a bad disk or a power cut has damaged.

A file is damaged in one way, and each way occurs. Every third file of the stages
and every other one of the results is damaged. LIFT_ALL_CASES=1 damages each file in all ways, which
takes a quarter of an hour of one core.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import lift
from lift.runtime.kept_files import REQUIRED
from lift.training import CHECKPOINT, LOG_RECORD, PREVIOUS_CHECKPOINT
from lift.training.checkpoint import CheckpointCallback
from tests.helpers.commands import here
from tests.helpers.damage import KINDS, damage, replace_folder, stage_contents, stage_files
from tests.helpers.fits import KilledError

pytestmark = pytest.mark.slow

SMALL = (
    "preprocess.size=64",
    "planner.levels=1",
    "planner.num_frames=2",
    "fit.steps=12",
    "fit.checkpoint_every=4",
    "fit.initial_gaussians=300",
    "fit.test_every=4",
    "export.film.seconds=0.05",
)

IS_EXHAUSTIVE = bool(os.environ.get("LIFT_ALL_CASES"))
ROTATIONS = range(len(KINDS) if IS_EXHAUSTIVE else 1)
"""File number i is damaged as kind number i plus the rotation says."""


def kind_of(number: int, rotation: int) -> str:
    return KINDS[(number + rotation) % len(KINDS)]


def run(output: Path, *more: str):
    return here("run", "image=coffee", *SMALL, *more, f"output={output}", cwd=output.parent)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    """Cache and result of a run."""
    output = tmp_path_factory.mktemp("damage") / "out"
    output.mkdir()
    done = run(output)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def killed(pristine) -> Path:
    """Cache of a run whose fit was killed after its second checkpoint."""
    output = pristine.with_name("killed")
    replace_folder(output / "cache", pristine / "cache")
    (stage,) = (output / "cache").glob("fit-*")
    shutil.rmtree(stage)
    keep = CheckpointCallback.on_train_epoch_end

    def die(self, trainer, pl_module):
        keep(self, trainer, pl_module)
        if trainer.current_epoch == 1:
            raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointCallback, "on_train_epoch_end", die)
        with pytest.raises(KilledError):
            run(output)
    (draft,) = (output / "cache").glob(".fit-*.draft")
    assert {CHECKPOINT, PREVIOUS_CHECKPOINT} <= {path.name for path in draft.iterdir()}
    return output


def files_of_each_kind(cache: Path) -> Iterator[Path]:
    """Files of all stages, but of one clip and with one picture only."""
    clip = next(path.name for path in sorted(cache.glob("clip-*")))
    for path in stage_files(cache):
        stage = path.relative_to(cache).parts[0]
        if not (stage.startswith("clip-") and stage != clip) and path.name != "000001.png":
            yield path


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_damaged_stages_are_named_and_made_again(pristine, tmp_path, rotation):
    output = tmp_path / "out"
    cache = output / "cache"
    expected = stage_contents(pristine / "cache")
    for number, original in enumerate(files_of_each_kind(pristine / "cache")):
        if number % 3 and not IS_EXHAUSTIVE:
            continue
        replace_folder(output, pristine)
        path = output / original.relative_to(pristine)
        damage(path, kind_of(number, rotation))
        done = run(output, "--redeliver")
        assert done.returncode == 0 and "Traceback" not in done.stderr, (path, done.stderr)
        lines = [line for line in done.stderr.splitlines() if "is damaged" in line]
        stage = path.relative_to(cache).parts[0]
        assert len(lines) == 1 and str(path) in lines[0], (path, done.stderr)
        assert f"{stage}.damaged-" in lines[0]
        assert stage_contents(cache) == expected, path


def path_in(contents: dict[str, bytes]) -> str:
    """Name of the record of logs among the contents of stages."""
    return next(name for name in contents if name.endswith(f"/{LOG_RECORD}"))


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_damaged_checkpoints_do_not_change_the_fit(pristine, killed, tmp_path, rotation):
    output = tmp_path / "out"
    expected = stage_contents(pristine / "cache")
    (draft,) = (killed / "cache").glob(".fit-*.draft")
    for number, path in enumerate(sorted(path for path in draft.rglob("*") if path.is_file())):
        replace_folder(output, killed)
        damage(output / path.relative_to(killed), kind_of(number, rotation), number)
        done = run(output)
        assert done.returncode == 0 and "Traceback" not in done.stderr, (path, done.stderr)
        contents = stage_contents(output / "cache")
        if path.name == LOG_RECORD:  # nobody knows any more when its logs began
            contents = {**contents, path_in(contents): expected[path_in(expected)]}
        assert contents == expected, path
        assert not (output / "cache" / draft.name).exists()


def test_both_checkpoints_damaged_start_the_fit_anew(pristine, killed, tmp_path):
    output = tmp_path / "out"
    replace_folder(output, killed)
    (draft,) = (output / "cache").glob(".fit-*.draft")
    for name in (CHECKPOINT, PREVIOUS_CHECKPOINT):
        damage(draft / name, "flipped bit")
    done = run(output)
    assert done.returncode == 0
    assert done.stderr.count("is damaged") == 2 and "going on" not in done.stderr
    assert stage_contents(output / "cache") == stage_contents(pristine / "cache")


def read_all(folder: Path) -> None:
    scene = lift.load(folder)
    scene.verify(CHECKPOINT)
    for name in ("metrics", "settings", "provenance", "gaussians", "cameras", "fly_through"):
        getattr(scene, name)
    assert scene.held_out and scene.views and scene.distortion


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_damaged_results_are_named_and_repaired(pristine, tmp_path, rotation):
    output = tmp_path / "out"
    replace_folder(output, pristine)
    (folder,) = (output / "coffee").glob("[!.]*")
    expected = {path.name for path in folder.iterdir()}
    names = [*REQUIRED["full"], CHECKPOINT, "views/value.json", "frames/000003.png"]
    for number, name in enumerate(name for name in names if (folder / name).is_file()):
        kind = kind_of(number, rotation)
        if number % 2 and not IS_EXHAUSTIVE:
            continue
        if kind == "missing" and name == CHECKPOINT:
            continue  # a run without it is complete
        damage(folder / name, kind)
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            read_all(folder)
        assert Path(name).name in str(caught.value) and "\n" not in str(caught.value)
        done = run(output)
        assert done.returncode == 0 and "Traceback" not in done.stderr
        read_all(folder)
        assert {path.name for path in folder.iterdir()} == expected
