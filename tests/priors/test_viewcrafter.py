"""ViewCrafter on a tiny checkpoint in the published layout.

The tests cover weight names, schedule, sampler and conditions of the network.
"""

import dataclasses

import pytest
import torch

from lift.priors import ClipRequest, priors
from lift.priors.diffusion.viewcrafter.attention import multi_head_attention
from lift.priors.diffusion.viewcrafter.checkpoint import (
    PREFIXES,
    build_model,
    checkpoint_state,
    split_state,
)
from lift.priors.diffusion.viewcrafter.ddim import (
    cumulative_alphas,
    rescaled_guidance,
    sample_ddim,
    sampling_levels,
)
from lift.priors.diffusion.viewcrafter.openclip import prompt_tokens
from lift.warping.scaffold import Scaffold
from tests.helpers import tiny
from tests.helpers.clips import CPU, scene, sideways

pytest.importorskip("diffusers")


@pytest.fixture
def folder(folders):
    return folders("viewcrafter")


@pytest.fixture
def state(folder):
    return torch.load(f"{folder}/model.ckpt", weights_only=True)["state_dict"]


def build(folder: str, depth=None, **settings):
    settings = {"name": "viewcrafter", "model": folder, **tiny.SETTINGS["viewcrafter"], **settings}
    return priors.build(
        settings, depth=scene()[2] if depth is None else depth, device=CPU, estimator=None
    )


def test_checkpoint_weights_map_one_to_one(state):
    made = build_model({"state_dict": state}, CPU, torch.float32)
    found = {
        PREFIXES[part] + key: value
        for part in ("unet", "image_encoder", "resampler")
        for key, value in made.parts[part].state_dict().items()
    }
    assert all(torch.equal(state[key].reshape(value.shape), value) for key, value in found.items())
    mine, theirs = (
        list(made.vae.state_dict().values()),
        [value for key, value in state.items() if key.startswith("first_stage_model.")],
    )
    assert sorted((value.numel(), float(value.sum())) for value in mine) == sorted(
        (value.numel(), float(value.sum())) for value in theirs
    )
    left = {key for key in state if key not in found and not key.startswith("first_stage_model.")}
    read = {PREFIXES["text"] + key for key in split_state(state)["text"]}
    assert read < left and not any(".resblocks.2." in key for key in read), (
        "the last layer of the text transformer has no say"
    )
    schedule = {key for key in left if "." not in key}
    beside = {
        key
        for key in left
        if key.startswith("embedder.model.")
        and not key.startswith("embedder.model.visual.transformer.")
    }
    last = {
        key for key in left if key.startswith("cond_stage_model.model.transformer.resblocks.2.")
    }
    assert left == read | schedule | beside | last | {
        "cond_stage_model.model.text_projection",
        "cond_stage_model.model.logit_scale",
    }
    assert {key for key in beside if ".visual." in key} == {
        f"embedder.model.visual.{key}" for key in ("proj", "ln_post.weight", "ln_post.bias")
    }
    assert (
        made.scale == pytest.approx(0.3)
        and made.text.shape == (2, 77, 64)
        and not torch.equal(*made.text)
    )


def test_sizes_are_read_from_the_weights(state):
    sizes = build_model({"state_dict": state}, CPU, torch.float32).unet.config
    assert dataclasses.astuple(sizes) == (8, 4, 64, (1, 2), (True, False), 1, 64)


def test_each_frame_gets_its_own_sixteen_tokens(state):
    unet = build_model({"state_dict": state}, CPU, torch.float32).unet
    rng = torch.Generator().manual_seed(0)
    latents, text, image = (
        torch.randn(shape, generator=rng) for shape in ((1, 2, 8, 4, 4), (1, 77, 64), (1, 32, 64))
    )
    swapped, fps = torch.cat([image[:, 16:], image[:, :16]], 1), torch.tensor([10.0])
    dealt, other = (
        unet(latents, torch.tensor([500.0]), fps, text, some) for some in (image, swapped)
    )
    assert float((dealt - other).abs().max()) > 1e-3
    longer = torch.cat(
        [image, image], 1
    )  # as many of each: attention is the same, and their order has no say
    shared, too = (
        unet(latents, torch.tensor([500.0]), fps, text, some)
        for some in (longer, torch.cat([swapped, swapped], 1))
    )
    assert float((shared - too).abs().max()) < 1e-5


