"""Networks that look at two frames at once and say where the points of their pixels lie, and what was found out of many such pairs.

A pair leaves matches, a few hundred, and a say in the depth of its first frame; its maps are then forgotten. So memory grows with frames, and
with pairs only by what the matches take.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate
from tqdm import tqdm

from lift.depths import DepthEstimator
from lift.io.image import resized
from lift.multiview.depth_alignment import CONFIDENT, fit, merged, place, trusted
from lift.poses import PoseEstimator, check_fit, check_settings
from lift.poses.sfm.mapper import FEWEST, Tie
from lift.poses.sfm.pairs import compared
from lift.poses.sfm.published import PairMap, globally_aligned
from lift.poses.sfm.reconstruction import Aligned, Matches, placed, support, tracks
from lift.types import Cameras, Depth, Frames, Reconstruction, Trajectory

ANCHORS = (100, 2400)
"""Places of a frame, few and most, that are looked for in other frames: the more of these there are, the fewer they need to be."""
WANTED = 1200
"""Of them all, times the frames that each is looked for in."""
BACK = 4.0
"""Pixels of a map by which the way there and back may miss."""
NEAR = 0.03
"""Radians, or share of depth, by which points may differ that are taken for one."""
NOWHERE = 1e3
"""In place of all numbers of a point that is not known."""
KEPT = 200
"""Matches a pair and direction."""
AGREE = 0.3
"""Share of a pair's matches that must agree with one another; else none is believed."""
DEPTH_SPREAD = 0.05
"""Logarithm of depth from which on what a network says of it counts less."""
REACH = 5 / 640
"""Error, as a share of the width, from which on a sighting is wrong: matches are whole pixels of a map, refined."""
CHUNK = {"cuda": 2**26, "cpu": 2**20}
"""Likenesses that are held at once."""


@dataclass(frozen=True)
class PairMaps:
    """What a network says of pairs of frames: points of the first, in its own camera's axes; confidence from 1 on. Of the second, if it was asked for
    them, points in the first's axes; of both, if it has them, unit descriptors that are alike where one point is seen, and how sure they are.
    """

    points: Float[Tensor, "pair height width 3"]
    confidence: Float[Tensor, "pair height width"]
    other: Float[Tensor, "pair height width 3"] | None = None
    other_confidence: Float[Tensor, "pair height width"] | None = None
    described: (
        tuple[
            Float[Tensor, "pair height width channel"], Float[Tensor, "pair height width channel"]
        ]
        | None
    ) = None
    sure: tuple[Float[Tensor, "pair height width"], Float[Tensor, "pair height width"]] | None = (
        None
    )


class PairNetwork(ABC):
    """Looks at frames one by one, then at pairs of what it made of them."""

    describes = False
    """Whether it has descriptors; else frames are matched by their points."""

    @abstractmethod
    def encode(self, images: UInt8[Tensor, "frame height width 3"]) -> list[Any]:
        """What it keeps of each frame."""

    @abstractmethod
    def pairs(self, first: Sequence[Any], second: Sequence[Any], both: bool) -> PairMaps:
        """both: whether the points of the second are wanted, too."""

    @abstractmethod
    def batch(self) -> int:
        """How many pairs the memory that is left will do for."""


