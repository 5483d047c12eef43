"""Real spherical harmonics for view-dependent colour.

Order and signs are those of the PLY files of 3D Gaussian splatting.
"""

import torch
from jaxtyping import Float
from torch import Tensor

C0 = 0.28209479177387814
C1 = 0.4886025119029199
C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
C3 = (
    0.5900435899266435,
    2.890611442640554,
    0.4570457994644658,
    0.3731763325901154,
    1.445305721320277,
)


def basis(directions: Float[Tensor, "*batch 3"], degree: int) -> Float[Tensor, "*batch basis"]:
    """Evaluate the (degree + 1)^2 basis functions.

    Args:
        directions: Unit directions.
        degree: Degree, 0 to 3.

    Returns:
        Values of the basis functions.

    Raises:
        ValueError: If the degree is not 0 to 3.
    """
    if not 0 <= degree <= 3:
        raise ValueError(f"sh_degree is {degree}; choose 0, 1, 2 or 3")
    x, y, z = directions.unbind(-1)
    out = [torch.full_like(x, C0)]
    if degree > 0:
        out += [-C1 * y, C1 * z, -C1 * x]
    if degree > 1:
        xx = x * x
        yy = y * y
        zz = z * z
        a, b, c = C2
        out += [a * x * y, -a * y * z, b * (2 * zz - xx - yy), -a * x * z, c * (xx - yy)]
        if degree > 2:
            a, b, c, d, e = C3
            out += [
                -a * y * (3 * xx - yy),
                b * x * y * z,
                -c * y * (4 * zz - xx - yy),
                d * z * (2 * zz - 3 * xx - 3 * yy),
                -c * x * (4 * zz - xx - yy),
                e * z * (xx - yy),
                -a * x * (xx - 3 * yy),
            ]
    return torch.stack(out, dim=-1)


def evaluate(
    sh_coeffs: Float[Tensor, "*shared basis 3"], directions: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 3"]:
    """Evaluate colours for viewing directions: 0.5 + harmonics, clamped to at least 0.

    Args:
        sh_coeffs: Coefficients of the basis functions.
        directions: Unit directions from the camera to the Gaussian.

    Returns:
        Colours, at least 0.
    """
    degree = round(sh_coeffs.shape[-2] ** 0.5) - 1
    if degree == 0:
        return _constant(sh_coeffs).expand(directions.shape)
    return ((basis(directions, degree)[..., None] * sh_coeffs).sum(-2) + 0.5).clamp(min=0)


def _constant(sh_coeffs: Float[Tensor, "*batch 1 3"]) -> Float[Tensor, "*batch 3"]:
    """Evaluate colours of degree 0."""
    return (C0 * sh_coeffs[..., 0, :] + 0.5).clamp(min=0)


def evaluate_from(
    sh_coeffs: Float[Tensor, "*view gaussian basis 3"],
    means: Float[Tensor, "*view gaussian 3"],
    centers: Float[Tensor, "view 3"],
) -> Float[Tensor, "view gaussian 3"]:
    """Evaluate the colours of Gaussians as cameras at `centers` see them.

    Args:
        sh_coeffs: Coefficients, shared or one set per view.
        means: Centres of the Gaussians, shared or one set per view.
        centers: Camera centres.

    Returns:
        Colours, at least 0.
    """
    if sh_coeffs.shape[-2] == 1:  # no view dependence, so no directions are needed
        return _constant(sh_coeffs).expand(len(centers), -1, -1)
    return evaluate(sh_coeffs, torch.nn.functional.normalize(means - centers[:, None], dim=-1))


def from_rgb(rgb: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Convert a colour to its degree-0 coefficient.

    Args:
        rgb: Colours in [0, 1].

    Returns:
        Coefficients.
    """
    return (rgb - 0.5) / C0
