"""Wan-Fun-Camera on small published folders.

`OFFICIAL` was recorded with the pipelines of aigc-apps/VideoX-Fun (commit 804a425) on the same
folders, picture, path and noise, on a CPU in single precision.
"""

import pytest
import torch

from lift.priors import priors
from lift.priors.wan_fun_camera import WanFunCamera
from lift.types import Cameras
from tests.helpers.clips import CPU, clip_request, request_arguments, scene
from tests.helpers.rays import turning_path
from tests.helpers.tiny.wan_fun_camera import wan_fun_camera

pytest.importorskip("diffusers")

OFFICIAL = {
    "2.1": (
        (0.46596, 0.41862, 0.29524, 0.41735, 0.50658, 0.41467, 0.39754, 0.46577, 0.37775),
        (0.47495, 0.00227, 0.80072, 0.64878, 0.41214, 0.0, 0.54732, 0.08007, 0.15172),
        0.25472,
    ),
    "2.2": (
        (0.484, 0.40284, 0.35111, 0.36923, 0.41791, 0.47025, 0.34848, 0.45587, 0.39678),
        (0.38207, 0.30399, 0.83348, 0.3796, 0.64609, 0.29434, 0.51584, 0.53881, 0.40922),
        0.26748,
    ),
    "5B": (
        (0.43911, 0.41934, 0.41884, 0.4923, 0.42094, 0.5248, 0.47515, 0.48909, 0.50638),
        (0.30115, 0.93591, 0.33546, 0.70033, 0.05314, 0.26034, 0.14065, 0.28664, 0.59974),
        0.26484,
    ),
}
"""Generation -> mean of each frame, red of one pixel of each frame, standard deviation."""


@pytest.fixture(scope="session")
def generations(folders, tmp_path_factory):
    made = {"2.1": folders("wan_fun_camera")}

    def folder(generation: str) -> str:
        if generation not in made:
            path = tmp_path_factory.mktemp("wan_fun_camera") / generation
            made[generation] = str(wan_fun_camera(path, generation))
        return made[generation]

    return folder


def build(folder: str, **settings) -> WanFunCamera:
    settings = {"num_inference_steps": 4, "frames": 9, "prompt": "a red house", **settings}
    prior = priors.build(
        {"name": "wan_fun_camera", "model": folder, **settings},
        depth=scene()[2],
        device=CPU,
        estimator=None,
    )
    assert isinstance(prior, WanFunCamera)
    return prior


def path(count: int = 9) -> Cameras:
    cameras = turning_path(count)
    stretched = cameras.intrinsics * torch.tensor([[4.0], [3.2], [1.0]])
    return Cameras(cameras.world_to_camera, stretched, 96, 64)


def picture() -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (64, 96, 3), generator=rng, dtype=torch.uint8)


def sample(prior: WanFunCamera) -> torch.Tensor:
    rng = torch.Generator().manual_seed(5)
    cameras = path(prior.frames)
    return prior.sample_clip(picture(), cameras, clip_request(), rng, lambda *_: {})


@pytest.mark.parametrize(
    "generation",
    ["2.1", *(pytest.param(name, marks=pytest.mark.slow) for name in ("2.2", "5B"))],
)
def test_video_equals_that_of_the_official_pipeline(generation, generations):
    video = sample(build(generations(generation)))
    means, reds, deviation = OFFICIAL[generation]
    assert video.shape == (9, 3, 64, 96)
    torch.testing.assert_close(video.mean((1, 2, 3)), torch.tensor(means), atol=2e-4, rtol=0)
    torch.testing.assert_close(video[:, 0, 10, 20], torch.tensor(reds), atol=2e-3, rtol=0)
    assert float(video.std()) == pytest.approx(deviation, abs=2e-4)


def test_first_frame_fills_the_first_group_of_packed_rays():
    from lift.priors.diffusion.wan_fun_camera.transformer import pack_rays

    rays = torch.arange(5 * 6 * 4 * 6).reshape(5, 6, 4, 6).float()
    packed = pack_rays(rays, 2)
    assert packed.shape == (24 * 4, 2, 2, 3)
    # Channel: coordinate, then frame of the group, then row and column within the square.
    channels = packed.unflatten(0, (6, 4, 2, 2))
    for frame in range(4):
        assert torch.equal(channels[:, frame, 0, 0, 0], rays[0, :, ::2, ::2])
        assert torch.equal(channels[:, frame, 1, 0, 1], rays[1 + frame, :, 1::2, ::2])


def test_rays_are_scaled_to_the_unit_of_the_training_data(generations):
    prior, farther = build(generations("2.1")), build(generations("2.1"), near=2.5)
    channels = prior.packed_rays(path()).unflatten(1, (6, -1))
    moved = farther.packed_rays(path()).unflatten(1, (6, -1))
    torch.testing.assert_close(moved[:, :3], 2 * channels[:, :3])
    torch.testing.assert_close(moved[:, 3:], channels[:, 3:])


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_missing_or_unexpected_weight_is_one_line(change, tmp_path):
    from safetensors.torch import load_file, save_file

    file = wan_fun_camera(tmp_path / "model") / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    if change == "missing":
        del state["control_adapter.residual_blocks.0.conv2.bias"]
    else:
        state["control_adapter.other"] = torch.zeros(1)
    save_file(state, file)
    match = "camera.residual_blocks.0.conv2.bias" if change == "missing" else "camera.other"
    with pytest.raises(ValueError, match=f"could not be loaded as a Wan-Fun.*{match}") as caught:
        _ = build(str(tmp_path / "model")).pipe
    assert "\n" not in str(caught.value)


