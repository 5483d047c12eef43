"""Recognise that a disk, the memory or a limit of the system is exhausted, and say what to do.

Libraries report this in many ways: torch by a RuntimeError, safetensors by an error of its own,
OpenCV by another. None of them names the disk.
"""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_DISK_CAUSES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EFBIG: "the limit on the size of a file is reached (ulimit -f)",
    errno.EIO: "the disk fails to read or write",
}
"""Errors of a disk, and how a message calls them."""

_DISK_TEXTS = (
    (r"no space left on device|\bos error 28\b|database or disk is full", errno.ENOSPC),
    (r"disk quota exceeded|\bos error 122\b", errno.EDQUOT),
    (r"read-only file ?system|\bos error 30\b", errno.EROFS),
    (r"file too large|\bos error 27\b", errno.EFBIG),
    (r"input/output error|\bos error 5\b", errno.EIO),
    (r"pytorchstreamwriter|file write failed|unexpected pos \d+ vs", errno.ENOSPC),
)
"""What libraries say in place of an error number, as regular expressions in lower case."""

_MEMORY_TEXTS = (
    r"can't allocate memory|cannot allocate memory|not enough memory|unable to allocate"
    r"|bad_alloc|insufficient memory|failed to allocate|failed to map segment"
    r"|unable to mmap|\bos error 12\b|error return without exception set"
)
"""What libraries say when they get no memory, as a regular expression in lower case."""

_GPU_TEXTS = r"cuda out of memory|cuda error: out of memory|hip out of memory"
"""What torch says when a GPU has too little memory, as a regular expression in lower case."""

_THREAD_TEXTS = r"can't start new thread|could not create a? ?thread|pthread_create|thread creation"
"""What libraries say when they cannot start a thread, as a regular expression in lower case."""

_AGAIN = "run the same command again; finished stages are kept"

_NEARLY_FULL = 64 * 2**20
"""Bytes of free disk below which a message suggests a folder as the one that is full."""


@dataclass(frozen=True)
class Exhausted:
    """What is exhausted."""

    cause: str
    """The cause, as the begin of a sentence."""
    advice: str
    """What to do about it."""
    number: int | None = None
    """Error number, if it is a disk."""
    path: str | None = None
    """File or folder on the disk, if the error names it."""

    @property
    def message(self) -> str:
        """The message for the user, in one line."""
        place = ""
        if self.number is not None:
            place = f": {self.path or _nearly_full_folders() or 'the error names no file'}"
        return f"{self.cause}{place}; {self.advice}, and {_AGAIN}"


def find_exhausted(error: BaseException | None) -> Exhausted | None:
    """Find out whether an error, or one that caused it, says that something is exhausted.

    Args:
        error: The exception.

    Returns:
        What is exhausted; None if the error says something else.
    """
    while error is not None:
        if found := _disk(error) or _memory(error) or _limit(error):
            return found
        if isinstance(error, ValueError):
            return None  # its message says what is wrong, whatever it was raised for
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


@contextmanager
def name_disk(folder: str | Path) -> Iterator[None]:
    """Let errors of a full or broken disk name a folder, if they name no file.

    Args:
        folder: Folder in which the block writes most of its files.

    Raises:
        OSError: The disk is exhausted. It has the folder's name.
    """
    try:
        yield
    except Exception as error:
        found = find_exhausted(error)
        if found is None or found.number is None or found.path:
            raise
        raise OSError(found.number, os.strerror(found.number), str(folder)) from error


def _disk(error: BaseException) -> Exhausted | None:
    """Recognise a full, read-only or broken disk."""
    number = error.errno if isinstance(error, OSError) else None
    path = None
    if number in _DISK_CAUSES:
        assert isinstance(error, OSError)
        name = error.filename2 or error.filename
        path = None if name is None or isinstance(name, int) else os.fsdecode(name)
    elif isinstance(error, (OSError, RuntimeError)) or _is_of_library(error):
        text = str(error).lower()
        number = next((number for words, number in _DISK_TEXTS if re.search(words, text)), None)
    if number is None or number not in _DISK_CAUSES:
        return None
    advice = "free some space there or write to another disk (for a run: output=FOLDER)"
    if number in (errno.EROFS, errno.EIO):
        advice = "write to another disk (for a run: output=FOLDER)"
    if number == errno.EFBIG:
        advice = "raise it"
    return Exhausted(_DISK_CAUSES[number], advice, number, path)


def _memory(error: BaseException) -> Exhausted | None:
    """Recognise too little memory, of the machine or of a GPU."""
    text = str(error).lower()
    is_gpu = re.search(_GPU_TEXTS, text) or type(error).__name__ == "OutOfMemoryError"
    if is_gpu and not isinstance(error, MemoryError):
        return Exhausted(
            "the GPU's memory is used up",
            "choose a smaller preprocess.size, fit.max_gaussians or prior, or end other programs "
            "that use the GPU",
        )
    is_memory = isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    )
    kinds = (RuntimeError, ImportError, SystemError)  # an import raises the last one
    can_be = isinstance(error, kinds) or _is_of_library(error)
    if is_memory or (can_be and re.search(_MEMORY_TEXTS, text)):
        return Exhausted(
            "the memory is used up",
            "choose a smaller preprocess.size or fit.max_gaussians, end other programs, or raise "
            "the limit (ulimit -v)",
        )
    return None


def _limit(error: BaseException) -> Exhausted | None:
    """Recognise the limits on threads, processes and open files."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return Exhausted("too many files are open", "raise the limit (ulimit -n)")
    is_process = isinstance(error, BlockingIOError) and error.errno == errno.EAGAIN
    if is_process or (
        isinstance(error, RuntimeError) and re.search(_THREAD_TEXTS, str(error).lower())
    ):
        return Exhausted(
            "no further thread or process can be started",
            "raise the limit (ulimit -u, and -v for memory), or use fewer threads: "
            "OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1",
        )
    return None


def _is_of_library(error: BaseException) -> bool:
    """Whether the error's class comes from a library whose errors are of no standard class."""
    package = type(error).__module__.partition(".")[0]
    return package in ("safetensors_rust", "safetensors", "cv2", "sqlite3", "PIL")


def _nearly_full_folders() -> str:
    """Return the folders in use whose disks have almost no space."""
    folders = dict.fromkeys([os.getcwd(), tempfile.gettempdir(), os.path.expanduser("~")])
    full = []
    for folder in folders:
        try:
            if shutil.disk_usage(folder).free < _NEARLY_FULL:
                full.append(folder)
        except OSError:
            continue
    return ", ".join(full)
