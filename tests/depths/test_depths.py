"""Depth estimators: conventions, validity, and rank correlation with measured depth."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr

from lift.depths import depths
from lift.depths.edges import SharpenedDepth, sharpen_depth, sharpen_inverse_depth
from lift.depths.inverse import from_relative, guided_filter
from lift.depths.lite import CHECKSUM, WEIGHTS, LiteNetwork
from lift.geometry import pinhole
from lift.io.image import load_picture
from lift.types import Depth

DEVICE = torch.device("cpu")


def build(name: str, **settings):
    supplied = {key: settings.pop(key) for key in ("image", "camera") if key in settings}
    return depths.build({"name": name, **settings}, device=DEVICE, **supplied)


def photo(size: int = 256) -> torch.Tensor:
    return load_picture("coffee", size, 55.0).frames.images[0]


def gradient(height: int, width: int) -> torch.Tensor:
    row, column = torch.meshgrid(
        torch.linspace(0, 255, height), torch.linspace(0, 255, width), indexing="ij"
    )
    return torch.stack([row, column, 255 - row], dim=-1).to(torch.uint8)


def rank(depth: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> float:
    return float(spearmanr(depth[known], truth[known]).statistic)


def motorcycle(size: int = 512):
    picture = load_picture("motorcycle_left", size, 55.0)
    image = picture.frames.images[0]
    return image, build("known", image="motorcycle_left", camera=picture.cameras)(image)


# ramp


@pytest.mark.parametrize("height, width", [(192, 256), (256, 96), (8, 8), (33, 401)])
def test_ramp_keeps_its_range_for_any_picture(height, width):
    for image in (gradient(height, width), torch.zeros(height, width, 3, dtype=torch.uint8)):
        depth = build("ramp", near=2.0, far=7.0)(image)
        assert (
            depth.depth.shape == (height, width)
            and depth.valid.all()
            and depth.kind == "affine-invariant"
        )
        assert depth.depth.min() == pytest.approx(
            2, rel=1e-4
        ) and depth.depth.max() == pytest.approx(7, rel=1e-4)


def test_ramp_is_the_same_every_time_and_nearer_below():
    image = photo()
    first, second = build("ramp")(image), build("ramp")(image)
    assert torch.equal(first.depth, second.depth)
    rows = first.depth.mean(1)
    assert (rows[8:] < rows[:-8]).all()
    assert 1 < first.typical < 3


def test_ramp_without_center_and_edges_ignores_the_picture():
    a, b = (
        build("ramp", center_weight=0.0, edge_weight=0.0)(image).depth
        for image in (photo(), torch.zeros_like(photo()))
    )
    torch.testing.assert_close(a, b)


def test_ramp_is_smooth_within_objects_of_one_colour():
    image = torch.zeros(120, 160, 3, dtype=torch.uint8)
    image[30:90, 50:110] = 200
    inverse = 1 / build("ramp")(image).depth
    steps = (inverse[:, 1:] - inverse[:, :-1]).abs()
    assert steps[35:85, 55:100].max() < 0.02, "an artefact inside of a plain square"


@pytest.mark.parametrize(
    "setting", [{"near": 5.0}, {"horizon": 1.5}, {"center_weight": -1.0}, {"edge_weight": 2.0}]
)
def test_ramp_refuses(setting):
    with pytest.raises(ValueError, match=f"depth.{next(iter(setting))} is"):
        build("ramp", **setting)


def sparse(folder: Path, view: int):
    """Picture, and rows, columns and depths of the points of a reconstruction in it."""
    cameras, points = np.load(folder / "cameras.npz"), np.load(folder / "sparse_points.npz")["xyz"]
    name = Path(str(cameras["names"][view])).stem
    (file,) = (folder / "images").glob(f"{name}.*")
    image = cv2.imread(str(file))[..., ::-1].copy()
    local = points @ cameras["w2c"][view][:3, :3].T + cameras["w2c"][view][:3, 3]
    pixels = local @ cameras["K"][view].T
    pixels = pixels[:, :2] / pixels[:, 2:]
    seen = (
        (local[:, 2] > 0)
        & (pixels >= 0).all(1)
        & (pixels < [image.shape[1], image.shape[0]]).all(1)
    )
    column, row = pixels[seen].astype(int).T
    return torch.from_numpy(image), row, column, local[seen, 2]


def test_ramp_ranks_depth_no_worse_than_the_plain_ramp(shared):
    image, truth = motorcycle()
    cases = [(image, *np.nonzero(truth.valid.numpy()), truth.depth[truth.valid].numpy())]
    for frame in (240, 360):
        folder = shared / "data" / "sevenscenes_redkitchen"
        (color,), (depth,) = (
            sorted((folder / kind).glob(f"*{frame}*")) for kind in ("images", "depth")
        )
        depth = cv2.imread(str(depth), cv2.IMREAD_UNCHANGED)
        row, column = np.nonzero(depth)
        cases.append(
            (
                torch.from_numpy(cv2.imread(str(color))[..., ::-1].copy()),
                row,
                column,
                depth[row, column],
            )
        )
    cases += [
        sparse(shared / "data" / name, view)
        for name in ("llff_fern", "llff_flower", "mipnerf360_kitchen")
        for view in (0, 11)
    ]
    plain, ramp = [], []
    for image, row, column, truth in cases:
        plain.append(spearmanr(-row, truth).statistic)
        small = torch.from_numpy(
            cv2.resize(image.numpy(), None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
        )
        made = build("ramp")(small).depth
        place = (row * made.shape[0] // image.shape[0], column * made.shape[1] // image.shape[1])
        ramp.append(spearmanr(made[place], truth).statistic)
    assert np.mean(ramp) > np.mean(plain), f"{np.round(ramp, 3)} against {np.round(plain, 3)}"


# lite


def test_lite_has_the_weights_that_its_card_speaks_of():
    held = WEIGHTS.read_bytes()
    assert hashlib.sha256(held).hexdigest() == CHECKSUM and len(held) <= 4_000_000
    assert CHECKSUM in WEIGHTS.with_suffix(".md").read_text()


@pytest.mark.parametrize("height, width", [(192, 256), (256, 96), (8, 8), (33, 401)])
def test_lite_takes_any_picture_and_keeps_its_range(height, width):
    image = gradient(height, width)
    first, second = build("lite", far=7.0)(image), build("lite", far=7.0)(image)
    assert (
        first.depth.shape == (height, width)
        and first.valid.all()
        and first.kind == "affine-invariant"
    )
    assert first.depth.min() == pytest.approx(1, rel=1e-3) and first.depth.max() == pytest.approx(
        7, rel=1e-3
    )
    assert torch.equal(first.depth, second.depth)


def test_lite_is_equivariant_to_mirroring():
    image, estimate = photo(), build("lite")
    torch.testing.assert_close(
        estimate(image.flip(1)).depth.flip(1), estimate(image).depth, rtol=1e-3, atol=1e-3
    )


def test_lite_is_right_about_a_photograph_where_the_ramp_is_not():
    image, truth = motorcycle()
    found = {
        name: rank(build(name)(image).depth, truth.depth, truth.valid) for name in ("lite", "ramp")
    }
    assert found["lite"] > max(0.7, found["ramp"]), found
    coffee = 1 / build("lite")(photo()).depth
    height, width = coffee.shape
    cup, table = (
        coffee[height // 4 : height // 2, width // 3 : width // 2].mean(),
        coffee[: height // 2, : width // 8].mean(),
    )
    assert cup > 1.5 * table, "the cup stands before the table behind it"


def test_sharpening_concentrates_depth_changes_of_lite():
    estimate = build("lite")
    for image in (motorcycle()[0], photo()):
        soft, hard, outlines = (
            1 / made(image).depth
            for made in (estimate, SharpenedDepth(estimate), SharpenedDepth(estimate, 0.0))
        )

        def in_few(inverse):
            change = (inverse[:, 1:] - inverse[:, :-1]).abs().flatten()
            return float(change.topk(len(change) // 100).values.sum() / change.sum())

        assert in_few(hard) > 1.2 * in_few(soft)
        assert ((outlines - soft).abs() > 0.02).float().mean() < 0.05, (
            "steps that were hard already are a pixel wider, and that is all"
        )


def test_lite_does_not_take_another_networks_weights(tmp_path):
    save_file({"enter.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="enter.weight"):
        LiteNetwork.load(tmp_path / "other.safetensors")
    save_file({"else": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="else is unknown"):
        LiteNetwork.load(tmp_path / "other.safetensors")
    weights = {name: value for name, value in load_file(WEIGHTS).items() if name != "leave.bias"}
    save_file(weights, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match="leave.bias is missing"):
        LiteNetwork.load(tmp_path / "part.safetensors")


@pytest.mark.parametrize("setting", [{"size": 16}, {"far": 1.0}, {"far": float("inf")}])
def test_lite_refuses(setting):
    with pytest.raises(ValueError, match=f"depth.{next(iter(setting))} is"):
        build("lite", **setting)


def test_guided_filter_keeps_steps_and_affine_colours():
    picture = torch.zeros(3, 40, 60)
    picture[:, :, 30:] = 0.8
    soft = torch.from_numpy(cv2.GaussianBlur(picture[0].numpy(), (0, 0), 4))
    sharp = guided_filter(picture, soft, 6, 1e-4)
    assert (sharp[20, 31] - sharp[20, 28]) > 1.5 * (soft[20, 31] - soft[20, 28])
    torch.testing.assert_close(
        guided_filter(picture, 2 * picture[0] + 1, 6, 1e-6), 2 * picture[0] + 1, atol=1e-3, rtol=0
    )


def test_sharpening_follows_picture_edges_and_keeps_slopes():
    rng = np.random.default_rng(0)
    picture = np.full((60, 80, 3), 0.3, np.float32)
    picture[:, 43:] = 0.7
    picture += rng.normal(0, 0.01, picture.shape).astype(np.float32)
    truth = np.where(np.arange(80) < 43, 0.2, 0.8).astype(np.float32) * np.ones((60, 1), np.float32)
    soft = np.roll(cv2.GaussianBlur(truth, (0, 0), 3), -3, 1)  # and beside it
    soft[:, -3:] = 0.8
    hard = sharpen_inverse_depth(picture, soft, 6)
    assert np.abs(hard - truth)[10:-10, 25:60].max() < 0.1 and np.abs(soft - truth).max() > 0.4
    slope = np.linspace(0, 1, 80, dtype=np.float32) * np.ones((60, 1), np.float32)
    np.testing.assert_allclose(sharpen_inverse_depth(picture, slope, 6), slope, atol=0.02)


def test_layered_depth_has_no_values_between_two_surfaces():
    picture = torch.full((60, 80, 3), 70, dtype=torch.uint8)
    picture[20:40, 30:50] = 180
    truth = torch.full((60, 80), 4.0)
    truth[20:40, 30:50] = 2.0
    soft = 1 / torch.from_numpy(cv2.GaussianBlur((1 / truth).numpy(), (0, 0), 2))
    between = lambda depth: ((depth > 2.2) & (depth < 3.6)).float().mean()  # noqa: E731
    hard = sharpen_depth(picture, Depth(soft, soft > 0, "scale"), 5.0).depth
    assert between(soft) > 0.05 and between(hard) < 0.01
    assert (hard[19:41, 29:51] < 2.3).float().mean() > 0.97, "with its outline, a pixel wider"
    gap = truth.clone()
    gap[:, :20] = 0
    known = sharpen_depth(picture, Depth(gap, gap > 0, "metric"), 0.0)
    assert torch.equal(known.valid, gap > 0) and (known.depth[:, :20] == 0).all(), (
        "what is not known stays so"
    )
    wider = torch.nn.functional.max_pool2d((truth == 2.0).float()[None], 3, 1, 1)[0] > 0
    assert torch.equal(known.depth[:, 20:] == 2.0, wider[:, 20:])
    nothing = Depth(torch.zeros(8, 8), torch.zeros(8, 8, dtype=torch.bool), "metric")
    assert sharpen_depth(picture[:8, :8], nothing, 3.0) is nothing


# from inverse depth to depth


def test_relative_inverse_depth_spans_one_to_far():
    inverse = torch.rand(40, 50, generator=torch.Generator().manual_seed(0))
    a, b = from_relative(inverse, 8.0), from_relative(100 * inverse - 300, 8.0)
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    assert a.min() == pytest.approx(1) and a.max() == pytest.approx(8)
    assert rank(-a.double(), inverse.double(), torch.ones(40, 50, dtype=torch.bool)) > 0.999
    stray = inverse.clone()
    stray[0, 0] = 1e6
    torch.testing.assert_close(from_relative(stray, 8.0)[1:], a[1:], rtol=0.05, atol=0.05)
    assert (from_relative(torch.zeros(5, 5), 8.0) == 1).all()


# onnx


def tiny_network(
    path: Path, layout: str = "NCHW", sides: tuple = ("h", "w"), kind: str = "FLOAT"
) -> Path:
    """A network that gives the picture's first channel, as it comes in."""
    onnx = pytest.importorskip("onnx")
    shape = [1, 3, *sides] if layout == "NCHW" else [1, *sides, 3]
    axis = 1 if layout == "NCHW" else 3
    element = getattr(onnx.TensorProto, kind)
    nodes = [
        onnx.helper.make_node("Cast", ["picture"], ["numbers"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Gather", ["numbers", "first"], ["depth"], axis=axis),
        onnx.helper.make_node("Neg", ["depth"], ["negative"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "tiny",
        [onnx.helper.make_tensor_value_info("picture", element, shape)],
        [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in ("depth", "negative")
        ],
        [onnx.numpy_helper.from_array(np.array(0, dtype=np.int64), "first")],
    )
    onnx.save(
        onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8
        ),
        path,
    )
    return path


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("sides", [("h", "w"), (64, 96)])
def test_onnx_feeds_the_network_what_it_wants(tmp_path, layout, sides):
    pytest.importorskip("onnxruntime")
    path = tiny_network(tmp_path / "tiny.onnx", layout, sides)
    image = gradient(48, 80)
    settings = {
        "path": path,
        "output": "depth",
        "size": 96,
        "multiple": 32,
        "mean": [-0.5, 0.0, 0.0],
        "std": [2.0, 1.0, 1.0],
    }
    made = build("onnx", quantity="depth", metric=True, **settings)(image)
    assert made.kind == "metric" and made.valid.all()
    torch.testing.assert_close(made.depth, (image[..., 0] / 255 + 0.5) / 2, atol=0.02, rtol=0)
    made = build("onnx", quantity="log_inverse_depth", **settings)(image)
    assert made.kind == "scale"
    torch.testing.assert_close(
        made.depth, (-(image[..., 0] / 255 + 0.5) / 2).exp(), atol=0.02, rtol=0
    )
    made = build("onnx", quantity="inverse_depth", far=5.0, **settings)(image)
    assert made.kind == "affine-invariant"
    assert made.depth.max() == pytest.approx(5, rel=1e-3) and made.depth.min() == pytest.approx(
        1, rel=1e-3
    )
    blue = build(
        "onnx",
        quantity="depth",
        channels="bgr",
        white_level=255.0,
        path=path,
        output="depth",
        size=96,
    )(image)
    torch.testing.assert_close(
        blue.depth[:, 0][blue.valid[:, 0]], image[:, 0, 2].float()[blue.valid[:, 0]], atol=4, rtol=0
    )


def test_onnx_bytes_go_in_as_bytes(tmp_path):
    pytest.importorskip("onnxruntime")
    path = tiny_network(tmp_path / "tiny.onnx", "NHWC", (48, 80), "UINT8")
    image = gradient(48, 80)
    made = build("onnx", path=path, quantity="depth", white_level=255.0, output="depth")(image)
    torch.testing.assert_close(made.depth, image[..., 0].float())
    assert torch.equal(made.valid, image[..., 0] > 0), "a depth of zero is unknown"


def test_onnx_errors_name_the_cause(tmp_path):
    pytest.importorskip("onnxruntime")
    path = tiny_network(tmp_path / "tiny.onnx")
    with pytest.raises(FileNotFoundError, match=r"depth\.path is .*none\.onnx"):
        build("onnx", path=tmp_path / "none.onnx")
    with pytest.raises(ValueError, match=r"depth\.output is None; choose one of depth, negative"):
        build("onnx", path=path)
    with pytest.raises(ValueError, match=r"depth\.quantity is 'disparity'; choose"):
        build("onnx", path=path, quantity="disparity")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ValueError, match="onnxruntime cannot load"):
        build("onnx", path=tmp_path / "text.onnx")
    made = build("onnx", path=path, output="negative", quantity="depth")(gradient(32, 32))
    assert not made.valid.any() and (made.depth == 0).all(), "negative depth is no depth"


NETWORKS = {
    "fastdepth": ("depth_fastdepth/fastdepth_7.onnx", {"quantity": "depth", "metric": True}, 0.74),
    "tcmonodepth": (
        "depth_tcmonodepth/tcmonodepth_tcsmallnet_192x320.onnx",
        {"quantity": "inverse_depth", "white_level": 255.0},
        0.73,
    ),
    "tiefenrausch": (
        "depth_tiefenrausch/tiefenrausch_qdq.onnx",
        {"quantity": "log_inverse_depth", "size": 384, "multiple": 32},
        0.67,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_runs_real_networks(shared, name):
    pytest.importorskip("onnxruntime")
    file, settings, least = NETWORKS[name]
    image, truth = motorcycle()
    made = build("onnx", path=shared / "weights" / file, **settings)(image)
    assert made.depth.shape == truth.depth.shape and (made.depth[made.valid] > 0).all()
    assert made.valid.float().mean() > 0.99
    assert rank(made.depth, truth.depth, truth.valid & made.valid) > least
    if name == "fastdepth":
        assert 1 < made.typical < 6, "metres in a garage"


def test_onnx_equals_the_authors_own_output(shared):
    pytest.importorskip("onnxruntime")
    folder = shared / "weights" / "depth_tiefenrausch"
    image = cv2.imread(str(folder / "reference" / "columns.jpg"))[..., ::-1].copy()
    made = build("onnx", path=folder / "tiefenrausch_qdq.onnx", quantity="log_inverse_depth")(
        torch.from_numpy(image)
    )
    theirs = np.load(folder / "reference" / "columns.npy").squeeze()
    mine = cv2.resize(-made.depth.log().numpy(), theirs.shape[::-1], interpolation=cv2.INTER_AREA)
    assert (
        np.corrcoef(mine.ravel(), np.log(theirs).ravel() if theirs.min() > 0 else theirs.ravel())[
            0, 1
        ]
        > 0.99
    )


# depth_anything


@pytest.fixture(scope="module")
def tiny_depth_anything(tmp_path_factory) -> Path:
    """The real classes with random weights, some kilobytes."""
    pytest.importorskip("transformers")
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=70,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    for kind in ("relative", "metric"):
        config = DepthAnythingConfig(
            backbone_config=backbone,
            reassemble_hidden_size=16,
            neck_hidden_sizes=[8, 8, 8, 8],
            fusion_hidden_size=8,
            head_hidden_size=4,
            depth_estimation_type=kind,
            max_depth=20 if kind == "metric" else 1,
        )
        torch.manual_seed(0)
        folder = tmp_path_factory.getbasetemp() / f"depth_anything_{kind}"
        DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    return folder.parent


@pytest.mark.parametrize("kind", ["relative", "metric"])
def test_depth_anything_runs_from_a_folder(tiny_depth_anything, kind):
    estimator = build(
        "depth_anything",
        model=str(tiny_depth_anything / f"depth_anything_{kind}"),
        size=70,
        far=6.0,
    )
    image = gradient(60, 100)
    made, again = estimator(image), estimator(image)
    assert made.depth.shape == (60, 100) and torch.equal(made.depth, again.depth)
    assert made.kind == ("metric" if kind == "metric" else "affine-invariant")
    assert (made.depth[made.valid] > 0).all() and made.valid.any()
    if kind == "relative":
        assert made.depth.min() >= 1 and made.depth.max() <= 6.001
    assert estimator.licence.startswith("unknown"), "no width of the released models"
    assert not made.depth.is_inference()


def test_depth_anything_that_cannot_be_had_is_one_line(monkeypatch, tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(
        FileNotFoundError, match=r"depth\.model is .*could not be loaded.*depth\.model=FOLDER"
    ) as caught:
        build("depth_anything", model=str(tmp_path / "nothing"))
    assert "\n" not in str(caught.value)


# known


def test_known_motorcycle_is_metric_and_follows_the_camera():
    image, depth = motorcycle(512)
    assert depth.kind == "metric" and depth.depth.shape == image.shape[:2]
    assert 0.05 < 1 - depth.valid.float().mean() < 0.1, "about 7 % have no disparity"
    assert (depth.depth[~depth.valid] == 0).all()
    assert depth.depth[depth.valid].min() > 1.5 and depth.depth[depth.valid].max() < 8
    # The second picture of the pair, looked up by this depth, is the first one.
    left, right = (load_picture(f"motorcycle_{side}", 512, 55.0) for side in ("left", "right"))
    focal = float(left.cameras.intrinsics[0, 0, 0])
    shift = (
        right.cameras.intrinsics[0, 0, 2]
        - left.cameras.intrinsics[0, 0, 2]
        - focal * 0.193001 / depth.depth.clamp(min=0.1)
    )
    row, column = torch.meshgrid(
        torch.arange(image.shape[0]), torch.arange(image.shape[1]), indexing="ij"
    )
    target = (column + shift).round().long()
    seen = depth.valid & (target >= 0) & (target < image.shape[1])
    error = (left.frames.rgb[0][seen] - right.frames.rgb[0][row[seen], target[seen]]).abs().mean(-1)
    wrong = (left.frames.rgb[0][seen] - right.frames.rgb[0][row[seen], column[seen]]).abs().mean(-1)
    assert error.median() < 0.35 * wrong.median()


def test_known_scene_is_exact():
    from lift.synthetic.scenes import render

    picture = load_picture("room", 64, 55.0)
    made = build("known", image="room", camera=picture.cameras)(picture.frames.images[0])
    assert torch.equal(made.depth, render("room", picture.cameras).depth[0])


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".png"])
def test_known_reads_a_file_of_another_size(tmp_path, suffix):
    values = np.linspace(1, 3, 40, dtype=np.float64)[:, None] * np.ones(64)
    values[:10, :16] = 0
    path = tmp_path / f"depth{suffix}"
    if suffix == ".npy":
        np.save(path, values)
    elif suffix == ".npz":
        np.savez(path, depth=values, other=np.zeros(3))
    else:
        cv2.imwrite(str(path), (values * 1000).round().astype(np.uint16))
    settings = {"unit": 0.001} if suffix == ".png" else {"key": "depth"} if suffix == ".npz" else {}
    camera = pinhole(96, 60, 80.0)  # 1.5 times as large
    made = build("known", path=path, image="anything", camera=camera, **settings)(gradient(60, 96))
    assert not made.valid[:15, :24].any() and made.valid[15:].all() and made.valid[:, 24:].all()
    torch.testing.assert_close(
        made.depth[:, -1],
        torch.linspace(1, 3, 40)[(torch.arange(60) + 0.5).div(1.5).long()],
        atol=1e-3,
        rtol=0,
    )
    cropped = build("known", path=path, image="anything", camera=pinhole(40, 40, 80.0), **settings)(
        gradient(40, 40)
    )
    assert cropped.valid[:, 4:].all() and not cropped.valid[:10, :4].any(), (
        "cropped about the middle"
    )


def test_known_depth_errors_name_the_cause(tmp_path):
    camera = pinhole(8, 8, 8.0)
    with pytest.raises(ValueError, match=r"image is 'coffee'.*depth\.path.*motorcycle_left, room"):
        build("known", image="coffee", camera=camera)
    with pytest.raises(FileNotFoundError, match=r"depth\.path is"):
        build("known", image="coffee", camera=camera, path=tmp_path / "none.npy")(gradient(8, 8))
    np.savez(tmp_path / "two.npz", a=np.ones((8, 8)), b=np.ones((8, 8)))
    with pytest.raises(ValueError, match=r"depth\.key is None; choose one of a, b"):
        build("known", image="coffee", camera=camera, path=tmp_path / "two.npz")(gradient(8, 8))
    np.save(tmp_path / "zero.npy", np.zeros((8, 8)))
    with pytest.raises(ValueError, match="no pixel of the depth"):
        build("known", image="coffee", camera=camera, path=tmp_path / "zero.npy")(gradient(8, 8))


def test_depth_is_brought_into_the_unit_of_known_cameras():
    from lift.geometry import pinhole
    from lift.poses.sfm.depth_scale import scale_depth_to_cameras, triangulate_depth
    from lift.synthetic.scenes import render
    from lift.types import Cameras, Frames

    lens = pinhole(160, 120, 150.0)
    matrices = torch.eye(4).repeat(4, 1, 1)
    matrices[:, 0, 3] = -0.15 * torch.arange(4)
    cameras = Cameras(matrices, lens.intrinsics.repeat(4, 1, 1), 160, 120)
    frames = render("room", cameras)
    true = frames.depth[0]
    known = triangulate_depth(frames, cameras, torch.device("cpu"))
    assert (known > 0).sum() > 50 and (known / true)[known > 0].log().median().abs() < 0.02
    estimate = Depth(1 / (0.3 / true + 0.05), true > 0, "affine-invariant")
    aligned = scale_depth_to_cameras(estimate, frames, cameras, torch.device("cpu"))
    assert aligned.kind == "scale" and (aligned.depth / true).log().abs().median() < 0.05
    plain = Frames(torch.full_like(frames.images, 90))
    assert scale_depth_to_cameras(estimate, plain, cameras, torch.device("cpu")) is None
