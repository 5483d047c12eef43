"""Collect the warnings that a part of the package logs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _ListHandler(logging.Handler):
    """Append the messages of log records to a list."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        """Append the record's message."""
        self.messages.append(record.getMessage())


@contextmanager
def collect_warnings(name: str) -> Iterator[list[str]]:
    """Collect the warnings that a logger receives in the block, instead of printing them.

    Args:
        name: Name of the logger, such as `lift.poses`.

    Yields:
        The messages; the list grows during the block.
    """
    logger = logging.getLogger(name)
    messages: list[str] = []
    handler = _ListHandler(messages)
    propagate = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
