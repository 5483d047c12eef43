"""Plain 3D Gaussian splatting with gsplat's MCMC strategy: the baseline of `photographs.py`.

It gets official cameras and sparse points, and uses nothing of the pipeline of `lift`. It needs a
CUDA GPU and gsplat.
"""

import math
import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from lift.training.similarity import ssim_conv2d
from lift.types import Cameras, Frames, PointCloud

SH_DEGREE = 2
SH_DEGREE_EVERY = 700
"""Number of steps between degrees of spherical harmonics."""
SH_C0 = 0.28209479177387814
LEARNING_RATES = {
    "means": 1.6e-4,
    "scales": 5e-3,
    "quats": 1e-3,
    "opacities": 5e-2,
    "sh0": 2.5e-3,
    "shN": 2.5e-3 / 20,
}
"""The rate of the means is in units of the scene's size."""
SSIM_WEIGHT = 0.2
OPACITY_WEIGHT = 0.01
SCALE_WEIGHT = 0.04
"""Weight of the mean scale in units of the scene's size."""


@dataclass(frozen=True)
class FitResult:
    """The fitted Gaussians."""

    splats: nn.ParameterDict
    """Raw parameters by gsplat's names."""
    seconds: float

    @property
    def gaussians(self) -> int:
        """Number of Gaussians."""
        return len(self.splats["means"])


def fit(
    frames: Frames,
    cameras: Cameras,
    points: PointCloud,
    steps: int,
    max_gaussians: int,
    seed: int = 0,
) -> FitResult:
    """Fit Gaussians to photographs.

    Args:
        frames: Photographs to train on.
        cameras: Their cameras.
        points: Sparse points, colours in [0, 1].
        steps: Steps of one photograph each.
        max_gaussians: Number of Gaussians, at most.
        seed: Random seed.

    Returns:
        The Gaussians, on the GPU.

    Raises:
        ValueError: If there is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise ValueError(
            "plain gsplat needs a CUDA device; choose --methods lift, or another machine"
        )
    from gsplat.strategy import MCMCStrategy

    torch.manual_seed(seed)
    device = torch.device("cuda")
    cameras = cameras.to(device)
    targets = frames.rgb.to(device)
    splats, size = initial_splats(points, device)
    optimizers = _optimizers(splats, size)
    last = int(0.8 * steps)
    strategy = MCMCStrategy(
        cap_max=max_gaussians,
        refine_start_iter=300,
        refine_stop_iter=last,
        refine_every=100,
        verbose=False,
    )
    state = strategy.initialize_state()
    order = torch.randint(len(targets), (steps,)).tolist()
    start = time.perf_counter()
    for step in range(steps):
        view = order[step]
        degree = min(SH_DEGREE, step // SH_DEGREE_EVERY)
        rgb, info = render(splats, cameras[view], degree)
        loss = _loss(rgb, targets[view][None], splats, size)
        loss.backward()
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        rate = LEARNING_RATES["means"] * size * 0.01 ** (step / steps)
        optimizers["means"].param_groups[0]["lr"] = rate
        strategy.step_post_backward(splats, optimizers, state, step, info, lr=rate)
    torch.cuda.synchronize()
    return FitResult(splats, time.perf_counter() - start)


def render(
    splats: nn.ParameterDict, camera: Cameras, degree: int = SH_DEGREE
) -> tuple[Float[Tensor, "1 height width 3"], dict]:
    """Render one view over black. Return it with the information for gsplat's strategy."""
    from gsplat import rasterization

    rgb, _, info = rasterization(
        splats["means"],
        splats["quats"],
        splats["scales"].exp(),
        splats["opacities"].sigmoid(),
        torch.cat([splats["sh0"], splats["shN"]], 1),
        camera.world_to_camera,
        camera.intrinsics,
        camera.width,
        camera.height,
        packed=False,
        sh_degree=degree,
    )
    return rgb[..., :3], info


def initial_splats(points: PointCloud, device: torch.device) -> tuple[nn.ParameterDict, float]:
    """Make a Gaussian of each point, as large as the distance to its neighbours.

    Args:
        points: Sparse points, colours in [0, 1].
        device: Device of the parameters.

    Returns:
        Raw parameters by gsplat's names, and the size of the scene: the median distance from
        the median point.
    """
    means = points.points.to(device)
    count = len(means)
    size = float((means - means.median(0).values).norm(dim=-1).median())
    nearest = []
    for start in range(0, count, 2000):
        distance = torch.cdist(means[start : start + 2000], means)
        nearest.append(distance.topk(min(4, count), largest=False).values[:, 1:].mean(1))
    log_scale = torch.cat(nearest).clamp(min=1e-6).log()
    coefficients = torch.zeros(count, (SH_DEGREE + 1) ** 2, 3, device=device)
    coefficients[:, 0] = (points.colors.to(device) - 0.5) / SH_C0
    values = {
        "means": means.clone(),
        "scales": log_scale[:, None].repeat(1, 3),
        "quats": normalize(torch.randn(count, 4, device=device), dim=-1),
        "opacities": torch.zeros(count, device=device),
        "sh0": coefficients[:, :1].clone(),
        "shN": coefficients[:, 1:].clone(),
    }
    return nn.ParameterDict({name: nn.Parameter(value) for name, value in values.items()}), size


def _optimizers(splats: nn.ParameterDict, size: float) -> dict[str, torch.optim.Adam]:
    rates = LEARNING_RATES | {"means": LEARNING_RATES["means"] * size}
    return {
        name: torch.optim.Adam([splats[name]], lr=rate, eps=1e-15) for name, rate in rates.items()
    }


def _loss(rgb: Tensor, target: Tensor, splats: nn.ParameterDict, size: float) -> Tensor:
    color = (1 - SSIM_WEIGHT) * (rgb - target).abs().mean()
    structure = SSIM_WEIGHT * (1 - ssim_conv2d(rgb, target))
    opacity = OPACITY_WEIGHT * splats["opacities"].sigmoid().mean()
    scale = SCALE_WEIGHT / max(size, math.ulp(1.0)) * splats["scales"].exp().mean()
    return color + structure + opacity + scale
