"""Feed-forward networks for all frames: alignment of their output, and the real classes.

The real classes are small and have random weights.
"""

import importlib.util
import json

import pytest
import torch
from safetensors.torch import save_file

from lift.geometry import rigid, rotation_from_vector
from lift.poses import poses
from lift.poses.sfm.feedforward import FeedForwardPoses, WindowPrediction
from lift.poses.sfm.padding import Padding
from lift.registry import catalogue
from lift.types import Cameras, Depth, Frames, Trajectory
from tests.helpers import walls


def needs(*names: str):
    return pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in names),
        reason=f"needs {names[0]}'s package",
    )


class Knowing(FeedForwardPoses):
    """Return the truth in another world and scale each call. Pictures identify the frames."""

    def __init__(self, true_cameras: Cameras, frames: Frames, **settings) -> None:
        first = Depth(frames.depth[0], frames.depth[0] > 0, "metric")
        settings = {
            "size": 154,
            "window": 4,
            "tolerance": 0.05,
            "max_points": 20_000,
            "depth": first,
            "estimator": None,
            "device": torch.device("cpu"),
        } | settings
        super().__init__(**settings)
        self.true_cameras, self.frames, self.looks = true_cameras, frames, []

    def predict(self, images: torch.Tensor) -> WindowPrediction:
        height, width = images.shape[1:3]
        means = self.frames.images.float().mean((1, 2))
        views = [
            int((means - image.float().mean((0, 1))).norm(dim=-1).argmin()) for image in images
        ]
        self.looks.append(views)
        small = self.true_cameras[views].resized(width, height)
        scale, other = (
            1.0 + len(self.looks),
            rigid(
                rotation_from_vector(torch.tensor([0.3, 0.1 * len(self.looks), -0.2])),
                torch.tensor([1.0, 2.0, 3.0]),
            ),
        )
        world = small.world_to_camera @ other
        world = rigid(world[:, :3, :3], scale * world[:, :3, 3])
        return WindowPrediction(
            world,
            small.intrinsics,
            scale * walls.render(small).depth,
            torch.full((len(views), height, width), 5.0),
        )


@pytest.mark.parametrize("window", [2, 4, 32])
def test_windows_come_to_lie_in_one_world(case, window):
    trajectory, true_cameras, frames = case
    network = Knowing(true_cameras, frames, window=window)
    found = network(Frames(frames.images), trajectory)
    assert all(views[0] == 0 and len(views) <= window for views in network.looks) and {
        v for views in network.looks for v in views
    } == set(range(7))
    assert torch.equal(found.cameras.world_to_camera[0], trajectory.start.world_to_camera[0])
    torch.testing.assert_close(
        found.cameras.world_to_camera, true_cameras.world_to_camera, atol=0.02, rtol=0
    )
    torch.testing.assert_close(
        found.cameras.intrinsics, true_cameras.intrinsics.expand(7, 3, 3), atol=0.5, rtol=0
    )
    assert (
        ((found.depth / frames.depth.clamp(min=1e-3)).log().abs()[frames.depth > 0]).median() < 0.01
    )
    assert 5_000 < len(found.points) <= 20_000


def test_one_frame_and_bad_input_end_clearly(case):
    trajectory, true_cameras, frames = case
    found = Knowing(true_cameras, frames)(
        Frames(frames.images[:1]), Trajectory(trajectory.start, ())
    )
    assert torch.equal(found.cameras.world_to_camera, trajectory.start.world_to_camera)
    assert (
        (
            (found.depth / frames.depth[:1].clamp(min=1e-3)).log().abs()[frames.depth[:1] > 0]
        ).median()
        < 0.01
    )
    for setting, value in {"size": 3, "window": 1, "tolerance": 0.0}.items():
        for name in ("vggt", "depth_anything_3"):
            with pytest.raises(ValueError, match=f"pose.{setting} is {value}; choose"):
                catalogue()("pose", name).check({setting: value})
    with pytest.raises(ValueError, match="6 frames do not fit a trajectory of 7"):
        Knowing(true_cameras, frames)(frames[:6], trajectory)
    unknown = Depth(frames.depth[0], torch.zeros_like(frames.depth[0], dtype=torch.bool), "metric")
    with pytest.raises(ValueError, match="nothing is known of the input's depth"):
        Knowing(true_cameras, frames, depth=unknown)(Frames(frames.images), trajectory)


@pytest.mark.parametrize("name", ["vggt", "depth_anything_3"])
def test_missing_package_error_has_install_hint(name):
    entry = catalogue()("pose", name)
    assert "--no-deps" in entry.install_hint
    if entry.missing:
        with pytest.raises(ImportError, match=f"pose '{name}' needs"):
            entry.load()


