"""What a generator takes of a GPU's memory; without torch, so that it can be told at once."""

OFFLOADS = ("none", "model", "group")


def needed(
    parts: dict[str, float],
    working: float,
    offload: str,
    precision: str = "auto",
    denoiser: str = "",
) -> float:
    """GiB that a model takes. parts: GiB of each part's weights in half precision; working: GiB beside them. offload: where parts are that do not work:
    on the GPU (`none`), elsewhere but for one (`model`), or but for a layer or two and the autoencoder (`group`). precision: float8 halves the denoiser's weights, float32
    doubles everything.
    """
    factor = 2.0 if precision == "float32" else 1.0
    sizes = {
        name: size * (0.5 if precision == "float8" and name == denoiser else factor)
        for name, size in parts.items()
    }
    held = {
        "none": sum(sizes.values()),
        "model": max(sizes.values(), default=0.0),
        "group": 0.5 + sizes.get("vae", 0.0),
    }[offload]
    return held + working * factor


def told(parts: dict[str, float], working: float) -> str:
    """By offload, in half precision."""
    if not parts:
        return "GPU memory as the model asks for"
    return f"about {' / '.join(f'{needed(parts, working, offload):.0f}' for offload in OFFLOADS)} GiB of GPU memory with prior.offload={' / '.join(OFFLOADS)}"
