"""Where the frames were really taken, by structure from motion."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lift.depths import DepthEstimator
from lift.geometry import rigid, transform_cameras
from lift.io.image import save_image
from lift.multiview.depth_alignment import FEWEST, merged, place_all
from lift.poses import PoseEstimator, check_fit, check_settings, poses, resolve_focal
from lift.poses.sfm.pairs import select
from lift.types import Cameras, Depth, Frames, Reconstruction, Trajectory


@dataclass(frozen=True)
class Model:
    """What structure from motion found, in a world of its own: world_to_camera of each frame that was placed, points, and which of
    them were seen in which frame, and where; the focal length of each frame.
    """

    poses: dict[int, Float[Tensor, "4 4"]]
    points: Float[Tensor, "point 3"]
    seen: dict[int, tuple[Float[Tensor, "seen 2"], list[int]]]
    focals: dict[int, float] = field(default_factory=dict)


@poses.register("colmap")
class Colmap(PoseEstimator):
    """Structure from motion with COLMAP (Schoenberger and Frahm, CVPR 2016): SIFT, matching, mapping, all on the CPU.

    Frames are matched where the plan has them overlap (`lift.poses.sfm.pairs`). The result is scaled to the plan by its camera positions (by the input's depth if those
    do not move), and moved so that the input's camera is the trajectory's start, exactly. A frame that COLMAP does not place keeps its
    planned camera and has confidence 0. Every frame's depth, estimated or the prior's, is aligned to the sparse points seen in it;
    confidence falls with the disagreement there (`lift.multiview.depth_alignment.place`).

    mapping: incremental (one frame after another), global (GLOMAP; Pan et al., ECCV 2024) or planned (points from the planned cameras, then all is
    adjusted); where one places too few, the others are tried in this order, with a warning. focal: the input's (fixed), one for all frames (shared), or auto: fixed where it was measured.
    exhaustive: up to so many frames all pairs that overlap are matched. features: at most so many a frame.
    least: share of the frames that must be placed. tolerance, most_points: as for `planned`.
    Raises ValueError if fewer frames, or not the input, can be placed.
    """

    licence = "BSD-3-Clause"
    requires = ("pycolmap",)
    extra = "sfm"

    def __init__(
        self,
        mapping: Literal["incremental", "global", "planned"] = "incremental",
        focal: Literal["auto", "fixed", "shared"] = "auto",
        exhaustive: int = 40,
        features: int = 4096,
        least: float = 0.5,
        tolerance: float = 0.05,
        most_points: int = 2_000_000,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        focal_known: bool = True,
    ) -> None:
        # Only after Pillow, which lift.io.image has loaded: pycolmap 4.2.1 brings a zlib of its own that breaks a Pillow loaded later.
        import pycolmap

        if not hasattr(pycolmap, "global_mapping"):
            raise ImportError(
                f"pose 'colmap' needs pycolmap 4, and {pycolmap.__version__} is installed: pip install 'lift[sfm]'"
            )
        check_settings(
            exhaustive=exhaustive,
            features=features,
            least=least,
            tolerance=tolerance,
            most_points=most_points,
        )
        self.mappings = [
            mapping,
            *(other for other in ("incremental", "global", "planned") if other != mapping),
        ]
        self.focal = resolve_focal(focal, focal_known)
        self.exhaustive = exhaustive
        self.features = features
        self.least = least
        self.tolerance = tolerance
        self.most_points = most_points
        self.depth = depth
        self.estimator = estimator

    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        plan = trajectory.cameras
        check_fit(frames, plan)
        if len(frames) < 2:
            raise ValueError(
                "pose 'colmap' places frames by one another, and there is one; choose pose=planned"
            )
        if frames.depth is None and self.estimator is None:
            raise ValueError(
                "pose 'colmap' needs a depth estimator: the prior does not know the depth of its frames"
            )
        with TemporaryDirectory() as folder, _quiet():
            model = self._solve(Path(folder), frames, trajectory)
        placed = len(model.poses)
        if placed < max(2, self.least * len(frames)):
            raise ValueError(
                f"COLMAP placed {placed} of {len(frames)} frames, fewer than pose.least={self.least:g} asks for, with {', '.join(self.mappings)} mapping: they "
                "have too little texture in common, or move too little; choose pose=planned"
            )
        if 0 not in model.poses:
            raise ValueError(
                f"COLMAP placed {placed} of {len(frames)} frames, but not the input, which ties the scene to the plan"
            )
        cameras, points = self._in_plan(model, plan)
        seen = [
            points[model.seen[view][1]] if view in model.seen else points[:0]
            for view in range(len(frames))
        ]
        placed_depths = place_all(frames, cameras, seen, self.depth, self.estimator, self.tolerance)
        depth, confidence = (
            torch.stack([getattr(one, name) for one in placed_depths])
            for name in ("depth", "confidence")
        )
        return Reconstruction(
            cameras, merged(frames, cameras, depth, confidence, self.most_points), depth, confidence
        )

    def _solve(self, folder: Path, frames: Frames, trajectory: Trajectory) -> Model:
        import pycolmap

        pycolmap.set_random_seed(0)
        names = [f"{view:06d}.png" for view in range(len(frames))]
        (folder / "frames").mkdir()
        for name, image in zip(names, frames.images, strict=True):
            save_image(folder / "frames" / name, image)
        database = folder / "database.db"
        extraction = pycolmap.FeatureExtractionOptions()
        extraction.use_gpu = False
        extraction.sift.max_num_features = self.features
        reader = pycolmap.ImageReaderOptions()
        reader.camera_model = "PINHOLE"
        mode = (
            pycolmap.CameraMode.SINGLE if self.focal == "shared" else pycolmap.CameraMode.PER_IMAGE
        )
        pycolmap.extract_features(database, folder / "frames", names, mode, reader, extraction)
        _set_lenses(database, dict(zip(names, trajectory.cameras.intrinsics, strict=True)))
        self._match(database, folder / "pairs.txt", names, trajectory)
        best = Model({}, torch.zeros(0, 3), {})
        for mapping in self.mappings:
            (folder / mapping).mkdir()
            models = self._map(
                mapping,
                database,
                folder,
                dict(zip(names, trajectory.cameras.world_to_camera, strict=True)),
            )
            with_input = [
                m
                for m in models
                if any(i.name == names[0] and i.has_pose for i in m.images.values())
            ]
            if models:
                found = _taken(max(with_input or models, key=lambda m: m.num_reg_images()), names)
                best = max(best, found, key=lambda m: (0 in m.poses, len(m.poses)))
            if 0 in best.poses and len(best.poses) >= max(2, self.least * len(names)):
                return best
            logging.getLogger(__name__).warning(
                "COLMAP's %s mapping placed %d of %d frames",
                mapping,
                len(found.poses) if models else 0,
                len(names),
            )
        return best

    def _match(self, database: Path, pairs: Path, names: list[str], trajectory: Trajectory) -> None:
        import pycolmap

        matching = pycolmap.FeatureMatchingOptions()
        matching.use_gpu = False
        verification = pycolmap.TwoViewGeometryOptions()
        verification.ransac.random_seed = 0
        verification.detect_watermark = (
            False  # nothing moves in frames that stand still; they are not overlays
        )
        lines = [
            f"{names[a]} {names[b]}"
            for a, b in select(trajectory, self.depth.typical, self.exhaustive).tolist()
        ]
        pairs.write_text("\n".join(lines) + "\n", encoding="utf-8")
        pairing = pycolmap.ImportedPairingOptions()
        pairing.match_list_path = str(pairs)
        pycolmap.match_image_pairs(database, matching, pairing, verification)

    def _map(
        self, mapping: str, database: Path, folder: Path, planned: dict[str, Float[Tensor, "4 4"]]
    ) -> list[Any]:
        import pycolmap

        free = self.focal == "shared"
        if mapping == "global":
            options = pycolmap.GlobalPipelineOptions()
            options.random_seed = 0
            adjustment = options.mapper.bundle_adjustment
            adjustment.refine_focal_length, adjustment.refine_extra_params = free, False
            return list(
                pycolmap.global_mapping(
                    database, folder / "frames", folder / mapping, options
                ).values()
            )
        options = pycolmap.IncrementalPipelineOptions()
        options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = 0
        options.ba_refine_focal_length, options.ba_refine_extra_params = free, False
        options.mapper.abs_pose_refine_focal_length = (
            options.mapper.abs_pose_refine_extra_params
        ) = False
        options.extract_colors = False
        options.min_model_size = 2
        # Generated motions are small beside those of photographers: less parallax has to do.
        options.mapper.init_min_tri_angle = 4.0
        options.mapper.filter_min_tri_angle = options.triangulation.min_angle = 0.5
        if mapping == "planned":
            model = _at(database, planned)
            for off in (
                8.0,
                1.0,
            ):  # the plan may be off; points from better cameras are more and better
                options.triangulation.create_max_angle_error = (
                    options.triangulation.continue_max_angle_error
                ) = 2.0 * off
                options.triangulation.merge_max_reproj_error = (
                    options.triangulation.complete_max_reproj_error
                ) = 4.0 * off
                options.mapper.filter_max_reproj_error = 4.0 * off
                model = pycolmap.triangulate_points(
                    model, database, folder / "frames", folder / mapping, options=options
                )
                if not model.num_points3D():
                    return []
                adjustment = pycolmap.BundleAdjustmentOptions()
                (
                    adjustment.refine_focal_length,
                    adjustment.refine_extra_params,
                    adjustment.print_summary,
                ) = free, False, False
                pycolmap.bundle_adjustment(model, adjustment)
            return [model]
        return list(
            pycolmap.incremental_mapping(
                database, folder / "frames", folder / mapping, options
            ).values()
        )

    def _in_plan(self, model: Model, plan: Cameras) -> tuple[Cameras, Float[Tensor, "point 3"]]:
        """Cameras and points in the plan's world and scale."""
        views = sorted(model.poses)
        matrices = torch.stack([model.poses[view] for view in views])
        found = Cameras(matrices, plan.intrinsics[views].double(), plan.width, plan.height)
        start = plan.world_to_camera[0].double()
        scale = self._scale(found, plan[views].to(torch.float64).centers, model)
        # x -> start^-1 (scale R0 x + scale t0): camera 0 comes to lie on the start, whatever was fitted
        rotation, moved = matrices[0, :3, :3], scale * matrices[0, :3, 3]
        back = torch.linalg.inv(start)
        rotation, moved = back[:3, :3] @ rotation, back[:3, :3] @ moved + back[:3, 3]
        world = plan.world_to_camera.clone()
        world[views] = transform_cameras(found, scale, rotation, moved).world_to_camera.to(world)
        world[0] = plan.world_to_camera[0]  # to the last bit
        points = scale * model.points.double() @ rotation.T + moved
        lenses = plan.intrinsics.clone()
        if self.focal == "shared":  # also that of a frame that was not placed
            lenses[:, [0, 1], [0, 1]] *= model.focals[0] / float(plan.intrinsics[0, 0, 0])
        return Cameras(world, lenses, plan.width, plan.height), points.to(world)

    def _scale(self, found: Cameras, wanted: Float[Tensor, "view 3"], model: Model) -> float:
        """The plan's unit over the model's: by the input's depth, as its unit is that of the scene; else as far as the plan goes."""
        pixels, indices = model.seen[0]
        local = model.points[indices].double() @ model.poses[0][2, :3] + model.poses[0][2, 3]
        column, row = pixels.long().unbind(-1)
        known = torch.where(self.depth.valid, self.depth.depth, 0.0)[row, column].double()
        good = (known > 0) & (local > 0)
        if int(good.sum()) >= FEWEST:
            return float((known / local)[good].median())
        lengths = [(centers - centers[0]).norm(dim=-1) for centers in (found.centers, wanted)]
        if not (float(lengths[1].max()) > 0 and float(lengths[0].max()) > 0):
            raise ValueError(
                f"the plan does not move, or nothing did, and only {int(good.sum())} points of the input have a depth: the scale is open"
            )
        return float((lengths[0] * lengths[1]).sum() / (lengths[0] ** 2).sum())


