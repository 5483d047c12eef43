"""Poses from networks that predict points of pairs of frames.

A pair leaves a few hundred matches and updates the depth of its first frame. Its maps are then
dropped. So memory grows with the number of frames, and with pairs only by their matches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from lift.depths import DepthEstimator
from lift.io.image import resize_images
from lift.io.sizing import round_to_multiple
from lift.multiview.depth_alignment import MIN_CONFIDENCE, align_depth, merge_points
from lift.poses import PoseEstimator, check_frames
from lift.poses.sfm.alignment import Correspondences, RegisteredFrames, RegistrationOptions
from lift.poses.sfm.bundle import Focal
from lift.poses.sfm.canonical import CanonicalDepth, resize_bilinear, resize_log_depth
from lift.poses.sfm.correspondence import PairMaps, PairNetwork
from lift.poses.sfm.global_alignment import align_globally
from lift.poses.sfm.monocular import align_like_liftimage3d, fill_with_monocular
from lift.poses.sfm.pair_matches import MatchCollector, matched_keypoints, order_pairs
from lift.poses.sfm.pair_poses import estimate_relative_poses
from lift.poses.sfm.pairs import matching_pairs
from lift.poses.sfm.reconstruction import match_support, register_frames
from lift.poses.sfm.spanning_tree import PairPointMaps
from lift.poses.sfm.state import MIN_FRAME_POINTS
from lift.poses.sfm.tracks import Matches, build_tracks
from lift.types import Depth, Frames, Reconstruction, Trajectory

MIN_ANCHORS = 100
"""Smallest number of pixels of a frame that are matched to another frame."""
MAX_ANCHORS = 2400
"""Largest number of pixels of a frame that are matched to another frame."""
ANCHORS_PER_FRAME = 1200
"""Number of anchors of a frame, summed over the frames that it is matched with."""
DEPTH_SIGMA = 0.05
"""Scale of the errors of the network's log depth."""
MAX_ERROR = 5 / 640
"""Reprojection error of a correct observation, as a fraction of the width.

Matches are pixels of a map, refined.
"""
ENCODE_BATCH = 8
"""Number of frames that are encoded at once."""


@dataclass(frozen=True)
class _Evidence:
    """What the network's predictions of all pairs leave."""

    canonical: CanonicalDepth
    """Depth of each frame."""
    keypoints: list[Float[Tensor, "_ 2"]]
    """Matched positions in each frame, in pixels."""
    matches: list[Matches]
    """Matches of pairs of frames."""


