"""The random scenes and the training of the built-in depth network."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lift.depths.lite import LiteNetwork
from tests.helpers.commands import start_python

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
import depth_scenes as scenes  # noqa: E402
import train_depth as training  # noqa: E402

NONE = scenes.Pictures(torch.zeros(0, 8, 8, 3, dtype=torch.uint8))


def empty(seed: int = 0) -> scenes.RandomScene:
    place = scenes.RandomScene(np.random.default_rng(seed))
    place.set_sky()
    return place


def packed(place: scenes.RandomScene) -> dict[str, torch.Tensor]:
    out = {
        key: torch.as_tensor(np.ascontiguousarray(value), dtype=torch.float32)
        for key, value in place.pack().items()
    }
    return out | {"kind": out["kind"].int()}


@pytest.mark.slow
def test_rays_meet_shapes_at_analytic_points():
    gray = empty().make_material(scenes.PLAIN)
    for put, distance in (
        (lambda p: p.box((0, 0, 5), (2, 2, 2), gray), 4.0),
        (lambda p: p.box((0, 0, 5), (2, 2, 2), gray, yaw=math.pi / 4), 5 - math.sqrt(2)),
        (lambda p: p.ball((0, 0, 5), (1, 1, 2), gray), 3.0),
        (lambda p: p.cone((0, -1, 5), (0, 1, 5), 1.0, 0.5, gray), 4.25),
        (lambda p: p.cone((0, 0, 4), (0, 0, 6), 1.0, 0.5, gray), 4.0),
        (
            lambda p: p.leaves(
                np.array([[0, -1.0, 3]]),
                np.array([[0, 1.0, 0]]),
                np.array([[0, 0, -1.0]]),
                np.array([2.0]),
                np.array([0.5]),
                gray,
            ),
            3.0,
        ),
        (lambda p: p.box((0, 0, 0), (2, 2, 2), gray), 1.0),  # from within
    ):
        place = empty()
        put(place)
        rays = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [0.45, 0.0, 1.0]])
        found, which = scenes.cast(packed(place), torch.zeros(3, 3), rays, torch.full((3,), 100.0))
        assert float(found[0]) == pytest.approx(distance, abs=1e-4) and which[0] == 0
        if distance > 1:
            assert which[1] == -1 and found[1] == 100, "there is nothing behind"
            assert which[2] == -1, "and nothing beside it"


@pytest.mark.parametrize("name", scenes.SCENE_KINDS)
@pytest.mark.slow
def test_random_scene_is_repeatable_with_near_and_far(name):
    spreads = []
    for seed in range(3):
        images, inverse = scenes.render(
            [scenes.RandomScene.random(seed, 0, name)] * 2, 48, 36, NONE, 7
        )
        assert (
            images.shape == (2, 36, 48, 3)
            and images.dtype == torch.uint8
            and inverse.isfinite().all()
            and (inverse >= 0).all()
        )
        again, same = scenes.render([scenes.RandomScene.random(seed, 0, name)], 48, 36, NONE, 7)
        assert torch.equal(again[0], images[0]) and torch.equal(same[0], inverse[0])
        spreads.append(float(inverse[0].quantile(0.95) / inverse[0].quantile(0.05).clamp(min=1e-3)))
    assert max(spreads) > 1.5 and float(images.float().std()) > 8


def test_ground_is_nearer_below_and_sky_is_infinite():
    place = empty()
    place.box((0, -0.5, 0), (2000, 1, 2000), place.make_material(scenes.PLAIN))
    place.eye = np.array([0.0, 1.5, 0.0])
    place.aim = np.array([0.0, 1.5, 1.0])
    _, inverse = scenes.render([place], 64, 64, NONE)
    focal = 32 / math.tan(math.radians(place.fov) / 2)
    below = (torch.arange(64) + 0.5 - 32) / focal
    torch.testing.assert_close(inverse[0, :, 10], (below / 1.5).clamp(min=0), rtol=1e-3, atol=1e-5)


def test_the_gpu_kernel_has_the_hits_of_the_cpu(device):
    import scenes_triton

    rng = torch.Generator().manual_seed(0)
    toward = torch.cat([torch.rand(96, 2, generator=rng) - 0.5, torch.ones(96, 1)], 1)
    origin = torch.cat([torch.zeros(48, 3), 0.1 * torch.randn(48, 3, generator=rng)])
    for name, seed in (("portrait", 1), ("still", 3)):
        shapes = packed(scenes.RandomScene.random(seed, 0, name))
        given = [x.to(device) for x in (origin, toward, torch.full((96,), 1e3))]
        distance, which = scenes_triton.cast(
            {key: value.to(device) for key, value in shapes.items()}, *given
        )
        expected, shape = scenes.cast(shapes, origin, toward, torch.full((96,), 1e3))
        torch.testing.assert_close(distance.cpu(), expected, rtol=1e-3, atol=1e-4)
        assert (which.cpu() == shape).float().mean() > 0.97, "rays along an edge may differ"


@pytest.mark.gpu
def test_a_gpu_renders_the_same_scenes(cuda):
    there = scenes.Pictures(NONE.images.to(cuda))
    for name in scenes.SCENE_KINDS:
        images, expected = scenes.render([scenes.RandomScene.random(3, 0, name)], 64, 48, NONE)
        found, inverse = scenes.render([scenes.RandomScene.random(3, 0, name)], 64, 48, there)
        near = (inverse.cpu() - expected).abs() < 1e-2 * expected + 1e-6
        assert (
            near.float().mean() > 0.98
            and abs(float(images.float().mean()) - float(found.float().mean())) < 25
        ), name


@pytest.mark.gpu
def test_training_takes_steps_on_a_gpu(cuda, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SHARED", tmp_path / "nowhere")
    monkeypatch.setattr(training, "SIDE", 64)
    monkeypatch.setattr(training, "SIZES", ((64, 64),))
    training.render_shard((tmp_path, 0, 12, "cuda"))
    learn = [
        "train_depth.py",
        "train",
        "--data",
        str(tmp_path),
        "--output",
        str(tmp_path / "run"),
        "--device",
        "cuda",
        "--batch",
        "6",
        "--steps",
        "12",
        "--evaluations",
        "2",
    ]
    monkeypatch.setattr(sys, "argv", learn)
    training.main()
    assert all(
        value.isfinite().all()
        for value in load_file(tmp_path / "run" / "lite.safetensors").values()
    )


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.slow
def test_two_processes_train_one_network_on_own_pictures(device, tmp_path, monkeypatch):
    if device == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("fewer than two CUDA devices")
    monkeypatch.setattr(training, "SIDE", 64)
    training.render_shard((tmp_path, 0, 24, "cpu"))
    folders = [str(Path(__file__).parents[2]), str(Path(training.__file__).parent)]
    script = tmp_path / "small.py"  # Lightning starts the second process by the first one's command
    script.write_text(
        f"import sys; sys.path[:0] = {folders}\n"
        "import train_depth as t\n"
        f"t.SHARED, t.SIDE, t.SIZES = t.Path({str(tmp_path / 'nowhere')!r}), 64, ((64, 64),)\n"
        "class Training(t.DepthTraining):\n    def evaluate(self):\n        super().evaluate()\n"
        "        trainer, weight = self.trainer, self.network.leave.weight.detach().cpu()\n"
        "        name = f'{trainer.world_size}-{trainer.global_rank}.pt'\n"
        f"        t.torch.save(weight, f'{tmp_path}/{{name}}')\n"
        "t.DepthTraining = Training\n"
        "if __name__ == '__main__':\n    t.main()\n"
    )

    def learned(devices: int, batch: int) -> dict[str, torch.Tensor]:
        to = tmp_path / str(devices)
        command = (
            f"{script} train --data {tmp_path} --output {to} --device {device} --batch {batch} "
            f"--steps 6 --evaluations 2 --devices {devices}"
        )
        if devices == 1:
            done = start_python(*command.split()).finish()
        else:
            done = subprocess.run(
                [sys.executable, *command.split()], capture_output=True, text=True, timeout=300
            )
        assert done.returncode == 0, done.stderr[-2000:]
        assert [row["step"] for row in json.loads((to / "curve.json").read_text())] == [
            3,
            6,
        ] and done.stdout.count('"step": 6') == 1
        return load_file(to / "lite.safetensors")

    two = learned(2, 6)
    one = learned(1, 6)
    assert all(value.isfinite().all() for value in two.values())
    assert not torch.equal(two["leave.weight"], one["leave.weight"]), (
        "the pictures of the second process are used"
    )
    assert torch.equal(*(torch.load(tmp_path / f"2-{rank}.pt") for rank in (0, 1))), (
        "both processes have the same weights"
    )


def test_the_loss_ignores_only_scale_and_shift():
    rng = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 40, 40, generator=rng)
    known = torch.rand(2, 40, 40, generator=rng) > 0.3
    for same in (truth, 7 * truth - 3, 0.01 * truth):
        assert all(float(part.max()) < 1e-3 for part in training.depth_losses(same, truth, known))
    corrupted = torch.where(known, truth, 99.0)
    assert all(
        float(part.max()) < 1e-3 for part in training.depth_losses(truth, corrupted, known)
    ), "unknown depth is ignored, too"
    assert (
        float(training.depth_losses(-truth, truth, known)[0].min()) > 0.5
        and float(training.depth_losses(truth.flip(1), truth, known)[0].min()) > 0.5
    )
    assert training.depth_losses(truth, truth, known & False)[0].tolist() == [0, 0]
    assert training.rank_correlation(truth.exp(), truth).tolist() == pytest.approx(
        [1, 1]
    ) and training.rank_correlation(-truth, truth).tolist() == pytest.approx([-1, -1])


def test_pictures_and_depth_have_the_same_crop(monkeypatch):
    monkeypatch.setattr(training, "SIDE", 32)
    ramp = torch.arange(32.0).expand(3, 32, 32)
    source = {
        "image": (ramp[..., None] * 8).byte().expand(3, 32, 32, 3),
        "inverse": (ramp * 8 / 255).half(),
        "extent": torch.tensor([[32, 32], [32, 24], [20, 32]]),
    }
    image, inverse = training.random_crops(source, torch.tensor([0]), (32, 32), None)
    torch.testing.assert_close(image[0, 0], source["image"][0, :, :, 0].float() / 255)
    torch.testing.assert_close(inverse[0], source["inverse"][0].float(), atol=1e-3, rtol=0)
    for seed in range(4):
        image, inverse = training.random_crops(
            source, torch.arange(3), (16, 16), torch.Generator().manual_seed(seed)
        )
        inner = (slice(None), slice(2, -2), slice(2, -2))
        assert (image[:, 0][inner] - inverse[inner]).abs().max() < 0.05, (
            "they differ by a pixel at most"
        )
    augmented = training.augment(image, torch.Generator().manual_seed(0))
    assert augmented.shape == image.shape and augmented.min() >= 0 and augmented.max() <= 1


def test_encoder_loads_all_shared_pretrained_weights():
    network = LiteNetwork()
    names = {}
    network.load_imagenet(AnyCheckpoint(names))
    state = network.state_dict()
    encoder = [
        name for name in state if name.startswith(("stem", "blocks")) and "num_batches" not in name
    ]
    assert len(names) == len(encoder) and all((state[name] == 0.5).all() for name in encoder)
    with pytest.raises(KeyError):
        network.load_imagenet({})


class AnyCheckpoint(dict):
    """A checkpoint that has every name and records the requested ones."""

    def __init__(self, requested: dict) -> None:
        self.requested = requested

    def __getitem__(self, name: str) -> torch.Tensor:
        self.requested[name] = True
        return AnyWeight()


class AnyWeight:
    def view_as(self, other: torch.Tensor) -> torch.Tensor:
        return torch.full_like(other, 0.5)


@pytest.mark.slow
def test_training_improves_and_resumes(tmp_path, monkeypatch, trained):
    monkeypatch.setattr(training, "SHARED", tmp_path / "nowhere")
    monkeypatch.setattr(training, "SIDE", 64)
    monkeypatch.setattr(training, "SHARD", 12)
    monkeypatch.setattr(training, "SIZES", ((64, 64),))
    (tmp_path / "scenes").mkdir()
    for first in (0, 12):
        training.render_shard((tmp_path / "scenes", first, first + 12, "cpu"))
    learn = [
        "train_depth.py",
        "train",
        "--data",
        str(tmp_path / "scenes"),
        "--device",
        "cpu",
        "--batch",
        "6",
        "--steps",
        "12",
        "--evaluations",
        "3",
    ]

    run, straight, resumed = trained(
        training.main, training.DepthTraining, learn, "lite.safetensors"
    )
    curve = json.loads((tmp_path / "straight" / "curve.json").read_text())
    assert [row["step"] for row in curve] == [4, 8, 12] and curve[-1]["loss"] < curve[0]["loss"]
    assert (tmp_path / "straight" / "lite.safetensors").stat().st_size < 4_000_000
    network = LiteNetwork()
    missing, unexpected = network.load_state_dict(straight, strict=False)
    assert not unexpected and all("num_batches" in name for name in missing)
    assert [
        row["step"] for row in json.loads((tmp_path / "resumed" / "curve.json").read_text())
    ] == [4, 8, 12]
    for name, value in straight.items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-3, atol=1e-3)
    assert torch.equal(run("resumed")["leave.weight"], resumed["leave.weight"]), (
        "a finished training does not change"
    )
    monkeypatch.setattr(
        sys, "argv", [*learn, "--output", str(tmp_path / "straight"), "--learning-rate", "0.5"]
    )
    with pytest.raises(
        SystemExit,
        match="--learning-rate is 0.5, but .* started with 0.001; use that, or .* another --output",
    ):
        training.main()
    (tmp_path / "junk.pth").write_text("junk")
    for option in ("--encoder", "--init"):
        monkeypatch.setattr(
            sys,
            "argv",
            [*learn, "--output", str(tmp_path / option), option, str(tmp_path / "junk.pth")],
        )
        with pytest.raises(
            SystemExit, match=f"{option} is .*junk.pth, whose weights are not this network's"
        ):
            training.main()
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "train_depth.py",
            "train",
            "--data",
            str(tmp_path / "empty"),
            "--output",
            str(tmp_path / "x"),
            "--device",
            "cpu",
        ],
    )
    with pytest.raises(SystemExit, match="which has no scenes; render some with"):
        training.main()
