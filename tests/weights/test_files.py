"""Files with weights, on file systems with and without memory mapping."""

import pytest
import safetensors.torch
import torch

from lift.weights import files
from lift.weights.files import find_mapping_error, load_pickle, load_safetensors, with_mapping


def test_safetensors_are_read_whole_where_mapping_fails(tmp_path, monkeypatch, caplog):
    weights = {"a": torch.arange(3.0)}
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(weights, path)

    def fail(*_):
        raise OSError("No such device (os error 19)")

    monkeypatch.setattr(safetensors.torch, "load_file", fail)
    assert torch.equal(load_safetensors(path)["a"], weights["a"])
    assert f"{path} cannot be mapped into memory (No such device" in caplog.text


def test_pickles_are_read_whole_where_mapping_fails(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    torch.save({"a": torch.arange(3.0)}, path)
    load, mapped = torch.load, []

    def fail_mapped(*arguments, mmap, **settings):
        mapped.append(mmap)
        if mmap:
            raise RuntimeError("unable to mmap 12 bytes from file <model.pt>: No such device (19)")
        return load(*arguments, mmap=mmap, **settings)

    monkeypatch.setattr(files.torch, "load", fail_mapped)
    assert torch.equal(load_pickle(path)["a"], torch.arange(3.0))
    assert mapped == [True, False]


def test_old_pickles_that_cannot_be_mapped_load(tmp_path):
    path = tmp_path / "old.pth"
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(load_pickle(path)["a"], torch.ones(2))


def test_other_errors_are_not_tried_again():
    calls = []

    def load(mapped: bool) -> None:
        calls.append(mapped)
        raise ValueError("size mismatch")

    with pytest.raises(ValueError, match="size mismatch"):
        with_mapping(load, "x")
    assert calls == [True]


def test_mapping_errors_are_found_in_their_causes():
    outer = OSError("Unable to load weights")
    outer.__cause__ = RuntimeError("Invalid argument (os error 22)")
    assert find_mapping_error(outer) is outer.__cause__
    assert find_mapping_error(OSError("no space")) is None


def test_pipeline_is_loaded_again_without_mapping(caplog):
    from lift.priors.diffusion.loading import load_pipeline

    calls = []

    class Pipeline:
        @staticmethod
        def from_pretrained(model, **options):
            calls.append(options)
            if "disable_mmap" not in options:
                raise OSError("Operation not supported (os error 95)")
            return "pipe"

    assert load_pipeline(Pipeline, "owner/model", {"dtype": 1}) == "pipe"
    assert calls == [{"dtype": 1}, {"dtype": 1, "disable_mmap": True}]
