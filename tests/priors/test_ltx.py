"""LTX-2 with a LoRA a direction of motion, on tiny networks."""

import pytest
import torch

from tests.helpers.clips import build, clip_request, request_arguments
from tests.helpers.tiny.ltx import camera_loras

pytest.importorskip("diffusers")


@pytest.mark.parametrize("how", [{"precision": "float8"}, pytest.param({}, marks=pytest.mark.slow)])
def test_each_move_has_its_lora_loaded_once_and_alone_at_work(how, folders, tmp_path):
    loras = camera_loras(tmp_path / "loras")
    prior = build(folders, "ltx", loras=str(loras), **how)
    left, right = clip_request("any name", 8, -0.3), clip_request("any name", 8, 0.3)
    first = prior.generate_batch([left])[0].images
    assert (
        prior.pipe.get_active_adapters() == ["Dolly-Left"]
        and len(prior.pipe.get_list_adapters()["transformer"]) == 7
    )
    kept = prior.pipe
    other = prior.generate_batch([right])[0].images
    assert prior.pipe.get_active_adapters() == ["Dolly-Right"]
    again = prior.generate_batch([left])[0].images
    assert prior.pipe is kept and torch.equal(first, again) and not torch.equal(first, other)
    if how:
        return
    without = build(folders, "ltx").generate_batch([left])[0].images
    assert not torch.equal(first, without)
    assert torch.equal(
        build(folders, "ltx", loras=str(loras), lora_scale=0.0).generate_batch([left])[0].images,
        without,
    )


def test_prompt_follows_the_path_and_frame_rate_is_passed(folders):
    prior = build(folders, "ltx", prompt="A room")
    pipe, calls = prior.pipe, []

    class Spy:
        def __getattr__(self, name):
            return getattr(pipe, name)

        def __call__(self, **call):
            calls.append(call)
            return pipe(**call)

    prior.__dict__["pipe"] = Spy()
    right = prior(*request_arguments(clip_request("left", 8))).images
    assert (
        calls[0]["prompt"] == "A room. The camera moves to the right, around the scene."
        and calls[0]["frame_rate"] == 24.0
    )
    assert calls[0]["image"].size == (96, 64) and calls[0]["use_cross_timestep"] is False
    assert not torch.equal(
        right,
        build(folders, "ltx", prompt="A room", fps=6)(
            *request_arguments(clip_request("left", 8))
        ).images,
    )


def test_default_negative_prompt_is_that_of_the_authors(folders, monkeypatch):
    from diffusers import LTX2ImageToVideoPipeline
    from diffusers.pipelines.ltx2.utils import DEFAULT_NEGATIVE_PROMPT

    handed = []

    def record(pipe, **arguments):
        handed.append(arguments["negative_prompt"])
        return torch.zeros(1, 9, 3, 64, 96), None

    monkeypatch.setattr(LTX2ImageToVideoPipeline, "__call__", record)
    request = request_arguments(clip_request("left", 8))
    prior = build(folders, "ltx")
    prior(*request)
    other = build(folders, "ltx", negative_prompt="blur")
    other.__dict__["pipe"] = prior.pipe
    other(*request)
    assert handed == [DEFAULT_NEGATIVE_PROMPT, "blur"]


def test_missing_or_mismatched_lora_is_a_one_line_error(folders, tmp_path, monkeypatch):
    from safetensors.torch import save_file

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        FileNotFoundError,
        match=(
            r"^prior.loras is .*, a folder without a file \*dolly-right.safetensors, "
            "which clip 'right' needs$"
        ),
    ):
        build(folders, "ltx", loras=str(tmp_path))(*request_arguments(clip_request(count=8)))
    with pytest.raises(
        ValueError,
        match=(
            "^prior.loras is nobody/nothing, whose LoRA Dolly-Right could not be loaded "
            "into .*; choose a folder.*loras=none$"
        ),
    ):
        build(folders, "ltx", loras="nobody/nothing")(*request_arguments(clip_request(count=8)))
    block = "diffusion_model.transformer_blocks.0.attn1.to_q.lora"
    save_file(
        {f"{block}_A.weight": torch.zeros(2, 99), f"{block}_B.weight": torch.zeros(99, 2)},
        tmp_path / "dolly-right.safetensors",
    )
    with pytest.raises(ValueError, match="whose LoRA Dolly-Right could not be loaded into"):
        build(folders, "ltx", loras=str(tmp_path))(*request_arguments(clip_request(count=8)))
