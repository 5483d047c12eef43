"""What priors that sample video diffusion models share, on tiny networks of the real classes."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from lift.geometry import rotation_from_vector
from lift.priors import ClipRequest
from lift.priors.diffusion.clips import clip_path
from lift.runtime.kept_networks import networks_of
from lift.runtime.memory import required_memory
from lift.types import Frames
from tests.helpers import tiny
from tests.helpers.clips import build, scene, sideways
from tests.helpers.commands import here

pytest.importorskip("diffusers")


PRIORS = [
    name if name == "svd" else pytest.param(name, marks=pytest.mark.slow)
    for name in sorted(tiny.BUILDERS)
]


@pytest.mark.parametrize("name", PRIORS)
def test_a_kept_model_makes_the_same_clips(name, folders, kept):
    frames, camera, _ = scene()
    pipes, clips = [], []
    runs = [(3, {}), (4, {"prompt": "x"}), (3, {})]
    runs += [(3, {"precision": "float32"})] if name == "svd" else []
    for seed, settings in runs:
        prior = build(folders, name)
        prior.run_settings = {"model": prior.model, **settings}
        clips.append(prior(frames, camera, sideways(camera, prior.clip_length), seed).images)
        pipes.append(prior.pipe)
        prior.release()
        assert "pipe" not in vars(prior)
    assert pipes[0] is pipes[1] is pipes[2] and pipes[0] not in pipes[3:]
    assert torch.equal(clips[0], clips[2]) and not torch.equal(clips[0], clips[1])


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(tiny.BUILDERS))
def test_a_kept_model_leaves_the_gpu_between_pictures(name, folders, cuda, kept):
    frames, camera, _ = scene()
    for offload in ("none", "model"):
        clips = []
        for _ in range(2):
            prior = build(folders, name, cuda, precision="float32", offload=offload)
            prior.run_settings = {"model": prior.model, "offload": offload}
            clip = sideways(camera, prior.clip_length)
            clips.append(prior(frames, camera, clip, 3).images.int())
            networks = list(networks_of(prior.pipe))
            prior.release()
            assert networks and not any(p.is_cuda for n in networks for p in n.parameters())
        assert (clips[0] - clips[1]).abs().max() <= 1, offload


@pytest.mark.parametrize("name", PRIORS)
def test_clip_has_run_size_and_does_not_depend_on_the_batch(name, folders):
    frames, camera, _ = scene()
    prior = build(folders, name, batch_size=2)
    count = prior.clip_length
    assert count == prior.frames - 1
    one, other = (
        ClipRequest(frames, camera, sideways(camera, count), 3),
        ClipRequest(frames, camera, sideways(camera, count, -0.3), 4),
    )
    alone = prior(one.frames, one.cameras, one.clip, one.seed)
    assert (
        alone.images.shape == (count, 64, 96, 3)
        and alone.depth is None
        and alone.images.float().std() > 1
    )
    together = prior.generate_batch([one, other])
    assert (together[0].images.int() - alone.images.int()).abs().max() <= 2, "but for rounding"
    anew = build(folders, name)(one.frames, one.cameras, one.clip, one.seed).images
    assert (anew.int() - alone.images.int()).abs().max() <= 1, (
        "loaded anew; torch may share its sums out differently"
    )
    assert not torch.equal(prior(one.frames, one.cameras, one.clip, 5).images, alone.images), "seed"
    with pytest.raises(
        ValueError, match=f"has {count + 1} new frames; prior.frames={count + 1} makes {count}"
    ):
        prior(frames, camera, sideways(camera, count + 1), 0)


@pytest.mark.parametrize("name", sorted(tiny.BUILDERS))
def test_what_cannot_be_loaded_is_one_clear_line(name, folders, tmp_path, monkeypatch):
    frames, camera, _ = scene()
    monkeypatch.setattr(
        "huggingface_hub.constants.HF_HUB_OFFLINE", True
    )  # the variable was read long ago

    def first(model: str) -> None:
        prior = build(folders, name, model=model)
        prior(frames, camera, sideways(camera, prior.clip_length), 0)

    index = build(folders, name).index_file
    with pytest.raises(
        FileNotFoundError, match=f"prior.model is .*a folder without {index}; hf download"
    ):
        first(str(tmp_path))
    with pytest.raises(
        FileNotFoundError,
        match=(
            "prior.model is 'nobody/nothing', which could not be loaded: .*set prior.model=FOLDER"
        ),
    ):
        first("nobody/nothing")
    (tmp_path / index).write_text('{"_class_name": "Other"}')
    with pytest.raises(ValueError, match="which could not be loaded as a"):
        first(str(tmp_path))


def test_memory_error_names_a_setting_that_fits(folders):
    parts = {"unet": 3.0, "vae": 1.0}
    assert (
        required_memory(parts, 2.0, "none", "auto", ("unet",)) == 6
        and required_memory(parts, 2.0, "none", "float32", ("unet",)) == 12
    )
    assert (
        required_memory(parts, 2.0, "model", "auto", ("unet",)) == 5
        and required_memory(parts, 2.0, "model", "float8", ("unet",)) == 3.5
    )
    prior = build(
        folders, model="stabilityai/stable-video-diffusion-img2vid-xt", size=None, frames=25
    )
    with pytest.raises(
        ValueError,
        match=(
            "takes about 15 GiB with prior.offload=none, and the GPU has 14; choose "
            r"prior.offload=model \(about 14 GiB\) or"
        ),
    ):
        prior._check_memory(14.0)
    prior._check_memory(17.0)
    small = build(
        folders, model="stabilityai/stable-video-diffusion-img2vid-xt", size=512, frames=25
    )
    small._check_memory(14.0)
    with pytest.raises(ValueError, match="and the GPU has 14"):
        build(
            folders, model="stabilityai/stable-video-diffusion-img2vid-xt", size=512, frames=200
        )._check_memory(14.0)


def test_memory_is_of_the_pixels_that_are_generated(folders):
    prior = build(folders, size=1024, resize_mode="keep", frames=25)
    wide, tall = (prior.estimate_memory(size)["none"] for size in ((1024, 576), (1024, 768)))
    assert tall - wide == pytest.approx(prior.working_memory / 3)
    assert prior.estimate_memory()["none"] == wide, "the shape of the picture is not known"


def test_memory_of_a_folder_is_that_of_its_used_files(tmp_path, folders, monkeypatch):
    prior = build(folders)
    for part, size in (("unet", 3), ("unused", 5)):
        (tmp_path / part).mkdir()
        (tmp_path / part / "model.safetensors").write_bytes(bytes(size * 1024))
    monkeypatch.setattr(prior, "model", str(tmp_path))
    monkeypatch.setattr(prior, "skipped_parts", ("unused",))
    monkeypatch.setattr(prior, "weight_memory", {"unet": 2.0, "vae": 1.0})
    assert prior.part_memory() == {"unet": 3 / 2**20, "vae": 1.0}


def test_path_starts_at_origin_and_keeps_relative_poses():
    _, camera, _ = scene()
    world = camera.world_to_camera.clone()
    world[0, :3, :3], world[0, :3, 3] = (
        rotation_from_vector(torch.tensor([0.1, 0.4, -0.2])),
        torch.tensor([1.0, 2.0, 3.0]),
    )
    moved = dataclasses.replace(camera, world_to_camera=world)
    clip = sideways(moved, 4)
    found = clip_path(
        ClipRequest(Frames(torch.zeros(1, 64, 96, 3, dtype=torch.uint8)), moved, clip, 0)
    )
    torch.testing.assert_close(found.world_to_camera[0], torch.eye(4), atol=1e-6, rtol=0)
    between = clip.cameras.world_to_camera[2] @ torch.linalg.inv(clip.cameras.world_to_camera[0])
    torch.testing.assert_close(
        found.world_to_camera[3] @ torch.linalg.inv(found.world_to_camera[1]),
        between,
        atol=1e-5,
        rtol=0,
    )


@pytest.mark.slow
def test_run_batches_siblings_and_resumes_after_each_clip(folders, tmp_path):
    settings = (
        "run",
        "image=coffee",
        "preprocess.size=96",
        "planner.levels=1",
        "fit.steps=20",
        "fit.checkpoint_every=10",
        "fit.initial_gaussians=1500",
        "export.film.seconds=0.17",
        "prior=svd",
        f"prior.model={folders('svd')}",
        "prior.num_inference_steps=2",
        "prior.size=64",
        "prior.frames=5",
        f"output={tmp_path}",
    )
    done = here(*settings, "prior.batch_size=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    clips = {path.name for path in (tmp_path / "cache").glob("clip-*")}
    assert len(clips) == 4
    again = here(*settings, "prior.batch_size=1", cwd=tmp_path)
    assert (
        again.returncode == 0
        and {path.name for path in (tmp_path / "cache").glob("clip-*")} == clips
    ), "what only costs is not part of a clip's key"
    assert again.stderr.count("found") >= 7
    run = Path(done.stdout.strip().split("\n")[-1])
    assert (
        json.loads((run / "provenance.json").read_text())["licences"]["prior svd"]
        == "Stability AI Community Licence"
    )


def test_numbers_that_ran_out_of_range_are_no_clip(folders):
    frames, camera, _ = scene()
    prior = build(folders)
    for parameter in prior.pipe.unet.conv_out.parameters():
        parameter.data.fill_(float("inf"))
    with pytest.raises(ValueError, match="are NaN or infinite; choose prior.precision"):
        prior(frames, camera, sideways(camera, 4), 0)


def test_home_folder_expands_and_missing_folder_fails_early(folders, monkeypatch):
    monkeypatch.setenv("HOME", str(Path(folders("svd")).parent))
    frames, camera, _ = scene()
    assert len(build(folders, model="~/model")(frames, camera, sideways(camera, 4), 0)) == 4
    with pytest.raises(
        FileNotFoundError, match="prior.model is .*nosuch, which does not exist; choose a folder"
    ):
        build(folders, model="~/nosuch")


def test_a_model_that_is_given_back_is_gone(folders):
    import gc
    import weakref

    for name in ("svd", "easyanimate"):
        prior = build(folders, name)
        gone = weakref.ref(getattr(prior.pipe, prior.denoiser))
        gc.disable()
        try:
            prior.release()
        finally:
            gc.enable()
        assert gone() is None, name


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(tiny.BUILDERS))
def test_gpu_memory_options_change_clips_within_precision(name, folders, cuda):
    frames, camera, _ = scene()

    def made(**settings) -> torch.Tensor:
        prior = build(folders, name, cuda, **settings)
        clip = prior(frames, camera, sideways(camera, prior.clip_length), 3).images.float()
        prior.release()
        return clip

    exact = made(precision="float32")
    assert exact.std() > 1
    for offload in ("model", "group"):
        assert (made(precision="float32", offload=offload) - exact).abs().max() <= 2, offload
    if name in ("svd", "vace"):  # a minute each
        assert (made(precision="float32", compile=True) - exact).abs().mean() < 2, "compiled"
    for precision in (
        "auto",
        "float8",
    ):  # random weights amplify rounding as learned ones do not: alike among themselves only
        first = made(precision=precision)
        assert first.std() > 1
        for offload in ("model", "group"):
            assert (made(precision=precision, offload=offload) - first).abs().max() <= 2, (
                f"{precision}, {offload}"
            )
