"""Pictures of another shape than the generator's: cropped when read, or padded and cut again."""

import pytest
import torch

from lift.geometry import project
from lift.priors import ClipRequest, VideoPrior, priors
from lift.priors.diffusion.canvas import Canvas, TrainedShapes
from lift.registry import catalogue
from lift.stages.prior import shape_choice
from tests.helpers.clips import build, scene, sideways

pytest.importorskip("diffusers")

WIDE = TrainedShapes((1024, 576), ((1024, 576),), 64, False)
COMPLETING = TrainedShapes((1024, 576), ((1024, 576), (512, 320)), 64, True)
TURNABLE = TrainedShapes((832, 480), ((832, 480), (480, 832), (1280, 720)), 16, False)
FREE = TrainedShapes((1024, 576), (), 64, False)


@pytest.mark.parametrize(
    ("shapes", "size", "mode", "picture", "expected"),
    [
        (WIDE, None, "auto", (1024, 768), (1024, 576)),
        (WIDE, None, "auto", (576, 1024), (1024, 576)),
        (WIDE, None, "keep", (576, 1024), (576, 1024)),
        (WIDE, 512, "auto", (1024, 576), (512, 256)),
        (COMPLETING, 512, "auto", (1024, 576), (512, 320)),
        (TURNABLE, None, "auto", (600, 800), (480, 832)),
        (TURNABLE, 1280, "auto", (600, 800), (1280, 720)),
        (FREE, None, "auto", (512, 512), (768, 768)),
    ],
)
def test_generated_size_is_a_trained_one(shapes, size, mode, picture, expected) -> None:
    assert shapes.generated_size(size, mode, *picture) == expected


@pytest.mark.parametrize(
    ("shapes", "size", "mode", "picture", "crop", "note"),
    [
        (WIDE, None, "auto", (1024, 768), (1024, 576), "25% of the picture is cut off"),
        (WIDE, None, "auto", (768, 768), None, "takes 576 x 576 of them, and borders the rest"),
        (WIDE, None, "crop", (768, 768), (1024, 576), "44% of the picture is cut off"),
        (WIDE, None, "pad", (1024, 768), None, "takes 768 x 576 of them"),
        (WIDE, None, "keep", (1024, 768), None, "it generates 896 x 640, which lowers its quality"),
        (WIDE, 640, "auto", (1024, 576), None, "it generates 640 x 384, which lowers its quality"),
        (WIDE, None, "auto", (384, 216), None, ""),
        (WIDE, None, "auto", (376, 208), None, ""),
        (COMPLETING, None, "auto", (1024, 768), None, "takes 768 x 576 of them"),
        (FREE, None, "auto", (1024, 768), None, ""),
    ],
)
def test_pictures_are_cropped_or_padded_and_the_user_is_told(
    shapes, size, mode, picture, crop, note
) -> None:
    shape, sentence = shapes.choose("model", size, mode, *picture)
    assert shape == crop
    assert note in sentence and bool(note) == bool(sentence)


def test_the_window_of_a_padded_picture_is_cut_out_unchanged() -> None:
    images = torch.randint(0, 256, (2, 40, 24, 3), dtype=torch.uint8)
    canvas = Canvas.around((100, 40), 24, 40)
    placed = canvas.place(images)
    assert placed.shape == (2, 40, 100, 3) and canvas.inner == (24, 40)
    assert canvas.cut(placed, 24, 40).equal(images)


def test_borders_mirror_the_picture_or_are_black() -> None:
    images = torch.arange(4, dtype=torch.uint8)[None, None, :, None].expand(1, 8, 4, 3) + 1
    canvas = Canvas(12, 8, left=5, right=3)
    row = canvas.place(images)[0, 0, :, 0].tolist()
    assert row == [4, 4, 3, 2, 1, 1, 2, 3, 4, 4, 3, 2]
    black = canvas.place(images, "black")[0, 0, :, 0].tolist()
    assert black == [0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0]
    planes = canvas.place_planes(images.permute(0, 3, 1, 2).float())
    assert planes[0, 0, 0].tolist() == row


def test_borders_have_no_confidence() -> None:
    canvas = Canvas(12, 8, left=5, right=3)
    placed = canvas.place_confidence(torch.ones(2, 1, 8, 4))
    assert placed.shape == (2, 1, 8, 12) and float(placed.sum()) == 2 * 8 * 4
    assert float(placed[..., 5:9].min()) == 1


def test_cameras_of_a_canvas_see_points_where_pictures_show_them() -> None:
    _, camera, _ = scene(48, 64)
    canvas = Canvas.around((160, 96), 48, 64)
    points = torch.tensor([[0.1, -0.2, 2.0], [-0.3, 0.1, 3.0]])
    pixels = project(points, camera)[0][0]
    scale = canvas.inner[0] / 48
    expected = scale * pixels + torch.tensor([float(canvas.left), float(canvas.top)])
    placed = canvas.cameras(camera)
    assert (placed.width, placed.height) == (160, 96)
    torch.testing.assert_close(project(points, placed)[0][0], expected)


