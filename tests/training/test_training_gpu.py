"""What touches CUDA in training; the renderer's own tests are in test_renderers.py."""

import warnings

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from lift.config import Fit
from lift.distortions import distortions
from lift.geometry import look_at, pinhole, unproject
from lift.renderers import renderers
from lift.synthetic.scenes import render
from lift.training.fit import fit
from lift.training.module import SceneModule
from lift.training.splats import initialise
from lift.types import Cameras, Clip, PointCloud, Reconstruction, Trajectory

pytestmark = pytest.mark.gpu


GPU = {"accelerator": "gpu", "devices": 1}
RIGID = {"name": "rigid"}


def room(
    size: int, views: int, renderer: str, cuda: torch.device, distortion: dict = RIGID, **changes
) -> tuple[SceneModule, DictConfig]:
    """A module and its settings; it fits pictures of a ray-cast room from cameras side by side."""
    eyes = torch.stack(
        [torch.linspace(-0.5, 0.5, views), torch.zeros(views), torch.zeros(views)], dim=-1
    )
    eyes[0] = 0
    down, middle = (
        torch.tensor([0.0, 1, 0]).expand(views, 3),
        torch.tensor([0.0, 0, 4]).expand(views, 3),
    )
    cameras = Cameras(
        look_at(eyes, middle, down),
        pinhole(size, size, size * 1.0).intrinsics.repeat(views, 1, 1),
        size,
        size,
    )
    frames = render("room", cameras)
    cloud = PointCloud(unproject(frames.depth, cameras).reshape(-1, 3), frames.rgb.reshape(-1, 3))
    reconstruction = Reconstruction(cameras, cloud, frames.depth, torch.ones_like(frames.depth))
    small = {"batch_size": 2, "initial_gaussians": 8000, "max_gaussians": 12000, "sh_degree": 1}
    how = OmegaConf.merge(OmegaConf.structured(Fit), small, changes)
    trajectory = Trajectory(cameras[0], (Clip("right", 0, cameras[1:]),))
    module = SceneModule(
        initialise(reconstruction, how.initial_gaussians, how.sh_degree),
        distortions.build(
            distortion,
            num_views=views,
            extent=4.0,
            size=(size, size),
            trajectory=trajectory,
            points=cloud,
            multiview_consistent=False,
        ),
        renderers.build({"name": renderer}, device=cuda),
        frames,
        reconstruction,
        how,
        4.0,
        seed=0,
    )
    return module, how


@pytest.mark.parametrize("renderer", ["gsplat", "reference"])
def test_a_scene_is_fitted_on_cuda(cuda, tmp_path, renderer):
    size, views, steps = (128, 24, 400) if renderer == "gsplat" else (48, 6, 60)
    module, settings = room(size, views, renderer, cuda, steps=steps)
    fit(module, list(range(1, views)), tmp_path, settings, GPU, 0)
    module.to(cuda)
    held_out = torch.tensor([5], device=cuda)
    with torch.no_grad():
        rendered = module.renderer(module.splats.gaussians(), module.cameras(held_out))
        error = (rendered.rgb.clamp(0, 1) - module.images[held_out].float() / 255).square().mean()
    assert -10 * torch.log10(error) > (27 if renderer == "gsplat" else 20)


def test_a_scene_is_fitted_by_gradients_on_cuda(cuda, tmp_path):
    densify = {
        "strategy": "gradient",
        "gradient": {"prune_every": 100, "reset_every": 120, "prune_size_start": 100},
    }
    module, settings = room(
        128, 24, "gsplat", cuda, steps=400, canonical_steps=100, densify=densify
    )
    fit(module, list(range(1, 24)), tmp_path, settings, GPU, 0)
    module.to(cuda)
    held_out = torch.tensor([5], device=cuda)
    with torch.no_grad():
        rendered = module.renderer(module.splats.gaussians(), module.cameras(held_out))
        error = (rendered.rgb.clamp(0, 1) - module.images[held_out].float() / 255).square().mean()
    assert -10 * torch.log10(error) > 30
    assert 1000 < module.splats.count <= 12000


@pytest.mark.parametrize("coarse", [False, True])
def test_a_step_waits_for_the_device_once(cuda, tmp_path, coarse, capfd):
    """gsplat synchronises once to count the pairs of tiles and Gaussians.

    Nothing else may synchronise, except for steps that densify.
    """
    phases = {"scales": [0.5], "until": [1.0]} if coarse else {}
    module, settings = room(
        128,
        6,
        "gsplat",
        cuda,
        steps=40,
        coarse_to_fine=phases,
        densify={"start": 10**6},
        checkpoint_every=40,
    )
    plain, watched, waits = module.optimise, [], []
    pattern = "called a synchronizing CUDA operation"

    def watch(views):
        if module.step < 10:  # kernels are compiled in the first
            return plain(views)
        watched.append(module.step)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                return plain(views)
            finally:
                torch.cuda.set_sync_debug_mode("default")
                waits.extend(f"{w.filename}:{w.lineno}" for w in seen if pattern in str(w.message))

    module.optimise = watch
    fit(module, [1, 2, 3, 4, 5], tmp_path, settings, GPU, 0)
    by_extensions = capfd.readouterr().err.count(
        pattern
    )  # Python does not see synchronisation in C++ code outside of torch
    assert len(watched) == 30
    checks = [place for place in waits if "finite.py" in place]  # at steps 20 and 40 alone
    assert len(checks) == 2 and len(waits) - len(checks) + by_extensions == 30, waits
