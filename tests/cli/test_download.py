"""`lift download` against a hub on this machine."""

import hashlib
import json

import pytest
import torch

from lift import cli
from lift.cli.download import format_bytes
from lift.config import compose_run
from lift.priors import priors
from lift.types import Depth
from lift.weights import CachedUrl
from lift.weights.record import record_weights
from tests.helpers.fake_hub import COMMIT, FakeHub

INDEX = {"_class_name": "X", "unet": ["diffusers", "U"], "vae": ["diffusers", "V"]}
PIPELINE = {
    "model_index.json": json.dumps(INDEX).encode(),
    "all_in_one.safetensors": b"0" * 9_000_000,
    "unet/config.json": b"{}",
    "unet/model.safetensors": b"1" * 2_000_000,
    "unet/model.fp16.safetensors": b"2" * 1_000_000,
    "vae/model.safetensors": b"3" * 500,
}
NETWORK = {"config.json": b"{ }", "model.safetensors": b"4" * 3000}
SETTINGS = ["prior=svd", "prior.model=owner/svd", "pose=vggt", "pose.model=owner/vggt"]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    from huggingface_hub import constants

    repositories = {"owner/svd": PIPELINE, "owner/vggt": NETWORK}
    with FakeHub(repositories).serve() as hub:
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "default"))
        yield hub


def download(*words: str) -> int:
    return cli.main(["download", *SETTINGS, "--no-metrics", *words])


def test_sizes_and_licences_come_before_anything_is_fetched(hub, tmp_path, capsys):
    assert download("--plan", "--to", str(tmp_path / "w")) == 0
    text = capsys.readouterr().out
    assert hub.downloads == ["model_index.json"], "which names the parts"
    assert "weights for single precision, on the CPU" in text
    line = next(line for line in text.splitlines() if line.startswith("prior svd"))
    assert "owner/svd, 4 files, 2.0 MB" in line and "licence: Stability AI" in line
    assert "pose vggt: owner/vggt, 2 files, 3 kB, to fetch; licence: CC-BY-NC-4.0" in text
    assert "fetching" not in text and "(hub: mit)" in line


def test_files_are_fetched_once_to_a_folder(hub, tmp_path, capsys):
    folder = tmp_path / "to"
    assert download("--to", str(folder)) == 0
    text = capsys.readouterr().out
    assert f"export HF_HUB_CACHE={folder}/hub TORCH_HOME={folder} HF_HUB_OFFLINE=1" in text
    snapshot = folder / "hub" / "models--owner--svd" / "snapshots" / COMMIT
    names = {str(p.relative_to(snapshot)) for p in snapshot.rglob("*") if p.is_file()}
    assert names == {
        "model_index.json",
        "unet/config.json",
        "unet/model.safetensors",
        "vae/model.safetensors",
    }
    assert not (tmp_path / "default").exists()
    sent = list(hub.downloads)
    assert download("--to", str(folder)) == 0
    text = capsys.readouterr().out
    assert hub.downloads == sent and "fetching" not in text
    assert text.count("in the cache;") == 2 and "0 kB are to be fetched" in text


@pytest.mark.slow
def test_gpu_fetches_the_half_precision_variant(hub, tmp_path, capsys):
    assert download("device=cuda") == 0
    assert "half precision, on a GPU" in capsys.readouterr().out
    names = {p.name for p in (tmp_path / "default" / "models--owner--svd").rglob("*model.*")}
    assert "model.fp16.safetensors" in names and "unet/model.safetensors" not in hub.downloads


def test_gated_weights_say_where_to_accept_the_licence(hub, tmp_path, capsys):
    hub.gated.add("owner/vggt")
    assert download("--plan") == 0
    assert "the licence must be accepted on its page" in capsys.readouterr().out
    assert download() == 2
    error = capsys.readouterr().err
    assert "accept the licence at https://huggingface.co/owner/vggt" in error
    assert "hf auth login" in error and error.strip().count("\n") == 0 or "Fetching" in error


def test_missing_repository_is_named_with_its_setting(hub, capsys):
    del hub.repositories["owner/vggt"]
    assert download("--plan") == 2
    error = capsys.readouterr().err
    assert "pose.model is 'owner/vggt'" in error
    assert "there is no https://huggingface.co/owner/vggt, or it is private" in error


@pytest.mark.slow
def test_missing_file_is_named(hub, capsys):
    del hub.repositories["owner/vggt"]["config.json"]
    assert download("--plan") == 2
    assert "'owner/vggt', which has no config.json on the hub" in capsys.readouterr().err


