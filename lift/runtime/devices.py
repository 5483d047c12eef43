"""Devices that the settings of the trainer name, and the cores of the CPU."""

import os
from collections.abc import Mapping
from typing import Any

from lift.registry import ComponentError


def cpu_cores() -> int:
    """Return the number of CPU cores that this process can use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device_indices(trainer: Mapping[str, Any]) -> list[int]:
    """Return the indices of the devices that `trainer` names, one for each process.

    Args:
        trainer: Settings of the trainer. `accelerator` is auto, cpu, gpu or cuda. `devices` is a
            number, a list of GPUs, or auto (or -1): all GPUs, or one process on a CPU.

    Raises:
        ComponentError: A setting has another value, or names devices that do not exist.
    """
    accelerator = trainer.get("accelerator", "auto")
    setting = trainer.get("devices", "auto")
    choice = _parse_devices(setting)
    if accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise ComponentError(f"trainer.accelerator is {accelerator!r}; choose auto, cpu or gpu")
    if accelerator == "cpu" and choice in (None, 1):
        return [0]
    import torch

    count = torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and count == 0:
        raise ComponentError(
            f"trainer.accelerator is {accelerator!r}, but torch sees no CUDA device; "
            "choose trainer=cpu renderer=numba"
        )
    if choice == 1:
        return [0]
    if count == 0 or accelerator == "cpu":
        return _cpu_indices(setting, choice, accelerator)
    if isinstance(choice, list):
        indices = choice
    else:
        indices = list(range(count if choice in (None, -1) else choice))
    if min(indices) < 0 or max(indices) >= count or len(set(indices)) < len(indices):
        raise ComponentError(
            f"trainer.devices is {setting!r}, but torch sees {count} GPUs, 0 to {count - 1}"
        )
    return indices


def check_one_device(command: str, trainer: Mapping[str, Any]) -> None:
    """Check that each scene of a command is made in one process.

    Args:
        command: Name of the command.
        trainer: Settings of the trainer.

    Raises:
        ComponentError: `trainer.devices` names several devices.
    """
    if len(device_indices(trainer)) > 1:
        raise ComponentError(
            f"trainer.devices is {trainer['devices']!r}; lift {command} makes each scene in one "
            "process, choose 1"
        )


def check_one_process(option: str, trainer: Mapping[str, Any]) -> None:
    """Check that a run has one process, as an option of the command asks.

    Args:
        option: The option.
        trainer: Settings of the trainer.

    Raises:
        ComponentError: `trainer.devices` names several devices, or there are several processes.
    """
    from lift.runtime.distributed import process_info

    if process_info().world_size > 1 or len(device_indices(trainer)) > 1:
        raise ComponentError(
            f"{option} needs a run in one process, and trainer.devices is {trainer['devices']!r}; "
            "choose trainer.devices=1, without torchrun and srun"
        )


def _parse_devices(setting: Any) -> int | list[int] | None:
    """Return a number of devices, a list of GPUs, or None for auto."""
    error = ComponentError(
        f"trainer.devices is {setting!r}; choose a number, auto, or a list of GPUs such as [0,1]"
    )
    value = setting.split(",") if isinstance(setting, str) and "," in setting else setting
    try:
        if value == "auto":
            choice = None
        elif isinstance(value, (int, str)):
            choice = int(value)
        else:
            choice = [int(item) for item in value]
    except (TypeError, ValueError):
        raise error from None
    if isinstance(setting, bool) or choice in (0, []) or (isinstance(choice, int) and choice < -1):
        raise error
    return choice


def _cpu_indices(setting: Any, choice: int | list[int] | None, accelerator: str) -> list[int]:
    """Return one index for each process on the CPU."""
    if choice is None:
        return [0]
    if not isinstance(choice, int) or choice < 1:
        raise ComponentError(
            f"trainer.devices is {setting!r}, which names GPUs, and trainer.accelerator is "
            f"{accelerator!r}; choose a number"
        )
    cores = cpu_cores()
    if choice > cores:
        raise ComponentError(
            f"trainer.devices is {choice}, processes on a CPU of which {cores} cores can be used; "
            f"choose 1 to {cores}"
        )
    return list(range(choice))
