"""Structure from motion with keypoints and `lift`'s own mapping."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from jaxtyping import Float, Int
from torch import Tensor

from lift.depths import DepthEstimator
from lift.poses import (
    PoseEstimator,
    check_frames,
    poses,
    require_estimator,
    resolve_focal,
)
from lift.poses.sfm.alignment import Correspondences, RegisteredFrames, RegistrationOptions
from lift.poses.sfm.bundle import Focal
from lift.poses.sfm.features import (
    MAX_PAIR_VALUES,
    Keypoints,
    MatchResult,
    XFeatFeatures,
    create_features,
    create_lighterglue,
)
from lift.poses.sfm.pairs import matching_pairs
from lift.poses.sfm.reconstruction import build_reconstruction, match_support, register_frames
from lift.poses.sfm.subpixel import refine_observations
from lift.poses.sfm.tracks import Matches, build_tracks
from lift.poses.sfm.verification import verify_matches
from lift.registry.ranges import Count, Fraction, PointCount, Tolerance, Weight
from lift.runtime.parallel import parallel_map
from lift.types import Depth, Frames, Reconstruction, Trajectory

MIN_KNOWN_CONFIDENCE = 0.02
"""Smallest confidence of depth in a frame with a measured camera."""
MAX_ERROR = 4 / 640
"""Reprojection error of a correct observation, as a fraction of the width."""


@poses.register("matching")
class Matching(PoseEstimator):
    """Match keypoints, verify the matches and map with `lift`'s own mapper.

    Keypoints are matched along the planned tree and between branches. Matches are verified by their
    epipolar geometry (poselib). The input's depth gives the scale. The depth of every frame is
    aligned to its points.

    A frame that cannot be registered keeps its planned pose relative to the frame it continues. It
    has confidence 0. Regions that no other frame shows also have a low confidence.

    Args:
        features: Keypoints: `xfeat` (extra `match`), `sift`, or `auto` for XFeat if installed.
        matcher: `mutual` nearest neighbours, or `lighterglue`, which needs XFeat and takes seconds
            per pair on a CPU.
        max_keypoints: Largest number of keypoints per frame.
        exhaustive_limit: Number of frames up to which all pairs with planned overlap are matched.
        loop_closures: Number of other branches with which a frame is matched beyond that limit.
        focal: Focal length: the input's (`fixed`), one unknown (`shared`), one unknown per frame
            (`per_frame`), or `auto`: fixed if it is measured (EXIF, given cameras), else shared.
        plan_weight: Weight of the plan. At 1 its standard deviation is 2 degrees and 5 % of the
            typical depth. At 0 it is ignored, and up to `exhaustive_limit` all pairs are matched.
        min_registered: Smallest fraction of frames that must be registered.
        tolerance: Relative depth error at which the confidence is a half.
        max_points: Largest number of points of the merged cloud.
        depth: Depth of the input picture, which gives the scale.
        estimator: Estimator of the depth of frames. None: the frames must have depth.
        focal_known: Whether the focal length is measured (EXIF, calibration or given cameras).
        device: Device to compute on.
    """

    licence = "Apache-2.0"

    def __init__(
        self,
        features: Literal["auto", "xfeat", "sift"] = "auto",
        matcher: Literal["mutual", "lighterglue"] = "mutual",
        max_keypoints: Annotated[int, Interval(ge=64, le=1_000_000)] = 2048,
        exhaustive_limit: Count = 40,
        loop_closures: Count = 6,
        focal: Literal["auto", "fixed", "shared", "per_frame"] = "auto",
        plan_weight: Weight = 1.0,
        min_registered: Fraction = 0.5,
        tolerance: Tolerance = 0.05,
        max_points: PointCount = 2_000_000,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        focal_known: bool = True,
        device: torch.device,
    ) -> None:
        self.features = create_features(features, max_keypoints, device)
        if matcher == "lighterglue" and not isinstance(self.features, XFeatFeatures):
            raise ValueError(
                "pose.matcher is lighterglue, which only knows xfeat; "
                "choose pose.features=xfeat or pose.matcher=mutual"
            )
        glue = matcher == "lighterglue"
        self.match = create_lighterglue(device) if glue else self.features.match
        self.matcher = matcher
        self.exhaustive_limit = exhaustive_limit
        self.loop_closures = loop_closures
        self.focal: Focal = resolve_focal(focal, focal_known)
        self.plan_weight = plan_weight
        self.min_registered = min_registered
        self.tolerance = tolerance
        self.max_points = max_points
        self.depth = depth
        self.estimator = estimator
        self.device = device

    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        """Estimate cameras, depth and points. See `PoseEstimator`."""
        plan = trajectory.cameras
        check_frames(frames, plan)
        if frames.depth is None:
            require_estimator("matching", self.estimator)
        features = self.features.find_all(frames.images)
        keypoints = [points.cpu() for points, _ in features]
        matches = self._verified_matches(features, keypoints, trajectory)
        observations = refine_observations(build_tracks(keypoints, matches), frames.images)
        registered = register_frames(
            Correspondences(observations, matches, keypoints),
            trajectory,
            self.depth,
            RegistrationOptions(MAX_ERROR * plan.width, self.focal, self.plan_weight),
            self.min_registered,
            self.device,
        )
        result = build_reconstruction(
            frames,
            registered,
            self.depth,
            self.estimator,
            self.tolerance,
            self.max_points,
            _supports(keypoints, registered),
        )
        if trajectory.hint != "known":
            return result
        # A measured camera is used, however few points its frame shows.
        min_confidence = MIN_KNOWN_CONFIDENCE * (result.depth > 0)
        confidence = torch.maximum(result.confidence, min_confidence.to(result.confidence))
        return replace(result, confidence=confidence)

    def _verified_matches(
        self,
        features: Sequence[Keypoints],
        keypoints: Sequence[Float[Tensor, "_ 2"]],
        trajectory: Trajectory,
    ) -> list[Matches]:
        """Match and verify all chosen pairs."""
        max_error = MAX_ERROR * trajectory.cameras.width / 3
        use_plan = trajectory.hint == "planned" and self.plan_weight > 0
        pairs = matching_pairs(
            trajectory,
            self.depth.typical,
            self.exhaustive_limit,
            self.loop_closures,
            use_plan or trajectory.hint == "known",
        )

        def verify(item: tuple[list[int], Callable[[], MatchResult]]) -> Matches | None:
            (first, second), matches = item
            return verify_matches(Matches(first, second, *matches()), keypoints, max_error)

        # Threads verify the matches of one pair while those of the next are found.
        items = zip(pairs.tolist(), self._match_pairs(features, pairs), strict=True)
        return [matches for matches in parallel_map(verify, items) if matches]

    def _match_pairs(
        self, features: Sequence[Keypoints], pairs: Int[Tensor, "pair 2"]
    ) -> Iterator[Callable[[], MatchResult]]:
        """Yield for each pair a function that returns its matches on the CPU."""

        def match(pair: Sequence[int]) -> MatchResult:
            index, score = self.match(*(features[frame] for frame in pair))
            return index.cpu(), score.cpu()

        largest = max(len(points) for points, _ in features) ** 2
        if self.matcher == "mutual" and self.device.type == "cuda":
            for result in self.features.match_pairs(features, pairs):
                yield partial(_identity, result)
        elif self.matcher == "mutual" and largest * torch.get_num_threads() <= MAX_PAIR_VALUES:
            for pair in pairs.tolist():
                yield partial(match, pair)  # called in the thread that verifies
        else:  # one pair at a time: a network uses all cores, and many keypoints much memory
            for pair in pairs.tolist():
                yield partial(_identity, match(pair))


def _identity(value: MatchResult) -> MatchResult:
    return value


def _supports(
    keypoints: Sequence[Float[Tensor, "_ 2"]], registered: RegisteredFrames
) -> list[Float[Tensor, "height width"]]:
    """Return the support of each frame by others; 1 for a single frame."""
    cameras = registered.cameras
    if len(keypoints) == 1:
        return [torch.ones(cameras.height, cameras.width)]
    observations = registered.observations

    def support(view: int, points: Float[Tensor, "_ 2"]) -> Float[Tensor, "height width"]:
        inliers = observations.pixel[observations.frame == view].float()
        return match_support(points, inliers, cameras.width, cameras.height)

    return parallel_map(lambda item: support(*item), enumerate(keypoints))