def test_offline_mode_is_refused_before_anything(hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert download() == 2
    assert "HF_HUB_OFFLINE=1 is set, and lift download needs the net" in capsys.readouterr().err


@pytest.mark.slow
def test_metrics_go_to_the_same_folder(hub, tmp_path, monkeypatch, capsys):
    from lift.evaluation.dists import DISTS
    from lift.evaluation.lpips import LPIPS

    content = NETWORK["model.safetensors"]
    url = f"{hub.url}/owner/vggt/resolve/main/model.safetensors"
    sha256 = hashlib.sha256(content).hexdigest()
    source = CachedUrl("protocol.weights", url, "lpips-own.pth", "BSD", sha256)
    monkeypatch.setattr(LPIPS, "sources", (source,))
    monkeypatch.setattr(DISTS, "sources", ())
    assert cli.main(["download", "--to", str(tmp_path / "w")]) == 0
    assert "lift eval, LPIPS: http://127.0.0.1" in capsys.readouterr().out
    assert (tmp_path / "w" / "hub" / "checkpoints" / "lpips-own.pth").read_bytes() == content


def test_wrong_settings_end_as_in_lift_run(capsys):
    assert cli.main(["download", "prior=svd", "prior.speed=1"]) == 2
    assert "prior.speed is not a setting of 'svd'" in capsys.readouterr().err
    assert cli.main(["download", "photo.jpg"]) == 2
    assert "photo.jpg is no setting; give setting=value" in capsys.readouterr().err
    assert cli.main(["download", "--dry"]) == 2
    assert "--dry is no option of lift download; choose --plan" in capsys.readouterr().err
    assert cli.main(["download", "--to"]) == 2
    assert "--to has no value" in capsys.readouterr().err


def test_unreachable_metrics_name_the_option_without_them(hub, tmp_path, monkeypatch, capsys):
    from lift.evaluation.lpips import LPIPS

    source = CachedUrl("protocol.weights", "http://127.0.0.1:1/w", "own.pth", "BSD", "0" * 64)
    monkeypatch.setattr(LPIPS, "sources", (source,))
    assert cli.main(["download", "--plan", "--to", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "http://127.0.0.1:1/w cannot be downloaded" in error
    assert "needed by lift eval, LPIPS; --no-metrics leaves out LPIPS and DISTS" in error


def test_missing_folder_is_one_line(capsys):
    assert cli.main(["download", "prior=svd", "prior.model=/nope", "--no-metrics"]) == 2
    error = capsys.readouterr().err
    assert error == "lift: prior.model is /nope, which does not exist; correct the path\n"


@pytest.mark.slow
def test_defaults_need_nothing(capsys):
    assert cli.main(["download", "--no-metrics"]) == 0
    assert "nothing to fetch" in capsys.readouterr().out


def test_recorded_frames_need_no_generator(hub, tmp_path, capsys):
    (tmp_path / "frames").mkdir()
    assert download("--plan", f"image={tmp_path / 'frames'}") == 0
    text = capsys.readouterr().out
    assert "pose vggt: owner/vggt" in text and "prior svd" not in text


def test_help_names_the_options(capsys):
    with pytest.raises(SystemExit):
        cli.main(["download", "--help"])
    text = capsys.readouterr().out
    assert all(option in text for option in ("--plan", "--to FOLDER", "--no-metrics"))


@pytest.mark.parametrize(
    ("size", "text"), [(10, "0 kB"), (1500, "2 kB"), (2_500_000, "2.5 MB"), (9 * 10**9, "9.0 GB")]
)
def test_sizes_have_units(size, text):
    assert format_bytes(size) == text


@pytest.mark.slow
def test_fetched_pipeline_loads_without_network_and_is_recorded(hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    from tests.helpers import tiny

    pytest.importorskip("diffusers")
    model = tiny.BUILDERS["svd"](tmp_path / "svd")
    files = {
        str(p.relative_to(model)): p.read_bytes() for p in sorted(model.rglob("*")) if p.is_file()
    }
    hub.repositories["owner/tiny"] = {**files, "big.safetensors": b"0" * 1000}
    settings = ["prior=svd", "prior.model=owner/tiny", "device=cpu"]
    assert cli.main(["download", *settings, "--no-metrics", "--to", str(tmp_path / "w")]) == 0
    hub.repositories.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "w" / "hub"))

    def build(name: str):
        depth = Depth(torch.ones(64, 64), torch.ones(64, 64, dtype=torch.bool), "metric")
        device = torch.device("cpu")
        return priors.build({"name": "svd", "model": name}, depth=depth, device=device)

    assert build("owner/tiny").pipe.unet is not None
    (record,) = record_weights(compose_run(["image=coffee", *settings]), ["prior"])
    assert record["repository"] == "owner/tiny" and record["commit"] == COMMIT
    name = next(name for name in record["files"] if name.startswith("unet/diffusion"))
    assert record["files"][name]["sha256"] == hashlib.sha256(files[name]).hexdigest()
    assert "big.safetensors" not in record["files"]
    with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE=1 is set and owner/other is not"):
        build("owner/other").pipe  # noqa: B018
