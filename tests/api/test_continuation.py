"""A finished fit goes on from its checkpoint, as a longer fit would."""

import json
import shutil

import numpy as np
import pytest
import torch

import lift
from lift.camera_paths import orbit_cameras
from lift.geometry import pinhole
from lift.synthetic.scenes import render
from lift.training import CHECKPOINT
from lift.training.checkpoint import (
    CheckpointCallback,
    epoch_count,
    read_progress,
    verify_checkpoint,
)
from tests.helpers.commands import here

pytestmark = pytest.mark.slow

EXPORT = {"film": {"seconds": 0.05}}


@pytest.fixture(scope="module")
def scene(finished_run, tmp_path_factory):
    """A run of 30 steps without its cache, in another place."""
    folder = tmp_path_factory.mktemp("continued") / "copy"
    shutil.copytree(finished_run, folder)
    return lift.load(folder)


@pytest.fixture(scope="module")
def longer(scene):
    """The run with 30 more steps."""
    return scene.fit(more_steps=30, export=EXPORT)


def read_checkpoint(scene: lift.Scene) -> dict:
    return torch.load(scene.folder / CHECKPOINT, weights_only=True)


def test_more_steps_make_a_better_scene_beside_the_first(scene, longer):
    assert longer.folder == scene.folder.parent / "copy-60-steps"
    assert longer.metrics["input_psnr"] > scene.metrics["input_psnr"] + 0.5
    assert scene.metrics["held_out_psnr"] < longer.metrics["held_out_psnr"]
    assert longer.held_out == scene.held_out
    assert read_progress(longer.folder / CHECKPOINT)[1] == 60
    assert read_progress(scene.folder / CHECKPOINT)[1] == 30


def test_the_optimiser_keeps_its_state(scene, longer):
    for each, steps in ((scene, 30), (longer, 60)):
        state = read_checkpoint(each)["optimizer_states"][0]["state"]
        assert {int(entry["step"]) for entry in state.values()} == {steps}


def test_schedules_follow_the_fraction_of_all_steps(scene, monkeypatch):
    from lift.training import module

    progress = []
    decay_rates = module.decay_rates
    monkeypatch.setattr(
        module, "decay_rates", lambda *args: progress.append(args[1]) or decay_rates(*args)
    )
    scene.fit(more_steps=10, name="schedule", export=EXPORT)
    assert progress == [step / 40 for step in range(30, 40)]


def test_it_tells_what_it_continues(scene, longer):
    assert longer.provenance["continued"] == {"run": "copy", "more_steps": 30, "steps": 60}
    stages = [stage["stage"] for stage in longer.provenance["stages"]]
    assert stages == [*(stage["stage"] for stage in scene.provenance["stages"]), "fit"]
    assert longer.provenance["notes"] == scene.provenance["notes"]
    assert longer.settings["fit"]["steps"] == 60 and longer.settings["name"] == "copy-60-steps"
    assert (longer.folder / "report.html").is_file()


def test_the_result_can_be_continued_again(longer, monkeypatch):
    again = longer.fit(more_steps=10, export=EXPORT)
    assert again.folder.name == "copy-70-steps"
    assert read_progress(again.folder / CHECKPOINT)[1] == 70


def test_a_repeated_call_finds_the_result(scene, longer, monkeypatch):
    monkeypatch.setattr("lift.api.continuation.continue_fit", None)
    found = scene.fit(more_steps=30, export=EXPORT)
    assert found.folder == longer.folder


def test_an_interrupted_call_goes_on(scene, longer, monkeypatch):
    write = CheckpointCallback.on_train_epoch_end

    def interrupt(self, trainer, module):
        write(self, trainer, module)
        if module.step == 50:
            trainer.strategy.teardown()
            raise RuntimeError("interrupted")

    settings = {"name": "interrupted", "export": EXPORT, "fit.log_every": 10, "fit.loss.ssim": 0.3}
    straight = scene.fit(more_steps=30, **settings | {"name": "straight"})
    shutil.rmtree(next(straight.folder.parent.glob(f"cache/fit-{_key(straight)}")))
    monkeypatch.setattr(CheckpointCallback, "on_train_epoch_end", interrupt)
    with pytest.raises(RuntimeError, match="interrupted"):
        scene.fit(more_steps=30, **settings)
    monkeypatch.setattr(CheckpointCallback, "on_train_epoch_end", write)
    resumed = scene.fit(more_steps=30, **settings)
    for name, value in resumed.gaussians.tensors().items():
        assert torch.equal(value, straight.gaussians.tensors()[name])


