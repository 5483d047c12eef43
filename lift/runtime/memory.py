"""Estimates of the GPU memory that a generator needs. This module does not import torch."""

OFFLOADS = ("none", "model", "group")
"""Choices of the setting `prior.offload`."""


def required_memory(
    parts: dict[str, float],
    working: float,
    offload: str,
    precision: str = "auto",
    denoiser: str = "",
) -> float:
    """Estimate the GPU memory that a model needs, in GiB.

    Args:
        parts: Weights of each part in half precision, in GiB.
        working: Memory besides the weights, in GiB.
        offload: `none` keeps all parts on the GPU. `model` keeps the part that runs. `group` keeps
            a layer or two and the autoencoder.
        precision: float8 halves the weights of the denoiser, float32 doubles everything.
        denoiser: Name of the part that is the denoiser.
    """
    factor = 2.0 if precision == "float32" else 1.0
    sizes = {
        name: size * (0.5 if precision == "float8" and name == denoiser else factor)
        for name, size in parts.items()
    }
    resident = {
        "none": sum(sizes.values()),
        "model": max(sizes.values(), default=0.0),
        "group": 0.5 + sizes.get("vae", 0.0),
    }[offload]
    return resident + working * factor


def format_memory(parts: dict[str, float], working: float) -> str:
    """Describe the GPU memory that a model needs in half precision, for each choice of offload.

    Args:
        parts: Weights of each part in half precision, in GiB.
        working: Memory besides the weights, in GiB.
    """
    if not parts:
        return "GPU memory as the model asks for"
    sizes = " / ".join(f"{required_memory(parts, working, offload):.0f}" for offload in OFFLOADS)
    return f"about {sizes} GiB of GPU memory with prior.offload={' / '.join(OFFLOADS)}"
