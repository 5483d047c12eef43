"""Metrics of pictures, depths and cameras, compared with independent computations."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from lift.evaluation.metrics import (
    camera_errors,
    depth_errors,
    masked_psnr,
    masked_ssim,
    psnr,
    ssim,
)
from lift.types import Cameras
from tests.helpers.picture_pairs import patch_mask, similar_pair


def test_psnr_of_a_mask_is_of_its_pixels():
    (a, b), mask = similar_pair(), patch_mask()
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


def ssim_map(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
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
    (a, b), mask = similar_pair(), patch_mask()
    wanted = ssim_map(a, b)
    assert ssim(a, b) == pytest.approx(wanted.mean(), abs=1e-5)
    assert masked_ssim(a, b, mask) == pytest.approx(wanted[mask.numpy()].mean(), abs=1e-5)
    assert abs(wanted[mask.numpy()].mean() - wanted.mean()) > 1e-3
    assert masked_ssim(a, b, torch.ones_like(mask)) == ssim(a, b)
    assert math.isnan(masked_ssim(a, b, torch.zeros_like(mask)))


def test_ssim_is_what_torchmetrics_gives():
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = similar_pair()
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


def random_cameras(views: int = 10) -> Cameras:
    """Cameras anywhere, looking anywhere, of unlike focal lengths."""
    chance = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (views, 1, 1))
    poses[:, :3, :3] = Rotation.random(views, random_state=1).as_matrix()
    poses[:, :3, 3] = chance.normal(size=(views, 3))
    intrinsics = np.tile(np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]), (views, 1, 1))
    intrinsics[:, 0, 0] += chance.uniform(0, 20, views)
    return Cameras(torch.from_numpy(poses).float(), torch.from_numpy(intrinsics).float(), 64, 48)


def in_another_world(truth: Cameras) -> Cameras:
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


def lower_median(values: np.ndarray) -> float:
    """As torch takes medians: the lower one of two."""
    return float(np.sort(values)[(len(values) - 1) // 2])


def test_cameras_in_another_world_are_right():
    errors = camera_errors(in_another_world(random_cameras()), random_cameras(), 2.0)
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
    truth, chance = random_cameras(), np.random.default_rng(3)
    right = in_another_world(truth)
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
    assert got["rotation"] == pytest.approx(lower_median(angles), rel=1e-4)
    assert got["rotation_worst"] == pytest.approx(angles.max(), rel=1e-4)

    wanted = -np.einsum("vji,vj->vi", true[:, :3, :3], true[:, :3, 3])
    a, b = centers - centers.mean(0), wanted - wanted.mean(0)
    turned = Rotation.align_vectors(b, a)[0].apply(a)
    off = np.linalg.norm((turned * b).sum() / (a * a).sum() * turned - b, axis=1) / 4
    assert got["position"] == pytest.approx(lower_median(off), rel=1e-4) and got[
        "position_worst"
    ] == pytest.approx(off.max(), rel=1e-4)
    logs = np.abs(np.log(gain.double().numpy()))
    assert got["focal"] == pytest.approx(lower_median(logs), rel=1e-4) and got[
        "focal_worst"
    ] == pytest.approx(logs.max(), rel=1e-4)


def test_incomparable_cameras_are_reported():
    truth = random_cameras()
    with pytest.raises(ValueError, match="8 cameras of 64 x 48 pixels against 10 of 64 x 48"):
        camera_errors(truth[list(range(8))], truth, 1.0)
    with pytest.raises(ValueError, match="10 cameras of 128 x 96 pixels against 10 of 64 x 48"):
        camera_errors(truth.resized(128, 96), truth, 1.0)
    with pytest.raises(ValueError, match="typical depth 0.0"):
        camera_errors(truth, truth, 0.0)
    with pytest.raises(ValueError, match="at least 3 points, not 2"):
        camera_errors(truth[[0, 1]], truth[[0, 1]], 1.0)
