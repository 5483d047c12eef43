import pytest
import torch

from lift.geometry import pinhole, project
from lift.types import Cameras, Clip, Depth, Frames, PointCloud, Reconstruction, Trajectory


def test_an_index_keeps_the_item_axis():
    frames = Frames(torch.arange(2 * 3 * 4 * 3, dtype=torch.uint8).reshape(2, 3, 4, 3))
    assert frames[1].images.shape == (1, 3, 4, 3) and frames[-1].images.equal(frames.images[1:])
    assert len(frames[:0]) == 0
    with pytest.raises(IndexError, match="item 2 of 2 Frames"):
        frames[2]


def test_cat_joins_items_and_refuses_what_differs():
    a, b = pinhole(8, 6, 5.0), pinhole(8, 6, 7.0)
    assert len(Cameras.cat([a, b])) == 2
    with pytest.raises(ValueError, match="Cameras.width differs: 8 and 9"):
        Cameras.cat([a, pinhole(9, 6, 5.0)])
    images = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match="Frames.depth differs"):
        Frames.cat([Frames(images), Frames(images, torch.zeros(1, 2, 2))])


def test_a_dtype_leaves_bytes_alone():
    frames = Frames(torch.zeros(1, 2, 2, 3, dtype=torch.uint8), torch.zeros(1, 2, 2)).to(
        torch.double
    )
    assert frames.images.dtype == torch.uint8 and frames.depth.dtype == torch.double


def test_resized_cameras_see_the_same():
    camera, point = pinhole(80, 60, 50.0), torch.tensor([[0.3, -0.2, 2.0]])
    before, _ = project(point, camera)
    after, _ = project(point, camera.resized(40, 120))
    torch.testing.assert_close(after, before * torch.tensor([0.5, 2.0]))


def test_a_clip_continues_only_what_exists():
    camera = pinhole(8, 6, 5.0)
    two = Cameras.cat([camera, camera])
    tree = Trajectory(camera, (Clip("a", 0, two), Clip("b", 2, camera)))
    assert [list(span) for span in tree.spans] == [[1, 2], [3]] and len(tree.cameras) == 4
    with pytest.raises(ValueError, match="clip 'a' continues frame 1, but only frame 0 comes"):
        Trajectory(camera, (Clip("a", 1, two),))


def test_shapes_are_checked_in_tests():
    with pytest.raises(Exception, match="world_to_camera"):
        Cameras(torch.eye(4), torch.eye(3)[None], 8, 6)


def test_values_are_printed_in_one_line():
    frames = Frames(torch.zeros(3, 2, 2, 3, dtype=torch.uint8))
    assert repr(frames) == "Frames(images=uint8 [3, 2, 2, 3], depth=None)"
    camera = repr(pinhole(8, 6, 5.0))
    assert camera.startswith("Cameras(world_to_camera=float32 [1, 4, 4], ")
    assert camera.endswith("width=8, height=6)")
    depth = torch.ones(2, 2)
    assert repr(Depth(depth, depth > 0, "scale")) == (
        "Depth(depth=float32 [2, 2], valid=bool [2, 2], kind='scale')"
    )


def test_a_frame_with_some_confidence_is_registered():
    confidence = torch.zeros(3, 4, 5)
    confidence[1, 2, 3] = 0.1
    cameras = pinhole(5, 4, 5.0)
    points = PointCloud(torch.zeros(1, 3), torch.zeros(1, 3))
    reconstruction = Reconstruction(cameras, points, torch.ones(3, 4, 5), confidence)
    assert reconstruction.registered.tolist() == [False, True, False]
