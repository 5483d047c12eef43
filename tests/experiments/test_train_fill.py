"""The network that fills holes, and its training."""

import hashlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lift.depths.lite import LiteNetwork as DepthNetwork
from lift.warping.fill_network import (
    CHECKSUM,
    WEIGHTS,
    FillNetwork,
    diffuse_pyramid,
    fill_holes,
    load_shipped,
    prepare_input,
)

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
import train_depth as depth_training  # noqa: E402
import train_fill as training  # noqa: E402


def card() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A red card before a blue wall that gets lighter downwards, and a hole between them.

    The hole has the wall's depth.
    """
    rgb = torch.zeros(1, 3, 50, 70)
    rgb[:, 2] = 0.8
    rgb[:, 1] = torch.linspace(0, 0.5, 50)[:, None]
    rgb[:, :, 10:40, 10:30] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    inverse = torch.full((1, 50, 70), 0.25)
    inverse[:, 10:40, 10:30] = 1.0
    hole = torch.zeros(1, 50, 70, dtype=torch.bool)
    hole[:, 10:40, 30:36] = True
    return rgb, inverse, hole


def test_holes_are_filled_from_behind_and_the_rest_is_kept():
    rgb, inverse, hole = card()
    corrupted = torch.where(hole[:, None], 7.0, rgb)
    filled = fill_holes(FillNetwork(), corrupted, inverse, hole)
    assert torch.equal(filled.masked_select(~hole[:, None]), rgb.masked_select(~hole[:, None]))
    assert (filled - rgb).abs().max() < 0.1, "without training it fills smoothly, without the card"
    smooth, weight = prepare_input(corrupted, inverse, hole)
    assert not weight[:, 10:40, 10:30].any() and weight[:, :, 36:].all()
    network = FillNetwork()
    torch.nn.init.normal_(network.leave.weight)
    with torch.no_grad():
        other = fill_holes(network, corrupted, inverse, hole)
    assert (
        torch.equal(other.masked_select(~hole[:, None]), rgb.masked_select(~hole[:, None]))
        and other.min() >= 0
        and other.max() <= 1
    )
    assert (other - filled).abs().max() > 0.05
    within = torch.zeros(1, 50, 70, dtype=torch.bool)
    within[:, 20:24, 16:20] = True
    filled = fill_holes(FillNetwork(), rgb, inverse, within)
    torch.testing.assert_close(filled, rgb, atol=0.05, rtol=0)  # a little of the wall from afar
    everything = fill_holes(FillNetwork(), rgb, torch.where(hole, 0.01, 1.0), hole)
    assert everything.isfinite().all(), "if nothing is behind, all pixels are used"


def test_shipped_weights_match_the_card_and_beat_smooth_filling():
    held = WEIGHTS.read_bytes()
    assert (
        hashlib.sha256(held).hexdigest() == CHECKSUM
        and len(held) <= 4_000_000
        and CHECKSUM in WEIGHTS.with_suffix(".md").read_text()
    )
    i, j = np.mgrid[:96, :128]
    stripes = (
        torch.from_numpy(np.where((j // 6) % 2, 0.8, 0.2)).float().expand(1, 3, 96, 128)
    )  # behind; where the hole ends they go on
    hole = torch.zeros(1, 96, 128, dtype=torch.bool)
    hole[:, 40:52, 30:98] = True
    inverse = torch.full((1, 96, 128), 0.5)
    with torch.inference_mode():
        filled = fill_holes(load_shipped(), stripes * ~hole[:, None], inverse, hole)
    smooth = prepare_input(stripes * ~hole[:, None], inverse, hole)[0]
    off = lambda a: float((a - stripes).square().mean(1)[hole].mean())  # noqa: E731
    assert off(filled) < 0.5 * off(smooth)


def test_smooth_fill_stays_within_the_bounds_of_valid_pixels():
    values = torch.rand(2, 3, 37, 21)
    known = torch.rand(2, 37, 21) > 0.9
    out = diffuse_pyramid(values, known)
    torch.testing.assert_close(
        out.masked_select(known[:, None]), values.masked_select(known[:, None])
    )
    assert (
        out.min() >= values.masked_select(known[:, None]).min() - 1e-5
        and out.max() <= values.masked_select(known[:, None]).max() + 1e-5
    )
    torch.testing.assert_close(
        diffuse_pyramid(torch.full((1, 1, 9, 9), 0.3), known[:1, :9, :9] | True),
        torch.full((1, 1, 9, 9), 0.3),
    )


def test_a_moved_camera_does_not_see_pixels_behind_a_card():
    depth = np.full((96, 128), 4.0, np.float32)
    depth[30:60, 50:80] = 2.0
    image = np.zeros((96, 128, 3), np.uint8)

    class Chosen:
        """Fixed random draws: the focal length is the longer side, the shift 0.1 to the right.

        The shift is a fraction of the typical depth. The last draw says if the border counts.
        """

        def __init__(self, border: bool) -> None:
            self.numbers = iter((1.0, float(np.log(0.1))))
            self.border = border

        def uniform(self, *_) -> float:
            return next(self.numbers)

        def normal(self, size: int) -> np.ndarray:
            return np.array([-1.0, 0.0, 0.0])

        def random(self) -> float:
            return 0.0 if self.border else 1.0

    found = training.find_hidden(image, depth, Chosen(False))
    shift = 128 * 0.4 * (1 / 2 - 1 / 4)  # pixels that the card moves over the wall
    rows = found[35:55].sum(1)
    assert (np.abs(rows - shift) <= 2).all() and not found[:28].any() and not found[62:].any()
    assert found[45, 36:50].sum() == rows[10], "hidden pixels are on the left, where the card moves"
    border = training.find_hidden(image, depth, Chosen(True))
    assert border[:, :12].all() and not border[:, 16:30].any() and not border[:, 90:].any()


def test_packed_bits_are_restored():
    holes = np.random.default_rng(0).random((3, 16, 24)) > 0.5
    assert torch.equal(
        training.unpack_bits(torch.from_numpy(np.packbits(holes, axis=2))), torch.from_numpy(holes)
    )


def test_pictures_depth_and_holes_have_the_same_crop(monkeypatch):
    """Colours, depth and holes that encode the position.

    Red and inverse depth grow to the right, green downwards. The right third is a hole.
    """
    monkeypatch.setattr(training, "CROP", 48)
    i, j = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    image = torch.stack([4 * j, 4 * i, 0 * i], -1).to(torch.uint8).repeat(40, 1, 1, 1)
    holes = np.packbits((j.numpy() > 40)[None, None].repeat(40, 0), axis=-1)
    extent = torch.tensor([[64, 64]] * 20 + [[40, 60]] * 20)
    data = {
        "image": image,
        "inverse": (4 * j / 255).half().repeat(40, 1, 1),
        "holes": torch.from_numpy(holes),
        "extent": extent,
    }
    module = training.FillTraining(data, 10, 4, 1e-3, 0, None)
    cut = [
        module.sample_batch(torch.Generator().manual_seed(seed), 12, held_out)
        for seed, held_out in ((0, False), (1, True))
    ]
    rgb, inverse, hole = (torch.cat(parts) for parts in zip(*cut, strict=True))
    assert (rgb[:, 0] - inverse).abs().max() < 0.02, "colours and depth are mirrored together"
    assert torch.equal(hole, inverse > 4 * 40.5 / 255)
    rising = (rgb[:, 0].diff(dim=-1) >= -1e-3).flatten(1).all(1)
    assert rising.any() and not rising.all(), "half are mirrored"
    assert (rgb[:, 1].diff(dim=-2) > -1e-3).all()


def test_masks_of_other_photographs_or_depth_are_rejected(tmp_path, monkeypatch):
    for k in range(3):
        (tmp_path / "data/photos").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(
            str(tmp_path / f"data/photos/{k}.jpg"),
            np.random.default_rng(k).integers(0, 255, (48, 64, 3)).astype(np.uint8),
        )
    for module in (depth_training, training):
        monkeypatch.setattr(module, "SHARED", tmp_path)
        monkeypatch.setattr(module, "SIDE", 64)
    training.load_photographs.cache_clear()
    for name in ("one", "two"):
        save_file(DepthNetwork().state_dict(), tmp_path / f"{name}.safetensors")
    folder = tmp_path / "masks"
    folder.mkdir()
    made = training.make_masks((folder, tmp_path / "one.safetensors", 0, 3))
    assert training.make_masks((folder, tmp_path / "one.safetensors", 0, 3)) == made
    with pytest.raises(SystemExit, match="with another --depth; choose another folder"):
        training.make_masks((folder, tmp_path / "two.safetensors", 0, 3))
    (tmp_path / "data/photos/0.jpg").rename(tmp_path / "data/photos/9.jpg")
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "train_fill.py",
            "train",
            "--data",
            str(folder),
            "--output",
            str(tmp_path / "run"),
            "--device",
            "cpu",
        ],
    )
    with pytest.raises(SystemExit, match="was made of other photographs"):
        training.main()
    training.load_photographs.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--discriminator", "-1"], "at least 0"),
        (["--learning-rate", "nan"], "above 0"),
        (["--features", "inf"], "at least 0"),
        (["--steps", "0"], "1 or more"),
    ],
)
def test_invalid_numbers_are_rejected(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["train_fill.py", "train", "--data", "a", "--output", "b", *arguments]
    )
    with pytest.raises(SystemExit):
        training.main()
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_training_fills_better_than_smoothly(monkeypatch, tmp_path):
    """Stripes that go on behind a hole: a little training must find that out."""
    monkeypatch.setattr(training, "CROP", 48)
    i, j = np.mgrid[:64, :64]
    rng = np.random.default_rng(0)
    pictures = [
        np.where(((j if k % 2 else i) + rng.integers(0, 8)) // 4 % 2, 200, 50)[..., None].repeat(
            3, 2
        )
        for k in range(40)
    ]
    holes = np.zeros((40, 1, 64, 64), bool)
    holes[:, :, 24:36, 10:54] = True
    data = {
        "image": torch.from_numpy(np.stack(pictures).astype(np.uint8)),
        "inverse": torch.full((40, 64, 64), 0.5).half(),
        "holes": torch.from_numpy(np.packbits(holes, axis=-1)),
        "extent": torch.tensor([[64, 64]] * 40),
    }
    torch.manual_seed(0)
    monkeypatch.setattr(training.Training, "log_row", lambda self, row: self.curve.append(row))
    module = training.FillTraining(data, 70, 4, 0.01, 0, None)
    arguments = training.argparse.Namespace(
        output=tmp_path, device="cpu", steps=70, evaluations=1, progress=False
    )
    training.run_training(module, arguments, "fill")
    (row,) = module.curve
    assert row["filled_psnr"] > row["smooth_psnr"] + 0.5


@pytest.mark.slow
def test_training_improves_and_resumes(tmp_path, monkeypatch, trained):
    rng = np.random.default_rng(0)
    (tmp_path / "data/photos").mkdir(parents=True)
    for k in range(24):
        picture = cv2.resize(
            rng.integers(0, 255, (6, 8, 3)).astype(np.uint8),
            (64, 48),
            interpolation=cv2.INTER_CUBIC,
        )
        cv2.imwrite(str(tmp_path / f"data/photos/{k:02d}.png"), picture)
        (tmp_path / f"data/photos/{k:02d}.png").rename(tmp_path / f"data/photos/{k:02d}.jpg")
    for module in (depth_training, training):
        monkeypatch.setattr(module, "SHARED", tmp_path)
        monkeypatch.setattr(module, "SIDE", 64)
    monkeypatch.setattr(training, "CROP", 48)
    torch.manual_seed(0)
    save_file(DepthNetwork().state_dict(), tmp_path / "lite.safetensors")
    (tmp_path / "masks").mkdir()
    training.load_photographs.cache_clear()
    training.make_masks((tmp_path / "masks", tmp_path / "lite.safetensors", 0, 24))
    training.load_photographs.cache_clear()
    learn = [
        "train_fill.py",
        "train",
        "--data",
        str(tmp_path / "masks"),
        "--device",
        "cpu",
        "--batch",
        "4",
        "--steps",
        "12",
        "--evaluations",
        "3",
    ]
    learn += [
        "--discriminator",
        "0.05",
        "--learning-rate",
        "0.2",
    ]  # or the warm-up would leave nothing to compare

    _, straight, resumed = trained(training.main, training.FillTraining, learn, "fill.safetensors")
    curve = json.loads((tmp_path / "straight" / "curve.json").read_text())
    assert [row["step"] for row in curve] == [4, 8, 12]
    assert (
        curve[-1]["filled_psnr"] != curve[0]["filled_psnr"]
        and curve[-1]["smooth_psnr"] == curve[0]["smooth_psnr"]
    )
    assert (tmp_path / "straight" / "fill.safetensors").stat().st_size < 3_000_000
    FillNetwork().load_state_dict(straight)
    assert straight["leave.weight"].float().abs().max() > 2e-3, "it starts at 0"
    for name, value in straight.items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-2, atol=1e-4)
    begun = [*learn, "--output", str(tmp_path / "begun"), "--steps", "1", "--init"]
    monkeypatch.setattr(sys, "argv", [*begun, str(tmp_path / "straight/fill.safetensors")])
    training.main()
    again = load_file(tmp_path / "begun/fill.safetensors")
    assert all((again[name] - value).abs().max() < 0.1 for name, value in straight.items()), (
        "a step after the other training"
    )
    monkeypatch.setattr(
        sys,
        "argv",
        [
            *begun[:-3],
            "--output",
            str(tmp_path / "refused"),
            "--init",
            str(tmp_path / "lite.safetensors"),
        ],
    )
    with pytest.raises(SystemExit, match="lite.safetensors, whose weights are not this network's"):
        training.main()
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "train_fill.py",
            "masks",
            "--output",
            str(tmp_path / "more"),
            "--depth",
            str(tmp_path / "nothing"),
        ],
    )
    with pytest.raises(SystemExit):
        training.main()