@needs("vggt")
def test_vggts_own_classes_small_and_with_random_weights(case):
    from vggt.heads.camera_head import CameraHead
    from vggt.heads.dpt_head import DPTHead
    from vggt.models.aggregator import Aggregator

    from lift.poses.vggt import Vggt

    trajectory, _, frames = case
    torch.manual_seed(0)
    network = torch.nn.Module()
    network.aggregator = Aggregator(
        img_size=70,
        embed_dim=64,
        depth=4,
        num_heads=2,
        patch_embed="conv",
        cached_layer_indices=(0, 1, 2, 3),
    )
    network.camera_head = CameraHead(dim_in=128, trunk_depth=1, num_heads=2)
    network.depth_head = DPTHead(
        dim_in=128,
        output_dim=2,
        activation="exp",
        conf_activation="expp1",
        features=16,
        out_channels=[16, 16, 16, 16],
        intermediate_layer_idx=[0, 1, 2, 3],
    )
    estimator = Vggt.__new__(Vggt)
    FeedForwardPoses.__init__(
        estimator,
        70,
        4,
        0.05,
        10_000,
        Depth(frames.depth[0], frames.depth[0] > 0, "metric"),
        None,
        torch.device("cpu"),
    )
    estimator.network = network.eval()
    estimator.pad = True
    prediction = estimator.predict(frames.images[:3, :56, :70].contiguous())
    assert (
        prediction.world_to_camera.shape == (3, 4, 4)
        and prediction.depth.shape == prediction.confidence.shape == (3, 56, 70)
        and prediction.confidence.min() >= 1
    )
    torch.testing.assert_close(
        prediction.world_to_camera[:, :3, :3] @ prediction.world_to_camera[:, :3, :3].mT,
        torch.eye(3).expand(3, 3, 3),
        atol=1e-4,
        rtol=0,
    )
    torch.testing.assert_close(prediction.intrinsics[:, 0, 2], torch.full((3,), 35.0))
    found = estimator(Frames(frames.images), trajectory)
    again = estimator(Frames(frames.images), trajectory)
    assert torch.equal(found.depth, again.depth) and torch.equal(
        found.cameras.world_to_camera[0], trajectory.start.world_to_camera[0]
    )
    assert found.depth.shape == (7, 240, 320) and found.cameras.world_to_camera.isfinite().all()


def test_padding_is_removed_from_depth_and_intrinsics(case):
    trajectory, true_cameras, frames = case

    class Padded(Knowing):
        def padding(self, height, width):
            return Padding(0, round(width / 8))

        def predict(self, images):
            columns = images.shape[2] // 10
            assert bool((images[:, :, :columns] == 255).all()), "the padding is white"
            inner = super().predict(images[:, :, columns:-columns])
            shift = torch.zeros(3, 3)
            shift[0, 2] = columns
            pad = torch.nn.functional.pad
            return WindowPrediction(
                inner.world_to_camera,
                inner.intrinsics + shift,
                pad(inner.depth, (columns, columns), value=100.0),
                pad(inner.confidence, (columns, columns)),
            )

    found = Padded(true_cameras, frames, size=140)(Frames(frames.images), trajectory)
    torch.testing.assert_close(
        found.cameras.intrinsics, true_cameras.intrinsics.expand(7, 3, 3), atol=0.5, rtol=0
    )
    assert found.depth.max() < 50 and found.depth.shape == (7, 240, 320)


def test_vggt_pads_portraits_to_squares():
    from lift.poses.vggt import Vggt

    estimator = Vggt.__new__(Vggt)
    estimator.pad = True
    assert estimator.padding(518, 392).rounded(14).size(518, 392) == (518, 518)
    assert estimator.padding(392, 518).size(392, 518) == (392, 518)
    estimator.pad = False
    assert estimator.padding(518, 392).size(518, 392) == (518, 392)


def test_commercial_vggt_is_one_file_without_configuration(case, tmp_path, monkeypatch):
    import lift.poses.vggt as module
    from lift.poses.vggt import COMMERCIAL_FILE, Vggt

    _, _, frames = case
    small = torch.nn.Linear(2, 2)
    monkeypatch.setattr(module, "create_network", lambda settings: torch.nn.Linear(2, 2))
    torch.save(small.state_dict(), tmp_path / COMMERCIAL_FILE)
    first = Depth(frames.depth[0], frames.depth[0] > 0, "metric")
    for model in (tmp_path, tmp_path / COMMERCIAL_FILE):
        estimator = Vggt(str(model), depth=first, device=torch.device("cpu"))
        assert torch.equal(estimator.network.weight, small.weight)
        assert "commercial use allowed" in estimator.licence
    (tmp_path / COMMERCIAL_FILE).rename(tmp_path / "model.pt")
    estimator = Vggt(str(tmp_path / "model.pt"), depth=first, device=torch.device("cpu"))
    assert estimator.licence == "CC-BY-NC-4.0", "another file says nothing of commercial use"
    with pytest.raises(FileNotFoundError, match="a folder without config.json"):
        Vggt(str(tmp_path), depth=first, device=torch.device("cpu"))


