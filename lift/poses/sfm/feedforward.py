"""Networks that estimate cameras and depth of many frames in one forward pass."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from lift.depths import DepthEstimator
from lift.geometry import rigid
from lift.io.image import resize_images
from lift.io.sizing import round_to_multiple
from lift.multiview.depth_alignment import MIN_CONFIDENCE, merge_points, normalize_confidence
from lift.poses import PoseEstimator, check_frames
from lift.poses.sfm.monocular import fill_with_monocular
from lift.poses.sfm.padding import Padding
from lift.types import Cameras, Depth, Frames, Reconstruction, Trajectory


@dataclass(frozen=True)
class WindowPrediction:
    """What a network predicts of a window of frames, in a world of arbitrary pose and scale."""

    world_to_camera: Float[Tensor, "frame 4 4"]
    """Camera poses."""
    intrinsics: Float[Tensor, "frame 3 3"]
    """Intrinsics in pixels of the depth maps."""
    depth: Float[Tensor, "frame height width"]
    """z-depth."""
    confidence: Float[Tensor, "frame height width"]
    """Confidence, at least 1."""


@dataclass
class _Estimates:
    """Cameras, depth and confidence of all frames in the plan's world, filled window by window."""

    world_to_camera: Float[Tensor, "frame 4 4"]
    intrinsics: Float[Tensor, "frame 3 3"]
    depth: Float[Tensor, "frame height width"]
    confidence: Float[Tensor, "frame height width"]


