"""A network of pairs that knows the truth, and errs as it is told to: what alignment makes of evidence can then be measured."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from lift.geometry import rotation_from_vector, unproject
from lift.poses.sfm.pointmaps import PairMaps, PairNetwork
from lift.types import Cameras

CHANNELS = 24


class Oracle(PairNetwork):
    """Cameras and z-depths [frame height width] at the maps' size are the truth; frames must come in their order.

    noise: of depth, as a share of it, smooth over a fifth of the picture and half as much from pixel to pixel; each pair has a scale of its own, of a tenth.
    outliers: share of each map that is somewhere else altogether, in blobs. broken: share of pairs whose second frame is put wrong as a whole.
    describes: whether it has descriptors, which err by `noise` of the typical depth as well.
    """

    def __init__(
        self,
        cameras: Cameras,
        depth: Tensor,
        noise: float = 0.03,
        outliers: float = 0.05,
        broken: float = 0.0,
        describes: bool = False,
        seed: int = 0,
    ) -> None:
        (
            self.cameras,
            self.depth,
            self.noise,
            self.outliers,
            self.broken,
            self.describes,
            self.seed,
        ) = cameras, depth, noise, outliers, broken, describes, seed
        self.points = unproject(depth, cameras)
        self.typical = float(depth[0][depth[0] > 0].median())
        self.next = 0
        rng = torch.Generator().manual_seed(seed)
        # Waves from a hundredth of the typical depth to its tenfold.
        size = torch.exp(torch.linspace(math.log(0.03), math.log(10), CHANNELS // 2)) * self.typical
        self.waves = (
            2
            * math.pi
            * normalize(torch.randn(CHANNELS // 2, 3, generator=rng), dim=-1)
            / size[:, None]
        ).to(depth)

    def encode(self, images: Tensor) -> list[int]:
        start, self.next = self.next, self.next + len(images)
        return list(range(start, self.next))

    def batch(self) -> int:
        return 4

    def pairs(self, first: Sequence[int], second: Sequence[int], both: bool) -> PairMaps:
        made = [self._pair(a, b, both) for a, b in zip(first, second, strict=True)]
        joined = [
            None if part[0] is None else torch.stack(part) for part in zip(*made, strict=True)
        ]
        points, sure, other, other_sure, here, there, here_sure, there_sure = joined
        described = (here, there) if self.describes else None
        return PairMaps(
            points,
            sure,
            other,
            other_sure,
            described,
            (here_sure, there_sure) if self.describes else None,
        )

    def _pair(self, a: int, b: int, both: bool) -> list[Tensor | None]:
        rng = torch.Generator().manual_seed((self.seed * 4096 + a) * 4096 + b)
        matrix = self.cameras.world_to_camera[a]
        scale = math.exp(0.1 * float(torch.randn((), generator=rng)))
        broken = a != b and float(torch.rand((), generator=rng)) < self.broken
        out: list[Tensor | None] = []
        for frame, wanted in ((a, True), (b, both)):
            factor, wrong = self._erring(rng)
            local = (self.points[frame] @ matrix[:3, :3].T + matrix[:3, 3]) * scale
            # A frame's error is along its own rays.
            center = (self.cameras.centers[frame] @ matrix[:3, :3].T + matrix[:3, 3]) * scale
            local = center + (local - center) * factor[..., None]
            if broken and frame == b:
                turn = rotation_from_vector(torch.randn(3, generator=rng).to(local))
                middle = local.flatten(0, 1).mean(0)
                local = (local - middle) @ turn.T + middle * float(
                    1 + torch.rand((), generator=rng)
                )
            known = self.depth[frame] > 0
            sure = (
                torch.where(wrong, 1.2 + torch.rand(wrong.shape, generator=rng).to(local), 4.0)
                * known
                + ~known
            )
            out += [local, sure] if wanted else [None, None]
        if not self.describes:
            return [*out, None, None, None, None]
        described, trusts = [], []
        for frame in (a, b):
            points = self.points[frame] + self.noise / 10 * self.typical * torch.randn(
                self.points[frame].shape, generator=rng
            ).to(self.depth)
            phase = points @ self.waves.T
            described.append(normalize(torch.cat([phase.cos(), phase.sin()], -1), dim=-1))
            trusts.append((self.depth[frame] > 0).float() * (0.1 if broken else 1.0) + 0.01)
        return [*out, *described, *trusts]

    def _erring(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """A factor of depth a pixel, and which pixels are somewhere else."""
        height, width = self.depth.shape[1:]
        smooth = interpolate(
            torch.randn(1, 1, 5, 5, generator=rng),
            (height, width),
            mode="bicubic",
            align_corners=True,
        )[0, 0]
        factor = (
            self.noise * smooth + self.noise / 2 * torch.randn(height, width, generator=rng)
        ).exp()
        blobs = interpolate(
            torch.rand(1, 1, 12, 12, generator=rng),
            (height, width),
            mode="bicubic",
            align_corners=True,
        )[0, 0]
        wrong = (
            blobs > blobs.flatten().quantile(1 - self.outliers)
            if self.outliers
            else torch.zeros(height, width, dtype=torch.bool)
        )
        elsewhere = (0.5 * torch.randn(height, width, generator=rng)).exp() * 1.5
        return torch.where(wrong, elsewhere, factor).to(self.depth), wrong.to(self.depth.device)
