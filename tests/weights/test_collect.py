"""What the components of a run download."""

import pytest

from lift.config import compose_run
from lift.registry import SLOTS, ComponentError, catalogue
from lift.weights import CachedUrl, HubFiles, HubPipeline
from lift.weights.collect import (
    check_local_weights,
    collect_weights,
    component_weights,
    computes_in_half,
)


def required(slot: str, name: str, half: bool = True, **settings):
    """What a component requires, by repository."""
    weights = component_weights(catalogue()(slot, name), settings, half)
    return {item.repository: item for item in weights}


def test_defaults_download_the_metrics_alone_under_their_own_names():
    sources = [item.weights for item in collect_weights(compose_run(["image=coffee"]), True)]
    assert all(isinstance(source, CachedUrl) for source in sources)
    assert [source.name for source in sources] == [
        "alexnet-owt-7be5be79.pth",
        "lpips-v0.1-alex.pth",
        "vgg16-397923af.pth",
        "dists_weights.pt",
    ]


def test_experiments_name_their_models():
    config = compose_run(["image=coffee", "experiment=liftimage3d"])
    assert computes_in_half(config), "its trainer is on a GPU"
    assert {item.owner for item in collect_weights(config, True, metrics=False)} == {
        "prior motionctrl",
        "depth depth_anything",
        "pose mast3r",
    }
    config.device = "cpu"
    assert not computes_in_half(config)
    config.device = "cuda"
    assert computes_in_half(config)


def test_precision_decides_the_variant_of_svd():
    def variant(**settings):
        (weights,) = required("prior", "svd", **settings).values()
        return weights.variant

    assert variant() == "fp16" and variant(half=False) is None
    assert variant(precision="float32") is None
    assert variant(half=False, precision="float16") == "fp16"


def test_motionctrl_replaces_the_unet_of_svd():
    found = required("prior", "motionctrl")
    assert found["stabilityai/stable-video-diffusion-img2vid"].skipped == ("unet",)
    assert found["TencentARC/MotionCtrl"].files == ("motionctrl_svd.ckpt",)
    assert len(required("prior", "motionctrl", weights="/w/own.ckpt")) == 1


def test_ltx_lists_every_lora():
    found = required("prior", "ltx")
    assert len(found) == 8 and len(required("prior", "ltx", loras="none")) == 1
    assert found["Lightricks/LTX-2-19b-LoRA-Camera-Control-Dolly-In"].files == (
        "ltx-2-19b-lora-camera-control-dolly-in.safetensors",
    )


def test_commercial_vggt_is_a_file_of_its_own():
    (weights,) = required("pose", "vggt", model="facebook/VGGT-1B-Commercial").values()
    assert weights.files == ("vggt_1B_commercial.pt",) and "commercial" in weights.licence
    (weights,) = required("pose", "vggt").values()
    assert weights.files == ("config.json", "model.safetensors")


def test_models_in_folders_are_not_downloaded(tmp_path):
    assert required("prior", "svd", model=str(tmp_path)) == {}
    assert required("pose", "vggt", model="./v") == {}


@pytest.mark.parametrize(
    "setting",
    [
        "wan_fun_camera prior.model=/nope",
        "stable_virtual_camera prior.image_encoder=~/nope",
        "sana_wm prior.refiner=./nope",
        "motionctrl prior.weights=nope.ckpt",
    ],
)
def test_paths_of_weights_that_do_not_exist_are_named(setting):
    name, word = setting.split()
    config = compose_run(["image=coffee", f"prior={name}", word])
    key, value = word.split("=")
    with pytest.raises(ComponentError, match=f"^{key} is {value}, which does not exist"):
        check_local_weights(config, False, SLOTS)


def test_texts_that_look_like_paths_are_no_weights(tmp_path):
    words = ["prior=wan_fun_camera", "prior.prompt=./room", f"prior.model={tmp_path}"]
    check_local_weights(compose_run(["image=coffee", *words]), False, SLOTS)


@pytest.mark.parametrize("slot", SLOTS)
def test_components_with_a_model_of_the_hub_declare_it(slot):
    for name, entry in catalogue().entries[slot].items():
        parameter = entry.settings.get("model")
        if parameter is None or not entry.module.startswith("lift."):
            continue
        has_default = parameter.default is not parameter.empty
        model = parameter.default if has_default else "owner/model"
        weights = component_weights(entry, {"model": model}, True)
        repositories = [item.repository for item in weights]
        assert model in repositories, f"{slot} {name} does not declare {model}"
        assert all(isinstance(item, (HubFiles, HubPipeline)) for item in weights)
        assert all(item.licence and item.setting.startswith(f"{slot}.") for item in weights)