def test_model_without_camera_control_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    file = wan_fun_camera(tmp_path / "model") / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    save_file({name: value for name, value in state.items() if "adapter" not in name}, file)
    with pytest.raises(ValueError, match="no model for camera control; choose one named Control"):
        _ = build(str(tmp_path / "model")).pipe


def test_half_precision_spares_time_norms_and_autoencoder(generations):
    pipe = build(generations("2.1"), precision="bfloat16").pipe
    single = {
        part
        for name, value in pipe.transformer.state_dict().items()
        if value.dtype == torch.float32
        for part in name.split(".")
    }
    assert {"time_embedder", "scale_shift_table", "norm2"} <= single
    assert pipe.transformer.proj_out.weight.dtype == torch.bfloat16
    assert pipe.vae.dtype == torch.float32
    assert pipe.text_encoder.shared.weight.data_ptr() == (
        pipe.text_encoder.encoder.embed_tokens.weight.data_ptr()
    ), "the largest matrix is stored once"


def test_memory_is_that_of_the_named_model():
    named = [
        priors.build(
            {"name": "wan_fun_camera", "model": f"alibaba-pai/{name}"},
            depth=scene()[2],
            device=CPU,
            estimator=None,
        ).weight_memory["transformer"]
        for name in ("Wan2.1-Fun-V1.1-1.3B-Control-Camera", "Wan2.1-Fun-V1.1-14B-Control-Camera")
    ]
    assert named == [3.0, 31.48]


def test_float8_halves_the_memory_of_both_networks(tmp_path):
    folder = tmp_path / "Wan2.2-Fun-A14B-Control-Camera"
    for name in ("high_noise_model", "low_noise_model"):
        (folder / name).mkdir(parents=True)
        (folder / name / "model.safetensors").write_bytes(bytes(4096))
    (folder / "models_t5_umt5-xxl-enc-bf16.pth").touch()
    half, float8 = (
        priors.build(
            {"name": "wan_fun_camera", "model": str(folder), "precision": precision},
            depth=scene()[2],
            device=CPU,
            estimator=None,
        )
        for precision in ("bfloat16", "float8")
    )
    assert half.part_memory()["transformer"] == half.part_memory()["transformer_2"] == 2**-18
    assert half.estimate_memory()["none"] - float8.estimate_memory()["none"] == pytest.approx(
        2**-18
    )


def test_float8_stores_both_networks_in_8_bits(generations):
    pipe = build(generations("2.2"), precision="float8").pipe
    for network in (pipe.transformer, pipe.transformer_2):
        assert torch.float8_e4m3fn in {value.dtype for value in network.parameters()}


def test_model_on_the_hub_is_fetched_with_the_files_that_are_read(generations, monkeypatch):
    fetched = []

    def snapshot_download(name: str, **patterns) -> str:
        fetched.append((name, patterns))
        return generations("2.1")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    pipe = build("owner/name").pipe
    assert pipe.transformer.config.num_attention_heads == 2
    ((name, patterns),) = fetched
    assert name == "owner/name" and "*.pth" in patterns["allow_patterns"]
    assert patterns["ignore_patterns"] == ["xlm-roberta-large/*"]


def test_downloads_are_all_files_that_are_read():
    names = [
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "google/umt5-xxl/spiece.model",
        "high_noise_model/diffusion_pytorch_model-00001-of-00002.safetensors",
        "models_t5_umt5-xxl-enc-bf16.pth",
        "README.md",
        "xlm-roberta-large/tokenizer.json",
    ]
    (weights,) = WanFunCamera.required_weights({"model": "owner/name"}, True)
    assert weights.select(names) == names[:5]
    assert WanFunCamera.required_weights({"model": "./folder"}, True) == ()


@pytest.mark.slow
def test_every_setting_has_an_effect(generations):
    prior = build(generations("2.2"), frames=5)
    plain = sample(prior)
    for settings in (
        {"near": 0.5},
        {"prompt": "snow"},
        {"negative_prompt": ""},
        {"boundary": 0.5},
        {"guidance_scale": 1.0},
    ):
        other = build(generations("2.2"), frames=5, **settings)
        other.__dict__["pipe"] = prior.pipe  # loaded once
        assert not torch.equal(sample(other), plain), settings
    assert not torch.equal(sample(build(generations("2.2"), frames=5, flow_shift=1.0)), plain)


@pytest.mark.slow
@pytest.mark.parametrize(("generation", "precision"), [("2.2", "float8"), ("5B", "bfloat16")])
def test_float8_and_half_precision_sample_a_clip(generation, precision, generations):
    prior = build(generations(generation), size=64, frames=5, precision=precision)
    images = prior(*request_arguments(clip_request())).images
    assert float(images.float().std()) > 1


@pytest.mark.gpu
@pytest.mark.parametrize("offload", ["none", "model", "group"])
def test_clip_on_a_gpu_is_that_of_the_cpu(offload, generations):
    request = clip_request(count=8)
    settings = {"precision": "float32", "size": 64}
    expected = build(generations("2.2"), **settings)(*request_arguments(request)).images
    prior = priors.build(
        {
            "name": "wan_fun_camera",
            "model": generations("2.2"),
            "num_inference_steps": 4,
            "frames": 9,
            "prompt": "a red house",
            "offload": offload,
            **settings,
        },
        depth=scene()[2],
        device=torch.device("cuda"),
        estimator=None,
    )
    images = prior(*request_arguments(request)).images.cpu()
    assert float((images.float() - expected.float()).abs().mean()) < 2
