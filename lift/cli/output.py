"""Standard output and error that print every text, and report when they cannot be written."""

import codecs
import errno
import os
import sys
import threading
from contextlib import suppress

from lift.runtime.resource_errors import find_exhausted

_HANDLER = "lift.output"
"""Name of the error handler for characters that the terminal's encoding does not have."""

_NAME = "standard output"
"""What errors call the file that they cannot write."""


def prepare_output() -> None:
    r"""Let standard output and error print any text, whatever the locale.

    Names of files in another encoding come out as the bytes that they are. Other characters that
    the encoding does not have become escapes such as `\xe9`.
    """
    codecs.register_error(_HANDLER, _replace)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a replaced stream may have none
        if reconfigure is not None:
            reconfigure(errors=_HANDLER)


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace the characters that cannot be encoded."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


def flush_output() -> None:
    """Write what is buffered for standard output.

    Raises:
        BrokenPipeError: Nobody reads it.
        OSError: It cannot be written, as on a full disk. The error names standard output.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise OSError(error.errno, error.strerror, _NAME) from None


def name_output(error: BaseException) -> BaseException:
    """Return an error that names standard output, if a full disk below it is the reason.

    Args:
        error: Any error.
    """
    if not isinstance(error, OSError) or error.errno != errno.ENOSPC or error.filename is not None:
        return error
    try:
        is_full = os.fstatvfs(sys.stdout.fileno()).f_bavail == 0
    except (OSError, ValueError, AttributeError):
        return error  # it is no file
    return OSError(error.errno, error.strerror, _NAME) if is_full else error


def report_in_threads() -> None:
    """Let threads report a full disk or memory in one line, as the main thread does."""
    before = threading.excepthook
    if before is not threading.__excepthook__:
        return  # another program, or an earlier call, handles them

    def report(arguments: threading.ExceptHookArgs) -> None:
        if exhausted := find_exhausted(arguments.exc_value):
            print(f"lift: {exhausted.message}", file=sys.stderr)
        else:
            before(arguments)

    threading.excepthook = report


def discard_output() -> None:
    """Send standard output nowhere, so that Python does not try to write it again at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