class FeedForwardPoses(PoseEstimator):
    """Runs a network on one window of frames at a time.

    Every window contains the input. Its camera and its depth move the window to the plan's world.
    So memory does not grow with the frames, and errors of a window do not affect the next.

    Args:
        size: Longer side of the network's images in pixels, rounded to patches.
        window: Number of frames of a window, the input included.
        tolerance: Relative depth error at which the confidence is a half.
        max_points: Largest number of points of the cloud.
        depth: Depth of the input, which gives the scale.
        estimator: Depth estimator for pixels of low confidence; none if None.
        device: Device to compute on.
    """

    patch = 14
    """Side of a patch in pixels."""
    example_settings = None
    """A test needs weights."""

    def __init__(
        self,
        size: int,
        window: int,
        tolerance: float,
        max_points: int,
        depth: Depth,
        estimator: DepthEstimator | None,
        device: torch.device,
    ) -> None:
        self.size = size
        self.window = window
        self.tolerance = tolerance
        self.max_points = max_points
        self.depth = depth
        self.estimator = estimator
        self.device = device

    @abstractmethod
    def predict(self, images: UInt8[Tensor, "frame height width 3"]) -> WindowPrediction:
        """Predict cameras and depth of a window.

        Args:
            images: Images whose sides are multiples of `patch`, the input first.

        Returns:
            The prediction.
        """

    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        """Estimate cameras, depth and points. See `PoseEstimator`."""
        plan = trajectory.cameras
        check_frames(frames, plan)
        estimates = self._run_windows(frames, plan)
        self._fill_depth(frames, estimates)
        cameras = Cameras(
            estimates.world_to_camera.to(plan.world_to_camera),
            estimates.intrinsics.to(plan.intrinsics),
            plan.width,
            plan.height,
        )
        depth = estimates.depth.to(frames.images.device)
        confidence = estimates.confidence.to(frames.images.device)
        cloud = merge_points(frames, cameras, depth, confidence, self.max_points)
        return Reconstruction(cameras, cloud, depth, confidence)

    def _run_windows(self, frames: Frames, plan: Cameras) -> _Estimates:
        """Predict all windows and move them to the plan's world."""
        height, width = self._image_size(plan)
        input_depth = torch.where(self.depth.valid, self.depth.depth, 0.0).cpu()
        start_pose = plan.world_to_camera[:1].cpu().double()
        estimates = _Estimates(
            plan.world_to_camera.clone().cpu(),
            plan.intrinsics.clone().cpu(),
            torch.zeros(len(plan), plan.height, plan.width),
            torch.zeros(len(plan), plan.height, plan.width),
        )
        stretch = torch.tensor([[plan.width / width], [plan.height / height], [1.0]])
        starts = range(1, max(2, len(frames)), self.window - 1)
        for start in tqdm(starts, desc="windows", leave=False, disable=None):
            views = [0, *range(start, min(len(frames), start + self.window - 1))]
            images = resize_images(frames.images[views].to(self.device), width, height)
            prediction = self._predict_padded(images)
            depth, confidence = self._resize_depth(prediction, plan)
            scale = self._scale(input_depth, depth[0], confidence[0])
            world = prediction.world_to_camera.cpu().double()
            relative = world @ torch.linalg.inv(world[:1])
            poses = rigid(relative[:, :3, :3], scale * relative[:, :3, 3]) @ start_pose
            new = views if start == 1 else views[1:]
            part = slice(len(views) - len(new), None)
            intrinsics = stretch * prediction.intrinsics.cpu()
            estimates.world_to_camera[new] = poses[part].to(estimates.world_to_camera)
            estimates.intrinsics[new] = intrinsics[part].to(estimates.intrinsics)
            estimates.depth[new] = scale * depth[part]
            estimates.confidence[new] = confidence[part]
        # The input's camera is the plan's, bit for bit.
        estimates.world_to_camera[0] = plan.world_to_camera[0].cpu()
        estimates.intrinsics[0] = plan.intrinsics[0].cpu()
        return estimates

    def _predict_padded(self, images: UInt8[Tensor, "frame height width 3"]) -> WindowPrediction:
        """Predict a window with the network's padding, which is removed from the result."""
        height, width = images.shape[1:3]
        padding = self.padding(height, width).rounded(self.patch)
        prediction = self.predict(padding.apply(images, "white").contiguous())
        shift = torch.zeros_like(prediction.intrinsics)
        shift[:, 0, 2] = padding.columns
        shift[:, 1, 2] = padding.rows
        return WindowPrediction(
            prediction.world_to_camera,
            prediction.intrinsics - shift,
            padding.crop(prediction.depth),
            padding.crop(prediction.confidence),
        )

    def padding(self, height: int, width: int) -> Padding:
        """Return the padding of frames whose shape the network was not trained with.

        Args:
            height: Rows of a frame.
            width: Columns of a frame.
        """
        return Padding()

    def _fill_depth(self, frames: Frames, estimates: _Estimates) -> None:
        """Fill depth of low confidence with monocular depth."""
        if self.estimator is None or frames.depth is not None:
            return
        for view in range(len(frames)):
            if bool((estimates.confidence[view] < MIN_CONFIDENCE).any()):
                guess = self.depth if view == 0 else self.estimator(frames.images[view])
                estimates.depth[view], estimates.confidence[view] = fill_with_monocular(
                    estimates.depth[view],
                    estimates.confidence[view],
                    torch.where(guess.valid, guess.depth, 0.0).cpu(),
                    self.tolerance,
                )

    def _image_size(self, plan: Cameras) -> tuple[int, int]:
        """Return height and width of the network's images, multiples of `patch`."""
        padding = self.padding(plan.height, plan.width)
        scale = self.size / max(padding.size(plan.height, plan.width))
        return (
            round_to_multiple(plan.height * scale, self.patch),
            round_to_multiple(plan.width * scale, self.patch),
        )

    @staticmethod
    def _resize_depth(prediction: WindowPrediction, plan: Cameras) -> tuple[Tensor, Tensor]:
        """Resize depth and normalized confidence to the frames' size."""
        size = (plan.height, plan.width)
        depth = prediction.depth[:, None].float()
        depth = interpolate(depth, size, mode="nearest-exact")[:, 0].cpu()
        confidence = normalize_confidence(prediction.confidence)[:, None].float()
        confidence = interpolate(confidence, size, mode="bilinear")[:, 0].cpu()
        return depth, confidence * (depth > 0)

    @staticmethod
    def _scale(input_depth: Tensor, depth: Tensor, confidence: Tensor) -> float:
        """Return the plan's unit over the network's, by the input's most confident depth."""
        both = (input_depth > 0) & (depth > 0)
        if not bool(both.any()):
            raise ValueError(
                "nothing is known of the input's depth, which gives the scale; choose pose=planned"
            )
        confident = both & (confidence >= confidence[both].median())
        return float((input_depth[confident] / depth[confident]).median())