def _key(scene: lift.Scene) -> str:
    return scene.provenance["stages"][-1]["key"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"more_steps": 0}, "more_steps is 0; choose a number of at least 1"),
        ({"more_steps": 1, "prior": "svd"}, "prior cannot change when a fit continues"),
        ({"more_steps": 1, "fit": {"sh_degree": 1}}, "fit.sh_degree cannot change"),
        ({"more_steps": 1, "fit.steps": 9}, "fit.steps cannot change"),
        ({"more_steps": 1, "fit.stps": 9}, "fit.stps is not a setting; did you mean fit.steps"),
        ({"more_steps": 1, "renderer": "foo"}, "renderer is 'foo'; choose one of"),
    ],
)
def test_what_cannot_change_is_named(scene, settings, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        scene.fit(**settings)


def test_a_folder_with_another_scene_is_kept(scene, longer):
    with pytest.raises(ValueError, match="copy-60-steps has another scene; choose another name"):
        scene.fit(more_steps=5, name="copy-60-steps")
    with pytest.raises(ValueError, match="copy has another scene"):
        scene.fit(more_steps=5, name="copy")


def test_the_checkpoint_must_be_there(scene, tmp_path):
    shutil.copytree(scene.folder, tmp_path / "run")
    (tmp_path / "run" / CHECKPOINT).unlink()
    with pytest.raises(FileNotFoundError, match=r"no checkpoint\.ckpt, which more steps"):
        lift.load(tmp_path / "run").fit(more_steps=5)


def test_a_checkpoint_that_changes_after_its_check_is_not_used(
    scene, longer, tmp_path, monkeypatch
):
    folder = shutil.copytree(scene.folder, tmp_path / "run")

    def verify_and_damage(checkpoint):
        verify_checkpoint(checkpoint)
        (folder / CHECKPOINT).write_bytes(b"no checkpoint")

    monkeypatch.setattr("lift.api.continuation.verify_checkpoint", verify_and_damage)
    result = lift.load(folder).fit(more_steps=30, export=EXPORT)
    for name, value in result.gaussians.tensors().items():
        assert torch.equal(value, longer.gaussians.tensors()[name])


def test_the_command_prints_the_new_folder(scene):
    done = here(
        "fit", "copy", "fit.max_gaussians=1700", "--more-steps", "5", "export.film.seconds=0.05",
        cwd=scene.folder.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "copy-35-steps\n"
    config = (scene.folder.parent / "copy-35-steps" / "config.yaml").read_text()
    assert "max_gaussians: 1700" in config and "steps: 35" in config
    metrics = json.loads((scene.folder.parent / "copy-35-steps" / "metrics.json").read_text())
    assert metrics["frames"] == 13


def test_the_command_names_what_is_wrong(scene):
    done = here("fit", str(scene.folder), "--more-steps", "5", "fit.loss={", cwd=scene.folder)
    assert done.returncode == 2 and "lift: fit.loss is '{', which is no YAML" in done.stderr


def test_epochs_are_enough_for_the_steps_that_are_left(tmp_path):
    checkpoint = tmp_path / CHECKPOINT
    assert epoch_count(checkpoint, 250, 100) == 3
    torch.save({"epoch": 1, "step": 200}, checkpoint)
    assert epoch_count(checkpoint, 250, 100) == 3
    torch.save({"epoch": 0, "step": 30}, checkpoint)
    assert epoch_count(checkpoint, 60, 100) == 2
    assert epoch_count(checkpoint, 30, 100) == 1


def test_recorded_frames_are_delivered_again(tmp_path):
    typical = 3.0
    camera = pinhole(96, 64, 80.0)
    angles = torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [-3.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    cameras = orbit_cameras(camera, angles, typical)
    np.savez(
        tmp_path / "cameras.npz",
        w2c=cameras.world_to_camera.numpy(),
        K=cameras.intrinsics.numpy(),
        width=96,
        height=64,
    )
    scene = lift.run(
        [image.numpy() for image in render("room", cameras).images],
        cameras=tmp_path / "cameras.npz",
        input="0",
        output=tmp_path / "out",
        fit={"steps": 10, "checkpoint_every": 10, "initial_gaussians": 1000, "test_every": 0},
        export=EXPORT,
    )
    assert scene.provenance["source"]["kind"] == "pictures" and len(scene.frames) == 4
    assert torch.allclose(scene.cameras.centers[1:], cameras.centers[1:], atol=0.05)
    moved = shutil.copytree(scene.folder, tmp_path / "moved")
    longer = lift.load(moved).fit(more_steps=10, export=EXPORT)
    assert longer.provenance["source"] == scene.provenance["source"]
    assert longer.metrics["input_psnr"] > scene.metrics["input_psnr"]
    assert longer.held_out == scene.held_out
