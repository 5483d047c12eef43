"""Networks that look at many frames at once and say where all were taken and how far away everything is."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from lift.depths import DepthEstimator
from lift.geometry import rigid
from lift.io.image import resized
from lift.multiview.depth_alignment import CONFIDENT, merged, trusted
from lift.poses import PoseEstimator, check_fit, check_settings
from lift.poses.sfm.pointmaps import joined
from lift.types import Cameras, Depth, Frames, Reconstruction, Trajectory


@dataclass(frozen=True)
class Told:
    """Of some frames, in a world of their own: world_to_camera, intrinsics in pixels of the maps, z-depth, and confidence from 1 on."""

    world_to_camera: Float[Tensor, "frame 4 4"]
    intrinsics: Float[Tensor, "frame 3 3"]
    depth: Float[Tensor, "frame height width"]
    confidence: Float[Tensor, "frame height width"]


class FeedForward(PoseEstimator):
    """Asks a network for a window of frames at a time, the input always among them: its camera and its depth tie every window to the plan's world, so that
    memory does not grow with frames, and errors of one window do not reach the next.
    """

    patch = 14

    def __init__(
        self,
        size: int,
        window: int,
        tolerance: float,
        most_points: int,
        depth: Depth,
        estimator: DepthEstimator | None,
        device: torch.device,
    ) -> None:
        if size < 2 * self.patch:
            raise ValueError(f"pose.size is {size}; choose at least {2 * self.patch}")
        check_settings(window=window, tolerance=tolerance, most_points=most_points)
        self.size, self.window, self.tolerance, self.most_points = (
            size,
            window,
            tolerance,
            most_points,
        )
        self.depth, self.estimator, self.device = depth, estimator, device

    @abstractmethod
    def look(self, images: UInt8[Tensor, "frame height width 3"]) -> Told:
        """At pictures whose sides are multiples of `patch`; the first is the input."""

    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        plan = trajectory.cameras
        check_fit(frames, plan)
        scale = self.size / max(plan.height, plan.width)
        size = [
            max(self.patch, round(side * scale / self.patch) * self.patch)
            for side in (plan.height, plan.width)
        ]
        given = torch.where(self.depth.valid, self.depth.depth, 0.0).cpu()
        world, intrinsics = plan.world_to_camera.clone().cpu(), plan.intrinsics.clone().cpu()
        depths, trusts = (
            torch.zeros(len(plan), plan.height, plan.width),
            torch.zeros(len(plan), plan.height, plan.width),
        )
        stretch = torch.tensor([[plan.width / size[1]], [plan.height / size[0]], [1.0]])
        for start in tqdm(
            range(1, max(2, len(frames)), self.window - 1),
            desc="windows",
            leave=False,
            disable=None,
        ):
            views = [0, *range(start, min(len(frames), start + self.window - 1))]
            told = self.look(resized(frames.images[views].to(self.device), size[1], size[0]))
            depth, trust = self._enlarged(told, plan)
            factor = self._factor(given, depth[0], trust[0])
            relative = told.world_to_camera.cpu().double() @ torch.linalg.inv(
                told.world_to_camera[:1].cpu().double()
            )
            placed = (
                rigid(relative[:, :3, :3], factor * relative[:, :3, 3])
                @ plan.world_to_camera[:1].cpu().double()
            )
            new = views if start == 1 else views[1:]
            picked = slice(len(views) - len(new), None)
            world[new], intrinsics[new] = (
                placed[picked].to(world),
                (stretch * told.intrinsics.cpu())[picked].to(intrinsics),
            )
            depths[new], trusts[new] = factor * depth[picked], trust[picked]
        world[0], intrinsics[0] = (
            plan.world_to_camera[0].cpu(),
            plan.intrinsics[0].cpu(),
        )  # to the last bit
        for view in range(len(frames)):
            if (
                self.estimator is not None
                and frames.depth is None
                and bool((trusts[view] < CONFIDENT).any())
            ):
                guess = self.depth if view == 0 else self.estimator(frames.images[view])
                depths[view], trusts[view] = joined(
                    depths[view],
                    trusts[view],
                    torch.where(guess.valid, guess.depth, 0.0).cpu(),
                    self.tolerance,
                )
        cameras = Cameras(
            world.to(plan.world_to_camera), intrinsics.to(plan.intrinsics), plan.width, plan.height
        )
        depths, trusts = depths.to(frames.images.device), trusts.to(frames.images.device)
        return Reconstruction(
            cameras, merged(frames, cameras, depths, trusts, self.most_points), depths, trusts
        )

    @staticmethod
    def _enlarged(told: Told, plan: Cameras) -> tuple[Tensor, Tensor]:
        """Depth and trust at the frames' size."""
        size = (plan.height, plan.width)
        depth = interpolate(told.depth[:, None].float(), size, mode="nearest-exact")[:, 0].cpu()
        trust = interpolate(trusted(told.confidence)[:, None].float(), size, mode="bilinear")[
            :, 0
        ].cpu()
        return depth, trust * (depth > 0)

    @staticmethod
    def _factor(given: Tensor, depth: Tensor, trust: Tensor) -> float:
        """From the network's unit to the plan's, by the input's depth where the network is surest of it."""
        both = (given > 0) & (depth > 0)
        if not bool(both.any()):
            raise ValueError(
                "nothing is known of the input's depth, which says how long everything is; choose pose=planned"
            )
        surest = both & (trust >= trust[both].median())
        return float((given[surest] / depth[surest]).median())
