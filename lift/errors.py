"""What is said of an error: one line where the message tells the user what to change, a traceback where it is our bug."""

from lift.registry import ComponentError


def is_interrupt(error: BaseException | None) -> bool:
    """Ctrl-C, also where a compiled loop was running: numba wraps it in a SystemError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def is_users(error: BaseException) -> bool:
    """Whether the message alone tells the user what to change; anything else is our bug and keeps its traceback."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    lightnings = type(error).__name__ == "MisconfigurationException"  # looked at by name: its import takes seconds
    return lightnings or isinstance(error, (ComponentError, HydraException, OmegaConfBaseException, ValueError, OSError, ImportError))


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    cause = error.__cause__
    if cause is not None and str(cause) and " ".join(str(cause).split()) not in text:
        text = f"{text} ({' '.join(str(cause).split())})"
    return text or type(error).__name__
