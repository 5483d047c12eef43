"""Declarations of published files, which components return from `required_weights`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".onnx", ".msgpack", ".h5")
"""Ends of the names of files with weights."""
_TEXT_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".md")
"""Ends of the names of small files beside the folders of a pipeline's parts."""


@dataclass(frozen=True)
class HubFiles:
    """Files of a repository on the Hugging Face Hub."""

    setting: str
    """Setting that names the repository, such as `pose.model`."""
    repository: str
    """Name of the repository: OWNER/NAME."""
    files: tuple[str, ...]
    """Paths of the files in the repository."""
    licence: str
    """Licence of the weights."""

    def select(self, names: Sequence[str], components: Sequence[str] = ()) -> list[str]:
        """Select the files that are needed.

        Args:
            names: Paths of all files of the repository.
            components: Not used.

        Returns:
            The paths of `files`, whether or not the repository has them.
        """
        return list(self.files)


@dataclass(frozen=True)
class HubPipeline:
    """A repository in the layout of diffusers' or transformers' `save_pretrained`."""

    setting: str
    """Setting that names the repository, such as `prior.model`."""
    repository: str
    """Name of the repository: OWNER/NAME."""
    licence: str
    """Licence of the weights."""
    variant: str | None = None
    """Infix of the weight files in half precision, such as `fp16`, where they exist."""
    skipped: tuple[str, ...] = ()
    """Parts whose weights are not used."""

    index: str = "model_index.json"
    """File that names the parts. Without parts, the weights lie beside it."""

    def select(self, names: Sequence[str], components: Sequence[str] = ()) -> list[str]:
        """Select the files that are needed: one kind of weights for each part.

        Args:
            names: Paths of all files of the repository.
            components: Names of the parts. Empty: the model has no parts.

        Returns:
            Paths of the selected files.
        """
        selected = [
            name for name in names if "/" not in name and name.lower().endswith(_TEXT_SUFFIXES)
        ]
        if not components:
            return selected + self._select_weights([name for name in names if "/" not in name])
        for part in components:
            inside = [name for name in names if name.startswith(f"{part}/")]
            selected += [name for name in inside if not name.endswith(WEIGHT_SUFFIXES)]
            if part not in self.skipped:
                selected += self._select_weights(inside)
        return selected

    def _select_weights(self, names: Sequence[str]) -> list[str]:
        """Prefer safetensors to pickles, and the variant to full precision."""
        for suffix in (".safetensors", ".bin"):
            # Weights of another kind lie beside those of the part, such as `model.onnx`.
            files = [name for name in names if name.endswith(suffix)]
            of_variant = [name for name in files if self.variant and f".{self.variant}" in name]
            plain = [name for name in files if not _has_variant(name)]
            if chosen := of_variant or plain:
                return chosen
        return []


@dataclass(frozen=True)
class CachedUrl:
    """A file on the web that is kept in torch.hub's cache."""

    setting: str
    """What needs the file, such as `lift eval`."""
    url: str
    """Address of the file."""
    name: str
    """Name of the file in the cache."""
    licence: str
    """Licence of the weights."""
    sha256: str
    """SHA-256 of the file, or its first characters."""


Weights: TypeAlias = HubFiles | HubPipeline | CachedUrl
"""What a component downloads."""


def _has_variant(name: str) -> bool:
    """Whether a file name has an infix such as `.fp16`."""
    stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    return "." in stem


def is_local(model: str) -> bool:
    """Whether a model is a file or a folder on this machine, or must be one.

    Args:
        model: Name on the Hugging Face Hub, or a path.
    """
    return model.startswith(("/", ".", "~")) or Path(model).exists()


class UsesWeights:
    """A component that may download published files."""

    @classmethod
    def required_weights(cls, settings: Mapping[str, Any], half: bool) -> tuple[Weights, ...]:
        """List the published files that a component with these settings downloads.

        `lift download` fetches them ahead of time. The component itself is not built for that, and
        what it requires need not be installed.

        Args:
            settings: All settings of the component by name, defaults included.
            half: Whether the run computes in half precision, on a GPU.

        Returns:
            The files; none by default, and none for models in a folder.
        """
        return ()
