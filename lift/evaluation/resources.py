"""What the evaluations of one command share in a process: datasets, scenes, networks."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch

from lift.depths import depths
from lift.evaluation.case import Case
from lift.evaluation.datasets import Dataset, datasets
from lift.evaluation.measures import Measures
from lift.runtime.cache import hash_key
from lift.stages.prior import shape_choice
from lift.types import Depth

MAX_CASES = 16
"""Largest number of scenes that stay in memory."""


class SharedResources:
    """Make each resource once, for all evaluations of a process."""

    def __init__(self) -> None:
        self.unavailable: dict[str, str] = {}
        """Measures whose weights are not downloaded again, with the reason."""
        self._datasets: dict[str, Dataset] = {}
        self._measures: dict[tuple[str | None, torch.device], Measures] = {}
        self._references: dict[tuple[str, str, torch.device], Depth] = {}
        self._cases: OrderedDict[str, Case] = OrderedDict()

    def dataset(self, settings: Mapping[str, Any]) -> Dataset:
        """Return a dataset.

        Args:
            settings: Its name and settings.

        Raises:
            FileNotFoundError: The dataset does not exist.
            ValueError: A setting is invalid.
        """
        key = json.dumps(settings, sort_keys=True, default=str)
        if key not in self._datasets:
            self._datasets[key] = datasets.build(dict(settings))
        return self._datasets[key]

    def measures(self, weights: str | None, device: torch.device) -> Measures:
        """Return the measures of targets.

        Args:
            weights: Folder with the weights, or None to download them.
            device: Device of the networks.

        Raises:
            FileNotFoundError: The folder has no weights of LPIPS.
        """
        key = (weights, device)
        if key not in self._measures:
            self._measures[key] = Measures.load(weights, device, self.unavailable)
            self.unavailable |= {} if weights else self._measures[key].unavailable
        return self._measures[key]

    def case(
        self,
        dataset: Mapping[str, Any],
        scene: str,
        protocol: Any,
        size: int,
        prior: Mapping[str, Any],
    ) -> Case:
        """Return a scene's input and targets.

        Args:
            dataset: Name and settings of the dataset.
            scene: Name of the scene.
            protocol: The settings `protocol`.
            size: Largest length of the longer side in pixels.
            prior: Name and settings of the prior, which may have a shape of its own.

        Raises:
            FileNotFoundError: A file does not exist.
            ValueError: A setting is invalid, or the scene cannot be aligned.
        """
        source = json.dumps(dataset, sort_keys=True, default=str)
        choice = [protocol.input, protocol.targets, protocol.max_targets, protocol.align]
        shape = [prior["name"], prior.get("size"), prior.get("resize_mode")]
        key = hash_key(source, scene, choice, size, shape)
        if key not in self._cases:
            capture = self.dataset(dataset).capture(scene)
            self._cases[key] = Case.load(capture, protocol, size, shape_choice(prior))
        self._cases.move_to_end(key)
        if len(self._cases) > MAX_CASES:
            self._cases.popitem(last=False)
        return self._cases[key]

    def reference(self, case: Case, name: str, device: torch.device) -> Depth:
        """Return the estimated depth of an input.

        Args:
            case: The scene.
            name: Name of the depth estimator.
            device: Device of the estimator.
        """
        key = (hashlib.sha256(case.image.numpy().tobytes()).hexdigest(), name, device)
        if key not in self._references:
            estimator = depths.build(
                {"name": name}, image=case.capture.scene, device=device, camera=case.camera
            )
            self._references[key] = estimator(case.image)
        return self._references[key]
