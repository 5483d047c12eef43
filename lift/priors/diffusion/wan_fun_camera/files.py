"""Files of a published repository of Wan-Fun-Camera. This module imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from lift.weights import HubFiles

TEXT_FILE = "models_t5_umt5-xxl-enc-bf16.pth"
IMAGE_FILE = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
AUTOENCODER_FILES = ("Wan2.1_VAE.pth", "Wan2.2_VAE.pth")
TOKENIZER_FOLDER = "google/umt5-xxl"
EXPERT_FOLDERS = ("high_noise_model", "low_noise_model")
"""Folders of the two transformers of Wan 2.2 A14B: the first for high noise levels."""
FILE_PATTERNS = ("*.json", "*.safetensors", "*.pth", f"{TOKENIZER_FOLDER}/*")
"""Files of a repository on the hub that are read. Folders of experts match, too."""
UNUSED_PATTERNS = ("xlm-roberta-large/*",)
"""Files among them that are not read."""


@dataclass(frozen=True)
class PublishedFiles(HubFiles):
    """The files of a repository that match patterns, which are its `files`."""

    def select(self, names: Sequence[str], components: Sequence[str] = ()) -> list[str]:
        """Select the files that are needed.

        Args:
            names: Paths of all files of the repository.
            components: Not used.

        Returns:
            The paths that match a pattern, without those that are not read.
        """
        return [
            name
            for name in names
            if any(fnmatch(name, pattern) for pattern in self.files)
            and not any(fnmatch(name, pattern) for pattern in UNUSED_PATTERNS)
        ]
