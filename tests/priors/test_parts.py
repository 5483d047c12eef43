"""Folders of models that lack files."""

import pytest
import torch

from lift.priors import priors
from lift.types import Depth


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("wan_fun_camera", "alibaba-pai/Wan2.1-Fun-V1.1-1.3B-Control-Camera"),
        ("stable_virtual_camera", "stabilityai/stable-virtual-camera"),
    ],
)
def test_folder_without_files_names_the_default_repository(name, repository, tmp_path):
    folder = tmp_path / "my models"
    folder.mkdir()
    depth = Depth(torch.ones(64, 64), torch.ones(64, 64, dtype=torch.bool), "metric")
    with pytest.raises(
        FileNotFoundError, match=f"hf download {repository} --local-dir '{folder}' brings"
    ):
        priors.build({"name": name, "model": str(folder)}, depth=depth, device=torch.device("cpu"))
