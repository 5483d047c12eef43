"""Metrics of pictures, depths and cameras, compared with independent computations."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from torch import nn

from lift.evaluation.dists import DISTS, URLS
from lift.evaluation.lpips import LPIPS
from lift.evaluation.metrics import (
    camera_errors,
    depth_errors,
    masked_psnr,
    masked_ssim,
    psnr,
    ssim,
)
from lift.types import Cameras

VGG = (
    64,
    64,
    "pool",
    128,
    128,
    "pool",
    256,
    256,
    256,
    "pool",
    512,
    512,
    512,
    "pool",
    512,
    512,
    512,
)
NUMBERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
ENDS = (2, 7, 14, 21, 28)


def drawn() -> torch.Tensor:
    """The picture of which figures of other packages are written down here."""
    x, y = torch.meshgrid(torch.arange(96.0), torch.arange(64.0), indexing="xy")
    return (
        torch.stack([(x * k / 17).sin() * 0.5 + 0.5 for k in (1, 2, 3)], -1)
        * ((y / 9).cos() * 0.3 + 0.7)[..., None]
    )


def pair(height: int = 40, width: int = 52) -> tuple[torch.Tensor, torch.Tensor]:
    """Two pictures that are alike; a few values lie outside [0, 1]."""
    noise = torch.Generator().manual_seed(0)
    a = torch.rand(height, width, 3, generator=noise)
    return a, a + 0.2 * torch.randn(height, width, 3, generator=noise)


def patch(height: int = 40, width: int = 52) -> torch.Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[3:20, 10:31] = True
    mask[8:12, 15:20] = False
    return mask


def test_psnr_of_a_mask_is_of_its_pixels():
    (a, b), mask = pair(), patch()
    x, y = (np.clip(p.numpy()[mask.numpy()].astype(np.float64), 0, 1) for p in (a, b))
    assert masked_psnr(a, b, mask) == pytest.approx(-10 * np.log10(((x - y) ** 2).mean()), abs=1e-4)
    elsewhere = torch.where(mask[..., None], b, torch.rand_like(b))
    assert (
        masked_psnr(a, elsewhere, mask)
        == masked_psnr(a, b, mask)
        != pytest.approx(psnr(a, b), abs=1e-3)
    )
    assert masked_psnr(a, b, torch.ones_like(mask)) == pytest.approx(psnr(a, b), abs=1e-5)
    assert masked_psnr(a, torch.where(mask[..., None], a, b), mask) == 100
    assert math.isnan(masked_psnr(a, b, torch.zeros_like(mask)))


def similarity(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    """The SSIM map: Gaussian windows of 11 pixels, sigma 1.5, mirrored at the border."""
    x, y = (p.clamp(0, 1).double().numpy() for p in (a, b))

    def mean(values: np.ndarray) -> np.ndarray:
        return np.stack(
            [gaussian_filter(values[..., c], 1.5, mode="mirror", radius=5) for c in range(3)], -1
        )

    at, bt = mean(x), mean(y)
    aa, bb, ab = mean(x * x) - at**2, mean(y * y) - bt**2, mean(x * y) - at * bt
    return (
        (2 * at * bt + 0.01**2)
        * (2 * ab + 0.03**2)
        / ((at**2 + bt**2 + 0.01**2) * (aa + bb + 0.03**2))
    )


def test_ssim_of_a_mask_is_the_mean_of_its_map():
    (a, b), mask = pair(), patch()
    wanted = similarity(a, b)
    assert ssim(a, b) == pytest.approx(wanted.mean(), abs=1e-5)
    assert masked_ssim(a, b, mask) == pytest.approx(wanted[mask.numpy()].mean(), abs=1e-5)
    assert abs(wanted[mask.numpy()].mean() - wanted.mean()) > 1e-3
    assert masked_ssim(a, b, torch.ones_like(mask)) == ssim(a, b)
    assert math.isnan(masked_ssim(a, b, torch.zeros_like(mask)))


def test_ssim_is_what_torchmetrics_gives():
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = pair()
    assert ssim(a, b) == float(
        structural_similarity_index_measure(
            *(p.clamp(0, 1).permute(2, 0, 1)[None] for p in (a, b)), data_range=1.0
        )
    )


def test_errors_of_depth_are_after_one_factor():
    truth = torch.arange(1.0, 12.0).view(1, 11)
    estimate, valid = 3 * truth, torch.ones(1, 11, dtype=torch.bool)
    estimate[0, 1], estimate[0, 4], estimate[0, 7] = 6 * 1.2, 15 * 1.5, 24 / 1.5
    estimate[0, 10], valid[0, 10] = 1e6, False
    found = depth_errors(estimate, truth, valid)
    assert found["scale"] == pytest.approx(3)
    assert found["abs_rel"] == pytest.approx((0.2 + 1 / 2 + 1 / 3) / 10) and found[
        "delta1"
    ] == pytest.approx(0.8)
    assert found["rank_correlation"] == pytest.approx(
        1 - 6 * (3**2 + 3**2) / (10 * 99)
    )  # the fifth, 22.5, and the eighth, 16, change places


def ring(views: int = 10) -> Cameras:
    """Cameras anywhere, looking anywhere, of unlike focal lengths."""
    chance = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (views, 1, 1))
    poses[:, :3, :3] = Rotation.random(views, random_state=1).as_matrix()
    poses[:, :3, 3] = chance.normal(size=(views, 3))
    intrinsics = np.tile(np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]), (views, 1, 1))
    intrinsics[:, 0, 0] += chance.uniform(0, 20, views)
    return Cameras(torch.from_numpy(poses).float(), torch.from_numpy(intrinsics).float(), 64, 48)


def moved(truth: Cameras) -> Cameras:
    """The same in another world, wrong by nothing."""
    poses = truth.world_to_camera.double().numpy().copy()
    turn, scale, shift = (
        Rotation.from_euler("xyz", [40, -70, 110], degrees=True).as_matrix(),
        2.5,
        np.array([3.0, -1, 7]),
    )
    poses[:, :3, :3] = poses[:, :3, :3] @ turn.T
    poses[:, :3, 3] = scale * poses[:, :3, 3] - poses[:, :3, :3] @ shift
    return replace(truth, world_to_camera=torch.from_numpy(poses).float())


def middle(values: np.ndarray) -> float:
    """As torch takes medians: the lower one of two."""
    return float(np.sort(values)[(len(values) - 1) // 2])


def test_cameras_in_another_world_are_right():
    errors = camera_errors(moved(ring()), ring(), 2.0)
    assert list(errors) == [
        "rotation",
        "rotation_worst",
        "position",
        "position_worst",
        "focal",
        "focal_worst",
    ]
    assert max(errors.values()) < 1e-4


def test_errors_of_cameras_are_what_was_done_to_them():
    truth, chance = ring(), np.random.default_rng(3)
    right = moved(truth)
    poses = right.world_to_camera.double().numpy()
    centers = -np.einsum("vji,vj->vi", poses[:, :3, :3], poses[:, :3, 3]) + 0.3 * chance.normal(
        size=(10, 3)
    )
    poses[:, :3, :3] = (
        Rotation.from_rotvec(0.1 * chance.normal(size=(10, 3))).as_matrix() @ poses[:, :3, :3]
    )
    poses[:, :3, 3] = -np.einsum("vij,vj->vi", poses[:, :3, :3], centers)
    intrinsics = right.intrinsics.clone()
    gain = torch.tensor([1.0, 1.1, 0.8, 1.02, 1.3, 0.95, 1.0, 1.01, 0.7, 1.2])
    intrinsics[:, 0, 0] *= gain
    got = camera_errors(
        replace(right, world_to_camera=torch.from_numpy(poses).float(), intrinsics=intrinsics),
        truth,
        4,
    )

    true = truth.world_to_camera.double().numpy()
    relative = [p[:, :3, :3] @ p[0, :3, :3].T for p in (poses, true)]
    angles = np.degrees(
        [np.arccos((np.trace(a.T @ b) - 1) / 2) for a, b in zip(*relative, strict=False)]
    )[1:]
    assert got["rotation"] == pytest.approx(middle(angles), rel=1e-4)
    assert got["rotation_worst"] == pytest.approx(angles.max(), rel=1e-4)

    wanted = -np.einsum("vji,vj->vi", true[:, :3, :3], true[:, :3, 3])
    a, b = centers - centers.mean(0), wanted - wanted.mean(0)
    turned = Rotation.align_vectors(b, a)[0].apply(a)
    off = np.linalg.norm((turned * b).sum() / (a * a).sum() * turned - b, axis=1) / 4
    assert got["position"] == pytest.approx(middle(off), rel=1e-4) and got[
        "position_worst"
    ] == pytest.approx(off.max(), rel=1e-4)
    logs = np.abs(np.log(gain.double().numpy()))
    assert got["focal"] == pytest.approx(middle(logs), rel=1e-4) and got[
        "focal_worst"
    ] == pytest.approx(logs.max(), rel=1e-4)


def test_incomparable_cameras_are_reported():
    truth = ring()
    with pytest.raises(ValueError, match="8 cameras of 64 x 48 pixels against 10 of 64 x 48"):
        camera_errors(truth[list(range(8))], truth, 1.0)
    with pytest.raises(ValueError, match="10 cameras of 128 x 96 pixels against 10 of 64 x 48"):
        camera_errors(truth.resized(128, 96), truth, 1.0)
    with pytest.raises(ValueError, match="typical depth 0.0"):
        camera_errors(truth, truth, 0.0)
    with pytest.raises(ValueError, match="at least 3 points, not 2"):
        camera_errors(truth[[0, 1]], truth[[0, 1]], 1.0)


@cache
def vgg() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Weights of VGG16's shapes, drawn so that no layer dies out, and of DISTS's."""
    chance, weights, channels = torch.Generator().manual_seed(0), {}, 3
    for number, wide in zip(NUMBERS, (c for c in VGG if c != "pool"), strict=True):
        weights[f"features.{number}.weight"] = (
            torch.randn(wide, channels, 3, 3, generator=chance) * (2 / (9 * channels)) ** 0.5
        )
        weights[f"features.{number}.bias"] = 0.1 * torch.randn(wide, generator=chance)
        channels = wide
    return weights, {
        kind: torch.rand(1, 1475, 1, 1, generator=chance) for kind in ("alpha", "beta")
    }