@needs("depth_anything_3", "addict")
@pytest.mark.slow
def test_ray_poses_repeat_and_differ_from_the_camera_head(case):
    from lift.poses.depth_anything_3 import DepthAnything3, create_network

    _, _, frames = case
    torch.manual_seed(0)
    estimator = DepthAnything3.__new__(DepthAnything3)
    estimator.network = create_network("da3-small")
    estimator.device = torch.device("cpu")
    images = frames.images[:2, :84, :112].contiguous()
    found = {}
    for name, use_ray_pose in (("head", False), ("rays", True), ("again", True)):
        estimator.use_ray_pose = use_ray_pose
        state = torch.get_rng_state()
        found[name] = estimator.predict(images)
        assert torch.equal(torch.get_rng_state(), state), "global generators are restored"
    assert torch.equal(found["rays"].world_to_camera, found["again"].world_to_camera)
    assert not torch.equal(found["rays"].world_to_camera, found["head"].world_to_camera)
    assert torch.equal(found["rays"].depth, found["head"].depth)


@needs("depth_anything_3", "addict")
@pytest.mark.slow
def test_nested_model_is_built_without_gaussians(monkeypatch):
    from depth_anything_3 import cfg, registry

    from lift.poses import depth_anything_3

    load = cfg.load_config

    def load_small(path):  # the giant and the large network have 1.4 billion parameters
        if path not in registry.MODEL_REGISTRY.values() or "nested" not in path:
            return load(path)
        config = load(path)
        small = load(registry.MODEL_REGISTRY["da3-small"])
        metric = load(registry.MODEL_REGISTRY["da3mono-large"])
        metric.net.name, metric.net.out_layers = "vits", [2, 5, 8, 11]
        metric.head.dim_in, metric.head.features = 384, 32
        metric.head.out_channels = [32, 32, 32, 32]
        small.gs_head, small.gs_adapter = config.anyview.gs_head, config.anyview.gs_adapter
        config.anyview, config.metric = small, metric
        return config

    monkeypatch.setattr(cfg, "load_config", load_small)
    network = depth_anything_3.create_network("da3nested-giant-large")
    assert network.da3.gs_head is None and network.da3.cam_dec is not None
    estimator = depth_anything_3.DepthAnything3.__new__(depth_anything_3.DepthAnything3)
    estimator.network, estimator.device = network, torch.device("cpu")
    estimator.use_ray_pose = False
    images = torch.randint(0, 256, (2, 56, 70, 3), dtype=torch.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "depth_anything_3.model.da3.compute_sky_mask", lambda sky, threshold: sky > -torch.inf
        )
        prediction = estimator.predict(images)
    assert prediction.depth.shape == (2, 56, 70) and prediction.world_to_camera.isfinite().all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "depth_anything_3.model.da3.compute_sky_mask", lambda sky, threshold: sky == torch.inf
        )
        with pytest.raises(ValueError, match="cannot scale these frames.*non-sky"):
            estimator.predict(images)


def test_replaced_models_are_named_in_a_warning(caplog, monkeypatch):
    from lift.poses import depth_anything_3 as module

    monkeypatch.setattr(module, "load_checkpoint", lambda model: ({}, {}))
    monkeypatch.setattr(module, "build_network", lambda *_: torch.nn.Module())
    first = Depth(torch.ones(2, 2), torch.ones(2, 2, dtype=torch.bool), "metric")
    for model in ("depth-anything/DA3-LARGE", "depth-anything/DA3-LARGE-1.1"):
        module.DepthAnything3(model, depth=first, device=torch.device("cpu"))
    assert [record.getMessage() for record in caplog.records] == [
        "pose.model is depth-anything/DA3-LARGE, which its authors replaced: "
        "choose depth-anything/DA3-LARGE-1.1"
    ]


@needs("depth_anything_3", "addict")
@pytest.mark.slow
def test_depth_anything_3s_own_network_with_random_weights(case, tmp_path):
    from lift.poses.depth_anything_3 import create_network

    trajectory, _, frames = case
    torch.manual_seed(0)
    (tmp_path / "config.json").write_text(json.dumps({"model_name": "da3-small"}))
    weights = {
        f"model.{name}": value.clone()
        for name, value in create_network("da3-small").state_dict().items()
    }
    save_file(weights, tmp_path / "model.safetensors")
    first = Depth(frames.depth[0], frames.depth[0] > 0, "metric")

    def build():
        return poses.build(
            {"name": "depth_anything_3", "model": str(tmp_path), "size": 112},
            depth=first,
            device=torch.device("cpu"),
        )

    estimator = build()
    assert estimator.licence == "Apache-2.0"
    found = estimator(Frames(frames.images), trajectory)
    assert torch.equal(found.cameras.world_to_camera[0], trajectory.start.world_to_camera[0])
    assert (
        found.depth.shape == (7, 240, 320)
        and found.cameras.world_to_camera.isfinite().all()
        and found.confidence.min() >= 0
    )
    save_file(
        {name: value for name, value in weights.items() if "cam_dec" not in name},
        tmp_path / "model.safetensors",
    )
    with pytest.raises(ValueError, match="of its weights are not there"):
        build()
    (tmp_path / "config.json").write_text(json.dumps({"model_name": "da3mono-large"}))
    with pytest.raises(ValueError, match="has no head for cameras"):
        build()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="model_name ''; choose one of da3-"):
        build()
