"""Messages for errors: one line where it tells the user what to change, a traceback for a bug."""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from lift.registry import ALL_SLOTS, ComponentError, Entry, catalogue
from lift.registry.fingerprint import PACKAGE, ROOT
from lift.renamed import describe_renamed, renamed_component_setting, renamed_setting
from lift.runtime.resource_errors import find_exhausted

_MAX_BUG = 400
"""Largest number of characters of the message of a bug."""

_NETWORK_PACKAGES = (
    "aiohttp",
    "botocore",
    "httpcore",
    "httpx",
    "huggingface_hub",
    "requests",
    "urllib3",
)
"""Packages whose errors may tell of a network."""

USAGE_ERROR = 2
"""Exit status for an error that the user can correct."""


def is_interrupt(error: BaseException | None) -> bool:
    """Whether an error is Ctrl-C, or was caused by it: numba wraps it in a SystemError.

    Args:
        error: The exception; None is no interrupt.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def is_user_error(error: BaseException) -> bool:
    """Whether the message alone tells the user what to change. Other errors are bugs of `lift`.

    Args:
        error: The exception. That of a library counts if it says that the disk or memory is full.
    """
    return _has_message_for_user(error) or find_exhausted(error) is not None


def is_transient(error: BaseException | None) -> bool:
    """Whether the same work may succeed at another time or on another machine.

    Memory, disks and networks are not always exhausted or broken.

    Args:
        error: The exception; None is not.
    """
    if find_exhausted(error) is not None:
        return True
    while error is not None:
        if isinstance(error, (ConnectionError, TimeoutError)) or _is_of_network(error):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def _is_of_network(error: BaseException) -> bool:
    """Whether an error of a network library says that a server or the way to it failed."""
    package = type(error).__module__.partition(".")[0]
    if package == "urllib":
        return type(error).__name__ == "URLError"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if package in _NETWORK_PACKAGES and status is not None:
        return status == 429 or status >= 500
    return package in _NETWORK_PACKAGES and any(
        word in type(error).__name__ for word in ("Connect", "Timeout", "Protocol", "ReadError")
    )


def _has_message_for_user(error: BaseException) -> bool:
    """Whether the class of an error is one whose messages are for the user."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    # Compared by name, because the import of Lightning takes seconds.
    is_lightning = type(error).__name__ == "MisconfigurationException"
    return is_lightning or isinstance(
        error,
        (ComponentError, HydraException, OmegaConfBaseException, ValueError, OSError, ImportError),
    )


@contextmanager
def raise_for_python() -> Iterator[None]:
    """Raise errors within the block as a caller from Python expects them.

    Errors of Hydra, OmegaConf, Lightning and launched processes that tell the user what to change
    become ComponentError, with the message of the command line. Ctrl-C is a KeyboardInterrupt.
    """
    from lift.runtime.launcher import WorkerError

    try:
        yield
    except Exception as error:
        if is_interrupt(error):
            raise KeyboardInterrupt from error
        if isinstance(error, WorkerError) and error.status == USAGE_ERROR:
            raise ComponentError(str(error).removeprefix("lift: ")) from error
        package = type(error).__module__.partition(".")[0]
        is_own = package == "lift" or isinstance(error, (OSError, ImportError))
        if package != "builtins" and not is_own and _has_message_for_user(error):
            raise ComponentError(format_error(error)) from error
        raise


def summarize_error(
    error: BaseException, max_length: int | None = None, with_type: bool = False
) -> str:
    """Return an error's message in one line.

    Args:
        error: The exception.
        max_length: Number of characters after which the message is cut; None cuts nothing.
        with_type: Whether the name of the error's class comes first.
    """
    message = " ".join(str(error).split())[:max_length]
    return f"{type(error).__name__}: {message}" if with_type else message


def format_error(error: BaseException) -> str:
    """Format an error in one line, with its cause.

    Args:
        error: The exception. Hydra's messages about unknown settings are replaced by clearer ones.
    """
    if exhausted := find_exhausted(error):
        return exhausted.message
    text = summarize_error(error)
    cause = error.__cause__
    if cause is not None and str(cause) and summarize_error(cause) not in text:
        text = f"{text} ({summarize_error(cause)})"
    return _unknown_setting(text) or _wrong_kind(text) or text or type(error).__name__


