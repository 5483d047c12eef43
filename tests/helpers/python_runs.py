"""Small runs from Python."""

from pathlib import Path
from typing import Any

import yaml

from tests.helpers.settings import TINY


def tiny_settings(output: Path, **more: Any) -> dict[str, Any]:
    """The settings of `TINY` as values of Python."""
    settings = dict(setting.split("=") for setting in TINY)
    values = {key: yaml.safe_load(value) for key, value in settings.items()}
    return values | {"output": output} | more