def test_attention_in_pieces_is_the_same(monkeypatch):
    query, key, value = torch.randn(3, 7, 5, 128, generator=torch.Generator().manual_seed(0))
    whole = multi_head_attention(query, key, value, 2)
    monkeypatch.setattr("lift.priors.diffusion.attention.MAX_ATTENTION_BATCH", 3)
    assert (
        torch.allclose(multi_head_attention(query, key, value, 2), whole, atol=1e-6)
        and whole.shape == query.shape
    )
    assert not torch.allclose(multi_head_attention(query, key, value, 1), whole, atol=1e-3), "heads"


def test_extra_or_missing_weight_is_an_error(state):
    for change, match in (
        (
            lambda some: some.pop("model.diffusion_model.output_blocks.2.1.norm.weight"),
            "Missing key.*output_blocks.2.1.norm.weight",
        ),
        (
            lambda some: some.update({"model.diffusion_model.other": torch.zeros(1)}),
            "Unexpected key.*other",
        ),
        (
            lambda some: some.pop("first_stage_model.decoder.mid.attn_1.q.weight"),
            "Missing key.*to_q.weight",
        ),
        (
            lambda some: [
                some.pop(key) for key in list(some) if key.startswith("image_proj_model.")
            ],
            r"no weights named image_proj_model.\*",
        ),
    ):
        changed = dict(state)
        change(changed)
        with pytest.raises((RuntimeError, ValueError), match=match):
            build_model(changed, CPU, torch.float32)


def test_checkpoint_loads_from_file_and_deepspeed_layout(folder, state, tmp_path):
    file = tmp_path / "other.ckpt"
    torch.save({"module": {f"_forward_module.{key}": value for key, value in state.items()}}, file)
    assert set(checkpoint_state(torch.load(file, weights_only=True))) == set(state)
    frames, camera, _ = scene()
    arguments = (frames, camera, sideways(camera, 2), 0)
    assert torch.equal(build(str(file))(*arguments).images, build(folder)(*arguments).images)
    file.write_bytes(b"not this")
    with pytest.raises(
        ValueError,
        match="prior.model is .*other.ckpt, which could not be loaded as a ViewCrafter checkpoint",
    ) as caught:
        build(str(file))(*arguments)
    assert "\n" not in str(caught.value)


def test_prompts_are_as_long_as_clip_reads():
    tokens = prompt_tokens()
    assert (
        tokens.shape == (2, 77)
        and tokens[0, :3].tolist() == [49406, 49407, 0]
        and int((tokens[1] > 0).sum()) == 7
    )


def test_noise_ends_without_signal_and_steps_begin_there():
    shares = cumulative_alphas()
    assert (
        len(shares) == 1000
        and float(shares[-1]) == 0
        and float(shares[0]) == pytest.approx(1 - 0.00085)
        and bool((shares.diff() < 0).all())
    )
    assert (
        sampling_levels(50)[:2] == [999, 979]
        and sampling_levels(50)[-1] == 19
        and sampling_levels(3) == [999, 666, 332]
        and sampling_levels(1000) == list(range(999, -1, -1))
    )


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_a_network_that_knows_the_video_gets_it(eta, scale):
    rng = torch.Generator().manual_seed(0)
    truth, shares, steps = torch.randn(1, 3, 4, 32, 32, generator=rng), cumulative_alphas(), 20
    scales = torch.cat([torch.linspace(1, scale, 400), torch.full((600,), scale)])

    def fresh():
        return torch.randn(truth.shape, generator=rng)

    spreads = []

    def velocity(latents, time):
        share, clean = float(shares[time]), truth * float(scales[time])
        noise = (latents - share**0.5 * clean) / (1 - share) ** 0.5
        spreads.append(float(noise.std()))
        return share**0.5 * noise - (1 - share) ** 0.5 * clean

    found = sample_ddim(velocity, fresh(), steps, eta, scale, fresh)
    left = (found - float(shares[0]) ** 0.5 * truth) / (1 - float(shares[0])) ** 0.5
    assert len(spreads) == steps and all(
        abs(spread - 1) < 0.03 for spread in [*spreads, float(left.std())]
    ), "at each level as much noise as belongs to it"


