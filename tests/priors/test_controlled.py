"""What priors share that make one prompted clip a call, on tiny networks."""

from contextlib import contextmanager

import pytest
import torch

from tests.helpers.clips import build, clip_request

pytest.importorskip("diffusers")


@pytest.mark.parametrize("name", ("diffusers", "ltx", "easyanimate"))
def test_clip_shows_sampling_steps_and_follows_the_prompt(name, folders):
    prior = build(folders, name, num_inference_steps=2)
    bars = []

    @contextmanager
    def shown(clips):
        bars.append([[one.clip.name for one in clips], 0])

        def step():
            bars[-1][1] += 1

        yield step

    prior.progress = shown
    count = prior.clip_length
    plain = prior.generate_batch([clip_request("a", count), clip_request("b", count, seed=8)])
    assert bars == [[["a"], 2], [["b"], 2]]
    for settings in (
        {"prompt": "a tree"},
        {"negative_prompt": "a tree"},
        {"guidance_scale": 9.0},
        {"guidance_scale": 1.0},
    ):
        other = build(folders, name, **settings)
        other.__dict__["pipe"] = prior.pipe  # loaded once
        assert not torch.equal(
            other.generate_batch([clip_request("a", count)])[0].images, plain[0].images
        ), settings


def test_settings_out_of_range_name_the_value(folders, tmp_path):
    for name, settings, match in (
        ("diffusers", {"frame_multiple": 0}, "prior.frame_multiple is 0; choose 1"),
        ("diffusers", {"size_multiple": 0}, "prior.size_multiple is 0; choose 1"),
        ("ltx", {"fps": 0}, "prior.fps is 0; choose 1"),
        ("ltx", {"frames": 12}, "choose 9 or 17"),
        (
            "diffusers",
            {"frames": 6, "frame_multiple": 4},
            r"prior.frames is 6; this model makes 4k\+1: choose 5 or 9",
        ),
        ("easyanimate", {"near": 0.0}, "prior.near is 0.0; choose 1e-06 to"),
        ("easyanimate", {"guidance_scale": 0.5}, "prior.guidance_scale is 0.5; choose 1"),
    ):
        with pytest.raises(ValueError, match=match):
            build(folders, name, **settings)
