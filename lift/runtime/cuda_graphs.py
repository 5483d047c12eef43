"""Replay functions of tensors as CUDA graphs.

A graph starts hundreds of kernels at once. Started one by one from Python, small kernels leave the
GPU idle most of the time.
"""

import gc
import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, update_wrapper
from typing import Any, TypeVar

import torch
from torch import Tensor

MAX_GRAPHS = 4
"""Largest number of graphs of a function. Each keeps its inputs and results on the GPU."""

Tensors = tuple[Tensor, ...]
Result = TypeVar("Result")

_all: list["GraphFunction"] = []
_invalid: list[Any] = []
"""Graphs whose capture became invalid."""
_pools: dict[int, Any] = {}
"""Memory that the graphs of a device share. Only results hold values between replays."""


@dataclass
class _CapturedFunction:
    """A captured graph with the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: Tensors
    results: Tensors

    def __call__(self, values: Tensors) -> Tensors:
        """Replay the graph, and return copies of its results."""
        for target, value in zip(self.inputs, values, strict=True):
            target.copy_(value)
        self.graph.replay()
        return tuple(result.clone() for result in self.results)


def capture(function: Callable[[], Result], pool: Any = None) -> tuple[Any, Result]:
    """Capture the operations of a function on the current device.

    All captures of a device use one stream, because libraries keep memory for each stream that they
    have seen. `torch.cuda.graph` would also return all unused memory to the system.

    Args:
        function: The function. It gets its inputs by itself.
        pool: Memory that the graph shares with others. None: its own.

    Returns:
        The graph, and the result, whose tensors each replay writes again.

    Raises:
        RuntimeError: Something cannot be captured, such as reading a value.
    """
    graph = torch.cuda.CUDAGraph()
    device = torch.cuda.current_device()
    pool = torch.cuda.graph_pool_handle() if pool is None else pool
    current = torch.cuda.current_stream()
    stream = _capture_stream(device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream), _garbage_collection_disabled():
        try:
            # Other threads may use the device meanwhile, such as one that writes a checkpoint.
            graph.capture_begin(pool, capture_error_mode="thread_local")
            result = function()
            graph.capture_end()
        except BaseException:
            _abandon(graph, device, pool)
            raise
    current.wait_stream(stream)
    return graph, result


def _abandon(graph: Any, device: int, pool: Any) -> None:
    """End a capture after an error."""
    try:
        graph.capture_end()
    except Exception:  # it had become invalid
        # torch before 2.12 leaves its allocator and its random numbers as within the capture. The
        # allocator may ask the graph at any later time, so it is kept.
        _invalid.append(graph)
        with suppress(Exception):
            torch._C._cuda_endAllocateToPool(device, pool)
        with suppress(Exception):
            generator = torch.cuda.default_generators[device]
            generator.graphsafe_set_state(generator.clone_state())


@contextmanager
def _garbage_collection_disabled() -> Iterator[None]:
    """Disable garbage collection in the block: an older graph that it frees would end a capture."""
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_enabled:
            gc.enable()


@cache
def _capture_stream(device: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


class GraphFunction:
    """A function that is replayed as a CUDA graph from its third call for the same sizes on.

    The function takes tensors of one device as positional arguments and returns a tuple of tensors.
    It must not depend on anything else that changes, draw random numbers, read values of tensors in
    Python, or make tensors whose sizes depend on values. Gradients are not computed. Elsewhere than
    on the current CUDA device, and with `torch.enable_grad`, it is called as it is. One thread at a
    time may call it.

    Args:
        function: The function. Keyword arguments are hashable constants.
    """

    def __init__(self, function: Callable[..., Tensors]) -> None:
        self.function = function
        self._graphs: OrderedDict[Hashable, _CapturedFunction | None] = OrderedDict()
        self._fails = False
        _all.append(self)
        update_wrapper(self, function)

    def __call__(self, *tensors: Tensor, **constants: Any) -> Tensors:
        """Call the function, or replay it.

        Args:
            *tensors: Its tensors.
            **constants: Its constants.
        """
        device = tensors[0].device
        is_plain = torch.is_grad_enabled() or self._fails or device.type != "cuda"
        if (
            is_plain
            or device.index != torch.cuda.current_device()
            or torch.cuda.is_current_stream_capturing()
        ):
            return self.function(*tensors, **constants)
        shapes = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors)
        mode = torch.is_inference_mode_enabled()
        key = mode, shapes, tuple(sorted(constants.items(), key=lambda item: item[0]))
        if key not in self._graphs:
            self._graphs[key] = None  # this call sets up libraries and compiles
            return self.function(*tensors, **constants)
        self._graphs.move_to_end(key)
        graph = self._graphs[key]
        if graph is None:
            while len(self._graphs) > MAX_GRAPHS:
                self._graphs.popitem(last=False)
            try:
                graph = self._graphs[key] = self._capture(tensors, constants)
            except torch.OutOfMemoryError:  # there may be memory without a graph, and later
                del self._graphs[key]
                return self.function(*tensors, **constants)
            except Exception as error:  # such as a driver that cannot capture a library's call
                self._fails = True
                self._graphs.clear()
                logging.getLogger(__name__).warning(
                    "%s runs without a CUDA graph, which takes longer: %s",
                    getattr(self.function, "__name__", self.function),
                    error,
                )
                return self.function(*tensors, **constants)
        return graph(tensors)

    def release(self) -> None:
        """Drop all graphs, and with them their memory. A later call tries again what failed."""
        self._graphs.clear()
        self._fails = False

    def _capture(self, tensors: Tensors, constants: dict[str, Any]) -> _CapturedFunction:
        """Capture a call."""
        inputs = tuple(tensor.clone() for tensor in tensors)
        device = torch.cuda.current_device()
        if device not in _pools:
            _pools[device] = torch.cuda.graph_pool_handle()
        graph, results = capture(lambda: self.function(*inputs, **constants), _pools[device])
        return _CapturedFunction(graph, inputs, results)


def cuda_graph(function: Callable[..., Tensors]) -> GraphFunction:
    """Decorate a function that is replayed as a CUDA graph. See `GraphFunction`.

    Args:
        function: The function.
    """
    return GraphFunction(function)


def release_graphs() -> None:
    """Drop the graphs of all functions."""
    for function in _all:
        function.release()
    _pools.clear()
