"""Diffusers pipelines with tiny networks of the real classes and random weights.

They are saved in a folder as a user has them. There is one module a family of models.
"""

from collections.abc import Callable
from pathlib import Path

from tests.helpers.tiny.cosmos import cosmos
from tests.helpers.tiny.easyanimate import easyanimate
from tests.helpers.tiny.ltx import ltx
from tests.helpers.tiny.sana_wm import sana_wm
from tests.helpers.tiny.stable_virtual_camera import stable_virtual_camera
from tests.helpers.tiny.svd import motionctrl, svd
from tests.helpers.tiny.viewcrafter import viewcrafter
from tests.helpers.tiny.wan import vace, wan
from tests.helpers.tiny.wan_fun_camera import wan_fun_camera

BUILDERS: dict[str, Callable[[Path], Path]] = {
    "svd": svd,
    "motionctrl": motionctrl,
    "viewcrafter": viewcrafter,
    "vace": vace,
    "sana_wm": sana_wm,
    "cosmos": cosmos,
    "diffusers": wan,
    "ltx": ltx,
    "easyanimate": easyanimate,
    "wan_fun_camera": wan_fun_camera,
    "stable_virtual_camera": stable_virtual_camera,
}
"""Prior -> function that saves a model in a folder."""
SETTINGS: dict[str, dict] = {
    "svd": {"num_inference_steps": 2, "size": 64, "frames": 5},
    "motionctrl": {"num_inference_steps": 2, "size": 64, "frames": 5},
    "viewcrafter": {"num_inference_steps": 2, "size": 64, "frames": 3},
    "vace": {"num_inference_steps": 2, "size": 64, "frames": 5},
    "sana_wm": {"num_inference_steps": 2, "size": 64, "frames": 9},
    "cosmos": {"num_inference_steps": 2, "size": 64, "frames": 5, "resolution_tier": 256},
    "diffusers": {"num_inference_steps": 2, "size": 64, "frames": 5, "frame_multiple": 4},
    "ltx": {"num_inference_steps": 2, "size": 96, "frames": 9, "loras": "none"},
    "easyanimate": {"num_inference_steps": 2, "size": 64, "frames": 5},
    "wan_fun_camera": {"num_inference_steps": 2, "size": 64, "frames": 5},
    "stable_virtual_camera": {"num_inference_steps": 2, "size": 64, "frames": 3, "window": 4},
}
"""Prior -> settings of a quick run."""