def format_bug(error: BaseException) -> str:
    """Format an error that is not meant for the user: its class, its message and its place.

    Args:
        error: The exception, with its traceback. A line of a plugin is preferred as its place,
            then one of `lift`.
    """
    text = summarize_error(error, _MAX_BUG, with_type=True)
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return text
    entries = [entry for slot in catalogue().entries.values() for entry in slot.values()]
    plugins = {str(e.source) for e in entries if not e.module.startswith(f"{PACKAGE}.")}
    names = [frame.filename for frame in frames]
    preferred = [
        *(k for k, name in enumerate(names) if ROOT in Path(name).parents),
        *(k for k, name in enumerate(names) if name in plugins),
    ]
    frame = frames[preferred[-1] if preferred else -1]
    return f"{text} ({Path(frame.filename).name}:{frame.lineno})"


def _unknown_setting(text: str) -> str | None:
    """Translate Hydra's message about a setting that does not exist, if this is one."""
    match = re.search(r"Key '(\w+)' not in '(\w+)' full_key: ([\w.]+)", text)
    if not match:
        return None
    key, owner, full_key = match.groups()
    if new := renamed_setting(full_key):
        file = re.match(r"In '([^']+)'", text)
        where = f"in {file[1]}: " if file else ""
        return f"{where}{describe_renamed(full_key, new)}"
    slot = full_key.split(".")[0]
    if slot not in ALL_SLOTS:
        return None
    entries = catalogue().entries[slot]
    chosen = next((e for e in entries.values() if f"{e.name.title()}Config" == owner), None)
    return _not_a_setting(chosen, key) if chosen else None


def _wrong_kind(text: str) -> str | None:
    """Translate OmegaConf's message about a value of a wrong kind, if this is one."""
    if "full_key: " not in text:
        return None
    from lift.config.wrong_kinds import describe_wrong_kind

    return describe_wrong_kind(text)


def _not_a_setting(chosen: Entry, key: str) -> str:
    """Say what to use instead of a setting that the chosen component does not have."""
    slot = chosen.slot
    if new := renamed_component_setting(slot, key, chosen.settings):
        return f"{slot}.{key} has a new name; use {slot}.{new}"
    entries = catalogue().entries[slot].values()
    renamed = {e.name: renamed_component_setting(slot, key, e.settings) for e in entries}
    close = get_close_matches(key, chosen.settings, 1)
    having = [e.name for e in entries if key in e.settings]
    hint = ""
    if close:
        hint = f"did you mean {slot}.{close[0]}? "
    elif having:
        hint = f"it is one of {slot}={', '.join(having)}; "
    elif any(renamed.values()):
        names = " or ".join(dict.fromkeys(f"{slot}.{new}" for new in renamed.values() if new))
        owners = ", ".join(name for name, new in renamed.items() if new)
        hint = f"its new name is {names}, of {slot}={owners}; "
    return (
        f"{slot}.{key} is not a setting of {chosen.name!r}; {hint}"
        f"it has {', '.join(chosen.settings) or 'none'}"
    )


def model_not_loaded_error(setting: str, model: str, error: Exception) -> FileNotFoundError:
    """Make the error for a model that is neither in a folder nor on the Hugging Face hub.

    Args:
        setting: Setting that names the model, such as depth.model.
        model: Its value.
        error: The exception of the library, which differs from one library to the next.

    Returns:
        An error whose message says what to do: accept a licence, log in, correct the name, or
        fetch the model where there is a network.
    """
    from lift.weights.problems import hub_problem, is_network_problem

    if problem := hub_problem(error, model):
        advice = f"; for a model on this machine set {setting}=FOLDER"
        if is_network_problem(error):
            advice = (
                f"; or run hf download {model} --local-dir FOLDER where there is a network, "
                f"and set {setting}=FOLDER"
            )
        return FileNotFoundError(
            f"{setting} is {model!r}, which could not be loaded: {problem}{advice}"
        )
    reason = summarize_error(error, 300, with_type=True)
    return FileNotFoundError(
        f"{setting} is {model!r}, which could not be loaded ({reason}); "
        f"check the name and the network, or set {setting}=FOLDER, a folder with the model's files"
    )
