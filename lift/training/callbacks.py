"""Callbacks of the user: imported by path, part of the cache key, and named when they fail."""

import inspect
import io
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from hydra.utils import instantiate
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback

from lift.errors import summarize_error
from lift.registry import ComponentError, source_fingerprint
from lift.registry.imports import import_object
from lift.registry.live_code import code_fingerprint, defining_file

_BATCH_HOOKS = ("on_train_batch_start", "on_train_batch_end")


class StepCallback(Callback):
    """Stop the fit after its last step, and let other callbacks read `trainer.global_step`.

    Lightning counts batches, and steps of optimisers that it has wrapped. This callback has to be
    the first one.
    """

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Set Lightning's counters.

        Args:
            trainer: Lightning's trainer.
            pl_module: A `lift.training.module.SceneModule`.
        """
        loop: Any = trainer.fit_loop.epoch_loop
        step: Any = pl_module.step
        progress = loop.manual_optimization.optim_step_progress.total
        progress.ready = step
        progress.completed = step
        loop._batches_that_stepped = step

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Set Lightning's counters.

        Args:
            trainer: Lightning's trainer.
            pl_module: A `lift.training.module.SceneModule`.
            batch: Not used.
            batch_idx: Not used.
        """
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Set Lightning's counters, and stop the fit in time. The last epoch may be longer.

        Args:
            trainer: Lightning's trainer.
            pl_module: A `lift.training.module.SceneModule`.
            outputs: Not used.
            batch: Not used.
            batch_idx: Not used.
        """
        self.on_train_epoch_start(trainer, pl_module)
        settings: Any = pl_module.settings
        if pl_module.step >= settings.steps:
            trainer.should_stop = True


def check_target(target: Mapping[str, Any], setting: str, kind: type) -> None:
    """Import a class, and check that it takes the given arguments. Nothing is built.

    Args:
        target: `{_target_: path, argument: value}`. The path may also be that of a function that
            returns an object.
        setting: Name of the setting for error messages.
        kind: Class of Lightning's that the object must have.

    Raises:
        ComponentError: The import fails, the class is another one, or an argument is wrong or
            missing.
    """
    path = target["_target_"]
    function = import_object(path, setting)
    if isinstance(function, type) and not issubclass(function, kind):
        raise _kind_error(path, function, setting, kind)
    arguments = {key: value for key, value in target.items() if key[0] != "_"}
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions of C have none
        return
    try:
        signature.bind(*target.get("_args_", ()), **arguments)
    except TypeError as error:
        names = ", ".join(signature.parameters) or "nothing"
        raise ComponentError(f"{setting}: {path}: {error}; it takes {names}") from None


def build_target(target: Mapping[str, Any], setting: str, kind: type) -> Any:
    """Build an object from its import path and its arguments.

    Args:
        target: `{_target_: path, argument: value}`.
        setting: Name of the setting for error messages.
        kind: Class of Lightning's that the object must have.

    Returns:
        The object.

    Raises:
        ComponentError: It cannot be built or is of another class.
    """
    check_target(target, setting, kind)
    value = instantiate(dict(target), _convert_="all")
    if not isinstance(value, kind):
        raise _kind_error(target["_target_"], type(value), setting, kind)
    return value


def _kind_error(path: str, found: type, setting: str, kind: type) -> ComponentError:
    """Return the error for an object that is no callback or no logger."""
    name = kind.__name__
    foreign = [base for base in found.__mro__ if base.__name__ == name]
    hint = f", not from that of {foreign[0].__module__.split('.')[0]!r}" if foreign else ""
    return ComponentError(
        f"{setting} names {path!r}, which gives a {found.__name__}; derive it from {name} of "
        f"pytorch_lightning{hint}"
    )


def build_callbacks(targets: Sequence[Mapping[str, Any]]) -> list[Callback]:
    """Build the callbacks of the setting `callbacks`.

    Args:
        targets: Each as `{_target_: path, argument: value}`.

    Raises:
        ComponentError: One cannot be built or is no callback.
    """
    return [build_target(target, "callbacks", Callback) for target in targets]


def callback_key(targets: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return what the result of a fit depends on: paths, arguments and sources of callbacks.

    Args:
        targets: Each as `{_target_: path, argument: value}`.
    """
    return [
        [dict(target), [_fingerprint(path) for path in _import_paths(target)]] for target in targets
    ]


def uses_batches(callbacks: Sequence[Callback]) -> bool:
    """Whether a callback has a hook that Lightning calls before or after each batch.

    Args:
        callbacks: The callbacks.
    """
    return any(
        # A LambdaCallback has functions in place of methods.
        getattr(getattr(callback, hook), "__func__", None) is not getattr(Callback, hook)
        for callback in callbacks
        for hook in _BATCH_HOOKS
    )


def check_states(callbacks: Sequence[Callback]) -> None:
    """Check that a killed fit can read the states of callbacks back from its checkpoint.

    Args:
        callbacks: The callbacks.

    Raises:
        ComponentError: A state has values that are not read without pickled code.
    """
    for callback in callbacks:
        if not (state := callback.state_dict()):
            continue
        buffer = io.BytesIO()
        try:
            torch.save(state, buffer)
            buffer.seek(0)
            torch.load(buffer, weights_only=True)
        except (pickle.PickleError, TypeError, AttributeError) as error:
            name = type(callback).__name__
            kinds = ", ".join(sorted({type(value).__name__ for value in state.values()}))
            raise ComponentError(
                f"callback {name}: its state_dict cannot be read back from a checkpoint: it has "
                f"{kinds}; keep tensors, numbers, strings, lists and dictionaries of them"
            ) from error


def name_failed_callback(error: Exception, callbacks: Sequence[Callback]) -> RuntimeError | None:
    """Return an error that names the callback that failed.

    Args:
        error: The error of a fit, with its traceback.
        callbacks: Callbacks of the user.

    Returns:
        The error; it is no user error, so its traceback is printed. None if no callback failed, or
        if the error's message is meant for the user.
    """
    if isinstance(error, (ComponentError, MisconfigurationException)):
        return None
    frame = error.__traceback__
    while frame is not None:
        owner = frame.tb_frame.f_locals.get("self")
        if any(owner is callback for callback in callbacks):
            name = f"{type(owner).__name__}.{frame.tb_frame.f_code.co_name}"
            return RuntimeError(f"callback {name} failed: {summarize_error(error, with_type=True)}")
        frame = frame.tb_next
    return None


def _import_paths(value: Any) -> Iterator[str]:
    """List the import paths in a target and in its arguments."""
    if isinstance(value, Mapping):
        if isinstance(value.get("_target_"), str):
            yield value["_target_"]
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _import_paths(item)


def _fingerprint(path: str) -> str:
    """Hash the source file of a class or function; if it has none, as in a notebook, its code."""
    target: Any = inspect.unwrap(import_object(path, "callbacks"))
    if isinstance(target, type):
        file = defining_file(target)
    else:
        try:
            file = Path(inspect.getfile(target))
        except TypeError:  # it has no Python code
            file = None
    if file is not None and file.suffix == ".py" and file.is_file():
        return source_fingerprint(file)
    return code_fingerprint(target)
