"""Turn a picture into a scene, look at it from a camera of your own, and export it.

python examples/run_and_render.py [PICTURE]
"""

import sys

import torch

import lift
from lift.camera_paths import orbit_cameras
from lift.io.image import save_image

picture = sys.argv[1] if len(sys.argv) > 1 else "coffee"

# Small and short, so that it takes a minute on a laptop. Leave these out for a good scene.
scene = lift.run(
    picture,
    preprocess={"size": 160},
    planner={"levels": 1, "num_frames": 4},
    fit={"steps": 150, "initial_gaussians": 5000, "max_gaussians": 6000},
    export={"film": {"seconds": 0.5}},
)
print(scene)
print("\n".join(scene.verdict.lines))

# A camera 8 degrees to the right of the input and 4 degrees above it, towards the scene's middle.
depth = scene.depth[0]
middle = float(depth[depth > 0].median())
camera = orbit_cameras(scene.cameras[0], torch.tensor([[8.0, 4.0, 0.0]]), middle)
render = scene.render(camera, size=320)
save_image(scene.folder / "from_the_right.png", render.rgb[0])
print(f"{(render.alpha > 0.5).float().mean():.0%} of the view is covered")

# The fit goes on from its checkpoint. The result is a scene of its own.
longer = scene.fit(more_steps=150)
print(longer)
print(longer.export(longer.folder / "scene.spz"))
