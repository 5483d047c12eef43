"""The file formats of camera paths, for messages and the documentation. Imports no torch."""

CAMERA_FORMATS = {
    "npz": "arrays `w2c` or `c2w` and `K`, with OpenCV axes",
    "transforms.json": "nerfstudio and Instant-NGP",
    "camera_path.json": "a path that was exported from nerfstudio's viewer",
    "RealEstate10K text": "a line of 19 numbers for each camera",
    "COLMAP folder": "COLMAP's cameras and images, text or binary",
}
"""Name of each format that `lift.io.cameras.read_cameras` reads -> its content.

The format is recognized by the content, not by the name of the file.
"""


def camera_formats() -> str:
    """List the names of all formats of camera paths in one phrase."""
    *names, last = CAMERA_FORMATS
    return f"{', '.join(names)} or a {last}"