class Canonical:
    """Depth of every frame, as all pairs have it of which it is the first, up to a factor: a running mean of its logarithm."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.count = torch.zeros(frames, dtype=torch.long)
        self.log_depth = self.weight = self.confidence = torch.zeros(frames, 0, 0)

    def add(
        self,
        firsts: Sequence[int],
        depth: Float[Tensor, "pair height width"],
        confidence: Float[Tensor, "pair height width"],
    ) -> None:
        if not self.log_depth.numel():
            self.log_depth, self.weight, self.confidence = (
                depth.new_zeros(self.frames, *depth.shape[1:]) for _ in range(3)
            )
        left = list(range(len(firsts)))
        while left:  # a frame's maps one after another
            now = {firsts[k]: k for k in reversed(left)}
            self._add(
                torch.tensor(list(now)), depth[list(now.values())], confidence[list(now.values())]
            )
            left = [k for k in left if now[firsts[k]] != k]

    def _add(
        self,
        at: Int[Tensor, "map"],
        depth: Float[Tensor, "map height width"],
        confidence: Float[Tensor, "map height width"],
    ) -> None:
        log, weight, new = (
            depth.clamp(min=1e-6).log(),
            confidence * (depth > 0),
            (self.count[at] == 0).to(depth.device)[:, None, None],
        )
        self.count[at] += 1
        count, at = self.count[at].to(depth), at.to(depth.device)
        held, held_weight, sure = self.log_depth[at], self.weight[at], self.confidence[at]
        # Each pair has a scale of its own, which some ten thousand pixels tell as well as all.
        step = max(1, int((log[0].numel() / 10_000) ** 0.5))
        both = torch.minimum(weight, held_weight)[:, ::step, ::step].flatten(1)
        off = (
            torch.where(
                both >= both.median(1, keepdim=True).values,
                (held - log)[:, ::step, ::step].flatten(1),
                torch.nan,
            )
            .nanmedian(1)
            .values
        )
        log = torch.where(new, log, log + off[:, None, None])
        total = held_weight + weight
        self.log_depth[at] = held + (log - held) * torch.where(
            new, 1.0, weight / total.clamp(min=1e-9)
        )
        self.weight[at], self.confidence[at] = (
            total,
            sure + (confidence - sure) / count[:, None, None],
        )

    def trust(self, frame: int) -> Float[Tensor, "height width"]:
        """From 0 to 1."""
        return trusted(self.confidence[frame])


class PointMapPoses(PoseEstimator):
    """Poses from a network of pairs; what all such estimators do."""

    def __init__(
        self,
        network: PairNetwork,
        size: int,
        multiple: int,
        alignment: Literal["bundle", "published"],
        monocular: Literal["unsure", "published", "off"],
        exhaustive: int,
        closures: int,
        focal: Literal["fixed", "shared", "each"],
        trust: float,
        least: float,
        tolerance: float,
        most_points: int,
        depth: Depth,
        estimator: DepthEstimator | None,
        device: torch.device,
    ) -> None:
        if size < 2 * multiple:
            raise ValueError(f"pose.size is {size}; choose at least {2 * multiple}")
        check_settings(
            exhaustive=exhaustive,
            closures=closures,
            trust=trust,
            least=least,
            tolerance=tolerance,
            most_points=most_points,
        )
        if monocular == "published" and estimator is None:
            raise ValueError(
                "pose.monocular is published, which takes a depth estimator; choose unsure or off"
            )
        self.network, self.size, self.multiple, self.alignment, self.monocular = (
            network,
            size,
            multiple,
            alignment,
            monocular,
        )
        self.exhaustive, self.closures, self.focal, self.trust, self.least = (
            exhaustive,
            closures,
            focal,
            trust,
            least,
        )
        self.tolerance, self.most_points, self.depth, self.estimator, self.device = (
            tolerance,
            most_points,
            depth,
            estimator,
            device,
        )

    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        plan = trajectory.cameras
        check_fit(frames, plan)
        found = (
            self._published(frames, trajectory)
            if self.alignment == "published"
            else self._adjusted(frames, trajectory)
        )
        if self.monocular == "published":
            guesses = [
                self.depth if view == 0 else self.estimator(frames.images[view])
                for view in range(len(frames))
            ]
            depth = [
                as_published(torch.where(g.valid, g.depth, 0.0).to(own), own)
                for g, own in zip(guesses, found.depth, strict=True)
            ]
            found = replace(
                found,
                depth=torch.stack(depth),
                confidence=found.confidence * (torch.stack(depth) > 0),
            )
        return found

    # What the network says

    def _seen(self, frames: Frames) -> list[Any]:
        """Frames as the network keeps them. Pictures are stretched to sides it can take, by a little."""
        height, width = frames.images.shape[1:3]
        scale = self.size / max(height, width)
        size = [
            max(self.multiple, round(side * scale / self.multiple) * self.multiple)
            for side in (height, width)
        ]
        kept: list[Any] = []
        for start in range(0, len(frames), 8):
            kept += self.network.encode(
                resized(frames.images[start : start + 8].to(self.device), size[1], size[0])
            )
        return kept

    def _maps(
        self, kept: Sequence[Any], pairs: Sequence[tuple[int, int]], both: bool
    ) -> Iterator[tuple[Sequence[tuple[int, int]], PairMaps]]:
        """Of some pairs after others; the first alone, to learn what a pair takes."""
        at = 0
        with tqdm(total=len(pairs), desc="pairs", leave=False, disable=None) as bar:
            while at < len(pairs):
                some = pairs[at : at + max(1, self.network.batch() if at else 1)]
                yield (
                    some,
                    self.network.pairs(
                        [kept[a] for a, _ in some], [kept[b] for _, b in some], both
                    ),
                )
                at += len(some)
                bar.update(len(some))

    # Our alignment

    def _adjusted(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        plan = trajectory.cameras
        kept = self._seen(frames)
        planned = self.trust > 0 and trajectory.hint == "planned"
        chosen = compared(trajectory, self.depth.typical, self.exhaustive, self.closures, planned)
        canonical = Canonical(len(frames))
        keypoints: list[list[Tensor]] = []
        matches: list[Matches] = []
        counts: list[int] = []
        pairs = directed([(a, b) for a, b in chosen.tolist()], len(frames))
        many = min(max(int(WANTED * len(frames) / max(1, len(pairs))), ANCHORS[0]), ANCHORS[1])
        for some, maps in self._maps(kept, pairs, both=not self.network.describes):
            height, width = maps.confidence.shape[1:]
            scale = torch.tensor([plan.width / width, plan.height / height])
            if not keypoints:
                step = max(1, round((height * width / many) ** 0.5))
                anchors = (
                    torch.arange(height * width)
                    .view(height, width)[step // 2 :: step, step // 2 :: step]
                    .flatten()
                )
                places = torch.stack([anchors % width, anchors // width], -1) + 0.5
                keypoints, counts = (
                    [[places * scale] for _ in frames.images],
                    [len(anchors)] * len(frames),
                )
            there, back = corresponding(maps, anchors, False), corresponding(maps, anchors, True)
            canonical.add([a for a, _ in some], maps.points[..., 2], maps.confidence)
            for k, (a, b) in enumerate(some):
                for one, other, (index, pixel, score) in (
                    ((a, b, there[k]), (b, a, back[k])) if a != b else ()
                ):
                    keypoints[other].append(pixel * scale)
                    new = torch.arange(counts[other], counts[other] + len(pixel))
                    counts[other] += len(pixel)
                    pair = torch.stack([index, new], -1)
                    matches.append(
                        Matches(
                            min(one, other),
                            max(one, other),
                            pair if one < other else pair.flip(1),
                            score,
                        )
                    )
        points = [torch.cat(parts) for parts in keypoints]
        reach = REACH * plan.width
        matches, ties = _tied(
            matches,
            points,
            [
                self._log_depth(own, canonical.log_depth[view], plan)
                for view, own in enumerate(points)
            ],
            plan,
            reach,
        )
        sightings = tracks(points, matches)
        log_depth = torch.full((len(sightings),), torch.nan, dtype=torch.float64)
        for view in range(len(frames)):
            own = sightings.frame == view
            log_depth[own] = self._log_depth(sightings.pixel[own], canonical.log_depth[view], plan)
        sightings = replace(sightings, log_depth=log_depth)
        aligned = placed(
            sightings,
            trajectory,
            self.least,
            self.depth,
            reach,
            self.focal,
            self.trust,
            matches,
            points,
            DEPTH_SPREAD,
            ties,
            self.device,
        )
        return self._described(
            frames, aligned, canonical, points, self._looked_for(points, matches)
        )

    @staticmethod
    def _looked_for(points: Sequence[Tensor], matches: Sequence[Matches]) -> list[Tensor]:
        """Of each frame the keypoints that some other frame is thought to show."""
        used = [torch.zeros(len(some), dtype=torch.bool) for some in points]
        for pair in matches:
            used[pair.first][pair.index[:, 0]] = True
            used[pair.second][pair.index[:, 1]] = True
        return [some[mask] for some, mask in zip(points, used, strict=True)]

    @staticmethod
    def _log_depth(
        pixels: Float[Tensor, "pixel 2"], log_depth: Float[Tensor, "height width"], plan: Cameras
    ) -> Float[Tensor, "pixel"]:
        """What the network says of depth there."""
        if not len(pixels):
            return torch.zeros(0, dtype=torch.float64)
        at = pixels.to(log_depth) * log_depth.new_tensor([2 / plan.width, 2 / plan.height]) - 1
        return (
            grid_sample(
                log_depth[None, None], at[None, None], padding_mode="border", align_corners=False
            )[0, 0, 0]
            .double()
            .cpu()
        )

    def _described(
        self,
        frames: Frames,
        aligned: Aligned,
        canonical: Canonical,
        points: Sequence[Tensor],
        looked_for: Sequence[Tensor],
    ) -> Reconstruction:
        """Depth of every frame: the network's, in the scale of the points seen in it; monocular depth, aligned to that, where the network is not sure."""
        plan, seen = aligned.cameras, aligned.sightings
        owns = seen.frame.argsort(stable=True).split(
            torch.bincount(seen.frame, minlength=len(frames)).tolist()
        )
        owns = [own if aligned.placed[view] else own[:0] for view, own in enumerate(owns)]
        depths, confidences, scales = [], [], self._scales(aligned, owns, canonical)
        for view, own in enumerate(owns):
            trust = _resized(canonical.trust(view), plan.height, plan.width)
            depth = (
                _enlarged(canonical.log_depth[view], plan.height, plan.width) + scales[view]
            ).exp()
            if len(frames) > 1:
                trust = trust * support(
                    looked_for[view], seen.pixel[own].float(), plan.width, plan.height
                ).to(trust)
            if (
                self.monocular == "unsure"
                and frames.depth is None
                and self.estimator is not None
                and bool((trust < CONFIDENT).any())
            ):
                given = self.depth if view == 0 else self.estimator(frames.images[view])
                depth, trust = joined(
                    depth,
                    trust,
                    torch.where(given.valid, given.depth, 0.0).to(depth),
                    self.tolerance,
                )
            elif frames.depth is not None:
                better = place(
                    frames.depth[view].to(depth),
                    torch.where(trust >= CONFIDENT, depth, 0.0),
                    self.tolerance,
                    shift=False,
                )
                depth, trust = (
                    (better.depth, torch.maximum(trust, better.confidence))
                    if better.found
                    else (depth, trust)
                )
            depths.append(depth)
            confidences.append(trust * float(aligned.placed[view]))
        depth, confidence = (
            torch.stack(some).to(frames.images.device) for some in (depths, confidences)
        )
        return Reconstruction(
            aligned.cameras,
            merged(frames, aligned.cameras, depth, confidence, self.most_points),
            depth,
            confidence,
        )

    def _scales(
        self, aligned: Aligned, owns: Sequence[Tensor], canonical: Canonical
    ) -> list[float]:
        """Logarithms of what frames' depths are to be multiplied by; without points that tell it (of each frame, `owns`), the input's depth says so of the
        input, and of others the middle of them all.
        """
        seen = aligned.sightings
        axis = aligned.cameras.world_to_camera[seen.frame, 2].double()
        z = (axis[:, :3] * aligned.points[seen.point]).sum(-1) + axis[:, 3]
        ratio = z.clamp(min=1e-6).log() - seen.log_depth if seen.log_depth is not None else z
        found = {
            view: float(ratio[own].median()) for view, own in enumerate(owns) if len(own) >= FEWEST
        }
        if 0 not in found:
            given = torch.where(self.depth.valid, self.depth.depth, 0.0).cpu()
            log = _enlarged(canonical.log_depth[0], *given.shape).cpu()
            found[0] = float((given.log() - log)[given > 0].median())
        middle = sorted(found.values())[len(found) // 2]
        return [found.get(view, middle) for view in range(len(owns))]

    # The published alignment

    def _published(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        kept = self._seen(frames)
        star = [pair for view in range(1, len(frames)) for pair in ((0, view), (view, 0))] or [
            (0, 0)
        ]
        maps = (
            PairMap(a, b, m.points[k], m.confidence[k], m.other[k], m.other_confidence[k])
            for some, m in self._maps(kept, star, both=True)
            for k, (a, b) in enumerate(some)
        )
        found = globally_aligned(maps, len(star), len(frames))
        return found.reconstructed(frames, trajectory, self.depth, self.most_points)


def directed(pairs: Sequence[tuple[int, int]], frames: int) -> list[tuple[int, int]]:
    """Each pair once, so that every frame is the first of some; a frame that is in no pair is paired with itself. In such an order that few with the same
    first follow on one another.
    """
    firsts, partner = [0] * frames, list(range(frames))
    out = []
    for a, b in pairs:
        if firsts[b] < firsts[a]:
            a, b = b, a
        out.append((firsts[a], a, b))
        firsts[a] += 1
        partner[b] = a
    out += [(0, view, partner[view]) for view in range(frames) if not firsts[view]]
    return [(a, b) for _, a, b in sorted(out)]


def corresponding(
    maps: PairMaps, anchors: Int[Tensor, "anchor"], backwards: bool
) -> list[tuple[Int[Tensor, "_"], Float[Tensor, "_ 2"], Float[Tensor, "_"]]]:
    """Of every pair: which anchors, numbers of pixels of the first frame's map (backwards: of the second's), are seen in the other, at which pixel, and
    how sure that is.

    An anchor's best match must lead back to it; the match's place is then refined between pixels by a parabola.
    """
    height, width = maps.confidence.shape[1:]
    if maps.described is not None:
        features, sure = maps.described, maps.sure
    else:
        features, sure = (
            (_place(maps.points), _place(maps.other)),
            (maps.confidence, maps.other_confidence),
        )
    one, other = (
        features[side].flatten(1, 2).float() for side in ((1, 0) if backwards else (0, 1))
    )
    trust, other_trust = (
        sure[side].flatten(1).float() for side in ((1, 0) if backwards else (0, 1))
    )
    anchors = anchors.to(one.device)
    asked = one[:, anchors]
    there = _nearest(asked, other)
    met = _at(other, there)
    back = _nearest(met, one)
    missed = (
        ((back % width - anchors % width) ** 2 + (back // width - anchors // width) ** 2)
        .double()
        .sqrt()
    )
    good = missed <= BACK
    if maps.described is None:
        good &= ((asked - met).norm(dim=-1) < NEAR) & (asked[..., 2] < NOWHERE)
    scores = (trust[:, anchors] * other_trust.gather(1, there)).sqrt()
    pixels = _refined(asked, other, there, height, width).float()
    good, scores, pixels = (some.cpu() for some in (good, scores, pixels))
    counts = good.sum(1).tolist()
    index, pixels, scores = (
        good.nonzero()[:, 1].split(counts),
        pixels[good].split(counts),
        scores[good].split(counts),
    )
    out = []
    for parts in zip(index, pixels, scores, strict=True):
        if (
            len(parts[0]) > KEPT
        ):  # the surest of a finely mixed half: the surest alone lie all in one place
            mixed = torch.randperm(len(parts[0]), generator=torch.Generator().manual_seed(0))[
                : 2 * KEPT
            ]
            best = mixed[parts[2][mixed].argsort(descending=True)[:KEPT]]
            parts = tuple(part[best] for part in parts)
        out.append(parts)
    return out


def _tied(
    matches: Sequence[Matches],
    keypoints: Sequence[Tensor],
    log_depths: Sequence[Tensor],
    plan: Cameras,
    reach: float,
) -> tuple[list[Matches], list[Tie]]:
    """Both directions of a pair in one, without what contradicts: the second camera is found by the depth of the first, with the lens as planned."""
    import poselib

    pairs: dict[tuple[int, int], list[Matches]] = {}
    for some in matches:
        pairs.setdefault((some.first, some.second), []).append(some)
    if not pairs:
        return [], []
    keys = list(pairs)
    # All pairs' matches one after another: what is done of all at once costs no time a pair.
    index = torch.cat([some.index for both in pairs.values() for some in both])
    score = torch.cat([some.score for both in pairs.values() for some in both])
    counts = torch.tensor([sum(len(some.index) for some in both) for both in pairs.values()])
    of, ends = torch.arange(len(pairs)).repeat_interleave(counts), counts.cumsum(0).tolist()
    begins = [0, *ends[:-1]]
    sizes = torch.tensor([len(own) for own in keypoints])
    start = sizes.cumsum(0) - sizes
    here, there = ((start[torch.tensor(keys)[of, side]] + index[:, side]) for side in (0, 1))
    pixels, log_depth = torch.cat(list(keypoints)).double(), torch.cat(list(log_depths))
    matrix = plan.intrinsics.double().cpu()
    lens = torch.stack(
        [matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 0, 2], matrix[:, 1, 2]], -1
    ).repeat_interleave(sizes, 0)[here]
    local = (
        torch.cat([(pixels[here] - lens[:, 2:]) / lens[:, :2], torch.ones(len(here), 1)], -1)
        * log_depth[here, None].exp()
    )
    target, lenses = pixels[there], matrix[:, [0, 0, 1], [0, 2, 2]].tolist()
    ransac = {
        "max_reproj_error": 1.5 * reach,
        "seed": 0,
        "min_iterations": 30,
        "max_iterations": 2000,
    }

    known = torch.bincount(of[~local.isfinite().all(1)], minlength=len(keys)) == 0
    asked = [k for k in range(len(keys)) if known[k] and ends[k] - begins[k] >= 2 * FEWEST]
    numbers, places = local.numpy(), target.numpy()

    def found(some: Sequence[int]) -> list[tuple[int, Any, np.ndarray]]:
        out = []
        for k in some:
            own, params = slice(begins[k], ends[k]), lenses[keys[k][1]]
            camera = {
                "model": "SIMPLE_PINHOLE",
                "width": round(2 * params[1]),
                "height": round(2 * params[2]),
                "params": params,
            }
            pose, told = poselib.estimate_absolute_pose(
                places[own], numbers[own], camera, ransac, {}
            )
            out.append((k, pose, np.array(told["inliers"], bool)))
        return out

    with ThreadPoolExecutor() as pool:
        told = [
            one
            for some in pool.map(found, (asked[k : k + 16] for k in range(0, len(asked), 16)))
            for one in some
        ]
    out, ties = [], []
    for k, pose, good in told:
        if good.sum() < max(
            2 * FEWEST, AGREE * len(good)
        ):  # of a hundred places that are wrong a dozen agree by chance
            continue
        own, (first, second) = torch.arange(begins[k], ends[k])[good], keys[k]
        turn, move = torch.tensor(pose.R), torch.tensor(pose.t)
        ratio = (
            (local[own] @ turn[2] + move[2]).clamp(min=1e-9).log() - log_depth[there[own]]
        ).nanmedian()
        ties.append(Tie(first, second, turn, move, float(ratio.nan_to_num()), len(own)))
        out.append(Matches(first, second, index[own], score[own]))
    return out, ties


def _place(points: Float[Tensor, "pair height width 3"]) -> Float[Tensor, "pair height width 3"]:
    """Points as direction and logarithm of depth: what is far away may be far apart. What lies behind the camera is nowhere."""
    z = points[..., 2:]
    return torch.where(
        z > 1e-6,
        torch.cat([points[..., :2] / z.clamp(min=1e-6), z.clamp(min=1e-6).log()], -1),
        NOWHERE,
    )


def _nearest(
    asked: Float[Tensor, "pair place channel"], among: Float[Tensor, "pair pixel channel"]
) -> Int[Tensor, "pair place"]:
    """Index of what is nearest to each."""
    if asked.device.type == "cpu" and asked.shape[2] <= 3:
        trees = (cKDTree(some.numpy()) for some in among)
        return torch.stack(
            [
                torch.from_numpy(tree.query(some.numpy(), workers=-1)[1])
                for tree, some in zip(trees, asked, strict=True)
            ]
        )
    half = None  # of squared lengths: descriptors' are all the same
    if asked.shape[2] <= 3:
        middle = (
            among[:, ::97].median(1, keepdim=True).values
        )  # of large numbers differences would be lost
        asked, among = asked - middle, among - middle
        half = among.square().sum(-1)[:, None] / 2
    chunk = CHUNK[asked.device.type] // among.shape[1]
    few = max(1, chunk // max(1, asked.shape[1]))
    found = []
    for k in range(0, len(asked), few):
        some, b = asked[k : k + few], among[k : k + few].mT
        parts = some.split(max(1, chunk // len(some)), 1)
        found.append(
            torch.cat(
                [
                    (
                        part @ b
                        if half is None
                        else torch.baddbmm(half[k : k + few], part, b, beta=-1)
                    ).argmax(-1)
                    for part in parts
                ],
                1,
            )
        )
    return torch.cat(found)


def _refined(
    asked: Float[Tensor, "pair place channel"],
    among: Float[Tensor, "pair pixel channel"],
    at: Int[Tensor, "pair place"],
    height: int,
    width: int,
) -> Float[Tensor, "pair place 2"]:
    """Pixels (x, y) where `among` would be nearest, by a parabola through the neighbours' distances."""
    out = torch.stack([at % width, at // width], -1).double() + 0.5
    for axis, (side, stride) in enumerate(((width, 1), (height, width))):
        place = (at // stride) % side
        inner = (place > 0) & (place < side - 1)
        far = [
            (asked - _at(among, (at + k * stride).clamp(0, height * width - 1)))
            .square()
            .sum(-1)
            .double()
            for k in (-1, 0, 1)
        ]
        bend = far[0] - 2 * far[1] + far[2]
        shift = torch.where(
            inner & (bend > 1e-12), (far[0] - far[2]) / (2 * bend.clamp(min=1e-12)), 0.0
        )
        out[..., axis] += shift.clamp(-0.5, 0.5)
    return out


def _at(
    features: Float[Tensor, "pair pixel channel"], index: Int[Tensor, "pair place"]
) -> Float[Tensor, "pair place channel"]:
    return features.gather(1, index[..., None].expand(-1, -1, features.shape[2]))


def joined(
    depth: Float[Tensor, "height width"],
    trust: Float[Tensor, "height width"],
    estimate: Float[Tensor, "height width"],
    tolerance: float,
) -> tuple[Float[Tensor, "height width"], Float[Tensor, "height width"]]:
    """Monocular depth, its inverse brought to that of `depth` where that is trusted, in place of what is not. Confidence is 1 / (1 + (ln(fitted / depth)
    / tolerance)^2), in the median over where both are known, or what it was if that is more. As it was where too little is trusted to go by.
    """
    both = (trust >= CONFIDENT) & (estimate > 0)
    if int(both.sum()) < FEWEST:
        return depth, trust
    scale, offset = fit(1 / estimate[both], 1 / depth[both], weight=trust[both])
    inverse = (scale / estimate.clamp(min=1e-9) + offset).clamp(
        1 / (3 * float(depth[both].max())), 3 / float(depth[both].min())
    )
    agreement = 1 / (1 + ((1 / inverse[both] / depth[both]).log() / tolerance) ** 2)
    filled = (trust < CONFIDENT) & (estimate > 0)
    return torch.where(filled, 1 / inverse, depth), torch.where(
        filled, torch.maximum(trust, agreement.median()), trust
    )


def as_published(
    estimate: Float[Tensor, "height width"], depth: Float[Tensor, "height width"]
) -> Float[Tensor, "height width"]:
    """Monocular depth as LiftImage3D aligns it: its inverse, in 255 steps, is taken to be affine in `depth` itself, by medians over all of the picture. That is wrong wherever depth
    varies much (its inverse is what is affine); it is here for comparison. 0 where it comes out behind the camera.
    """
    inverse = 1 / torch.where(estimate > 0, estimate, torch.inf)
    low, high = inverse.min(), inverse.max()
    m = (255 * (inverse - low) / (high - low).clamp(min=1e-12)).round() / 65535
    away, along = depth - depth.median() + 1e-8, m - m.median() + 1e-8
    scale = (away / along).median()
    out = scale * m + (depth - scale * m).median()
    least = torch.minimum(
        out.flatten()[:: max(1, out.numel() // 100_000)].quantile(0.01), out.new_tensor(1e-6)
    )
    return torch.where((out > 0) & (out >= least), out, 0.0)


def _resized(values: Tensor, height: int, width: int) -> Tensor:
    return interpolate(values[None, None], (height, width), mode="bilinear", align_corners=False)[
        0, 0
    ]


def _enlarged(log_depth: Tensor, height: int, width: int) -> Tensor:
    """Between pixels of a map smoothly, but not across steps: no surface hangs between two others."""
    smooth = _resized(log_depth, height, width)
    plain = interpolate(log_depth[None, None], (height, width), mode="nearest-exact")[0, 0]
    return torch.where((smooth - plain).abs() < 0.02, smooth, plain)
