"""The tab of the frames: thumbnails, cameras, and what the distortion of a frame does."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lift.errors import format_error
from lift.geometry import rotation_to_quat
from lift.outputs.viewer.html import comparison, gallery, jpeg_url, note, picture
from lift.outputs.viewer.poses import pose_of
from lift.outputs.viewer.splats import color_by, quantiles
from lift.types import Cameras

if TYPE_CHECKING:
    from lift.outputs.viewer.panel import Panel

THUMBNAIL = 120
"""Width of a thumbnail in pixels."""

MAX_THUMBNAILS = 240
"""Largest number of frames with thumbnails. Of more frames, an even subset has some."""

FRUSTUM = 0.05
"""Size of the drawn cameras as a fraction of the typical depth."""

_COLORS = ((217, 98, 43), (47, 111, 222))
"""Colours of the input's camera and of the others."""

FRAME_AND_SCENE = "frame | scene"
FRAME_AND_DISTORTED = "frame | scene with its distortion"
BEFORE_AND_AFTER = "scene | scene with the distortion"

COMPARISONS = (FRAME_AND_SCENE, FRAME_AND_DISTORTED, BEFORE_AND_AFTER)
"""Pairs of pictures that can be compared."""


class FramesTab:
    """Thumbnails of the frames; pictures and overlays of the chosen one.

    Without a finished run that keeps its frames, there are only the cameras.

    Args:
        panel: The controls of the browser. Controls are added to its open container.
    """

    def __init__(self, panel: "Panel") -> None:
        self._panel = panel
        self._content = panel.viewer.content
        self._frame = 0
        self._newest = 0
        self._renders: dict[tuple[int, bool], np.ndarray] = {}
        gui = panel.client.gui
        cameras = self._content.cameras
        assert cameras is not None, "there is a tab for cameras only"
        self._cameras: Cameras = cameras
        self._add_frustums(gui)
        if not self._content.has_frames:
            gui.add_html(note(_explain_no_frames(self._content.run)))
            return
        self._images = self._content.run.frames.images.numpy()
        self._add_gallery(gui)
        self._choice = gui.add_dropdown("Compare", COMPARISONS, initial_value=FRAME_AND_SCENE)
        self._pictures = gui.add_html(note("Click a frame to see it beside the scene."))
        self._choice.on_update(lambda _: self._show())

    def _add_gallery(self, gui: Any) -> None:
        """Add a thumbnail for each frame. viser's own pictures cannot be clicked."""
        count = len(self._images)
        numbers = range(count)
        if count > MAX_THUMBNAILS:
            numbers = [round(n) for n in np.linspace(0, count - 1, MAX_THUMBNAILS)]
        names = _frame_names(self._content.run)
        buttons = []
        for number in numbers:
            button = gui.add_button(f"frame {number}")
            button.on_click(lambda _, number=number: self.choose(number))
            buttons.append(button._impl.uuid)
        pictures = [jpeg_url(self._images[number], THUMBNAIL) for number in numbers]
        gui.add_html(gallery(buttons, pictures, [names[number] for number in numbers]))

    def _add_frustums(self, gui: Any) -> None:
        """Add the cameras of the frames, which a checkbox shows and hides."""
        self._frustums: list[Any] = []
        checkbox = gui.add_checkbox(
            "Show the cameras in the scene", False, hint="Click a camera to go there"
        )

        @checkbox.on_update
        def _(_: Any) -> None:
            if not self._frustums and checkbox.value:
                self._draw_frustums()
            for frustum in self._frustums:
                frustum.visible = checkbox.value

    def _draw_frustums(self) -> None:
        cameras = self._cameras
        unit = self._panel.viewer.unit
        to_world = cameras.camera_to_world.cpu()
        quats = rotation_to_quat(to_world[:, :3, :3]).numpy()
        fov = (2 * torch.atan(cameras.height / 2 / cameras.intrinsics[:, 1, 1])).tolist()
        scale = FRUSTUM * self._content.typical_depth * unit
        for number, angle in enumerate(fov):
            frustum = self._panel.client.scene.add_camera_frustum(
                f"/cameras/{number:06d}",
                fov=angle,
                aspect=cameras.width / cameras.height,
                scale=scale,
                color=_COLORS[number > 0],
                thickness=2.0,
                thickness_units="screen",
                wxyz=quats[number],
                position=(to_world[number, :3, 3] * unit).numpy(),
            )
            frustum.on_click(lambda _, number=number: self.choose(number))
            self._frustums.append(frustum)

    def choose(self, frame: int) -> None:
        """Go to the camera of a frame, and show its pictures.

        Args:
            frame: Index of the frame.
        """
        self._frame = frame
        panel = self._panel
        panel.call(panel.pause)
        pose = pose_of(self._cameras[frame : frame + 1], self._content.orbit_distance)
        panel.call(panel.camera.glide_to, pose)
        if self._content.has_frames:
            panel.overlay.choose_frame(frame)
            self._show()

    def _show(self) -> None:
        """Show the pictures of the chosen frame. A later choice replaces an earlier one."""
        frame = self._frame
        self._newest += 1
        number = self._newest
        name = _frame_names(self._content.run)[frame]
        self._pictures.content = note(f"Rendering {name} ...")
        with self._panel.viewer.render_lock:
            if number != self._newest:
                return
            try:
                self._pictures.content = self._describe(frame, name)
            except (ImportError, OSError, ValueError) as error:  # such as a damaged file
                self._pictures.content = note(format_error(error))

    def _describe(self, frame: int, name: str) -> str:
        """Return the pictures of a frame as HTML."""
        image = self._images[frame]
        clean = self._render(frame, False)
        distorted = self._render(frame, True)
        pairs = {
            FRAME_AND_SCENE: (image, clean, ("frame", "scene")),
            FRAME_AND_DISTORTED: (image, distorted, ("frame", "with distortion")),
            BEFORE_AND_AFTER: (clean, distorted, ("without", "with distortion")),
        }
        before, after, names = pairs[self._choice.value]
        difference = np.abs(distorted.astype(np.float32) - clean.astype(np.float32)).mean(-1)
        largest = float(difference.max())
        parts = [comparison(jpeg_url(before), jpeg_url(after), names), note(name)]
        if largest >= 1:
            heat = color_by(torch.from_numpy(difference), 0.0, largest)
            text = f"Where the distortion changes the picture; red: by {largest:.0f} of 255"
            parts.append(picture(jpeg_url(heat), text))
        else:
            parts.append(note("The distortion does not change the picture of this frame."))
        depth = self._content.run.depth[frame]
        valid_depth = depth[depth > 0]
        if len(valid_depth):
            near, far = quantiles(valid_depth, (0.02, 0.98))
            heat = color_by(1 / depth.clamp(min=1e-9), 1 / far, 1 / near)
            heat[(depth <= 0).numpy()] = 0
            text = f"Estimated depth in scene units: red {near:.3g}, blue {far:.3g}"
            parts.append(picture(jpeg_url(heat), text))
        return "".join(parts)

    def _render(self, frame: int, with_distortion: bool) -> np.ndarray:
        """Render the scene at the camera of a frame, as 8 bits. Renders are kept."""
        key = (frame, with_distortion)
        if key not in self._renders:
            render = self._content.run.render(
                self._cameras[frame : frame + 1], distortion_of=frame if with_distortion else None
            )
            rgb = (render.rgb[0].clamp(0, 1) * 255).round().to(torch.uint8)
            self._renders[key] = rgb.numpy()
        return self._renders[key]


def _explain_no_frames(run: Any) -> str:
    """Say why there are no pictures of the frames."""
    if run is None:
        return "Pictures of the frames need a finished run."
    return f"This run keeps no frames: deliver.keep is {run.keep}. deliver.keep=full keeps them."


def _frame_names(run: Any) -> list[str]:
    """Return the name of each frame: its number and its clip."""
    names = ["0 input"]
    for clip in run.trajectory.clips:
        start = len(names)
        names.extend(f"{start + offset} {clip.name}" for offset in range(len(clip.cameras)))
    held_out = set(run.held_out)
    return [f"{name} (held out)" if k in held_out else name for k, name in enumerate(names)]
