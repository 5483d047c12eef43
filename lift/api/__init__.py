"""Use `lift` from Python: run, load, look at, render, continue and export scenes.

    import lift

    scene = lift.run("photo.jpg", fit={"steps": 500})
    scene = lift.load("outputs/photo/warp-composed-1234")
    views = scene.render(scene.cameras)

The command line is a thin layer on this package. `import lift` alone imports no torch.
"""

from lift.api.loading import load
from lift.api.running import preview, run
from lift.api.scene import Scene

__all__ = ["Scene", "load", "preview", "run"]
