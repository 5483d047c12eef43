"""MASt3R's own classes, small and with random weights.

Its package is not a dependency. `lift show pose mast3r` says how to install it.
"""

import argparse
import json
import math
import sys

import pytest
import torch
from safetensors.torch import save_model

from lift.poses import poses
from lift.registry import catalogue
from lift.types import Depth, Frames
from tests.helpers.tours import tour

needs = pytest.mark.skipif(
    bool(catalogue()("pose", "mast3r").missing),
    reason="needs MASt3R's package",
)
SMALL = {
    "pos_embed": "RoPE100",
    "img_size": (512, 512),
    "head_type": "catmlp+dpt",
    "output_mode": "pts3d+desc24",
    "depth_mode": ("exp", -math.inf, math.inf),
    "conf_mode": ("exp", 1, math.inf),
    "enc_embed_dim": 64,
    "enc_depth": 2,
    "enc_num_heads": 2,
    "dec_embed_dim": 48,
    "dec_depth": 12,
    "dec_num_heads": 2,
    "two_confs": True,
    "desc_conf_mode": ("exp", 0, math.inf),
}


def network(**settings):
    from lift.poses.mast3r import create_network

    torch.manual_seed(0)
    return create_network(SMALL | settings).eval()


def build(model, frames: Frames, **settings):
    depth = Depth(frames.depth[0], frames.depth[0] > 0, "metric")
    return poses.build(
        {"name": "mast3r", "model": str(model), "size": 96, **settings},
        depth=depth,
        device=torch.device("cpu"),
    )


def test_missing_package_error_has_install_hint_and_licence():
    entry = catalogue()("pose", "mast3r")
    assert "CC-BY-NC-SA" in entry.licence
    assert entry.install_hint.startswith("pip install --no-deps ")
    if entry.missing:
        with pytest.raises(ImportError, match="pose 'mast3r' needs .*mast3r.*pip install"):
            entry.load()


def test_compiled_rotary_embedding_is_never_imported(tmp_path, monkeypatch):
    from lift.poses.mast3r import Mast3r

    names = ("mast3r", "dust3r", "models")
    for name in [n for n in sys.modules if n.split(".")[0] in (*names, "curope")]:
        monkeypatch.delitem(sys.modules, name)
    files = {
        "vismatch/__init__.py": "raise ImportError('needs everything')",
        "vismatch/third_party/mast3r/mast3r/__init__.py": "",
        "vismatch/third_party/mast3r/mast3r/model.py": (
            "import models.pos_embed\nclass AsymmetricMASt3R: pass"
        ),
        "vismatch/third_party/mast3r/dust3r/dust3r/__init__.py": "",
        "vismatch/third_party/mast3r/dust3r/dust3r/heads/__init__.py": "",
        "models/__init__.py": "",
        "models/pos_embed.py": (
            "try:\n    from models.curope import kernel\nexcept ImportError:\n    kernel = None"
        ),
        "models/curope/__init__.py": "kernel = 'compiled'",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    Mast3r.import_packages()
    imported = {name: module for name, module in sys.modules.items() if "curope" in name}
    pos_embed = sys.modules["models.pos_embed"]
    for name in [n for n in sys.modules if n.split(".")[0] in names]:
        del sys.modules[name]
    assert pos_embed.kernel is None and not imported


def test_square_frames_are_padded_and_4_to_3_are_not():
    from lift.poses.mast3r import Mast3rNetwork

    ours = Mast3rNetwork(torch.nn.Module(), torch.device("cpu"))
    for size, expected in (
        ((384, 384), (384, 512)),
        ((512, 400), (528, 400)),
        ((384, 512), (384, 512)),
        ((512, 384), (512, 384)),
        ((288, 512), (288, 512)),
        ((96, 512), (160, 512)),
    ):
        padding = ours.padding(*size).rounded(16)
        padded = padding.size(*size)
        assert padded == expected
        images = torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8)
        assert torch.equal(padding.crop(padding.apply(images, "mirror")), images)
    keep = Mast3rNetwork(torch.nn.Module(), torch.device("cpu"), pad=False)
    assert keep.padding(384, 384).size(384, 384) == (384, 384)


@needs
def test_maps_of_a_padded_square_are_those_of_its_canvas():
    from lift.poses.mast3r import Mast3rNetwork
    from lift.poses.sfm.padding import Padding

    own, images = network(), torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8)
    ours = Mast3rNetwork(own, torch.device("cpu"))
    kept = ours.encode(images)
    maps = ours.predict(kept[:1], kept[1:], both=False)
    assert maps.points.shape == (1, 96, 96, 3) and maps.descriptors[1].shape == (1, 96, 96, 24)
    canvas = Padding(0, 16).apply(images, "mirror")
    assert canvas.shape == (2, 96, 128, 3)
    whole = ours.encode(canvas)
    expected = ours.predict(whole[:1], whole[1:], both=False)
    torch.testing.assert_close(maps.points, expected.points[:, :, 16:-16])


@needs
def test_precision_sets_the_type_of_the_computation():
    from lift.poses.mast3r import Mast3rNetwork

    own, images = network(), torch.randint(0, 256, (2, 96, 128, 3), dtype=torch.uint8)
    points = {}
    for precision in ("auto", "float32", "bfloat16"):
        ours = Mast3rNetwork(own, torch.device("cpu"), precision)
        kept = ours.encode(images)
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        assert kept[0][0].dtype == dtype
        points[precision] = ours.predict(kept[:1], kept[1:], both=True).points
    assert torch.equal(points["auto"], points["float32"])
    assert not torch.equal(points["bfloat16"], points["float32"])


