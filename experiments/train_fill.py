"""Trains the network that is to fill holes of the `warp` prior (lift/warping/fill_network.py):

    python experiments/train_fill.py masks --to FOLDER --depth lite.safetensors [--workers 8]
    python experiments/train_fill.py train --from FOLDER --to RUN [--begin FILL] [--steps 20000]
        [--device cuda]

`masks` guesses the depth of the photographs in `$LIFT_SHARED/data/photos` and asks of each, for
some motions of the camera, which of its pixels would be hidden from there: such a pixel lies behind
something and is the truth of what a warp has to fill on its way back. `train` fills them from the
rest, by what is right pixel by pixel, by features (LPIPS's AlexNet,
`$LIFT_SHARED/weights/lpips_backbones`) and, if asked, against a critic. Both go on where they were
ended; RUN gets fill.safetensors (float16, averaged weights) and curve.json.
"""

import argparse
import hashlib
import math
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, relu
from torch.nn.utils.parametrizations import spectral_norm
from train_depth import (
    SHARED,
    SIDE,
    Training,
    above,
    asking,
    begin,
    learn,
    make,
    photographs,
    photographs_without_depth,
    positive,
    save_tensors,
)

from lift.depths.edges import sharpen_depth
from lift.depths.inverse import from_relative
from lift.depths.lite import STRIDE
from lift.depths.lite import LiteNetwork as DepthNetwork
from lift.evaluation.lpips import LPIPS
from lift.types import Depth
from lift.warping.fill_network import FillNetwork, prepare_input
from lift.warping.surface import Surface

SHARD, MASKS = 50, 12
"""Photographs a file, and motions of the camera a photograph."""
CROP = 256
HELD_OUT = 20
"""Every so manieth photograph is not learned from."""
HOLES = (0.004, 0.4)
"""Shares of a window that may be missing."""
SOFT = 4.0
"""Pixels to either side over which the guess's steps are soft."""
BEHIND = 0.02
"""Share of inverse depth by which a surface has to be nearer to hide what is behind it."""


@cache
def plain() -> dict[str, Tensor]:
    """The photographs, once a process."""
    return photographs_without_depth("cpu")


def encode_photos(photos: Tensor) -> str:
    """A number of what photographs show."""
    return hashlib.sha256(photos.cpu().contiguous().numpy()).hexdigest()


def facts(path: Path) -> dict[str, str]:
    """What a file of masks was made from."""
    with safe_open(path, "pt") as held:
        return held.metadata() or {}


def inverse_depth(network: DepthNetwork, photo: Tensor) -> Tensor:
    """Inverse depth of a photograph [height width 3], which is stretched to sides that the network
    takes.
    """
    sides = [max(STRIDE, round(side / STRIDE) * STRIDE) for side in photo.shape[:2]]
    with torch.no_grad():
        guess = network(
            interpolate(photo.permute(2, 0, 1)[None].float(), sides, mode="bilinear") / 127.5 - 1
        )
    return interpolate(guess[None], tuple(photo.shape[:2]), mode="bilinear")[0, 0]