@pytest.fixture
def wide_svd(folders, monkeypatch: pytest.MonkeyPatch):
    """SVD as if it had been trained with 256 x 64 pixels."""
    prior = build(folders, size=256, frames=3)
    monkeypatch.setattr(type(prior), "trained_sizes", ((256, 64),))
    return prior


def test_a_narrower_picture_is_padded_for_sampling_and_cut_again(wide_svd, monkeypatch) -> None:
    calls = []

    def copy(pictures, paths, requests):
        calls.append((pictures, paths))
        return pictures[:, None].expand(-1, 3, -1, -1, -1)

    monkeypatch.setattr(wide_svd, "sample", copy)
    frames, camera, _ = scene()
    made = wide_svd(frames, camera, sideways(camera, 2), 0)
    pictures, paths = calls[0]
    assert pictures.shape == (1, 64, 256, 3) and (paths[0].width, paths[0].height) == (256, 64)
    assert float(paths[0].intrinsics[0, 0, 2]) == 128
    assert made.images.shape == (2, 64, 96, 3) and made.images[0].equal(frames.images[0])


def test_warped_guidance_knows_nothing_of_borders(wide_svd) -> None:
    frames, camera, _ = scene()
    request = ClipRequest(frames, camera, sideways(camera, 2), 0)
    columns = 256 // wide_svd.pipe.vae_scale_factor
    latents = torch.full((1, 3, 4, columns // 4, columns), 7.0)
    with torch.inference_mode():
        correct = wide_svd.make_guidance([wide_svd.scaffold.render(request)])
        moved = correct(latents, torch.tensor(50.0)) - latents
    shown = moved.abs().amax((0, 1, 2, 3))
    left = columns * 80 // 256
    assert float(shown[:left].max()) == 0 and float(shown[columns - left :].max()) == 0
    assert float(shown[left + 2 : columns - left - 2].min()) > 0


def test_viewcrafter_gets_black_borders_in_every_frame(folders, monkeypatch) -> None:
    prior = build(folders, "viewcrafter", size=256)
    monkeypatch.setattr(type(prior), "trained_sizes", ((256, 64),))
    frames, camera, _ = scene()
    request = ClipRequest(frames, camera, sideways(camera, 2), 0)
    renders = prior.renders(prior.canvas(96, 64).place(frames.images), [request])[0]
    assert renders.shape == (3, 64, 256, 3)
    assert int(renders[:, :, :80].max()) == 0 and int(renders[:, :, 176:].max()) == 0
    assert renders[0, :, 80:176].equal(frames.images[0])


def test_sizes_that_a_model_was_trained_with_agree() -> None:
    for name, entry in catalogue().entries["prior"].items():
        component = None if entry.missing else entry.load()
        sizes = getattr(component, "trained_sizes", ())
        assert not sizes or sizes[0] == component.trained_size, name
        multiple = getattr(component, "size_multiple", 1)
        assert all(side % multiple == 0 for size in sizes for side in size), name


def test_priors_without_a_shape_keep_the_picture() -> None:
    choose = shape_choice({"name": "warp"})
    assert choose is not None and choose(100, 300) == (None, "")
    assert issubclass(priors.base, VideoPrior)
    choose = shape_choice({"name": "sana_wm", "resize_mode": "crop"})
    assert choose is not None and choose(640, 640)[0] == (1280, 704)


@pytest.mark.gpu
@pytest.mark.parametrize("offload", ["none", "model", "group"])
def test_padded_clips_on_a_gpu_are_those_of_the_cpu(wide_svd, folders, cuda, offload) -> None:
    frames, camera, _ = scene()
    expected = wide_svd(frames, camera, sideways(camera, 2), 3).images.float()
    prior = build(folders, device=cuda, size=256, frames=3, offload=offload, precision="float32")
    found = prior(frames, camera, sideways(camera, 2), 3).images.float()
    assert found.shape == expected.shape == (2, 64, 96, 3) and found.std() > 1
    assert (found - expected).abs().mean() < 2


@pytest.mark.gpu
@pytest.mark.parametrize("offload", ["none", "model", "group"])
def test_a_float32_autoencoder_decodes_beside_half_precision(folders, cuda, offload) -> None:
    frames, camera, _ = scene()
    for name in ("svd", "motionctrl"):
        prior = build(
            folders, name, cuda, offload=offload, vae_precision="float32", decode_chunk_size=1
        )
        clip = prior(frames, camera, sideways(camera, prior.clip_length), 3)
        assert prior.pipe.vae.dtype == torch.float32 and prior.pipe.unet.dtype == torch.float16
        assert clip.images.float().std() > 1
        prior.release()
