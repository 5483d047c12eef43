"""Networks in ONNX files: what they are given and what their output means."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.helpers.depth_pictures import build_depth, gradient, motorcycle, rank_correlation


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
    made = build_depth("onnx", quantity="depth", metric=True, **settings)(image)
    assert made.kind == "metric" and made.valid.all()
    torch.testing.assert_close(made.depth, (image[..., 0] / 255 + 0.5) / 2, atol=0.02, rtol=0)
    made = build_depth("onnx", quantity="log_inverse_depth", **settings)(image)
    assert made.kind == "scale"
    torch.testing.assert_close(
        made.depth, (-(image[..., 0] / 255 + 0.5) / 2).exp(), atol=0.02, rtol=0
    )
    made = build_depth("onnx", quantity="inverse_depth", far=5.0, **settings)(image)
    assert made.kind == "affine-invariant"
    assert made.depth.max() == pytest.approx(5, rel=1e-3) and made.depth.min() == pytest.approx(
        1, rel=1e-3
    )
    blue = build_depth(
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
    made = build_depth("onnx", path=path, quantity="depth", white_level=255.0, output="depth")(
        image
    )
    torch.testing.assert_close(made.depth, image[..., 0].float())
    assert torch.equal(made.valid, image[..., 0] > 0), "a depth of zero is unknown"


def test_onnx_errors_name_the_cause(tmp_path):
    pytest.importorskip("onnxruntime")
    path = tiny_network(tmp_path / "tiny.onnx")
    with pytest.raises(FileNotFoundError, match=r"depth\.path is .*none\.onnx"):
        build_depth("onnx", path=tmp_path / "none.onnx")
    with pytest.raises(ValueError, match=r"depth\.output is None; choose one of depth, negative"):
        build_depth("onnx", path=path)
    with pytest.raises(ValueError, match=r"depth\.quantity is 'disparity'; choose"):
        build_depth("onnx", path=path, quantity="disparity")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ValueError, match="onnxruntime cannot load"):
        build_depth("onnx", path=tmp_path / "text.onnx")
    made = build_depth("onnx", path=path, output="negative", quantity="depth")(gradient(32, 32))
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
    made = build_depth("onnx", path=shared / "weights" / file, **settings)(image)
    assert made.depth.shape == truth.depth.shape and (made.depth[made.valid] > 0).all()
    assert made.valid.float().mean() > 0.99
    assert rank_correlation(made.depth, truth.depth, truth.valid & made.valid) > least
    if name == "fastdepth":
        assert 1 < made.typical < 6, "metres in a garage"


def test_onnx_equals_the_authors_own_output(shared):
    pytest.importorskip("onnxruntime")
    folder = shared / "weights" / "depth_tiefenrausch"
    image = cv2.imread(str(folder / "reference" / "columns.jpg"))[..., ::-1].copy()
    made = build_depth("onnx", path=folder / "tiefenrausch_qdq.onnx", quantity="log_inverse_depth")(
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
