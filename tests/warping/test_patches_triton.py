"""The CUDA kernel that chooses patches, compared with plain torch.

Without CUDA, Triton's interpreter runs it if Triton is installed.
"""

import pytest
import torch

from lift.warping.gpu import patches
from lift.warping.gpu.masks import dilate

pytest.importorskip("triton")

HEIGHT, WIDTH = 40, 50


def scale(device: str) -> patches._PatchScale:
    rng = torch.Generator().manual_seed(0)
    gap = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    gap[14:24, 20:32] = True
    near = torch.zeros_like(gap)
    near[30:34, :10] = True
    source = patches._find_source(gap, near)
    color = 255 * torch.rand(HEIGHT, WIDTH, 3, generator=rng)
    log = torch.rand(HEIGHT, WIDTH, generator=rng)
    maps = (value.to(device) for value in (color, log, gap, near, source))
    return patches._PatchScale(*maps, has_source=True)


def test_the_same_candidates_are_chosen(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    level = patches._Level.build(scale(device))
    rng = torch.Generator().manual_seed(1)
    inside = level.source.nonzero()[:, 0].int()
    count = len(level.targets)
    options = inside[torch.randint(len(inside), (count, 5), generator=rng).to(device)]
    options[:, 1] = level.targets.int()  # no source
    options[:, 3] = options[:, 2]  # a draw
    found = []
    for used in (False, True):
        monkeypatch.setattr(patches, "can_use_triton", lambda *tensors, used=used: used)
        match = level.source.new_full(level.source.shape, level.empty, dtype=torch.int32)
        patches._keep_best(level, level.color, match, options)
        found.append(match)
    assert torch.equal(*found)
    chosen = found[0][level.targets]
    assert level.source[chosen].all() and not torch.equal(chosen, options[:, 0])
    assert (found[0] != level.empty).sum() == count
    assert dilate(scale(device).gap, 1).sum() > count  # the rest of the picture has no match
