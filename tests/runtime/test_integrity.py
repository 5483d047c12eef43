"""Checksums find every kind of damage, and nothing else."""

import json
import os
from pathlib import Path

import pytest
import torch

from lift.runtime.integrity import (
    MANIFEST,
    DamagedFileError,
    checksum,
    damage_of,
    is_sealed,
    read_manifest,
    seal,
    verify_files,
    write_manifest,
)
from tests.helpers.damage import KINDS, damage


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.bin").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "b.json").write_text("{}")
    write_manifest(tmp_path, {"stage": "fit"})
    return tmp_path


def test_undamaged_folders_pass(folder):
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    assert manifest["stage"] == "fit"
    assert set(manifest["files"]) == {"inner/a.bin", "b.json"}


@pytest.mark.parametrize("kind", KINDS)
def test_damage_to_a_file_is_named(folder, kind):
    damage(folder / "inner" / "a.bin", kind)
    with pytest.raises(DamagedFileError, match=r"inner.a\.bin is damaged \("):
        verify_files(folder, read_manifest(folder))


@pytest.mark.parametrize("kind", KINDS)
def test_damage_to_a_manifest_is_named(folder, kind):
    damage(folder / MANIFEST, kind)
    with pytest.raises(DamagedFileError, match=r"manifest\.json is damaged \("):
        verify_files(folder, read_manifest(folder))


def test_every_flipped_bit_is_found(folder):
    file = folder / "inner" / "a.bin"
    good = file.read_bytes()
    expected = checksum(file)
    for bit in range(0, 8 * len(good), 997):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        file.write_bytes(bad)
        assert checksum(file) != expected


def test_sizes_alone_can_be_compared(folder):
    damage(folder / "inner" / "a.bin", "flipped bit")
    verify_files(folder, read_manifest(folder), "size")
    damage(folder / "inner" / "a.bin", "half")
    with pytest.raises(DamagedFileError, match="2560 bytes instead of 5120"):
        verify_files(folder, read_manifest(folder), "size")
    verify_files(folder, read_manifest(folder), "none")


def test_manifests_of_other_versions_are_told_apart(folder):
    manifest = read_manifest(folder)
    (folder / MANIFEST).write_text(json.dumps(seal({**manifest, "format": 99})))
    with pytest.raises(DamagedFileError, match="another version"):
        read_manifest(folder)
    (folder / MANIFEST).write_text(json.dumps({"stage": "fit"}))
    assert read_manifest(folder) == {"stage": "fit"}, "older, without checksums"


def test_manifests_name_no_file_outside(folder):
    outside = {"files": {"../secret": [0, "0"]}}
    with pytest.raises(DamagedFileError, match=r"names '\.\./secret'"):
        verify_files(folder, outside)


def test_sealed_values_survive_json():
    value = seal({"b": (1, 2.5), "a": None, "text": "é"})
    assert is_sealed(json.loads(json.dumps(value)))
    assert not is_sealed({**value, "a": 0}) and not is_sealed({"a": 0})


def test_missing_permission_is_no_damage(tmp_path):
    with pytest.raises(PermissionError), damage_of(tmp_path):
        raise PermissionError(13, "Permission denied", "x")
    with pytest.raises(OSError, match="Too many open files"), damage_of(tmp_path):
        raise OSError(24, os.strerror(24))
    with pytest.raises(DamagedFileError), damage_of(tmp_path):
        raise KeyError("x")


def test_objects_in_a_checkpoint_are_refused_in_short(tmp_path):
    file = tmp_path / "checkpoint.ckpt"
    torch.save({"epoch": Path("evil"), "step": print}, file)
    expected = pytest.raises(DamagedFileError, match="objects that lift does not read")
    with expected as caught, damage_of(file):
        torch.load(file, weights_only=True)
    assert caught.value.__cause__ is None and "weights_only" not in str(caught.value)