def shard(job: tuple[Path, Path, int, int]) -> Path:
    """Photographs `start` to `last`: inverse depth, 1 at the nearest, and holes as bits of rows."""
    folder, weights, start, last = job
    path = folder / f"{start:05d}.safetensors"
    photos = plain()
    made_from = {
        "depth": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "photographs": encode_photos(photos["image"][start:last]),
    }
    if path.exists():
        if facts(path) != made_from:
            raise SystemExit(
                f"--to has {path.name}, which is of other photographs or of another --depth; "
                "choose another folder"
            )
        return path
    network = DepthNetwork.load(weights)
    inverses, holes = (
        np.zeros((last - start, SIDE, SIDE), np.float16),
        np.zeros((last - start, MASKS, SIDE, SIDE // 8), np.uint8),
    )
    for position, index in enumerate(range(start, min(last, len(photos["image"])))):
        rng = np.random.default_rng(index)
        height, width = (int(n) for n in photos["extent"][index])
        guess = from_relative(
            inverse_depth(network, photos["image"][index, :height, :width]),
            far=math.exp(rng.uniform(math.log(3), math.log(20))),
        )
        depth = sharpen_depth(
            photos["image"][index, :height, :width],
            Depth(guess, guess > 0, "affine-invariant"),
            SOFT,
        ).depth.numpy()
        inverses[position, :height, :width] = 1 / depth
        for k in range(MASKS):
            hole = find_hidden(photos["image"][index, :height, :width].numpy(), depth, rng)
            holes[position, k, :height] = np.packbits(
                np.pad(hole, ((0, 0), (0, SIDE - width))), axis=1
            )
    return save_tensors(
        path, {"inverse": torch.from_numpy(inverses), "holes": torch.from_numpy(holes)}, made_from
    )


def find_hidden(image: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pixels [height width] that a camera which has moved by chance does not see, for something
    before them or, in a third of the cases, for the border.
    """
    height, width = depth.shape
    typical, focal = float(np.median(depth)), rng.uniform(0.8, 1.6) * max(height, width)
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    surface = Surface(typical, 0.04)
    surface.add(image, depth, np.ones(depth.shape, bool), np.eye(4), intrinsics)
    to_camera = np.eye(4)
    direction = rng.normal(size=3) * (1, 0.5, 0.4)
    to_camera[:3, 3] = (
        direction
        / np.linalg.norm(direction)
        * typical
        * math.exp(rng.uniform(math.log(0.03), math.log(0.35)))
    )
    view = surface.render(to_camera, intrinsics, width, height)
    y, x = np.mgrid[:height, :width]
    points = (
        np.stack([x + 0.5, y + 0.5, np.ones_like(x)], -1) @ np.linalg.inv(intrinsics).T
    ) * depth[..., None] + to_camera[:3, 3]
    w = 1 / np.maximum(points[..., 2], 1e-6)
    u, v = (points @ intrinsics.T)[..., 0] * w, (points @ intrinsics.T)[..., 1] * w
    inside = (points[..., 2] > 1e-3 * typical) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    surface_inverse = view.inverse[
        np.clip(v, 0, height - 1).astype(int), np.clip(u, 0, width - 1).astype(int)
    ]
    behind = inside & (w < (1 - BEHIND) * surface_inverse)
    behind = (
        cv2.morphologyEx(behind.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    )  # single pixels are the guess's noise
    return behind | ~inside if rng.random() < 1 / 3 else behind


class Critic(nn.Module):
    """Says of patches whether they look like photographs; it sees where the holes were."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((4, 48, 2), (48, 96, 2), (96, 192, 2), (192, 192, 1))
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, stride, 1)) for a, b, stride in sizes
        )
        self.leave = spectral_norm(nn.Conv2d(192, 1, 3, padding=1))

    def forward(self, rgb: Tensor, hole: Tensor) -> Tensor:
        x = torch.cat([2 * rgb - 1, hole[:, None].float()], 1)
        for layer in self.layers:
            x = leaky_relu(layer(x), 0.2)
        return self.leave(x)


def windows(data: dict[str, Tensor]) -> list[Tensor]:
    """Photograph and mask [n 2] of all that have a large hole: to learn from, and held out."""
    hole_fraction = torch.stack(
        [unpack_bits(holes).flatten(1).float().mean(1) for holes in data["holes"]]
    )
    indices = (hole_fraction > HOLES[0]).nonzero()
    return [indices[indices[:, 0] % HELD_OUT != 0], indices[indices[:, 0] % HELD_OUT == 0]]


