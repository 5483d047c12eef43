"""Settings that were renamed. An old name ends with an error that says the new one."""

from collections.abc import Container

RENAMED_SETTINGS = {
    "intake": "preprocess",
    "frames.most": "frames.max_count",
    "frames.first": "frames.start",
    "edges.soft": "edges.width",
    "reach": "motion_limit",
    "reach.beyond": "motion_limit.on_exceed",
    "fit.views_per_step": "fit.batch_size",
    "fit.importance": "fit.importance_power",
    "fit.input_share": "fit.input_fraction",
    "fit.held_out": "fit.test_every",
    "fit.coarse": "fit.coarse_to_fine",
    "fit.coarse.sizes": "fit.coarse_to_fine.scales",
    "fit.trust": "fit.robust",
    "fit.densify.first": "fit.densify.start",
    "fit.densify.last": "fit.densify.stop",
    "fit.densify.growth": "fit.densify.growth_until",
    "fit.densify.activity": "fit.densify.gradient_power",
    "fit.densify.dead": "fit.densify.min_opacity",
    "fit.densify.noise": "fit.densify.noise_scale",
    "deliver.formats": "export.formats",
    "deliver.fps": "export.film.fps",
    "deliver.video_frames": "export.film.seconds",
    "export.fps": "export.film.fps",
    "export.video_frames": "export.film.seconds",
    "protocol.most": "protocol.max_targets",
}
"""Old name of a setting, or of a group of settings -> its new name."""

_CHANGED_UNITS = {
    "export.film.seconds": "its value is in seconds, the number of frames / export.film.fps",
}
"""New name of a setting -> what its value means, if it meant something else before."""

RENAMED_COMPONENT_SETTINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "planner": {
        "count": ("total_frames",),
        "depth": ("levels",),
        "frames": ("num_frames",),
    },
    "prior": {
        "at_once": ("batch_size",),
        "decode": ("decode_chunk_size",),
        "every": ("frame_multiple",),
        "first": ("start",),
        "guidance": ("guidance_scale",),
        "jump": ("edge_threshold",),
        "motion": ("motion_bucket_id",),
        "noise": ("noise_aug_strength",),
        "rescale": ("guidance_rescale",),
        "shift": ("flow_shift",),
        "steer": ("warp_guidance",),
        "step": ("size_multiple",),
        "steps": ("num_inference_steps",),
        "strength": (
            "severity",
            "conditioning_scale",
            "lora_scale",
        ),
        "tier": ("resolution_tier",),
        "trust": ("min_confidence",),
    },
    "depth": {
        "center": ("center_weight",),
        "edges": ("edge_weight",),
        "gives": ("quantity",),
        "white": ("white_level",),
    },
    "pose": {
        "closures": ("loop_closures",),
        "exhaustive": ("exhaustive_limit",),
        "features": ("max_features",),
        "keypoints": ("max_keypoints",),
        "least": ("min_registered",),
        "most_points": ("max_points",),
        "trust": ("plan_weight",),
    },
    "distortion": {
        "most": ("max_sigma",),
        "ones": ("l1_time_planes",),
        "sift": ("prune_after",),
    },
}
"""Slot -> old name of a component's setting -> new names. Components may differ in the new name."""


def renamed_setting(key: str) -> str | None:
    """Look up the new name of a setting that belongs to no component.

    Args:
        key: Dotted name, such as fit.trust.frames.

    Returns:
        The new name; None if the setting was not renamed.
    """
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        if new := RENAMED_SETTINGS.get(".".join(parts[:length])):
            return ".".join([new, *parts[length:]])
    return None


def describe_renamed(key: str, new: str) -> str:
    """Say what to use instead of an old name, and how its value changes.

    Args:
        key: Old name of a setting.
        new: Its new name, of `renamed_setting`.
    """
    unit = f"; {_CHANGED_UNITS[new]}" if new in _CHANGED_UNITS else ""
    return f"{key} has a new name; use {new}{unit}"


def renamed_component_setting(slot: str, key: str, settings: Container[str]) -> str | None:
    """Look up the new name of a component's setting.

    Args:
        slot: Slot of the component.
        key: Old name of the setting, without the slot.
        settings: Names of the component's settings.

    Returns:
        The new name; None if the component has no renamed setting of this name.
    """
    candidates = RENAMED_COMPONENT_SETTINGS.get(slot, {}).get(key, ())
    return next((name for name in candidates if name in settings), None)
