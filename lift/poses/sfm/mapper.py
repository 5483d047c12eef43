"""Cameras from sightings of common points: one pair first, then frame after frame, adjusted all together as they become more.

What is asked for is not believed here: a frame's place follows from what is seen in it. After Schoenberger and Frahm,
"Structure-from-motion revisited", CVPR 2016, with frames taken in by the batch.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, dijkstra
from torch import Tensor

from lift.poses.sfm.bundle import Scene, Sightings, adjust

FEWEST = 16
"""Points that a frame's place must rest on."""
TRIES = 4
"""Times that a frame is taken in: what is lost so often has no place."""
FLAT = 1.0
"""Degrees between two rays below which they do not tell how far away they meet."""
FOCAL_GUESSES = (1.0, 1.0, 1.4, 0.7)
"""Factors on the assumed focal length, one a try."""
COMPLETE = 0.8
"""Share of the frames that, once placed, ends the search for a better start."""
PAIRS = 40
"""Pairs that are tried for the beginning."""

Focal = Literal["fixed", "shared", "each"]


@dataclass(frozen=True)
class Registered:
    """scene: frames that were placed have their place in a world of its own scale. good: sightings that agree with it."""

    scene: Scene
    good: Bool[Tensor, "sighting"]
    spread: float

    def to(self, device: torch.device | str) -> "Registered":
        return Registered(self.scene.to(device), self.good.to(device), self.spread)


@dataclass(frozen=True)
class Tie:
    """How two frames stand to one another, from their matches and measured depth alone: what the first sees at x the second sees at rotation x +
    translation, in units of the first's measured depth, of which one of the second's has exp(log_scale). worth: matches that agree.
    """

    first: int
    second: int
    rotation: Float[Tensor, "3 3"]
    translation: Float[Tensor, "3"]
    log_scale: float
    worth: int


class InitializationError(ValueError):
    """There is no pair of frames that shows enough points from two sides."""


def register(
    sightings: Sightings,
    log_focal: Float[Tensor, "frame"],
    middle: Float[Tensor, "frame 2"],
    reach: float,
    focal: Focal = "shared",
    believed: float = 0.2,
    depth: Float[Tensor, "sighting"] | None = None,
    depth_spread: float = 0.1,
    ties: Sequence[Tie] = (),
) -> Registered:
    """Where frames were taken. reach: pixels of error from which on a sighting is taken for wrong. focal, believed: as for `adjust`.

    depth: z-depth of sightings in frame 0, 0 where unknown: the beginning, in place of a pair. Raises InitializationError without it if no pair is good
    enough. Depth that sightings bring along (`log_depth`) says where points lie that are not seen from two sides, and is met up to `depth_spread`;
    with `ties` to go with it all frames that they lead to from frame 0 are placed at once.
    """

    def fresh(factor: float = 1.0) -> IncrementalMapper:
        guess = log_focal.double() + math.log(factor)
        return IncrementalMapper(
            sightings.to(torch.float64),
            guess,
            middle.double(),
            reach,
            focal,
            believed,
            depth_spread,
        )

    if ties or depth is not None:
        growth = fresh()
        if ties:
            growth.begin_with_ties(ties)
        else:
            growth.begin_with_depth(depth.double())
        return growth.whole()
    return _best_start(fresh, focal)


def _best_start(fresh: Callable[[float], "IncrementalMapper"], focal: Focal) -> Registered:
    """The most complete scene of those that several first pairs and focal lengths lead to.

    A wrong first pair, or a focal length that is far off, places a few frames and then none. The
    next try starts from a pair with a frame that was not placed. A scene without the input is of no
    use, so the last tries start from pairs that show it.
    """
    factors = FOCAL_GUESSES if focal != "fixed" else (1.0,) * len(FOCAL_GUESSES)
    # Frames from one spot seem to move with a wrong focal length, so the first try may raise.
    best = _start(fresh, factors[0])
    covered = best.scene.placed
    for factor in factors[1:]:
        if _completeness(best) >= COMPLETE:
            return best
        try:
            found = _start(fresh, factor, covered=covered)
        except InitializationError:
            continue
        best = max(best, found, key=_completeness)
        covered = covered | found.scene.placed
    for factor in dict.fromkeys(factors):
        if bool(best.scene.placed[0]):
            break
        with suppress(InitializationError):
            best = max(best, _start(fresh, factor, member=0), key=_completeness)
    return best