def _at(database: Path, planned: dict[str, Float[Tensor, "4 4"]]) -> Any:
    """A model of the frames where they were planned to be, without points."""
    import pycolmap

    model = pycolmap.Reconstruction()
    with pycolmap.Database.open(str(database)) as opened:
        for camera in opened.read_all_cameras():
            model.add_camera_with_trivial_rig(camera)
        for image in opened.read_all_images():
            pose = planned[image.name].double().cpu().numpy()
            model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose[:3]))
    return model


def _set_lenses(database: Path, lenses: dict[str, Tensor]) -> None:
    import pycolmap

    with pycolmap.Database.open(str(database)) as opened:
        for image in opened.read_all_images():
            lens = lenses[image.name]
            camera = opened.read_camera(image.camera_id)
            camera.params = np.array(
                [lens[0, 0], lens[1, 1], lens[0, 2], lens[1, 2]], dtype=np.float64
            )
            camera.has_prior_focal_length = True
            opened.update_camera(camera)


def _taken(model: Any, names: list[str]) -> Model:
    numbers = {number: index for index, number in enumerate(sorted(model.points3D))}
    points = torch.from_numpy(
        np.array([model.points3D[number].xyz for number in numbers]).reshape(-1, 3)
    )
    found, seen, focals = {}, {}, {}
    for image in model.images.values():
        if image.has_pose:
            view = names.index(image.name)
            pose = torch.from_numpy(image.cam_from_world().matrix().copy())
            found[view] = rigid(pose[:, :3], pose[:, 3])
            focals[view] = float(image.camera.params[0])
            tracked = [
                point
                for point in image.points2D
                if point.has_point3D() and point.point3D_id in numbers
            ]
            pixels = torch.from_numpy(np.array([point.xy for point in tracked]).reshape(-1, 2))
            seen[view] = (pixels, [numbers[point.point3D_id] for point in tracked])
    return Model(found, points, seen, focals)


@contextmanager
def _quiet() -> Iterator[None]:
    """COLMAP reports every step on standard error; what goes wrong shows in the result."""
    import pycolmap

    level = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = pycolmap.logging.FATAL.value
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = level
