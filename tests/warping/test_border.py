"""A picture that is continued beyond its border."""

import numpy as np
import pytest

from lift.warping.border import extend_picture

HEIGHT, WIDTH, MARGIN = 64, 80, 16
INSIDE = np.s_[MARGIN:-MARGIN, MARGIN:-MARGIN]


def stripes() -> np.ndarray:
    """Return a picture of wide horizontal stripes."""
    rows = np.where(np.arange(HEIGHT) // 8 % 2, 200, 60)
    return np.repeat(rows[:, None, None], WIDTH, 1).repeat(3, 2).astype(np.uint8)


@pytest.fixture(scope="module")
def halves() -> tuple[np.ndarray, np.ndarray]:
    """Return a continued picture: near and red at the left, far and blue at the right."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 40, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    image[:, : WIDTH // 2, 0] += 200
    image[:, WIDTH // 2 :, 2] += 200
    depth = np.full((HEIGHT, WIDTH), 4.0, np.float32)
    depth[:, : WIDTH // 2] = 1.0
    return extend_picture(image, depth, MARGIN)


def test_the_picture_itself_is_unchanged():
    depth = np.random.default_rng(1).uniform(1, 3, (HEIGHT, WIDTH)).astype(np.float32)
    image, extended = extend_picture(stripes(), depth, MARGIN)
    assert image.shape == (HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN, 3)
    assert (image[INSIDE] == stripes()).all()
    assert (extended[INSIDE] == depth).all()


def test_stripes_continue_at_both_sides():
    image, _ = extend_picture(stripes(), np.ones((HEIGHT, WIDTH), np.float32), MARGIN)
    for side in (image[MARGIN:-MARGIN, :MARGIN], image[MARGIN:-MARGIN, -MARGIN:]):
        difference = np.abs(side.astype(float) - stripes()[:, :MARGIN])
        assert difference.mean() < 12


def test_depth_continues_at_a_right_angle(halves):
    _, depth = halves
    middle = MARGIN + WIDTH // 2
    for rows in (np.s_[:MARGIN], np.s_[-MARGIN:]):
        assert np.allclose(depth[rows, : middle - 2], 1.0)
        assert np.allclose(depth[rows, middle + 2 :], 4.0)


def test_near_and_far_content_do_not_mix(halves):
    image, _ = halves
    middle = MARGIN + WIDTH // 2
    above = image[:MARGIN].astype(int)
    assert (above[:, : middle - 8, 0] > above[:, : middle - 8, 2]).mean() > 0.95
    assert (above[:, middle + 8 :, 2] > above[:, middle + 8 :, 0]).mean() > 0.95


def test_texture_is_not_blurred(halves):
    image, _ = halves
    inside = image[INSIDE].astype(float)[:, : WIDTH // 2 - 8]
    beside = image[MARGIN:-MARGIN, :MARGIN].astype(float)
    assert beside[..., 1].std() > 0.5 * inside[..., 1].std()