class FillTraining(Training):
    def __init__(
        self,
        data: dict[str, Tensor],
        steps: int,
        batch: int,
        rate: float,
        seed: int,
        lpips: LPIPS | None,
        features: float = 1.0,
        critic: float = 0.0,
    ) -> None:
        super().__init__(FillNetwork)
        self.automatic_optimization = False
        self.critic, self.lpips = Critic(), lpips
        self.data, self.steps, self.batch, self.rate, self.seed = data, steps, batch, rate, seed
        self.feature_weight, self.critic_weight = features, critic
        self.pairs = windows(data)

    def sample_batch(
        self, rng: torch.Generator, count: int, held_out: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Windows: colours [n 3 CROP CROP], inverse depth and holes [n CROP CROP]."""
        device = self.data["image"].device
        pairs = self.pairs[held_out]
        parts, total = [], 0
        while total < count:
            photo, mask = pairs[
                torch.randint(len(pairs), (2 * count,), generator=rng, device=device)
            ].unbind(1)
            extent = self.data["extent"][photo].float()
            window = extent.amin(1).clamp(max=CROP)
            corner = (
                torch.rand(len(photo), 2, generator=rng, device=device)
                * (extent - window[:, None] + 1)
            ).floor()
            along = (torch.arange(CROP, device=device) + 0.5) * (window / CROP)[:, None]
            mirrored = torch.rand(len(photo), 1, generator=rng, device=device) < 0.5
            y, x = (
                corner[:, :1] + along,
                corner[:, 1:] + torch.where(mirrored, along.flip(1), along),
            )
            rows, columns = y.long()[:, :, None], x.long()[:, None, :]
            bits = self.data["holes"][photo[:, None, None], mask[:, None, None], rows, columns // 8]
            hole = (bits >> (7 - columns % 8).byte()) & 1 > 0
            hole_fraction = hole.flatten(1).float().mean(1)
            fit = ((hole_fraction > HOLES[0]) & (hole_fraction < HOLES[1])).nonzero()[
                : count - total, 0
            ]
            photo, hole = photo[fit], hole[fit]
            inverse = self.data["inverse"][photo[:, None, None], rows[fit], columns[fit]].float()
            side = self.data["image"].shape[1:3]
            x, y = (
                position[fit].clamp(0.5).minimum(extent[fit, axis, None] - 0.5)
                for position, axis in ((x, 1), (y, 0))
            )  # nothing of what lies beyond
            at = torch.stack(
                torch.broadcast_tensors(
                    2 * x[:, None] / side[1] - 1, 2 * y[:, :, None] / side[0] - 1
                ),
                -1,
            )
            image = nn.functional.grid_sample(
                self.data["image"][photo].permute(0, 3, 1, 2).float() / 255, at, align_corners=False
            )
            parts.append((image, inverse, hole))
            total += len(fit)
        return tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))

    def training_step(self, step: Tensor, batch_idx: int) -> None:
        rng = torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + int(step))
        image, inverse, hole = self.sample_batch(rng, self.batch, False)
        smooth, weight = prepare_input(image * ~hole[:, None], inverse, hole)
        filled = self.network(smooth, hole, weight, inverse).float()
        fill_rates, critic_rates = self.optimizers()
        for optimiser in (fill_rates, critic_rates):
            for group in optimiser.param_groups:
                group["lr"] = (
                    self.rate
                    * min(1.0, (int(step) + 1) / 500)
                    * (0.02 + 0.98 * (1 - int(step) / self.steps))
                )
        hole_fraction = hole.float().mean()
        plain = ((filled - image).abs().mean(1) * hole).mean() / hole_fraction
        loss = plain
        if self.lpips is not None:
            with torch.autocast(self.device.type, enabled=False):
                loss = loss + self.feature_weight * self.lpips.distances(filled, image).mean()
        if (
            self.critic_weight and int(step) > self.steps / 10
        ):  # first what is plainly right, then what looks right
            for parameter in self.critic.parameters():
                parameter.requires_grad_(False)
            loss = loss - self.critic_weight * self.critic(filled, hole).mean()
            for parameter in self.critic.parameters():
                parameter.requires_grad_(True)
        fill_rates.zero_grad()
        self.manual_backward(loss)
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        fill_rates.step()
        if not self.critic_weight:
            self.follow(int(step), 0.999)
            return
        judged = (
            relu(1 - self.critic(image, hole)).mean()
            + relu(1 + self.critic(filled.detach(), hole)).mean()
        )
        critic_rates.zero_grad()
        self.manual_backward(judged)
        critic_rates.step()
        self.follow(int(step), 0.999)

    @torch.no_grad()
    def evaluate(self) -> None:
        """Of windows of held-out photographs: PSNR within the holes, and LPIPS."""
        rng = torch.Generator(self.device).manual_seed(0)
        image, inverse, hole = self.sample_batch(rng, 48, True)
        smooth, weight = prepare_input(image * ~hole[:, None], inverse, hole)
        row: dict[str, float] = {"step": int(self.done)}
        for name, filled in (
            ("smooth", smooth),
            ("filled", self.mean(smooth, hole, weight, inverse)),
        ):
            error = ((filled - image).square().mean(1) * hole).flatten(1).sum(1) / hole.flatten(
                1
            ).sum(1)
            row[f"{name}_psnr"] = float((-10 * error.clamp(min=1e-10).log10()).mean())
            if self.lpips is not None:
                row[f"{name}_lpips"] = float(self.lpips.distances(filled, image).mean())
        self.log_row(row)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.AdamW(module.parameters(), self.rate, betas=(0.5, 0.99), weight_decay=0.01)
            for module in (self.network, self.critic)
        ]


def unpack_bits(bits: Tensor) -> Tensor:
    """Bits along rows as booleans: [... height width / 8] to [... height width]."""
    shifts = torch.arange(7, -1, -1, device=bits.device, dtype=torch.uint8)
    return ((bits[..., None] >> shifts) & 1).flatten(-2).bool()


def train(args: argparse.Namespace) -> None:
    paths = sorted(args.source.glob("*.safetensors"))
    if not paths:
        raise SystemExit(
            f"--from is {args.source}, where no masks are; make some with: python "
            f"experiments/train_fill.py masks --to {args.source} --depth FILE"
        )
    photos = photographs_without_depth(args.device)
    for path in paths:
        start = int(path.stem) if path.stem.isdigit() else 0
        if facts(path).get("photographs") != encode_photos(photos["image"][start : start + SHARD]):
            raise SystemExit(
                f"--from has {path.name}, which holds no masks of the photographs in "
                f"{SHARED / 'data/photos'}; make them anew (`masks`)"
            )
    begin(args)
    parts = [load_file(path) for path in paths]
    data = {
        key: torch.cat([part[key] for part in parts])[: len(photos["image"])].to(args.device)
        for key in ("inverse", "holes")
    }
    data |= {key: photos[key][: len(data["holes"])] for key in ("image", "extent")}
    folder = SHARED / "weights/lpips_backbones"
    lpips = LPIPS.load(folder) if folder.is_dir() else None
    if lpips is None:
        print(f"LPIPS's weights are not in {folder}: trained without features", flush=True)
    for name, window_indices in zip(("to learn from", "held out"), windows(data), strict=True):
        if not len(window_indices):
            raise SystemExit(
                f"--from is {args.source}, which has no holes {name}; it takes a few dozen "
                "photographs"
            )
    module = FillTraining(
        data, args.steps, args.batch, args.rate, args.seed, lpips, args.features, args.critic
    )
    if args.begin:
        try:
            module.network.load_state_dict(
                {name: value.float() for name, value in load_file(args.begin).items()}
            )
        except Exception as error:  # a file of another kind can raise whatever it likes
            raise SystemExit(
                f"--begin is {args.begin}, whose weights are not this network's: "
                f"{' '.join(str(error).split())[:200]}"
            ) from None
        module.mean.load_state_dict(module.network.state_dict())
    learn(module, args, "fill")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    masks, learned = verbs.add_parser("masks"), verbs.add_parser("train")
    masks.add_argument("--to", type=Path, required=True)
    masks.add_argument("--depth", type=Path, required=True, help="weights of the depth network")
    masks.add_argument("--workers", type=positive, default=2)
    asking(learned, steps=20_000, batch=24, rate=4e-4)
    learned.add_argument("--begin", type=Path, help="weights that another training left")
    learned.add_argument("--features", type=above(0, True), default=1.0, help="weight of LPIPS")
    learned.add_argument(
        "--critic", type=above(0, True), default=0.0, help="weight of a critic of patches; 0: none"
    )
    args = parser.parse_args()
    if args.verb == "train":
        if args.begin and not args.begin.is_file():
            parser.error(
                f"--begin is {args.begin}, where there is no file; another training's "
                "fill.safetensors will do"
            )
        train(args)
        return
    if not args.depth.is_file():
        parser.error(f"--depth is {args.depth}, where there is no file; train_depth.py makes one")
    try:
        DepthNetwork.load(args.depth)
    except Exception as error:  # a file of another kind can raise whatever it likes
        parser.error(f"--depth is {args.depth}: {' '.join(str(error).split())[:200]}")
    count = sum(1 for _ in photographs())
    if not count:
        parser.error(f"LIFT_SHARED is {SHARED}, where data/photos has no photographs")
    make(
        shard,
        [(args.to, args.depth, start, start + SHARD) for start in range(0, count, SHARD)],
        args,
    )


if __name__ == "__main__":
    main()
