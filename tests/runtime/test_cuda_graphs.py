"""Functions that are replayed as CUDA graphs."""

import gc
import logging

import pytest
import torch

from lift.runtime.cuda_graphs import (
    MAX_GRAPHS,
    GraphFunction,
    _garbage_collection_disabled,
    cuda_graph,
    release_graphs,
)
from lift.runtime.release import release_memory


def counted():
    """A function that is replayed, and a list that grows with each call from Python."""
    calls = []

    @cuda_graph
    def scaled(values, other, *, factor):
        calls.append(factor)
        return factor * values + other, values > other

    return scaled, calls


def test_a_cpu_calls_the_function(device: str) -> None:
    scaled, calls = counted()
    for number in range(4):
        values = torch.full((3, 2), float(number))
        product, larger = scaled(values, torch.ones(2), factor=3.0)
        assert torch.equal(product, 3 * values + 1)
        assert torch.equal(larger, values > 1)
    assert calls == 4 * [3.0]


@pytest.mark.gpu
def test_the_third_call_is_a_replay() -> None:
    scaled, calls = counted()
    ones = torch.ones(2, device="cuda")
    results = []
    with torch.no_grad():
        for number in range(5):
            values = torch.full((3, 2), float(number), device="cuda")
            results.append(scaled(values, ones, factor=3.0)[0])
        assert len(calls) == 2  # the first, and the one that is captured
        for number, result in enumerate(results):  # a replay changes no earlier result
            assert (result == 3 * number + 1).all()
        scaled(ones, ones, factor=2.0)
        scaled(ones, ones[:1], factor=3.0)
        assert len(calls) == 4  # other constants and shapes are other graphs
    scaled(values, ones, factor=3.0)  # with gradients there is no replay
    assert len(calls) == 5


@pytest.mark.gpu
def test_few_graphs_are_kept_and_all_are_released() -> None:
    scaled, calls = counted()
    with torch.no_grad():
        for size in range(1, MAX_GRAPHS + 3):
            for _ in range(3):
                values = torch.ones(size, device="cuda")
                assert (scaled(values, values, factor=1.0)[0] == 2).all()
        assert len(scaled._graphs) == MAX_GRAPHS
        release_graphs()
        assert not scaled._graphs
        release_memory()
        before = len(calls)
        scaled(values, values, factor=1.0)
        assert len(calls) == before + 1


@pytest.mark.gpu
def test_what_cannot_be_captured_is_called_and_told(caplog) -> None:
    @cuda_graph
    def reads(values):
        return (values * float(values.sum()),)

    with torch.no_grad(), caplog.at_level(logging.WARNING):
        for _ in range(4):
            (product,) = reads(torch.ones(3, device="cuda"))
            assert (product == 3).all()
    assert caplog.text.count("reads runs without a CUDA graph") == 1
    assert isinstance(reads, GraphFunction)


def test_garbage_collection_is_disabled_in_a_block_only() -> None:
    assert gc.isenabled()
    with pytest.raises(RuntimeError), _garbage_collection_disabled():
        assert not gc.isenabled()
        raise RuntimeError
    assert gc.isenabled()
    gc.disable()
    with _garbage_collection_disabled():
        pass
    enabled = gc.isenabled()
    gc.enable()
    assert not enabled