def _start(
    fresh: Callable[[float], "IncrementalMapper"],
    factor: float,
    covered: Bool[Tensor, "frame"] | None = None,
    member: int | None = None,
) -> Registered:
    """Place frames from a first pair on, with a factor on the assumed focal length."""
    growth = fresh(factor)
    growth.given = growth.given - math.log(factor)
    growth.begin_with_a_pair(covered, member)
    return growth.whole()


def _completeness(found: Registered) -> float:
    """Share of the frames that are placed, below 0 if the input is not among them."""
    placed = found.scene.placed
    return float(placed.double().mean()) - (0.0 if bool(placed[0]) else 1.0)


def triangulate(
    sightings: Sightings,
    rotation: Float[Tensor, "frame 3 3"],
    translation: Float[Tensor, "frame 3"],
    log_focal: Float[Tensor, "frame"],
    middle: Float[Tensor, "frame 2"],
    reach: float,
) -> Registered:
    """Points seen by cameras that are known.

    Args:
        sightings: Which point was seen where.
        rotation: Of world_to_camera.
        translation: Of world_to_camera.
        log_focal: Logarithm of the focal length in pixels.
        middle: Principal point in pixels.
        reach: Reprojection error in pixels from which on a sighting is wrong.

    Returns:
        The cameras as they were, all placed, and the points that two or more of them agree on.
    """
    growth = IncrementalMapper(
        sightings.to(torch.float64), log_focal, middle, reach, "fixed", 0.2, 0.1
    )
    growth.scene = replace(
        growth.scene,
        rotation=rotation,
        translation=translation,
        placed=torch.ones_like(growth.scene.placed),
    )
    growth._triangulate()
    return Registered(growth.scene, growth._good(), reach / 4)