def dists(
    a: torch.Tensor,
    b: torch.Tensor,
    trunk: dict[str, torch.Tensor],
    weights: dict[str, torch.Tensor],
) -> float:
    """DISTS as in the paper, in double precision, with plain matrix products and pooling."""

    def layers(picture: torch.Tensor) -> list[torch.Tensor]:
        values = picture.double().clamp(0, 1).permute(2, 0, 1)
        kept = [values]
        values = (
            values - torch.tensor([0.485, 0.456, 0.406]).double().view(3, 1, 1)
        ) / torch.tensor([0.229, 0.224, 0.225]).double().view(3, 1, 1)
        numbers = iter(NUMBERS)
        for kind in VGG:
            rows, columns = values.shape[1:]
            if kind == "pool":
                around = nn.functional.pad(values**2, (1, 1, 1, 1))
                window = np.outer(np.hanning(5)[1:-1], np.hanning(5)[1:-1])
                pooled = torch.zeros(
                    len(values), (rows + 1) // 2, (columns + 1) // 2, dtype=torch.float64
                )
                for i in range(pooled.shape[1]):
                    for j in range(pooled.shape[2]):
                        pooled[:, i, j] = (
                            around[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
                            * torch.from_numpy(window / window.sum())
                        ).sum((1, 2))
                values = pooled.sqrt()
                continue
            number = next(numbers)
            columns_of = nn.functional.unfold(values[None], 3, padding=1)[0]
            weight, bias = (
                trunk[f"features.{number}.weight"].double(),
                trunk[f"features.{number}.bias"].double(),
            )
            values = (
                (weight.flatten(1) @ columns_of + bias[:, None])
                .clamp(min=0)
                .view(-1, rows, columns)
            )
            if number in ENDS:
                kept.append(values)
        return kept

    similar, first = 0.0, 0
    alpha, beta = (weights[kind].double().flatten().numpy() for kind in ("alpha", "beta"))
    for of_a, of_b in zip(layers(a), layers(b), strict=True):
        for x, y in zip(of_a.flatten(1).numpy(), of_b.flatten(1).numpy(), strict=True):
            (xx, xy), (_, yy) = np.cov(x, y, bias=True)
            similar += (
                alpha[first]
                * (2 * x.mean() * y.mean() + 1e-6)
                / (x.mean() ** 2 + y.mean() ** 2 + 1e-6)
            )
            similar += beta[first] * (2 * xy + 1e-6) / (xx + yy + 1e-6)
            first += 1
    return 1 - similar / (alpha.sum() + beta.sum())


def test_dists_matches_the_paper():
    trunk, weights = vgg()
    net = DISTS(trunk, weights)
    a, b = pair(33, 46)
    assert net(a, b) == pytest.approx(dists(a, b, trunk, weights), abs=1e-5) and net(a, b) > 0.01
    assert net(a, a) == 0
    assert net(b, a) == pytest.approx(net(a, b), abs=1e-6)
    assert net(a, 0.9 * a) < net(a, 0.5 * a)
    first, second = (p.clamp(0, 1).permute(2, 0, 1) for p in (a, b))
    several = net.distances(
        torch.stack([first, second, first]), torch.stack([second, second, first]).requires_grad_()
    )
    assert several.tolist() == pytest.approx([net(a, b), 0, 0], abs=1e-6)
    several.sum().backward()


def test_dists_weighs_means_by_alpha_and_covariances_by_beta():
    """Check the stage on the picture itself, where the formula is one line."""
    trunk, _ = vgg()
    a = 0.3 + 0.3 * pair()[0]
    x, only = a.double().numpy(), torch.zeros(1, 1475, 1, 1)
    only[0, 0] = 1.0  # red
    none = torch.zeros_like(only)
    mean, variance = x[..., 0].mean(), x[..., 0].var()
    brighter = DISTS(trunk, {"alpha": only, "beta": none})(a, a + 0.2)
    assert brighter == pytest.approx(
        1 - (2 * mean * (mean + 0.2) + 1e-6) / (mean**2 + (mean + 0.2) ** 2 + 1e-6), abs=1e-5
    )
    flatter = DISTS(trunk, {"alpha": none, "beta": only})(a, 0.5 * a)
    assert flatter == pytest.approx(1 - (variance + 1e-6) / (1.25 * variance + 1e-6), abs=1e-5)
    assert DISTS(trunk, {"alpha": none, "beta": only})(a, a + 0.2) == pytest.approx(0, abs=1e-5)


def test_dists_errors_name_the_cause(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="no vgg16_features.pth in .*: vgg16_features.pth, dists_weights.pt"
    ):
        DISTS.load(tmp_path)
    trunk, weights = vgg()
    torch.save(trunk, tmp_path / "vgg16_features.pth")
    with pytest.raises(FileNotFoundError, match="no dists_weights.pt"):
        DISTS.load(tmp_path)
    torch.save(weights, tmp_path / "dists_weights.pt")
    a, b = pair()
    assert DISTS.load(tmp_path)(a, b) == DISTS(trunk, weights)(a, b)
    with pytest.raises(ValueError, match=r"\[31, 52, 3\]; choose .* at least 32"):
        DISTS(trunk, weights)(a[:31], b[:31])


def test_dists_without_a_folder_is_downloaded_once(tmp_path, monkeypatch):
    """Under a name that is nobody else's; the rest of VGG16 is not minded."""
    trunk, weights = vgg()
    for name, values in (
        ("vgg16-397923af.pth", trunk | {"classifier.0.bias": torch.zeros(4096)}),
        ("weights.pt", weights),
    ):
        torch.save(values, tmp_path / name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "lift.evaluation.dists.URLS",
        tuple(f"file://{tmp_path}/{url.split('/')[-1]}" for url in URLS),
    )
    a, b = pair()
    wanted = DISTS(trunk, weights)(a, b)
    assert DISTS.load()(a, b) == wanted
    assert {file.name for file in (tmp_path / "cache").rglob("*") if file.is_file()} == {
        "vgg16-397923af.pth",
        "dists_weights.pt",
    }
    (tmp_path / "weights.pt").unlink()
    assert DISTS.load()(a, b) == wanted


def test_dists_is_the_published_one(shared):
    """Against what the package DISTS_pytorch 0.1 gives with the same weights."""
    folder = shared / "weights" / "lpips_backbones"
    if not (folder / "vgg16_features.pth").exists():
        pytest.skip(f"no vgg16_features.pth in {folder}")
    net = DISTS.load(folder)
    picture = drawn()
    assert net(picture, picture.roll(5, 1)) == pytest.approx(0.1616095, abs=1e-6)
    assert net(picture, picture.square()) == pytest.approx(0.1498807, abs=1e-6)


def lines(coarse: int, fine: int) -> torch.Tensor:
    """The matrix [fine coarse] that stretches bilinearly, edges held."""
    at = ((torch.arange(fine) + 0.5) * coarse / fine - 0.5).clamp(0, coarse - 1)
    return (1 - (at[:, None] - torch.arange(coarse)).abs()).clamp(min=0)


def test_lpips_of_a_mask_is_of_its_pixels():
    chance = torch.Generator().manual_seed(0)
    shapes = {
        0: (64, 3, 11, 4, 2),
        3: (192, 64, 5, 1, 2),
        6: (384, 192, 3, 1, 1),
        8: (256, 384, 3, 1, 1),
        10: (256, 256, 3, 1, 1),
    }
    net = nn.Sequential(*(nn.Conv2d(i, o, k, s, p) for o, i, k, s, p in shapes.values()))
    for conv in net:
        conv.weight.data.normal_(0, (2 / conv.weight[0].numel()) ** 0.5, generator=chance)
        conv.bias.data.normal_(0, 0.1, generator=chance)
    trunk = {
        f"features.{n}.{kind}": value.detach()
        for n, conv in zip(shapes, net, strict=False)
        for kind, value in conv.named_parameters()
    }
    heads = {
        f"lin{n}.model.1.weight": torch.rand(1, o, 1, 1, generator=chance)
        for n, (o, *_) in enumerate(shapes.values())
    }
    measure, (a, b), mask = LPIPS(trunk, heads), pair(40, 52), patch()
    values = torch.stack([a, b]).clamp(0, 1).permute(0, 3, 1, 2)
    values = (2 * values - 1 - measure.shift[:, None, None]) / measure.scale[:, None, None]
    spread = torch.zeros(40, 52)
    for number, (conv, head) in enumerate(zip(net, heads.values(), strict=False)):
        values = nn.Sequential(*[nn.MaxPool2d(3, 2)] * (number in (1, 2)), conv, nn.ReLU())(values)
        units = nn.functional.normalize(values, dim=1)
        there = ((units[0] - units[1]).square() * head[0]).sum(0)
        spread = spread + lines(there.shape[0], 40) @ there @ lines(there.shape[1], 52).T
    spread = spread.detach()
    assert measure(a, b, mask) == pytest.approx(float(spread[mask].mean()), rel=1e-4)
    assert measure(a, b, ~mask) == pytest.approx(float(spread[~mask].mean()), rel=1e-4)
    assert measure(a, b, mask) != pytest.approx(measure(a, b, ~mask), rel=1e-3)
    assert measure(a, b, torch.ones_like(mask)) == pytest.approx(measure(a, b), rel=0.02)
    assert math.isnan(measure(a, b, torch.zeros_like(mask)))


def test_lpips_of_a_mask_is_the_published_one(shared):
    """Compare with the mean map of the package lpips 0.1.4, same weights, `spatial=True`."""
    net = LPIPS.load(shared / "weights" / "lpips_backbones")
    picture, mask = drawn(), torch.zeros(64, 96, dtype=torch.bool)
    mask[:40, 31:] = True
    assert net(picture, picture.roll(5, 1), mask) == pytest.approx(0.0876086, abs=1e-6)
    assert net(picture, picture.roll(5, 1), torch.ones_like(mask)) == pytest.approx(
        net(picture, picture.roll(5, 1)), rel=1e-4
    )
