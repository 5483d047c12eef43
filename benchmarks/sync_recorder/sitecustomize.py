"""Record what a process syncs. Python imports this module at its start, if PYTHONPATH has it.

So all processes of a command are recorded, also those that it starts.
"""

import importlib.util
import os
import sys
from pathlib import Path

if log := os.environ.get("LIFT_SYNC_LOG"):
    file = Path(__file__).resolve().parents[1] / "power_cut.py"
    spec = importlib.util.spec_from_file_location("power_cut", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["power_cut"] = module  # dataclasses look for it
    spec.loader.exec_module(module)
    module.record(Path(log))
