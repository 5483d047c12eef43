"""Depth Anything from a folder, on tiny networks of the real classes."""

from pathlib import Path

import pytest
import torch

from tests.helpers.depth_pictures import build_depth, gradient


@pytest.fixture(scope="module")
def tiny_depth_anything(tmp_path_factory) -> Path:
    """The real classes with random weights, some kilobytes."""
    pytest.importorskip("transformers")
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=70,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    for kind in ("relative", "metric"):
        config = DepthAnythingConfig(
            backbone_config=backbone,
            reassemble_hidden_size=16,
            neck_hidden_sizes=[8, 8, 8, 8],
            fusion_hidden_size=8,
            head_hidden_size=4,
            depth_estimation_type=kind,
            max_depth=20 if kind == "metric" else 1,
        )
        torch.manual_seed(0)
        folder = tmp_path_factory.getbasetemp() / f"depth_anything_{kind}"
        DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    return folder.parent


@pytest.mark.parametrize("kind", ["relative", "metric"])
def test_depth_anything_runs_from_a_folder(tiny_depth_anything, kind):
    estimator = build_depth(
        "depth_anything",
        model=str(tiny_depth_anything / f"depth_anything_{kind}"),
        size=70,
        far=6.0,
    )
    image = gradient(60, 100)
    made, again = estimator(image), estimator(image)
    assert made.depth.shape == (60, 100) and torch.equal(made.depth, again.depth)
    assert made.kind == ("metric" if kind == "metric" else "affine-invariant")
    assert (made.depth[made.valid] > 0).all() and made.valid.any()
    if kind == "relative":
        assert made.depth.min() >= 1 and made.depth.max() <= 6.001
    assert estimator.licence.startswith("unknown"), "no width of the released models"
    assert not made.depth.is_inference()


def test_depth_anything_that_cannot_be_had_is_one_line(monkeypatch, tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(
        FileNotFoundError, match=r"depth\.model is .*could not be loaded.*depth\.model=FOLDER"
    ) as caught:
        build_depth("depth_anything", model=str(tmp_path / "nothing"))
    assert "\n" not in str(caught.value)
