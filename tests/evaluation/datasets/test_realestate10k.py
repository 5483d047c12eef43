"""RealEstate10K: one text file with cameras a scene, frames in a folder."""

from pathlib import Path

import pytest

from tests.helpers.dataset_samples import HEIGHT, WIDTH, Sample, check_capture, open_dataset


def write_realestate(text: Path, sample: Sample, times: list[int]) -> None:
    rows = ["https://www.youtube.com/watch?v=x"]
    for time, matrix, k in zip(
        times,
        sample.cameras.world_to_camera.tolist(),
        sample.cameras.intrinsics.tolist(),
        strict=True,
    ):
        lens = [k[0][0] / WIDTH, k[1][1] / HEIGHT, k[0][2] / WIDTH, k[1][2] / HEIGHT, 0, 0]
        rows.append(" ".join(map(repr, [time, *lens, *matrix[0], *matrix[1], *matrix[2]])))
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize(
    "text, frames",
    [
        ("a1.txt", "a1"),
        ("cameras/a1.txt", "frames/a1"),
        ("test/a1.txt", "frames/test/a1"),
        ("test/a1.txt", "test/a1"),
    ],
)
def test_realestate10k_capture_matches_the_sample(tmp_path, plain_sample, text, frames):
    times = [33000, 66000, 100000]
    write_realestate(tmp_path / text, plain_sample, times)
    write_realestate(tmp_path / Path(text).with_name("without_frames.txt"), plain_sample, times)
    plain_sample.save(tmp_path / frames, [f"{time}.png" for time in times], 2)
    dataset, scenes = open_dataset("realestate10k", tmp_path)
    assert scenes == ["a1"]
    capture = dataset.capture("a1")
    check_capture(capture, plain_sample, points=False)
    assert capture.views == ("33000", "66000", "100000") and capture.points is None
    if Path(frames).parent == Path(text).parent:
        check_capture(
            open_dataset("realestate10k", tmp_path / text)[0].capture("a1"),
            plain_sample,
            points=False,
        )
    (tmp_path / frames / "66000.png").unlink()
    check_capture(
        open_dataset("realestate10k", tmp_path)[0].capture("a1"),
        plain_sample,
        points=False,
        views=[0, 2],
    )


def test_realestate10k_errors_name_the_cause(tmp_path, plain_sample):
    with pytest.raises(FileNotFoundError, match="holds no scene: expected NAME.txt"):
        open_dataset("realestate10k", tmp_path)
    write_realestate(tmp_path / "a1.txt", plain_sample, [1, 2, 3])
    with pytest.raises(FileNotFoundError, match="holds no scene: expected NAME.txt .*with frames"):
        open_dataset("realestate10k", tmp_path)
    (tmp_path / "a1").mkdir()
    with pytest.raises(
        FileNotFoundError, match="none of the frames of .*a1.txt; expected TIMESTAMP.png"
    ):
        open_dataset("realestate10k", tmp_path)[0].capture("a1")
    plain_sample.save(tmp_path / "a1", ["1.png", "2.png", "3.png"])
    (tmp_path / "a1.txt").write_text((tmp_path / "a1.txt").read_text()[:-30])
    with pytest.raises(ValueError, match="a1.txt.*line 4 has not RealEstate10K's 19 numbers"):
        open_dataset("realestate10k", tmp_path)[0].capture("a1")
