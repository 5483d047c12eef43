"""The second model of SANA-WM, on tiny networks of the real classes."""

import pytest
import torch

from tests.helpers.clips import CPU, build, clip_request, request_arguments
from tests.helpers.tiny.sana_wm import sana_wm_refiner

pytest.importorskip("diffusers")


@pytest.fixture(scope="session")
def refiner(tmp_path_factory) -> str:
    torch.manual_seed(0)
    return str(sana_wm_refiner(tmp_path_factory.mktemp("refiner") / "model"))


def test_refined_video_is_that_of_the_authors_pipeline(folders, refiner):
    from diffusers.pipelines.sana_wm.refiner import SanaWMLTX2Refiner

    prior = build(folders, "sana_wm", refiner=refiner, prompt="a room")
    rng = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 9, 2, 2, generator=rng)
    video = prior.refine(latents, torch.Generator().manual_seed(1))
    official = SanaWMLTX2Refiner.from_pretrained(refiner, vae=prior.pipe.vae)
    expected = official(
        latents, "a room", fps=16, generator=torch.Generator().manual_seed(1), output_type="pt"
    )
    torch.testing.assert_close(video[1:], expected, atol=1e-5, rtol=1e-5)
    plain = prior.pipe.vae.decode(latents, return_dict=False)[0]
    assert video.shape == plain[0].transpose(0, 1).shape


@pytest.mark.slow
def test_refiner_changes_the_clip_and_is_released(folders, refiner):
    request = request_arguments(clip_request(count=8))
    plain = build(folders, "sana_wm")(*request).images
    prior = build(folders, "sana_wm", refiner=refiner)
    refined = prior(*request).images
    assert refined.shape == plain.shape and not torch.equal(refined, plain)
    prior.release()
    assert "refiner_pipe" not in vars(prior) and "pipe" not in vars(prior)


def test_missing_refiner_names_its_setting(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="prior.refiner is 'nobody/nothing'"):
        _ = build(folders, "sana_wm", refiner="nobody/nothing").refiner_pipe
    with pytest.raises(ValueError, match="prior.refiner is .*could not be loaded"):
        _ = build(folders, "sana_wm", refiner=str(tmp_path)).refiner_pipe


def test_refiner_counts_in_the_memory_and_in_the_downloads():
    from lift.priors.sana_wm import SanaWM
    from tests.helpers.clips import scene

    plain, refined = (
        SanaWM(refiner=name, depth=scene()[2], device=CPU) for name in ("none", "some/refiner")
    )
    assert sum(refined.weight_memory.values()) > 60 + sum(plain.weight_memory.values())
    settings = {"model": "some/model", "refiner": "some/refiner"}
    assert [weights.setting for weights in SanaWM.required_weights(settings, True)] == [
        "prior.model",
        "prior.refiner",
    ]


@pytest.mark.gpu
@pytest.mark.parametrize("offload", ["none", "model", "group"])
def test_refined_clip_on_a_gpu(offload, folders, refiner):
    device = torch.device("cuda")
    prior = build(folders, "sana_wm", device, refiner=refiner, offload=offload)
    images = prior(*request_arguments(clip_request(count=8))).images
    assert images.shape[0] == 8 and float(images.float().std()) > 1