def test_guidance_pushes_and_keeps_the_contrast_of_each_clip():
    rng = torch.Generator().manual_seed(0)
    without, given = torch.randn(2, 2, 3, 4, 8, 8, generator=rng)
    assert torch.allclose(rescaled_guidance(without, given, 1.0, 0.7), given, atol=1e-5)
    assert torch.allclose(
        rescaled_guidance(without, given, 3.0, 0.0), given + 2 * (given - without), atol=1e-5
    )
    kept = rescaled_guidance(without, given, 3.0, 1.0)
    assert torch.allclose(kept.flatten(1).std(1), given.flatten(1).std(1)) and not torch.allclose(
        kept, given
    )


def test_condition_is_scaffold_render_with_black_holes(folder):
    frames, camera, depth = scene(64, 64)
    one = ClipRequest(frames, camera, sideways(camera, 2, 0.6), 0)
    prior = build(folder, depth=depth)
    videos = prior.renders(frames.images[:1], [one])
    rendered = Scaffold(depth, None).render(one)
    known = rendered.confidence > 0
    assert torch.equal(videos[0, 0], frames.images[0]) and videos.shape == (1, 3, 64, 64, 3)
    assert 0.02 < float((~known[1:]).float().mean()) < 0.5 and bool(
        (rendered.images[~known].float().mean(-1) > 0).any()
    ), "the scaffold fills holes"
    assert bool((videos[0][~known] == 0).all()) and torch.equal(
        videos[0][known], rendered.images[known]
    )
    seen = []
    prior.encode_frames = lambda video: seen.append(video) or torch.zeros(3, 4, 4, 4)
    prior(frames, camera, one.clip, 0)
    assert torch.equal(seen[0], videos[0])


@pytest.mark.slow
def test_cameras_and_settings_have_an_effect(folder):
    frames, camera, _ = scene()
    once = build(folder).pipe

    def made(far: float = 0.3, **settings) -> torch.Tensor:
        prior = build(folder, **settings)
        if "precision" not in settings:
            prior.pipe = once
        return prior(frames, camera, sideways(camera, 2, far), 3).images.float()

    plain = made()
    assert not torch.equal(made(-0.3), plain), "by the renders alone"
    for settings in (
        {"guidance_scale": 1.0},
        {"guidance_rescale": 0.0},
        {"eta": 0.0},
        {"fps": 30},
        {"num_inference_steps": 3},
    ):
        assert float((made(**settings) - plain).abs().max()) > 2, settings
    for settings in ({"decode_chunk_size": 1}, {"offload": "model"}):
        assert float((made(**settings) - plain).abs().max()) <= 1, settings
    coarse = made(precision="float8")
    assert (
        0 < float((coarse - plain).abs().mean()) < 0.5 * float((made(eta=0.0) - plain).abs().mean())
    ), "eight bits, but the same video"


def test_network_gets_the_picture_and_a_grey_one(folder):
    prior = build(folder)
    frames, _, _ = scene(64, 64)
    pictures = torch.cat([frames.images, frames.images.flip(2)])
    tokens, nothing = prior.embed_pictures(pictures)
    assert (
        tokens.shape == (2, 6, 64)
        and nothing.shape == (1, 6, 64)
        and not torch.allclose(tokens[0], tokens[1])
    )
    grey, _ = prior.embed_pictures(torch.full((1, 64, 64, 3), 128, dtype=torch.uint8))
    assert float((grey - nothing).abs().max()) < 0.1 * float((tokens[:1] - nothing).abs().max())


def test_settings_out_of_range_name_the_value(folder):
    for settings, match in (
        ({"num_inference_steps": 1001}, "prior.num_inference_steps is 1001; choose 1 to 1000"),
        ({"guidance_scale": 0.5}, "prior.guidance_scale is 0.5; choose 1"),
        ({"eta": 2.0}, "prior.eta is 2.0; choose 0 to 1"),
        ({"guidance_rescale": -0.1}, "prior.guidance_rescale is -0.1; choose 0 to 1"),
        ({"fps": 0}, "prior.fps is 0; choose 1"),
    ):
        with pytest.raises(ValueError, match=match):
            build(folder, **settings)
