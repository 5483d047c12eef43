"""Which files of a repository are needed."""

from lift.weights import HubFiles, HubPipeline, is_local

NAMES = (
    "README.md",
    "model_index.json",
    "svd_xt.safetensors",
    "feature_extractor/preprocessor_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "extra/diffusion_pytorch_model.safetensors",
)
PARTS = ("feature_extractor", "unet", "vae")


def select(**settings):
    return set(HubPipeline("prior.model", "a/b", "MIT", **settings).select(NAMES, PARTS))


def test_parts_come_in_one_format_and_one_precision():
    assert select() == {
        "README.md",
        "model_index.json",
        "feature_extractor/preprocessor_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    }


def test_variant_is_preferred_where_a_part_has_it():
    selected = select(variant="fp16")
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in selected
    assert "unet/diffusion_pytorch_model.safetensors" not in selected
    assert "vae/diffusion_pytorch_model.safetensors" in selected


def test_weights_of_skipped_parts_are_left_out():
    assert {name for name in select(skipped=("unet",)) if "unet/" in name} == {"unet/config.json"}


def test_shards_and_their_index_are_selected():
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    index = "model.safetensors.index.json"
    pipeline = HubPipeline("depth.model", "a/b", "MIT")
    assert set(pipeline.select([*names, index, "flax_model.msgpack"])) == {*names, index}


def test_pickles_are_selected_where_nothing_else_is():
    pipeline = HubPipeline("depth.model", "a/b", "MIT")
    assert pipeline.select(["pytorch_model.bin", "model.onnx"]) == ["pytorch_model.bin"]


def test_files_are_selected_even_if_the_repository_lacks_them():
    assert HubFiles("pose.model", "a/b", ("w.pt",), "MIT").select([]) == ["w.pt"]


def test_paths_are_local_and_names_are_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_local("/nowhere/model") and is_local("~/model") and is_local("./model")
    assert not is_local("owner/model")
    (tmp_path / "owner" / "model").mkdir(parents=True)
    assert is_local("owner/model")
