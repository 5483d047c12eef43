"""DISTS, compared with the paper and with the published package."""

import hashlib
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from lift.evaluation.dists import DISTS, SOURCES
from tests.helpers.picture_pairs import similar_pair, wave_picture

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
    a, b = similar_pair(33, 46)
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
    a = 0.3 + 0.3 * similar_pair()[0]
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
    a, b = similar_pair()
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
    local = []
    for source in SOURCES:
        name = source.url.split("/")[-1]
        digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        local.append(replace(source, url=f"file://{tmp_path}/{name}", sha256=digest))
    monkeypatch.setattr(DISTS, "sources", tuple(local))
    a, b = similar_pair()
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
    picture = wave_picture()
    assert net(picture, picture.roll(5, 1)) == pytest.approx(0.1616095, abs=1e-6)
    assert net(picture, picture.square()) == pytest.approx(0.1498807, abs=1e-6)
