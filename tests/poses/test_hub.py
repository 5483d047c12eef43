"""Checkpoints of pose networks, and errors for checkpoints of another kind."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lift.poses.sfm.hub import build_network, load_checkpoint


def test_folder_gives_configuration_and_weights(tmp_path):
    (tmp_path / "config.json").write_text('{"width": 2}')
    weights = {"weight": torch.ones(2, 2)}
    save_file(weights, tmp_path / "model.safetensors")
    settings, loaded = load_checkpoint(str(tmp_path))
    assert settings == {"width": 2} and torch.equal(loaded["weight"], weights["weight"])


def test_files_of_another_kind_are_named_in_one_line(tmp_path):
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(ValueError, match="whose files are not a network's: [^\n]+$"):
        load_checkpoint(str(tmp_path))


def test_network_has_the_weights_of_the_checkpoint():
    weights = {"weight": torch.full((3, 2), 7.0), "bias": torch.zeros(3)}
    network = build_network("model", "a network", lambda: nn.Linear(2, 3), weights)
    assert isinstance(network, nn.Linear) and torch.equal(network.weight, weights["weight"])


def test_optional_weights_may_be_missing():
    weights = {"weight": torch.zeros(3, 2)}
    build_network("model", "a network", lambda: nn.Linear(2, 3), weights, ("bias",))


def test_missing_weights_name_model_and_kind():
    weights = {"weight": torch.zeros(3, 2)}
    message = "pose.model is 'model', which is not VGGT: 1 of its weights are not there, bias"
    with pytest.raises(ValueError, match=message):
        build_network("model", "VGGT", lambda: nn.Linear(2, 3), weights)


def test_network_that_cannot_be_created_names_the_reason():
    def create() -> nn.Module:
        raise KeyError("no\nwidth")

    with pytest.raises(ValueError, match="is not VGGT: 'no.*width'"):
        build_network("model", "VGGT", create, {})
