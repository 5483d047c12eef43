"""Structure from motion with COLMAP."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from jaxtyping import Float
from torch import Tensor

from lift.depths import DepthEstimator
from lift.geometry import transform_cameras
from lift.multiview.depth_alignment import MIN_PIXELS, align_depths, merge_points
from lift.poses import (
    PoseEstimator,
    check_frames,
    poses,
    require_estimator,
    resolve_focal,
)
from lift.poses.sfm.colmap_runner import ColmapModel, ColmapRunner, quiet_colmap
from lift.poses.sfm.pairs import planned_pairs
from lift.registry.ranges import Count, Fraction, PointCount, Tolerance
from lift.types import Cameras, Depth, Frames, Reconstruction, Trajectory


@poses.register("colmap")
class Colmap(PoseEstimator):
    """Run COLMAP: SIFT, matching and mapping, all on the CPU.

    Frames are matched where their planned views overlap (`lift.poses.sfm.pairs`). The input's depth
    gives the scale; without it, the planned camera positions. The input's pose is that of the
    trajectory's start. A frame that COLMAP does not register keeps its planned camera and has
    confidence 0. The depth of every frame is aligned to its points, and the confidence falls with
    the disagreement (`lift.multiview.depth_alignment`).

    Reference:
        Schoenberger and Frahm, "Structure-from-motion revisited", CVPR 2016.
        Pan et al., "Global structure-from-motion revisited", ECCV 2024.

    Args:
        mapping: `incremental` (one frame after another), `global` (GLOMAP) or `planned` (points
            from the planned cameras, then all is adjusted). If too few frames are registered, the
            others are tried in this order, with a warning.
        focal: Focal length: the input's (`fixed`), one unknown (`shared`), or `auto`: fixed if it
            is measured, else shared.
        exhaustive_limit: Number of frames up to which all pairs with planned overlap are matched.
        max_features: Largest number of SIFT features per frame.
        min_registered: Smallest fraction of frames that must be registered.
        tolerance: Relative depth error at which the confidence is a half.
        max_points: Largest number of points of the merged cloud.
        depth: Depth of the input picture, which gives the scale.
        estimator: Estimator of the depth of frames. None: the frames must have depth.
        focal_known: Whether the focal length is measured (EXIF, calibration or given cameras).

    Raises:
        ValueError: If too few frames, or not the input, can be registered.
    """

    licence = "BSD-3-Clause"
    requires = ("pycolmap",)
    extra = "sfm"
    example_settings = None
    """A test needs pictures of a scene with texture."""

    def __init__(
        self,
        mapping: Literal["incremental", "global", "planned"] = "incremental",
        focal: Literal["auto", "fixed", "shared"] = "auto",
        exhaustive_limit: Count = 40,
        max_features: Annotated[int, Interval(ge=64, le=1_000_000)] = 4096,
        min_registered: Fraction = 0.5,
        tolerance: Tolerance = 0.05,
        max_points: PointCount = 2_000_000,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        focal_known: bool = True,
    ) -> None:
        # Only after Pillow, which lift.io.image imports: pycolmap 4.2.1 has its own zlib, which
        # breaks a Pillow that is imported later.
        import pycolmap

        if not hasattr(pycolmap, "global_mapping"):
            raise ImportError(
                f"pose 'colmap' needs pycolmap 4, and {pycolmap.__version__} is installed: "
                "pip install 'lift[sfm]'"
            )
        others = (other for other in ("incremental", "global", "planned") if other != mapping)
        self.mappings = [mapping, *others]
        self.focal = resolve_focal(focal, focal_known)
        self.exhaustive_limit = exhaustive_limit
        self.max_features = max_features
        self.min_registered = min_registered
        self.tolerance = tolerance
        self.max_points = max_points
        self.depth = depth
        self.estimator = estimator

    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        """Estimate cameras, depth and points. See `PoseEstimator`."""
        plan = trajectory.cameras
        check_frames(frames, plan)
        if len(frames) < 2:
            raise ValueError(
                "pose 'colmap' needs two frames or more, and there is one; choose pose=planned"
            )
        if frames.depth is None:
            require_estimator("colmap", self.estimator)
        model = self._reconstruct(frames, trajectory)
        cameras, points = self._move_to_plan(model, plan)
        visible = [
            points[model.observations[view][1]] if view in model.observations else points[:0]
            for view in range(len(frames))
        ]
        aligned = align_depths(frames, cameras, visible, self.depth, self.estimator, self.tolerance)
        depth = torch.stack([frame.depth for frame in aligned])
        confidence = torch.stack([frame.confidence for frame in aligned])
        cloud = merge_points(frames, cameras, depth, confidence, self.max_points)
        return Reconstruction(cameras, cloud, depth, confidence)

    def _reconstruct(self, frames: Frames, trajectory: Trajectory) -> ColmapModel:
        """Run COLMAP; raise ValueError if too few frames are registered."""
        pairs = planned_pairs(trajectory, self.depth.typical, self.exhaustive_limit)
        with TemporaryDirectory() as folder, quiet_colmap():
            runner = ColmapRunner(
                Path(folder),
                self.mappings,
                self.focal == "shared",
                self.max_features,
                self.min_registered,
            )
            model = runner.run(frames, trajectory, pairs.tolist())
        count = len(model.poses)
        if count < max(2, self.min_registered * len(frames)):
            raise ValueError(
                f"COLMAP registered {count} of {len(frames)} frames, fewer than "
                f"pose.min_registered={self.min_registered:g} asks for, with "
                f"{', '.join(self.mappings)} mapping: they have too little texture in common, "
                "or move too little; choose pose=planned"
            )
        if 0 not in model.poses:
            raise ValueError(
                f"COLMAP registered {count} of {len(frames)} frames, but not the input, "
                "which ties the scene to the plan"
            )
        return model

    def _move_to_plan(
        self, model: ColmapModel, plan: Cameras
    ) -> tuple[Cameras, Float[Tensor, "point 3"]]:
        """Scale and move cameras and points so that the input's camera is the plan's.

        With x in COLMAP's world, the new world is start^-1 (scale R0 x + scale t0).
        """
        views = sorted(model.poses)
        matrices = torch.stack([model.poses[view] for view in views])
        estimated = Cameras(matrices, plan.intrinsics[views].double(), plan.width, plan.height)
        start = plan.world_to_camera[0].double()
        scale = self._scale_to_plan(estimated, plan[views].to(torch.float64).centers, model)
        back = torch.linalg.inv(start)
        rotation = back[:3, :3] @ matrices[0, :3, :3]
        translation = back[:3, :3] @ (scale * matrices[0, :3, 3]) + back[:3, 3]
        world = plan.world_to_camera.clone()
        moved = transform_cameras(estimated, scale, rotation, translation)
        world[views] = moved.world_to_camera.to(world)
        world[0] = plan.world_to_camera[0]  # bit for bit
        points = scale * model.points.double() @ rotation.T + translation
        intrinsics = plan.intrinsics.clone()
        if self.focal == "shared":  # Also of frames that are not registered.
            intrinsics[:, [0, 1], [0, 1]] *= model.focals[0] / float(plan.intrinsics[0, 0, 0])
        return Cameras(world, intrinsics, plan.width, plan.height), points.to(world)

    def _scale_to_plan(
        self, estimated: Cameras, planned: Float[Tensor, "view 3"], model: ColmapModel
    ) -> float:
        """Return the scale by the input's depth, else by the distances between planned cameras."""
        pixels, indices = model.observations[0]
        local = model.points[indices].double() @ model.poses[0][2, :3] + model.poses[0][2, 3]
        column, row = pixels.long().unbind(-1)
        depth = torch.where(self.depth.valid, self.depth.depth, 0.0)[row, column].double()
        good = (depth > 0) & (local > 0)
        if int(good.sum()) >= MIN_PIXELS:
            return float((depth / local)[good].median())
        lengths = [(centers - centers[0]).norm(dim=-1) for centers in (estimated.centers, planned)]
        if not (float(lengths[1].max()) > 0 and float(lengths[0].max()) > 0):
            raise ValueError(
                "the plan does not move, or nothing did, and only "
                f"{int(good.sum())} points of the input have a depth: the scale is open"
            )
        return float((lengths[0] * lengths[1]).sum() / (lengths[0] ** 2).sum())
