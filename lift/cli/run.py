"""`lift run`: one image, a video or photographs to a scene."""

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lift.cli.processes import error_message
from lift.runtime import distributed, launcher
from lift.runtime.devices import device_indices

if TYPE_CHECKING:
    from omegaconf import DictConfig

COMPOSED = "--composed"
"""Option before the file of a composed configuration, for the processes of one run."""


def add_parser(commands: Any) -> None:
    """Add the command to `lift --help`; Hydra parses its arguments.

    Args:
        commands: What `add_subparsers` returned.
    """
    commands.add_parser(
        "run",
        help="one image to a scene: lift run image=PATH [setting=value ...]; "
        "lift run --plan ... says what it would do; lift run --help",
        add_help=False,
    )


def run(arguments: list[str]) -> int:
    """Run `lift run`. Hydra handles overrides, --cfg, --help, and -m with launchers and sweepers.

    Args:
        arguments: Arguments after the command's name.

    Returns:
        The exit status.
    """
    from lift.config import check_overrides, quote_override, store_schemas

    store_schemas()
    if arguments[:1] == [COMPOSED]:
        return _join_run(Path(arguments[1]), arguments[2:])
    only_plan = "--plan" in arguments
    arguments = [argument for argument in arguments if argument != "--plan"]
    quoted = [quote_override(argument) for argument in arguments]
    check_overrides(quoted)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach `main`, which prints one line
    errors = _run_hydra(quoted, arguments, only_plan)
    for error in errors[:-1]:
        print(error_message(error), file=sys.stderr)
    if errors:
        raise errors[-1]
    return 0


def _run_hydra(quoted: list[str], arguments: list[str], only_plan: bool) -> list[Exception]:
    """Let Hydra compose the configuration of each job, and run the jobs.

    Args:
        quoted: Arguments for Hydra.
        arguments: The same without quotes.
        only_plan: Whether to print what a run would do instead.

    Returns:
        Errors of the jobs. Hydra would print lines of its own about them.
    """
    import hydra

    from lift.config import validate_config

    errors: list[Exception] = []
    main_pid = os.getpid()

    @hydra.main(version_base="1.3", config_path="pkg://lift.configs", config_name="lift")
    def job(config: "DictConfig") -> None:
        try:
            validate_config(config)
            _run_job(config, arguments, only_plan)
        except Exception as error:
            if os.getpid() != main_pid:  # a process of a Hydra launcher returns its error
                raise
            errors.append(error)

    argv = sys.argv
    sys.argv = ["lift run", *quoted]
    try:
        job()
    finally:
        sys.argv = argv
    return errors


def _run_job(config: "DictConfig", arguments: list[str], only_plan: bool) -> None:
    """Run one configuration in this process or in several, or print what it would do."""
    if only_plan:
        from lift.runtime.dry_run import dry_run

        print(dry_run(config))
        return
    if distributed.process_info().world_size > 1:  # torchrun or srun started all processes
        _run_pipeline(config, None)
        return
    devices = device_indices(config.trainer)
    if len(devices) > 1:
        _launch_run(config, arguments, len(devices))
    else:
        _run_pipeline(config, devices)


def _launch_run(config: "DictConfig", arguments: list[str], count: int) -> None:
    """Run one configuration in several processes."""
    from omegaconf import OmegaConf

    with tempfile.TemporaryDirectory(prefix="lift-") as folder:
        file = Path(folder) / "config.yaml"
        OmegaConf.save(config, file, resolve=True)
        launcher.launch(["run", COMPOSED, str(file), *arguments], count)


def _join_run(file: Path, arguments: list[str]) -> int:
    """Take part in a run that another process started.

    Args:
        file: The composed configuration.
        arguments: Arguments of the command that the user typed.
    """
    from omegaconf import DictConfig, OmegaConf

    sys.argv = ["lift run", *arguments]
    config = OmegaConf.load(file)
    assert isinstance(config, DictConfig)
    _run_pipeline(config, device_indices(config.trainer))
    return 0


def _run_pipeline(config: "DictConfig", devices: list[int] | None) -> None:
    """Run the pipeline in this process; the main process prints the run's folder."""
    distributed.bind_device(distributed.process_info(), devices)
    # The import loads numba, which reads the number of threads that `bind_device` has set.
    from lift.pipeline import run as run_pipeline

    folder = run_pipeline(config)
    if folder is not None:
        print(folder, flush=True)
