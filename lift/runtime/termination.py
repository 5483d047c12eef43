"""End a command after Ctrl-C or SIGTERM: clean up, say that the command can go on, and end."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lift.runtime import distributed, launcher

INTERRUPTED = 128 + signal.SIGINT
"""Exit status after Ctrl-C."""

TERMINATED = 128 + signal.SIGTERM
"""Exit status after SIGTERM."""

GRACE_SECONDS = 10.0
"""Time in seconds after the first signal at which the process ends at the latest."""


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM. What handles Ctrl-C handles this, too."""


class StopHandler:
    """Handler of SIGINT (Ctrl-C) and SIGTERM of one process.

    The first signal raises `KeyboardInterrupt` or `Terminated` in the main thread. Python drops an
    exception that a signal raises in a destructor or in a callback of a weak reference, and a
    library may replace it. So a second signal, and the end of `GRACE_SECONDS`, end the process at
    once. All results are complete or resumable at any time.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        """Number of the first signal. It stays if a library replaces the exception."""
        self._process = os.getpid()
        self._timer = threading.Timer(GRACE_SECONDS, self._end)
        self._timer.daemon = True

    @property
    def status(self) -> int:
        """Exit status after the first signal."""
        return TERMINATED if self.received == signal.SIGTERM else INTERRUPTED

    @property
    def message(self) -> str:
        """What the user reads after the first signal."""
        name = "SIGTERM" if self.received == signal.SIGTERM else None
        return f"lift: {launcher.stopped_message(name)}"

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal.

        Args:
            number: Number of the signal.
            frame: Frame that the signal interrupts.

        Raises:
            KeyboardInterrupt: This is the first signal, and SIGINT.
            Terminated: This is the first signal, and SIGTERM.
        """
        if os.getpid() != self._process:  # a fork inherits the handler
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if self.received is not None:
            self._end()
        self.received = number
        self._timer.start()
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def close(self) -> None:
        """Let the process take its time, because the command has ended."""
        self._timer.cancel()

    def _end(self) -> None:
        """End the process at once."""
        try:
            print(self.message, file=sys.stderr, flush=True)
        finally:
            os._exit(self.status)


@contextmanager
def answer_stop_signals() -> Iterator[StopHandler]:
    """Handle SIGINT and SIGTERM within the block, each if nothing else does.

    A process of several (`launch`, torchrun, srun) keeps the defaults: it ends at once, because it
    may wait for the others in a library, where Python handles no signals.

    Yields:
        The handler. If it was not installed, it receives nothing.
    """
    handler = StopHandler()
    is_one_of_several = launcher.is_launched() or distributed.process_info().world_size > 1
    replaced = {}
    if threading.current_thread() is threading.main_thread() and not is_one_of_several:
        defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        replaced = {
            number: default
            for number, default in defaults.items()
            if signal.getsignal(number) is default
        }
    for number in replaced:
        signal.signal(number, handler)
    try:
        yield handler
    finally:
        for number, default in replaced.items():
            signal.signal(number, default)
        handler.close()