@needs
@pytest.mark.parametrize("size", [(96, 128), (128, 96)])
def test_separate_heads_match_the_authors_forward(size):
    from lift.poses.mast3r import Mast3rNetwork

    own, images = network(), torch.randint(0, 256, (3, *size, 3), dtype=torch.uint8)
    ours = Mast3rNetwork(own, torch.device("cpu"))
    kept = ours.encode(images)
    views = [
        {
            "img": images[k].permute(0, 3, 1, 2) / 127.5 - 1,
            "true_shape": torch.tensor([size] * 2),
            "instance": ["0", "1"],
        }
        for k in ([0, 1], [1, 2])
    ]
    with torch.inference_mode(), pytest.warns(FutureWarning):
        first, second = own(*views)
    maps = ours.predict(kept[:2], kept[1:], both=False)
    assert maps.second_points is None and ours.batch_size() == 1
    for mine, theirs in (
        (maps.points, first["pts3d"]),
        (maps.confidence, first["conf"]),
        (maps.descriptors[0], first["desc"]),
        (maps.descriptors[1], second["desc"]),
        (maps.descriptor_confidence[0], first["desc_conf"]),
        (maps.descriptor_confidence[1], second["desc_conf"]),
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
    maps = ours.predict(kept[:2], kept[1:], both=True)
    torch.testing.assert_close(
        maps.second_points, second["pts3d_in_other_view"], atol=1e-5, rtol=1e-4
    )
    assert maps.descriptors is None


@needs
def test_weights_load_from_folder_or_file_without_code(tmp_path):
    trajectory, frames = tour()
    state = network().state_dict()
    save_model(network(), tmp_path / "model.safetensors")
    settings = {**SMALL, "patch_embed_cls": "ManyAR_PatchEmbed", "landscape_only": True}
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in settings.items()
            }
        )
    )
    words = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    torch.save(
        {"args": argparse.Namespace(model=f"AsymmetricMASt3R({words})"), "model": state},
        tmp_path / "small.pth",
    )
    for model in (tmp_path, tmp_path / "small.pth"):
        held = build(model, frames).network.network.state_dict()
        assert all(torch.equal(held[name], value) for name, value in state.items())
    torch.save(
        {"args": argparse.Namespace(model="__import__('os').system('touch ran')"), "model": state},
        tmp_path / "evil.pth",
    )
    with pytest.raises(ValueError, match="evil.pth, which is not"):
        build(tmp_path / "evil.pth", frames)
    torch.save(
        {
            "args": argparse.Namespace(model=f"AsymmetricMASt3R({words})"),
            "model": {"a": torch.zeros(1)},
        },
        tmp_path / "other.pth",
    )
    with pytest.raises(ValueError, match="of its weights are not there"):
        build(tmp_path / "other.pth", frames)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="a folder without model.safetensors"):
        build(tmp_path, frames)


@needs
def test_random_weights_give_a_no_matches_error(tmp_path):
    trajectory, frames = tour()
    save_model(network(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in SMALL.items()
            }
        )
    )
    with pytest.raises(ValueError, match="too little in common.*choose pose=planned"):
        build(tmp_path, frames)(Frames(frames.images), trajectory)


@needs
@pytest.mark.gpu
def test_float32_on_gpu_is_the_authors_forward(cuda):
    from lift.poses.mast3r import Mast3rNetwork

    own, size = network().cuda(), (96, 128)
    images = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    ours = Mast3rNetwork(own, cuda, "float32")
    kept = ours.encode(images)
    maps = ours.predict(kept[:1], kept[1:], both=True)
    views = [
        {
            "img": image[None].cuda().permute(0, 3, 1, 2) / 127.5 - 1,
            "true_shape": torch.tensor([size]),
            "instance": ["0"],
        }
        for image in images
    ]
    with torch.inference_mode():
        first, second = own(*views)
    torch.testing.assert_close(maps.points, first["pts3d"], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(
        maps.second_points, second["pts3d_in_other_view"], atol=1e-4, rtol=1e-3
    )


@needs
@pytest.mark.gpu
def test_full_size_on_gpu_repeats_and_half_precision_is_close(cuda):
    from lift.poses.mast3r import Mast3rNetwork

    full = network(
        enc_embed_dim=1024, enc_depth=24, enc_num_heads=16, dec_embed_dim=768, dec_num_heads=12
    )
    assert 680e6 < sum(p.numel() for p in full.parameters()) < 700e6
    ours = Mast3rNetwork(full, cuda)
    images = torch.randint(0, 256, (4, 288, 512, 3), dtype=torch.uint8)
    kept = ours.encode(images)
    maps = ours.predict(kept[:2], kept[2:], both=False)
    again = ours.predict(kept[:2], kept[2:], both=False)
    assert (
        maps.points.shape == (2, 288, 512, 3)
        and maps.descriptors[0].shape == (2, 288, 512, 24)
        and 1 <= ours.batch_size() <= 32
    )
    assert torch.equal(maps.points, again.points) and torch.equal(
        maps.descriptors[1], again.descriptors[1]
    )
    views = [
        {
            "img": images[k].cuda().permute(0, 3, 1, 2) / 127.5 - 1,
            "true_shape": torch.tensor([[288, 512]] * 2),
            "instance": ["0", "1"],
        }
        for k in ([0, 1], [2, 3])
    ]
    with torch.inference_mode():
        first, second = full(*views)
    assert (
        float(((maps.points - first["pts3d"]).norm(dim=-1) / first["pts3d"].norm(dim=-1)).median())
        < 0.01
    )
    assert float((maps.descriptors[1] * second["desc"]).sum(-1).median()) > 0.999
