"""A video generator whose errors are known: a built-in scene, corrupted on purpose."""

from typing import Annotated, Literal

import torch
from annotated_types import Interval

from lift.camera_paths import scale_motion
from lift.priors import VideoPrior, priors
from lift.registry.ranges import Factor
from lift.runtime.parallel import parallel_map
from lift.synthetic.corruptions import BLUR, FrameCorruption, blur_picture, relative_motion
from lift.synthetic.scenes import SCENES, render
from lift.types import Cameras, Clip, Frames


@priors.register("synthetic")
class Synthetic(VideoPrior):
    """A ray-cast scene, corrupted as by video diffusion. Severity 0 is exact.

    It starts with the scene's own view: `image=room prior=synthetic`. The picture warps smoothly,
    texture moves, false texture appears, and sharpness fades. Brightness, white balance and
    saturation change, and the camera leaves the planned path. Corruptions grow with the motion away
    from the input. A clip continues those of the frame that it continues.

    Args:
        scene: `room`, `terrace`, `thin` or `plain`. Default: what `image` names.
        severity: Factor on all corruptions, 0 or more. At 1 and a rotation of 16 degrees they are
            those of the median generator (docs/generator-errors.md).
        geometry: Factor on the smooth warp, 0 or more.
        texture: Factor on moving and false texture, 0 or more.
        color: Factor on changes of colour, 0 or more.
        blur: Factor on the blur, 0 or more.
        camera: Factor on errors of the camera, 0 or more.
        motion_scale: Fraction of the planned motion that the camera makes, from the input on. Below
            1 it is a generator that moves less than it is asked to. `severity` has no effect on it.
        image: The run's setting `image`, the name of a ray-cast scene.
    """

    context = "ancestors"
    exact_depth = True
    origin = "lift rendered these frames from a built-in scene and corrupted them on purpose."

    def __init__(
        self,
        scene: Literal["room", "terrace", "thin", "plain"] | None = None,
        severity: Factor = 1.0,
        geometry: Factor = 1.0,
        texture: Factor = 1.0,
        color: Factor = 1.0,
        blur: Factor = 1.0,
        camera: Factor = 1.0,
        motion_scale: Annotated[float, Interval(gt=0, le=1)] = 1.0,
        *,
        image: str,
    ) -> None:
        self.scene = image if scene is None else scene
        if self.scene not in SCENES:
            raise ValueError(
                f"image is {image}; prior synthetic renders its own scene; "
                f"start it with image={' or image='.join(SCENES)}"
            )
        factors = {
            "geometry": geometry,
            "texture": texture,
            "color": color,
            "blur": blur,
            "camera": camera,
        }
        self.factors = {kind: severity * factor for kind, factor in factors.items()}
        self.motion_scale = motion_scale
        self.multiview_consistent = motion_scale == 1 and not any(self.factors.values())
        self._input_view: tuple[Cameras, Frames] | None = None

    def render_truth(self, cameras: Cameras) -> Frames:
        """Render the scene without corruptions.

        Args:
            cameras: Cameras in the scene's world.

        Returns:
            One frame a camera, with exact depth.
        """
        return render(self.scene, cameras)

    def __call__(self, frames: Frames, cameras: Cameras, clip: Clip, seed: int) -> Frames:
        """Render the new frames of a clip with corruptions, as `VideoPrior` says.

        Each frame index has corruptions of its own. A clip interpolates from those of its source to
        those of its last frame. They are scaled by the motion away from the input. So a clip
        continues a last frame without a jump, and the result does not depend on earlier calls.

        Args:
            frames: Frames so far. The first is the scene's own view.
            cameras: Their cameras, as planned.
            clip: The clip to generate.
            seed: Seed of the corruptions.

        Returns:
            One frame a camera of `clip`. Their depth is corrupted like their pictures.

        Raises:
            ValueError: If the first frame is not the scene's own view.
        """
        start = self._render_input(cameras[0])
        if (
            start.images.shape != frames.images[:1].shape
            or float((start.rgb - frames.rgb[:1].cpu()).abs().mean()) > 0.01
        ):
            raise ValueError(
                "prior synthetic renders its own scene; "
                f"start it with image={self.scene}, not with another picture"
            )
        if not any(self.factors.values()):
            return self.render_truth(self._shown_cameras(cameras[0], clip))
        typical = _median_depth(start)
        return Frames.cat(
            parallel_map(
                lambda view: self._render_corrupted(*view, typical),
                self.corruptions(cameras[0], len(frames), clip, seed, typical),
            )
        )

    def true_cameras(self, start: Cameras, context_length: int, clip: Clip, seed: int) -> Cameras:
        """Return the cameras that the frames of a clip really show, as `VideoPrior` says.

        Args:
            start: The input's camera.
            context_length: Number of frames that the prior was called with.
            clip: The clip, as in the call.
            seed: The seed, as in the call.

        Returns:
            One camera a new frame.
        """
        typical = _median_depth(self._render_input(start))
        views = self.corruptions(start, context_length, clip, seed, typical)
        return Cameras.cat(
            [
                corruption.perturb_camera(camera, severities["camera"], typical)
                for camera, corruption, severities in views
            ]
        )

    def corruptions(
        self, start: Cameras, context_length: int, clip: Clip, seed: int, typical: float
    ) -> list[tuple[Cameras, FrameCorruption, dict[str, float]]]:
        """Draw the corruptions of a clip's frames.

        Args:
            start: The input's camera.
            context_length: Number of frames that the prior was called with.
            clip: The clip.
            seed: Seed of the corruptions.
            typical: Typical depth of the scene.

        Returns:
            For each frame: its camera without error, its corruption, and the severity of each kind.
        """
        cameras = self._shown_cameras(start, clip)
        count = len(clip.cameras)
        source = FrameCorruption.sample(clip.source, seed)
        last = FrameCorruption.sample(context_length + count - 1, seed)
        views = []
        for index in range(count):
            camera = cameras[index]
            distance = relative_motion(start, camera, typical)
            severities = {kind: distance * factor for kind, factor in self.factors.items()}
            views.append((camera, source.interpolate(last, (index + 1) / count), severities))
        return views

    def _shown_cameras(self, start: Cameras, clip: Clip) -> Cameras:
        """Return the planned cameras of a clip, or those of a smaller motion."""
        if self.motion_scale == 1:
            return clip.cameras
        return scale_motion(start, clip.cameras, self.motion_scale)

    def _render_input(self, camera: Cameras) -> Frames:
        """Render the scene's own view, once for a camera."""
        if self._input_view is not None:
            rendered, frames = self._input_view
            same_size = (rendered.width, rendered.height) == (camera.width, camera.height)
            if same_size and all(
                map(torch.equal, rendered.tensors().values(), camera.tensors().values())
            ):
                return frames
        frames = self.render_truth(camera)
        self._input_view = (camera, frames)
        return frames

    def _render_corrupted(
        self,
        camera: Cameras,
        corruption: FrameCorruption,
        severities: dict[str, float],
        typical: float,
    ) -> Frames:
        truth = self.render_truth(corruption.perturb_camera(camera, severities["camera"], typical))
        assert truth.depth is not None
        rgb, depth = corruption.warp(
            truth.rgb[0], truth.depth[0], severities["geometry"], severities["texture"]
        )
        rgb = corruption.add_false_texture(rgb, severities["texture"])
        rgb = blur_picture(rgb, BLUR * severities["blur"] * camera.width)
        rgb = corruption.shift_color(rgb, severities["color"])
        return Frames((255 * rgb.clamp(0, 1)).round().to(torch.uint8)[None], depth[None])


def _median_depth(frames: Frames) -> float:
    assert frames.depth is not None
    return float(frames.depth.median())
