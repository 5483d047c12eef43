"""Train the network that fills holes of the `warp` prior (lift/warping/fill_network.py).

    python experiments/train_fill.py masks --output FOLDER --depth lite.safetensors [--workers 8]
    python experiments/train_fill.py train --data FOLDER --output RUN [--init WEIGHTS]
        [--steps 20000] [--device cuda]

`masks` estimates the depth of the photographs in `$LIFT_SHARED/data/photos`. For some random
motions of the camera it computes which pixels are hidden from the new camera. If a warp goes the
other way, these pixels are the holes, and the photograph is the truth. `train` fills them from the
other pixels. The loss compares pixels and features (LPIPS's AlexNet in
`$LIFT_SHARED/weights/lpips_backbones`), and can have a discriminator (--discriminator). Both
commands go on after an interruption. RUN gets fill.safetensors (float16, averaged weights) and
curve.json.
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
    add_training_options,
    number_above,
    photographs,
    photographs_without_depth,
    positive,
    prepare,
    run_jobs,
    run_training,
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

SHARD = 50
MASKS = 12
"""Number of photographs in a file, and of camera motions per photograph."""
CROP = 256
TEST_EVERY = 20
"""Every N-th photograph is held out."""
HOLE_FRACTIONS = (0.004, 0.4)
"""Smallest and largest fraction of a window that is a hole."""
EDGE_WIDTH = 4.0
"""Width in pixels of the soft edges of estimated depth, to either side."""
MIN_OCCLUSION = 0.02
"""Smallest difference of inverse depth of an occlusion, as a fraction of that of the front."""


@cache
def load_photographs() -> dict[str, Tensor]:
    """Load the photographs, once per process."""
    return photographs_without_depth("cpu")


def hash_photographs(photos: Tensor) -> str:
    """Hash the pixels of photographs."""
    return hashlib.sha256(photos.cpu().contiguous().numpy()).hexdigest()


def read_metadata(path: Path) -> dict[str, str]:
    """Read the hashes of what a file of masks was made from."""
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def inverse_depth(network: DepthNetwork, photo: Tensor) -> Tensor:
    """Estimate inverse depth of a photograph, [height, width, 3].

    The photograph is resized to sides that the network accepts.
    """
    sides = [max(STRIDE, round(side / STRIDE) * STRIDE) for side in photo.shape[:2]]
    with torch.no_grad():
        guess = network(
            interpolate(photo.permute(2, 0, 1)[None].float(), sides, mode="bilinear") / 127.5 - 1
        )
    return interpolate(guess[None], tuple(photo.shape[:2]), mode="bilinear")[0, 0]


def make_masks(job: tuple[Path, Path, int, int]) -> Path:
    """Write the holes of some photographs to a file, unless it exists.

    The file has inverse depth, with 1 at the nearest pixel, and masks of holes as bits.

    Args:
        job: Folder, weights of the depth network, numbers of the first photograph and after the
            last one.

    Returns:
        The file.
    """
    folder, weights, start, last = job
    path = folder / f"{start:05d}.safetensors"
    photos = load_photographs()
    metadata = {
        "depth": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "photographs": hash_photographs(photos["image"][start:last]),
    }
    if path.exists():
        if read_metadata(path) != metadata:
            raise SystemExit(
                f"--output has {path.name}, which was made of other photographs or with another "
                "--depth; choose another folder"
            )
        return path
    network = DepthNetwork.load(weights)
    inverses = np.zeros((last - start, SIDE, SIDE), np.float16)
    holes = np.zeros((last - start, MASKS, SIDE, SIDE // 8), np.uint8)
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
            EDGE_WIDTH,
        ).depth.numpy()
        inverses[position, :height, :width] = 1 / depth
        for k in range(MASKS):
            hole = find_hidden(photos["image"][index, :height, :width].numpy(), depth, rng)
            holes[position, k, :height] = np.packbits(
                np.pad(hole, ((0, 0), (0, SIDE - width))), axis=1
            )
    return save_tensors(
        path, {"inverse": torch.from_numpy(inverses), "holes": torch.from_numpy(holes)}, metadata
    )


def find_hidden(image: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Find pixels that a camera does not see after a random motion.

    Args:
        image: Colours, [height, width, 3].
        depth: z-depth, [height, width].
        rng: Random generator.

    Returns:
        Mask of the pixels that are occluded or, in a third of the cases, also of those outside of
        the picture, [height, width].
    """
    height, width = depth.shape
    typical = float(np.median(depth))
    focal = rng.uniform(0.8, 1.6) * max(height, width)
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
    u = (points @ intrinsics.T)[..., 0] * w
    v = (points @ intrinsics.T)[..., 1] * w
    inside = (points[..., 2] > 1e-3 * typical) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    surface_inverse = view.inverse[
        np.clip(v, 0, height - 1).astype(int), np.clip(u, 0, width - 1).astype(int)
    ]
    occluded = inside & (w < (1 - MIN_OCCLUSION) * surface_inverse)
    occluded = (
        cv2.morphologyEx(occluded.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    )  # single pixels are noise of the estimate
    return occluded | ~inside if rng.random() < 1 / 3 else occluded


class Discriminator(nn.Module):
    """A network that scores patches, with the mask of the holes as a fourth channel."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((4, 48, 2), (48, 96, 2), (96, 192, 2), (192, 192, 1))
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, stride, 1)) for a, b, stride in sizes
        )
        self.output = spectral_norm(nn.Conv2d(192, 1, 3, padding=1))

    def forward(self, rgb: Tensor, hole: Tensor) -> Tensor:
        """Score patches. Scores of photographs are high."""
        x = torch.cat([2 * rgb - 1, hole[:, None].float()], 1)
        for layer in self.layers:
            x = leaky_relu(layer(x), 0.2)
        return self.output(x)


def select_masks(data: dict[str, Tensor]) -> list[Tensor]:
    """List the indices of photograph and mask [n, 2] of large holes, for training and held out."""
    hole_fraction = torch.stack(
        [unpack_bits(holes).flatten(1).float().mean(1) for holes in data["holes"]]
    )
    indices = (hole_fraction > HOLE_FRACTIONS[0]).nonzero()
    return [indices[indices[:, 0] % TEST_EVERY != 0], indices[indices[:, 0] % TEST_EVERY == 0]]


class FillTraining(Training):
    """Training of the filling network.

    Args:
        data: Photographs, their inverse depth and masks.
        steps: Number of steps.
        batch: Windows per step.
        learning_rate: The learning rate.
        seed: Random seed.
        lpips: Network for the loss of features, or None.
        features: Weight of the loss of features.
        discriminator: Weight of the discriminator. 0: none.
    """

    def __init__(
        self,
        data: dict[str, Tensor],
        steps: int,
        batch: int,
        learning_rate: float,
        seed: int,
        lpips: LPIPS | None,
        features: float = 1.0,
        discriminator: float = 0.0,
    ) -> None:
        super().__init__(FillNetwork)
        self.automatic_optimization = False
        self.discriminator = Discriminator()
        self.lpips = lpips
        self.data = data
        self.steps = steps
        self.batch = batch
        self.learning_rate = learning_rate
        self.seed = seed
        self.feature_weight = features
        self.discriminator_weight = discriminator
        self.pairs = select_masks(data)

    def sample_batch(
        self, rng: torch.Generator, count: int, held_out: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw windows with holes.

        Args:
            rng: Random generator.
            count: Number of windows.
            held_out: Whether to draw held-out photographs.

        Returns:
            Colours [n, 3, CROP, CROP], inverse depth and holes [n, CROP, CROP].
        """
        device = self.data["image"].device
        pairs = self.pairs[held_out]
        parts = []
        total = 0
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
            y = corner[:, :1] + along
            x = corner[:, 1:] + torch.where(mirrored, along.flip(1), along)
            rows = y.long()[:, :, None]
            columns = x.long()[:, None, :]
            bits = self.data["holes"][photo[:, None, None], mask[:, None, None], rows, columns // 8]
            hole = (bits >> (7 - columns % 8).byte()) & 1 > 0
            hole_fraction = hole.flatten(1).float().mean(1)
            fit = (
                (hole_fraction > HOLE_FRACTIONS[0]) & (hole_fraction < HOLE_FRACTIONS[1])
            ).nonzero()[: count - total, 0]
            photo = photo[fit]
            hole = hole[fit]
            inverse = self.data["inverse"][photo[:, None, None], rows[fit], columns[fit]].float()
            side = self.data["image"].shape[1:3]
            x, y = (
                position[fit].clamp(0.5).minimum(extent[fit, axis, None] - 0.5)
                for position, axis in ((x, 1), (y, 0))
            )  # not beyond the photograph
            grid = torch.stack(
                torch.broadcast_tensors(
                    2 * x[:, None] / side[1] - 1, 2 * y[:, :, None] / side[0] - 1
                ),
                -1,
            )
            image = nn.functional.grid_sample(
                self.data["image"][photo].permute(0, 3, 1, 2).float() / 255,
                grid,
                align_corners=False,
            )
            parts.append((image, inverse, hole))
            total += len(fit)
        return tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))

    def training_step(self, step: Tensor, batch_idx: int) -> None:
        """Take a step of the network and, if there is one, of the discriminator.

        Args:
            step: Number of the step, which determines its random numbers.
            batch_idx: Not used.
        """
        rng = torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + int(step))
        image, inverse, hole = self.sample_batch(rng, self.batch, False)
        smooth, weight = prepare_input(image * ~hole[:, None], inverse, hole)
        filled = self.network(smooth, hole, weight, inverse).float()
        fill_optimiser, discriminator_optimiser = self.optimizers()
        for optimiser in (fill_optimiser, discriminator_optimiser):
            for group in optimiser.param_groups:
                group["lr"] = (
                    self.learning_rate
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
            self.discriminator_weight and int(step) > self.steps / 10
        ):  # the discriminator starts after a tenth of the steps
            for parameter in self.discriminator.parameters():
                parameter.requires_grad_(False)
            loss = loss - self.discriminator_weight * self.discriminator(filled, hole).mean()
            for parameter in self.discriminator.parameters():
                parameter.requires_grad_(True)
        fill_optimiser.zero_grad()
        self.manual_backward(loss)
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        fill_optimiser.step()
        if not self.discriminator_weight:
            self.update_average(int(step), 0.999)
            return
        discriminator_loss = (
            relu(1 - self.discriminator(image, hole)).mean()
            + relu(1 + self.discriminator(filled.detach(), hole)).mean()
        )
        discriminator_optimiser.zero_grad()
        self.manual_backward(discriminator_loss)
        discriminator_optimiser.step()
        self.update_average(int(step), 0.999)

    @torch.no_grad()
    def evaluate(self) -> None:
        """Compute PSNR within the holes and LPIPS on windows of held-out photographs."""
        rng = torch.Generator(self.device).manual_seed(0)
        image, inverse, hole = self.sample_batch(rng, 48, True)
        smooth, weight = prepare_input(image * ~hole[:, None], inverse, hole)
        row: dict[str, float] = {"step": int(self.steps_done)}
        for name, filled in (
            ("smooth", smooth),
            ("filled", self.average(smooth, hole, weight, inverse)),
        ):
            error = ((filled - image).square().mean(1) * hole).flatten(1).sum(1) / hole.flatten(
                1
            ).sum(1)
            row[f"{name}_psnr"] = float((-10 * error.clamp(min=1e-10).log10()).mean())
            if self.lpips is not None:
                row[f"{name}_lpips"] = float(self.lpips.distances(filled, image).mean())
        self.log_row(row)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Create the optimisers of the network and of the discriminator."""
        return [
            torch.optim.AdamW(
                module.parameters(), self.learning_rate, betas=(0.5, 0.99), weight_decay=0.01
            )
            for module in (self.network, self.discriminator)
        ]


def unpack_bits(bits: Tensor) -> Tensor:
    """Unpack bits along rows to booleans, [..., height, width / 8] to [..., height, width]."""
    shifts = torch.arange(7, -1, -1, device=bits.device, dtype=torch.uint8)
    return ((bits[..., None] >> shifts) & 1).flatten(-2).bool()


def train(args: argparse.Namespace) -> None:
    """Train the network, or go on."""
    paths = sorted(args.data.glob("*.safetensors"))
    if not paths:
        raise SystemExit(
            f"--data is {args.data}, which has no masks; make some with: python "
            f"experiments/train_fill.py masks --output {args.data} --depth FILE"
        )
    photos = photographs_without_depth(args.device)
    for path in paths:
        start = int(path.stem) if path.stem.isdigit() else 0
        if read_metadata(path).get("photographs") != hash_photographs(
            photos["image"][start : start + SHARD]
        ):
            raise SystemExit(
                f"--data has {path.name}, which was made of other photographs than those in "
                f"{SHARED / 'data/photos'}; make the masks again"
            )
    prepare(args)
    parts = [load_file(path) for path in paths]
    data = {
        key: torch.cat([part[key] for part in parts])[: len(photos["image"])].to(args.device)
        for key in ("inverse", "holes")
    }
    data |= {key: photos[key][: len(data["holes"])] for key in ("image", "extent")}
    folder = SHARED / "weights/lpips_backbones"
    lpips = LPIPS.load(folder) if folder.is_dir() else None
    if lpips is None:
        print(f"{folder} does not exist; the loss has no features", flush=True)
    for name, indices in zip(("training", "evaluation"), select_masks(data), strict=True):
        if not len(indices):
            raise SystemExit(
                f"--data is {args.data}, which has no holes for {name}; use more photographs, a "
                "few dozen"
            )
    module = FillTraining(
        data,
        args.steps,
        args.batch,
        args.learning_rate,
        args.seed,
        lpips,
        args.features,
        args.discriminator,
    )
    if args.init:
        try:
            module.network.load_state_dict(
                {name: value.float() for name, value in load_file(args.init).items()}
            )
        except Exception as error:  # a wrong file can raise any error
            raise SystemExit(
                f"--init is {args.init}, whose weights are not this network's: "
                f"{' '.join(str(error).split())[:200]}"
            ) from None
        module.average.load_state_dict(module.network.state_dict())
    run_training(module, args, "fill")


def main() -> None:
    """Make masks or train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    masks = commands.add_parser("masks")
    training = commands.add_parser("train")
    masks.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    masks.add_argument(
        "--depth", type=Path, required=True, metavar="FILE", help="weights of the depth network"
    )
    masks.add_argument("--workers", type=positive, default=2)
    add_training_options(training, steps=20_000, batch=24, learning_rate=4e-4)
    training.add_argument("--init", type=Path, metavar="FILE", help="weights of another training")
    weight = number_above(0, inclusive=True)
    training.add_argument("--features", type=weight, default=1.0, help="weight of LPIPS")
    training.add_argument(
        "--discriminator", type=weight, default=0.0, help="weight of the discriminator; 0: none"
    )
    args = parser.parse_args()
    if args.command == "train":
        if args.init and not args.init.is_file():
            parser.error(
                f"--init is {args.init}, which does not exist; choose fill.safetensors of another "
                "training"
            )
        train(args)
        return
    if not args.depth.is_file():
        parser.error(f"--depth is {args.depth}, which does not exist; train_depth.py writes one")
    try:
        DepthNetwork.load(args.depth)
    except Exception as error:  # a wrong file can raise any error
        parser.error(f"--depth is {args.depth}: {' '.join(str(error).split())[:200]}")
    count = sum(1 for _ in photographs())
    if not count:
        parser.error(f"LIFT_SHARED is {SHARED}, whose folder data/photos has no photographs")
    run_jobs(
        make_masks,
        [(args.output, args.depth, start, start + SHARD) for start in range(0, count, SHARD)],
        args,
    )


if __name__ == "__main__":
    main()
