"""What is said of an error: one line where the message tells the user what to change, a traceback where it is our bug."""

import re
from difflib import get_close_matches

from lift.registry import ALL_SLOTS, ComponentError, catalogue


def is_interrupt(error: BaseException | None) -> bool:
    """Ctrl-C, also where a compiled loop was running: numba wraps it in a SystemError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def is_users(error: BaseException) -> bool:
    """Whether the message alone tells the user what to change; anything else is our bug and keeps its traceback."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    lightnings = (
        type(error).__name__ == "MisconfigurationException"
    )  # looked at by name: its import takes seconds
    return lightnings or isinstance(
        error,
        (ComponentError, HydraException, OmegaConfBaseException, ValueError, OSError, ImportError),
    )


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    cause = error.__cause__
    if cause is not None and str(cause) and " ".join(str(cause).split()) not in text:
        text = f"{text} ({' '.join(str(cause).split())})"
    return _of_component(text) or text or type(error).__name__


def _of_component(text: str) -> str | None:
    """What Hydra says of a setting that the chosen component does not have, in our words."""
    found = re.search(r"Key '(\w+)' not in '(\w+)Config' full_key: (\w+)\.", text)
    if not found or found[3] not in ALL_SLOTS:
        return None
    key, title, slot = found.groups()
    entries = catalogue().entries[slot]
    chosen = next((entry for entry in entries.values() if entry.name.title() == title), None)
    if chosen is None:
        return None
    near = get_close_matches(key, chosen.settings, 1)
    others = [entry.name for entry in entries.values() if key in entry.settings]
    hint = (
        f"did you mean {slot}.{near[0]}? "
        if near
        else f"it is one of {slot}={', '.join(others)}; "
        if others
        else ""
    )
    return f"{slot}.{key} is not a setting of {chosen.name!r}; {hint}it has {', '.join(chosen.settings) or 'none'}"


def not_loaded(setting: str, model: str, error: Exception) -> FileNotFoundError:
    """What to do about a model that neither a folder nor the Hugging Face hub gives; the hub's libraries say it in many ways."""
    return FileNotFoundError(
        f"{setting} is {model!r}, which is no model's folder and could not be loaded from the hub ({type(error).__name__}: {' '.join(str(error).split())[:300]}); check its name "
        f"and the network, or download it where there is one (hf download {model} --local-dir FOLDER) and set {setting}=FOLDER"
    )