class PointMapPoses(PoseEstimator):
    """Estimates poses from a network that predicts points of pairs of frames.

    Args:
        network: The network.
        size: Longer side of the network's images in pixels, rounded to `multiple`.
        multiple: Number that divides the sides of the network's images.
        alignment: `bundle_adjustment` (matches and depth) or `global_alignment` (DUSt3R's).
        monocular: Where the depth estimator is used: `low_confidence` (where the network is not
            confident), `everywhere` (as in LiftImage3D) or `nowhere`.
        exhaustive_limit: Number of frames up to which all pairs are considered.
        loop_closures: Number of distant frames with which each frame is paired.
        focal: Which focal lengths to estimate.
        plan_weight: Weight of the plan; 0 ignores it.
        min_registered: Smallest fraction of frames that must be registered.
        tolerance: Relative depth error at which the confidence is a half.
        max_points: Largest number of points of the cloud.
        depth: Depth of the input, which gives the scale.
        estimator: Depth estimator; none if None.
        device: Device to compute on.
    """

    example_settings = None
    """A test needs weights."""

    def __init__(
        self,
        network: PairNetwork,
        size: int,
        multiple: int,
        alignment: Literal["bundle_adjustment", "global_alignment"],
        monocular: Literal["low_confidence", "everywhere", "nowhere"],
        exhaustive_limit: int,
        loop_closures: int,
        focal: Focal,
        plan_weight: float,
        min_registered: float,
        tolerance: float,
        max_points: int,
        depth: Depth,
        estimator: DepthEstimator | None,
        device: torch.device,
    ) -> None:
        if monocular == "everywhere" and estimator is None:
            raise ValueError(
                "pose.monocular is 'everywhere', which takes a depth estimator; "
                "choose low_confidence or nowhere"
            )
        self.network = network
        self.size = size
        self.multiple = multiple
        self.alignment = alignment
        self.monocular = monocular
        self.exhaustive_limit = exhaustive_limit
        self.loop_closures = loop_closures
        self.focal: Focal = focal
        self.plan_weight = plan_weight
        self.min_registered = min_registered
        self.tolerance = tolerance
        self.max_points = max_points
        self.depth = depth
        self.estimator = estimator
        self.device = device

    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        """Estimate cameras, depth and points. See `PoseEstimator`."""
        check_frames(frames, trajectory.cameras)
        if self.alignment == "global_alignment":
            result = self._align_globally(frames, trajectory)
        else:
            result = self._align_bundle(frames, trajectory)
        if self.monocular == "everywhere":
            result = self._align_monocular(frames, result)
        return result

    def _align_monocular(self, frames: Frames, result: Reconstruction) -> Reconstruction:
        """Replace all depth by monocular depth, aligned as in LiftImage3D."""
        assert self.estimator is not None
        guesses = [
            self.depth if view == 0 else self.estimator(frames.images[view])
            for view in range(len(frames))
        ]
        depth = torch.stack(
            [
                align_like_liftimage3d(torch.where(g.valid, g.depth, 0.0).to(target), target)
                for g, target in zip(guesses, result.depth, strict=True)
            ]
        )
        return replace(result, depth=depth, confidence=result.confidence * (depth > 0))

    # Predictions

    def _encode(self, frames: Frames) -> list[Any]:
        """Encode all frames, stretched a little to sides that the network takes."""
        sides = (frames.images.shape[1], frames.images.shape[2])
        scale = self.size / max(self.network.padding(*sides).size(*sides))
        height, width = (round_to_multiple(side * scale, self.multiple) for side in sides)
        features: list[Any] = []
        for start in range(0, len(frames), ENCODE_BATCH):
            images = frames.images[start : start + ENCODE_BATCH].to(self.device)
            features += self.network.encode(resize_images(images, width, height))
        return features

    def _predict(
        self, features: Sequence[Any], pairs: Sequence[tuple[int, int]], both: bool
    ) -> Iterator[tuple[Sequence[tuple[int, int]], PairMaps]]:
        """Predict pairs in batches. The first batch is one pair, to measure its memory."""
        start = 0
        with tqdm(total=len(pairs), desc="pairs", leave=False, disable=None) as bar:
            while start < len(pairs):
                size = max(1, self.network.batch_size() if start else 1)
                batch = pairs[start : start + size]
                first = [features[a] for a, _ in batch]
                second = [features[b] for _, b in batch]
                yield batch, self.network.predict(first, second, both)
                start += len(batch)
                bar.update(len(batch))

    # Alignment by bundle adjustment

    def _align_bundle(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        """Register frames by matches and depth of all pairs."""
        plan = trajectory.cameras
        evidence = self._collect_evidence(frames, trajectory)
        keypoints = evidence.keypoints
        canonical = evidence.canonical
        max_error = MAX_ERROR * plan.width
        log_depths = [canonical.sample(view, points, plan) for view, points in enumerate(keypoints)]
        matches, relative_poses = estimate_relative_poses(
            evidence.matches, keypoints, log_depths, plan, max_error
        )
        observations = build_tracks(keypoints, matches)
        log_depth = torch.full((len(observations),), torch.nan, dtype=torch.float64)
        for view in range(len(frames)):
            in_frame = observations.frame == view
            log_depth[in_frame] = canonical.sample(view, observations.pixel[in_frame], plan)
        observations = replace(observations, log_depth=log_depth)
        registered = register_frames(
            Correspondences(observations, matches, keypoints, relative_poses),
            trajectory,
            self.depth,
            RegistrationOptions(max_error, self.focal, self.plan_weight, DEPTH_SIGMA),
            self.min_registered,
            self.device,
        )
        matched = matched_keypoints(keypoints, matches)
        return self._build_reconstruction(frames, registered, canonical, matched)

    def _collect_evidence(self, frames: Frames, trajectory: Trajectory) -> _Evidence:
        """Predict all pairs, and keep matches and depth."""
        plan = trajectory.cameras
        features = self._encode(frames)
        planned = self.plan_weight > 0 and trajectory.hint == "planned"
        chosen = matching_pairs(
            trajectory, self.depth.typical, self.exhaustive_limit, self.loop_closures, planned
        )
        pairs = order_pairs([(a, b) for a, b in chosen.tolist()], len(frames))
        per_pair = int(ANCHORS_PER_FRAME * len(frames) / max(1, len(pairs)))
        max_anchors = min(max(per_pair, MIN_ANCHORS), MAX_ANCHORS)
        canonical = CanonicalDepth(len(frames))
        collector: MatchCollector | None = None
        for batch, maps in self._predict(features, pairs, both=not self.network.has_descriptors):
            if collector is None:
                collector = MatchCollector(len(frames), plan, maps, max_anchors)
            canonical.add([a for a, _ in batch], maps.points[..., 2], maps.confidence)
            collector.add(batch, maps)
        assert collector is not None
        keypoints = [torch.cat(parts) for parts in collector.keypoints]
        return _Evidence(canonical, keypoints, collector.matches)

    def _build_reconstruction(
        self,
        frames: Frames,
        registered: RegisteredFrames,
        canonical: CanonicalDepth,
        matched: Sequence[Float[Tensor, "_ 2"]],
    ) -> Reconstruction:
        """Scale the network's depth to the points and fill it with monocular depth."""
        plan = registered.cameras
        observations = registered.observations
        by_frame = observations.frame.argsort(stable=True).split(
            torch.bincount(observations.frame, minlength=len(frames)).tolist()
        )
        by_frame = [
            index if registered.registered[view] else index[:0]
            for view, index in enumerate(by_frame)
        ]
        scales = self._log_scales(registered, by_frame, canonical)
        depths = []
        confidences = []
        for view, index in enumerate(by_frame):
            confidence = canonical.normalized_confidence(view)
            confidence = resize_bilinear(confidence, plan.height, plan.width)
            log_depth = resize_log_depth(canonical.log_depth[view], plan.height, plan.width)
            depth = (log_depth + scales[view]).exp()
            if len(frames) > 1:
                pixels = observations.pixel[index].float()
                support = match_support(matched[view], pixels, plan.width, plan.height)
                confidence = confidence * support.to(confidence)
            depth, confidence = self._refine_depth(frames, view, depth, confidence)
            depths.append(depth)
            confidences.append(confidence * float(registered.registered[view]))
        depth = torch.stack(depths).to(frames.images.device)
        confidence = torch.stack(confidences).to(frames.images.device)
        cloud = merge_points(frames, plan, depth, confidence, self.max_points)
        return Reconstruction(plan, cloud, depth, confidence)

    def _refine_depth(
        self, frames: Frames, view: int, depth: Tensor, confidence: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Improve one frame's depth by the prior's depth or by monocular depth."""
        if frames.depth is not None:
            better = align_depth(
                frames.depth[view].to(depth),
                torch.where(confidence >= MIN_CONFIDENCE, depth, 0.0),
                self.tolerance,
                shift=False,
            )
            if better.success:
                return better.depth, torch.maximum(confidence, better.confidence)
        elif (
            self.monocular == "low_confidence"
            and self.estimator is not None
            and bool((confidence < MIN_CONFIDENCE).any())
        ):
            guess = self.depth if view == 0 else self.estimator(frames.images[view])
            estimate = torch.where(guess.valid, guess.depth, 0.0).to(depth)
            return fill_with_monocular(depth, confidence, estimate, self.tolerance)
        return depth, confidence

    def _log_scales(
        self,
        registered: RegisteredFrames,
        by_frame: Sequence[Tensor],
        canonical: CanonicalDepth,
    ) -> list[float]:
        """Return the log scale of each frame's depth.

        It follows from the frame's points. Without enough points, the input's scale follows from
        the input's depth, and other frames get the median scale.
        """
        observations = registered.observations
        axis = registered.cameras.world_to_camera[observations.frame, 2].double()
        z = (axis[:, :3] * registered.points[observations.point]).sum(-1) + axis[:, 3]
        ratio = z
        if observations.log_depth is not None:
            ratio = z.clamp(min=1e-6).log() - observations.log_depth
        scales = {
            view: float(ratio[index].median())
            for view, index in enumerate(by_frame)
            if len(index) >= MIN_FRAME_POINTS
        }
        if 0 not in scales:
            depth = torch.where(self.depth.valid, self.depth.depth, 0.0).cpu()
            log_depth = resize_log_depth(canonical.log_depth[0], *depth.shape).cpu()
            scales[0] = float((depth.log() - log_depth)[depth > 0].median())
        median = sorted(scales.values())[len(scales) // 2]
        return [scales.get(view, median) for view in range(len(by_frame))]

    # Global alignment

    def _align_globally(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        """Align a star of pairs by DUSt3R's global alignment."""
        features = self._encode(frames)
        star = [pair for view in range(1, len(frames)) for pair in ((0, view), (view, 0))]
        star = star or [(0, 0)]
        maps = (
            PairPointMaps.from_batch(a, b, batch_maps, k)
            for batch, batch_maps in self._predict(features, star, both=True)
            for k, (a, b) in enumerate(batch)
        )
        result = align_globally(maps, len(star), len(frames))
        return result.to_reconstruction(frames, trajectory, self.depth, self.max_points)
