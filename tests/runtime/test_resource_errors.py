"""A full disk, too little memory and limits of the system are one line that says what to do."""

import errno
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lift.errors import format_error, is_user_error
from lift.registry import ComponentError
from lift.runtime.resource_errors import find_exhausted, name_disk

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def raised(function, *arguments) -> Exception:
    with pytest.raises(Exception) as caught:
        function(*arguments)
    return caught.value


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (FULL, "the disk is full"),
        (OSError(errno.EDQUOT, "x"), "the disk quota is used up"),
        (OSError(errno.EROFS, "x"), "the file system is read-only"),
        (OSError(errno.EFBIG, "x"), "the limit on the size of a file"),
        (RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file"), "the disk is"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (MemoryError(), "the memory is used up"),
        (OSError(errno.ENOMEM, "x"), "the memory is"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "the memory is"),
        (RuntimeError("std::bad_alloc"), "the memory is used up"),
        (ImportError("libx.so: failed to map segment from shared object"), "the memory is"),
        (SystemError("error return without exception set"), "the memory is"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "the GPU's"),
        (RuntimeError("CUDA error: out of memory"), "the GPU's memory is used up"),
        (RuntimeError("can't start new thread"), "no further thread"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "no further thread"),
        (OSError(errno.EMFILE, "x"), "too many files are open"),
    ],
)
def test_what_libraries_raise_becomes_one_line(error, cause):
    assert is_user_error(error)
    message = format_error(error)
    assert message.startswith(cause) and "\n" not in message
    assert message.endswith("run the same command again; finished stages are kept")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has /dev/full")
def test_errors_of_writers_are_recognised(tmp_path):
    def write_text() -> None:
        with open("/dev/full", "w", encoding="utf-8") as stream:
            stream.write("x")

    for error in (
        raised(write_text),
        raised(torch.save, torch.zeros(1 << 16), "/dev/full"),
        raised(np.zeros, (1 << 62,), "u1"),
        raised(torch.empty, 1 << 60),
    ):
        assert find_exhausted(error), repr(error)


def test_a_limit_on_files_of_safetensors_is_recognised(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        error = raised(save_file, {"x": torch.zeros(10_000)}, tmp_path / "x.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert find_exhausted(error), repr(error)


def test_a_cause_counts():
    try:
        try:
            raise FULL
        except OSError as error:
            raise RuntimeError("the writer failed") from error
    except RuntimeError as error:
        assert format_error(error).startswith("the disk is full")


@pytest.mark.parametrize(
    "error", [RuntimeError("shape mismatch"), KeyError("x"), TypeError("no space left on device")]
)
def test_other_errors_stay_bugs(error):
    assert find_exhausted(error) is None and not is_user_error(error)


def test_an_error_with_a_message_for_the_user_keeps_it():
    try:
        try:
            raise MemoryError
        except MemoryError as error:
            raise ComponentError("image is 'x.png', which is too large") from error
    except ComponentError as error:
        assert format_error(error) == "image is 'x.png', which is too large"


def test_the_folder_is_named_if_the_error_names_no_file(tmp_path):
    with pytest.raises(OSError) as caught, name_disk(tmp_path):
        raise OSError(errno.ENOSPC, "x")
    assert str(tmp_path) in format_error(caught.value)
    with pytest.raises(OSError) as caught, name_disk(tmp_path):
        raise OSError(errno.ENOSPC, "x", "/other/file")
    assert format_error(caught.value).startswith("the disk is full: /other/file; ")
    with pytest.raises(MemoryError), name_disk(tmp_path):
        raise MemoryError