class IncrementalMapper:
    """Places frame after frame, from a first pair on."""

    def __init__(
        self,
        sightings: Sightings,
        log_focal: Tensor,
        middle: Tensor,
        reach: float,
        focal: Focal,
        believed: float,
        depth_spread: float,
    ) -> None:
        frames, points = len(log_focal), int(sightings.point.max()) + 1 if len(sightings) else 0
        zero = log_focal.new_zeros
        eye = torch.eye(3, dtype=torch.float64, device=log_focal.device).repeat(frames, 1, 1)
        placed = torch.zeros(frames, dtype=torch.bool, device=log_focal.device)
        self.scene = Scene(
            eye, zero(frames, 3), log_focal, middle, zero(frames), zero(points, 3), placed
        )
        self.sightings, self.reach, self.focal, self.believed, self.given = (
            sightings,
            reach,
            focal,
            believed,
            log_focal,
        )
        self.tries = [0] * frames
        self.known = torch.zeros(points, dtype=torch.bool, device=log_focal.device)
        self.spread, self.depth, self.depth_spread = (
            reach / 4,
            sightings.log_depth is not None,
            depth_spread,
        )
        self.scaled = torch.zeros_like(placed)
        """Frames of whose measured depth the scale is known."""

    # Beginnings

    def begin_with_ties(self, ties: Sequence[Tie]) -> None:
        """Along the shortest ways from frame 0, a tie being the shorter the more it is worth."""
        frames, scene = len(self.scene.rotation), self.scene
        between = {(tie.first, tie.second): tie for tie in sorted(ties, key=lambda tie: tie.worth)}
        lengths = np.array([1 / tie.worth for tie in between.values()])
        graph = csr_matrix((lengths, np.array(list(between)).T), (frames, frames))
        order, before = breadth_first_order(_shortest(graph, frames), 0, directed=False)
        if len(order) < 2:
            raise InitializationError("no frame is tied to the input")
        scene.placed[0] = self.scaled[0] = True
        self.origin = 0
        for frame in order[1:].tolist():
            source = int(before[frame])
            tie, forth = between.get((source, frame)), True
            if tie is None:
                tie, forth = between[frame, source], False
            turn, move = tie.rotation.to(scene.points), tie.translation.to(scene.points)
            if forth:
                scene.rotation[frame] = turn @ scene.rotation[source]
                scene.translation[frame] = (
                    turn @ scene.translation[source] + scene.log_scale[source].exp() * move
                )
                scene.log_scale[frame] = scene.log_scale[source] + tie.log_scale
            else:
                scene.log_scale[frame] = scene.log_scale[source] - tie.log_scale
                scene.rotation[frame] = turn.T @ scene.rotation[source]
                scene.translation[frame] = turn.T @ (
                    scene.translation[source] - scene.log_scale[frame].exp() * move
                )
            scene.placed[frame] = self.scaled[frame] = True
        self._unproject()
        self._adjust("fixed", 25)
        self._sort_out()

    def begin_with_a_pair(self, covered: Tensor | None = None, member: int | None = None) -> None:
        """Start from two frames.

        Args:
            covered: Frames that earlier tries placed. One of the two frames is not among them.
            member: Frame that is one of the two; any if None.

        Raises:
            InitializationError: If no such pair shows enough points from two sides.
        """
        best, score = None, 0.0
        for a, b, _common in self._candidates(covered, member):
            first, second, rays = self._common(a, b)
            pose, inlier = _relative(first, second, self._lens(a), self._lens(b), self.reach / 2)
            if pose is None:
                continue
            angle = _angles(rays[0], rays[1] @ pose[0], pose, inlier)
            worth = int(inlier.sum()) * min(angle, 8.0)
            if int(inlier.sum()) >= 2 * FEWEST and angle > FLAT and worth > score:
                best, score = (a, b, pose), worth
        if best is None:
            raise InitializationError("no two frames show enough common points from two sides")
        a, b, (rotation, translation) = best
        self.scene.rotation[b], self.scene.translation[b] = rotation, translation
        self.scene.placed[[a, b]] = True
        self.origin = a
        self._triangulate()
        self._unproject()
        self._adjust("fixed", 10)

    def begin_with_depth(self, depth: Tensor) -> None:
        some = (self.sightings.frame == 0) & (depth > 0)
        if int(some.sum()) < FEWEST:
            raise InitializationError(f"the input shows {int(some.sum())} points of known depth")
        pixel = self.sightings.pixel[some]
        rays = (pixel - self.scene.middle[0]) / self.scene.log_focal[0].exp()
        self.scene.points[self.sightings.point[some]] = (
            torch.cat([rays, torch.ones_like(rays[:, :1])], -1) * depth[some, None]
        )
        self.known[self.sightings.point[some]] = True
        self.scene.placed[0] = self.scaled[0] = True
        self.origin = 0
        if not self.depth:
            self.depth, self.sightings = (
                True,
                replace(self.sightings, log_depth=torch.where(some, depth, torch.nan).log()),
            )

    def _candidates(self, covered: Tensor | None, member: int | None) -> list[tuple[int, int, int]]:
        """Pairs of frames with the points that they share, as `begin_with_a_pair` wants them.

        Pairs with many points come first, but pairs of all distances are there.
        """
        shape = (len(self.scene.rotation), len(self.scene.points))
        index = self.sightings.frame.cpu().numpy(), self.sightings.point.cpu().numpy()
        seen = csr_matrix((np.ones(len(index[0]), np.float32), index), shape)
        common = (seen @ seen.T).tocoo()
        pairs = [
            (int(a), int(b), int(n))
            for a, b, n in zip(common.row, common.col, common.data, strict=False)
            if a < b and n >= 2 * FEWEST
        ]
        if covered is not None:
            done = covered.tolist()
            pairs = [pair for pair in pairs if not (done[pair[0]] and done[pair[1]])]
        if member is not None:
            pairs = [pair for pair in pairs if member in pair[:2]]
        apart = {
            (a, b): self._apart(a, b)
            for a, b, _ in sorted(pairs, key=lambda p: -p[2])[: 20 * PAIRS]
        }
        pairs = [p for p in pairs if p[:2] in apart]
        # Motion of the picture tells of parallax at no cost, but is not the same: many are tried.
        return sorted(pairs, key=lambda p: -p[2] * min(apart[p[:2]], 60 * self.reach))[:PAIRS]

    def _apart(self, a: int, b: int) -> float:
        first, second, _ = self._common(a, b)
        return float((first - second).norm(dim=-1).median())

    def _common(self, a: int, b: int) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Pixels and rays of the points that both frames show."""
        pixels = []
        for frame in (a, b):
            own = self.sightings.frame == frame
            pixel = self.sightings.pixel.new_full((len(self.scene.points), 2), torch.nan)
            pixel[self.sightings.point[own]] = self.sightings.pixel[own]
            pixels.append(pixel)
        both = ~(pixels[0].isnan() | pixels[1].isnan()).any(-1)
        first, second = pixels[0][both], pixels[1][both]
        rays = tuple(
            torch.cat(
                [
                    (p - self.scene.middle[f]) / self.scene.log_focal[f].exp(),
                    torch.ones_like(p[:, :1]),
                ],
                -1,
            )
            for p, f in ((first, a), (second, b))
        )
        return first, second, rays

    def _lens(self, frame: int) -> dict:
        focal, (x, y) = float(self.scene.log_focal[frame].exp()), self.scene.middle[frame].tolist()
        return {
            "model": "SIMPLE_PINHOLE",
            "width": round(2 * x),
            "height": round(2 * y),
            "params": [focal, x, y],
        }

    # Growth

    def whole(self) -> Registered:
        """Takes in all frames that can be, then adjusts and sorts out until nothing changes any more."""
        adjusted = int(self.scene.placed.sum())
        while self._take_in():
            self._triangulate()
            self._unproject()
            count = int(self.scene.placed.sum())
            if count >= 3:
                self._adjust(
                    self.focal if count >= 4 else "fixed",
                    6 if count > 1.15 * adjusted or count < 8 else 3,
                )
                adjusted = count
                self._sort_out()
                self._triangulate()
                self._unproject()
        for _ in range(4):
            before = int(self.known.sum()), int(self.scene.placed.sum())
            self._adjust(self.focal, 25)
            self._sort_out()
            self._triangulate()
            self._unproject()
            self._take_in()
            if (int(self.known.sum()), int(self.scene.placed.sum())) == before:
                break
        self._adjust(self.focal, 25)
        self._sort_out()
        return Registered(self.scene, self._good(), self.spread)

    def _take_in(self) -> bool:
        """Places the frames that show most of what is known."""
        ready = self.known[self.sightings.point] & ~self.scene.placed[self.sightings.frame]
        counts = torch.bincount(self.sightings.frame[ready], minlength=len(self.scene.rotation))
        most = int(counts.max()) if len(counts) else 0
        found = False
        for least in (0.6 * most, FEWEST):
            for frame in counts.argsort(descending=True).tolist():
                if (
                    counts[frame] < max(least, FEWEST)
                    or self.scene.placed[frame]
                    or self.tries[frame] == TRIES
                ):
                    continue
                own = ready & (self.sightings.frame == frame)
                pose = self._absolute(
                    frame, self.sightings.pixel[own], self.scene.points[self.sightings.point[own]]
                )
                if pose is not None:
                    self.scene.rotation[frame], self.scene.translation[frame] = pose
                    self.scene.log_focal[frame] = (
                        self.scene.log_focal[self.scene.placed].median()
                        if self.focal == "shared"
                        else self.scene.log_focal[frame]
                    )
                    self.scene.placed[frame] = found = True
                    self.tries[frame] += 1
            if found:
                break
        return found

    def _absolute(self, frame: int, pixel: Tensor, points: Tensor) -> tuple[Tensor, Tensor] | None:
        import poselib

        lens = self._lens(frame if self.focal != "shared" else self.origin)
        ransac = {
            "max_reproj_error": self.reach * (2 if int(self.scene.placed.sum()) < 4 else 1),
            "seed": 0,
            "min_iterations": 100,
            "max_iterations": 5000,
        }
        pose, told = poselib.estimate_absolute_pose(
            pixel.cpu().numpy(), points.cpu().numpy(), lens, ransac, {}
        )
        if told["num_inliers"] < max(FEWEST, 0.2 * len(pixel)):
            return None
        return torch.tensor(pose.R).to(points), torch.tensor(pose.t).to(points)

    def _triangulate(self) -> None:
        """Points that are not known yet and that placed frames show from two sides."""
        scene, s = self.scene, self.sightings
        use = scene.placed[s.frame] & ~self.known[s.point] & (s.weight > 0)
        if not bool(use.any()):
            return
        chosen, point = s.point[use].unique(return_inverse=True)
        frame, pixel = s.frame[use], s.pixel[use]
        rays = torch.cat(
            [
                (pixel - scene.middle[frame]) / scene.log_focal[frame].exp()[:, None],
                torch.ones_like(pixel[:, :1]),
            ],
            -1,
        )
        rays = (scene.rotation[frame].mT @ rays[..., None])[..., 0]
        rays = rays / rays.norm(dim=-1, keepdim=True)
        centers = scene.centers[frame]
        weight = s.weight[use].clone()
        across = (
            torch.eye(3, dtype=rays.dtype, device=rays.device) - rays[:, :, None] * rays[:, None]
        )
        for _ in range(5):
            square = torch.zeros(
                len(chosen), 3, 3, dtype=rays.dtype, device=rays.device
            ).index_add_(0, point, weight[:, None, None] * across)
            right = torch.zeros(len(chosen), 3, dtype=rays.dtype, device=rays.device)
            right.index_add_(0, point, weight[:, None] * (across @ centers[..., None])[..., 0])
            square = square + 1e-9 * torch.eye(3, dtype=rays.dtype, device=rays.device)
            found = torch.linalg.solve(square, right)
            error = replace(scene, points=found).seen(Sightings(frame, point, pixel, weight))
            local, away = error[0], error[1].norm(dim=-1)
            weight = s.weight[use] / (1 + (away / (self.reach / 2)) ** 2) * (local[:, 2] > 1e-6)
            weight = weight.clamp(min=1e-9)
        fits = (away < self.reach) & (local[:, 2] > 1e-6)
        count = torch.zeros(len(chosen), device=rays.device).index_add_(0, point, fits.float())
        # The widest angle to the ray of the first frame that fits.
        order = torch.arange(len(point), device=rays.device).where(fits, len(point))
        first = (
            torch.full((len(chosen),), len(point), device=rays.device)
            .scatter_reduce_(0, point, order, "amin")
            .clamp(max=len(point) - 1)
        )
        cosine = (rays * rays[first[point]]).sum(-1).where(fits, 1.0)
        widest = torch.ones(len(chosen), dtype=rays.dtype, device=rays.device).scatter_reduce_(
            0, point, cosine, "amin"
        )
        good = (count >= 2) & (widest < math.cos(math.radians(FLAT)))
        scene.points[chosen[good]] = found[good]
        self.known[chosen[good]] = True

    def _unproject(self) -> None:
        """Points that are still unknown and of which a placed frame brings the depth, once its scale is known."""
        if not self.depth:
            return
        scene, s = self.scene, self.sightings
        told = scene.placed[s.frame] & ~s.log_depth.isnan()
        log_scale = scene.log_scale.clone()
        fresh = told & ~self.scaled[s.frame] & self.known[s.point]
        local, error = scene.seen(s[fresh])
        fine = (local[:, 2] > 1e-6) & (error.norm(dim=-1) < self.reach)
        frame, ratio = s.frame[fresh][fine], local[fine, 2].log() - s.log_depth[fresh][fine]
        counts = torch.bincount(frame, minlength=len(log_scale))
        for view in (counts >= FEWEST).nonzero()[:, 0].tolist():
            log_scale[view] = ratio[frame == view].median()
            self.scaled[view] = True
        new = told & ~self.known[s.point] & self.scaled[s.frame]
        first = torch.full((len(self.known),), len(s), device=new.device).scatter_reduce_(
            0, s.point[new], new.nonzero()[:, 0], "amin"
        )
        order = first[first < len(s)]
        rays = torch.cat(
            [
                (s.pixel[order] - scene.middle[s.frame[order]])
                / scene.log_focal[s.frame[order]].exp()[:, None],
                torch.ones_like(s.pixel[order, :1]),
            ],
            -1,
        )
        local = (
            rays * (s.log_depth[order] + log_scale[s.frame[order]]).exp()[:, None]
            - scene.translation[s.frame[order]]
        )
        points = scene.points.clone()
        points[s.point[order]] = (scene.rotation[s.frame[order]].mT @ local[..., None])[..., 0]
        self.known[s.point[order]] = True
        self.scene = replace(scene, points=points, log_scale=log_scale)

    def _adjust(self, focal: Focal, steps: int) -> None:
        some = self.known[self.sightings.point] & self.scene.placed[self.sightings.frame]
        seen = self.sightings[some]
        _, error = self.scene.seen(seen)
        self.spread = float(error.norm(dim=-1).median().clamp(self.reach / 16, self.reach / 2))
        rest = torch.zeros_like(self.scene.placed)
        rest[self.origin] = True
        self.scene = adjust(
            self.scene,
            seen,
            rest,
            focal,
            self.believed,
            self.spread,
            self.depth_spread if self.depth else 0.0,
            steps=steps,
            given=self.given,
        )

    def _good(self) -> Tensor:
        local, error = self.scene.seen(self.sightings)
        some = self.known[self.sightings.point] & self.scene.placed[self.sightings.frame]
        return some & (local[:, 2] > 1e-6) & (error.norm(dim=-1) < self.reach)

    def _sort_out(self) -> None:
        """Points that fewer than two sightings agree with are unknown again, and so are frames that show too few."""
        good = self._good()
        counts = torch.bincount(self.sightings.point[good], minlength=len(self.known))
        alone = torch.zeros_like(self.known)
        if self.depth:
            alone[self.sightings.point[good & ~self.sightings.log_depth.isnan()]] = True
        self.known &= (counts >= 2) | alone
        shown = torch.bincount(
            self.sightings.frame[good & self.known[self.sightings.point]],
            minlength=len(self.scene.placed),
        )
        lost = self.scene.placed & (shown < FEWEST)
        lost[self.origin] = False
        self.scene.placed[lost] = False


def _shortest(graph: csr_matrix, frames: int) -> csr_matrix:
    """The shortest ways from frame 0 to all others, as a graph."""
    _, before = dijkstra(graph, directed=False, indices=0, return_predecessors=True)
    reached = (before >= 0).nonzero()[0]
    return csr_matrix((np.ones(len(reached)), (before[reached], reached)), (frames, frames))


def _relative(
    first: Tensor, second: Tensor, lens: dict, other: dict, reach: float
) -> tuple[tuple[Tensor, Tensor] | None, Tensor]:
    import poselib

    ransac = {"max_epipolar_error": reach, "seed": 0, "max_iterations": 2000}
    pose, told = poselib.estimate_relative_pose(
        first.cpu().numpy(), second.cpu().numpy(), lens, other, ransac, {}
    )
    inlier = torch.tensor(told["inliers"], dtype=torch.bool, device=first.device)
    if not bool(inlier.any()):
        return None, inlier
    return (torch.tensor(pose.R).to(first), torch.tensor(pose.t).to(first)), inlier


def _angles(first: Tensor, second: Tensor, pose: tuple[Tensor, Tensor], inlier: Tensor) -> float:
    """Median angle in degrees between rays of one point; `second` turned into the first camera."""
    cosine = torch.cosine_similarity(first[inlier], second[inlier], dim=-1).clamp(-1, 1)
    return float(torch.rad2deg(cosine.acos()).median()) if bool(inlier.any()) else 0.0
