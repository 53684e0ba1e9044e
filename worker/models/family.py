"""The seam of a model family: how a picture becomes tensors, and tensors become Instances.

A family is one file that knows one kind of tensor layout and no other family. It is told what the model's manifest
and its tensors say, refuses with ModelInvalid what it cannot read, and is pure: values in, values out, in any thread.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from maskmill.shared.errors import ModelInvalid
from maskmill.worker.images.image import Image
from maskmill.worker.masks.instances import Instances
from maskmill.worker.models.fit import Fit
from maskmill.worker.models.manifest import Manifest

Tensors = Mapping[str, NDArray[Any]]
"""Input tensors by name."""

Outputs = dict[str, NDArray[Any]]
"""One picture's output tensors by name, the batch dimension kept as 1."""

Thresholds = NDArray[np.float32]
"""float32 [labels]: the lowest score of each class, infinite for one that is not wanted."""


@dataclass(frozen=True)
class Port:
    """An input or output tensor as the ONNX file declares it; a dimension it leaves open is a string."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Signature:
    """What an ONNX file says of itself: its inputs and outputs in order, its metadata, and where it lies."""

    path: Path
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    metadata: Mapping[str, str]

    def mismatch(self, expected: str, ports: tuple[Port, ...]) -> ModelInvalid:
        """The error that says which tensors a family expected and which it got."""
        return ModelInvalid(f"expected {expected}; got {', '.join(map(str, ports)) or 'none'}")


@dataclass(frozen=True)
class Prepared:
    """A picture as the model's input tensors, the batch dimension being 1, and how it was fitted into them."""

    tensors: Tensors
    fit: Fit

    @property
    def key(self) -> Hashable:
        """Equal for pictures that may run in one batch."""
        return tuple((name, tensor.shape) for name, tensor in self.tensors.items())

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


class Family(Protocol):
    """What a family's class offers."""

    def __init__(self, manifest: Manifest, signature: Signature) -> None:
        """Raises ModelInvalid where the tensors are not as the family needs them."""

    @staticmethod
    def describe(signature: Signature) -> Manifest | None:
        """The manifest of a model that came without one, read from its own metadata or the files beside it."""

    @property
    def batch(self) -> int | None:
        """How many pictures one run takes: exactly so many, or None for any number."""

    @property
    def input_size(self) -> tuple[int, int] | None:
        """The [height, width] that pictures are fitted into, or None where it varies."""

    def prepare(self, image: Image) -> Prepared:
        """The model's input for a picture."""

    def finish(self, outputs: Outputs, fit: Fit, thresholds: Thresholds, nms_iou: float) -> Instances:
        """What the outputs say: instances whose score exceeds their class's threshold, best first.

        What does not is left out before suppression, limits and masks: it takes no other's place, and no time.
        """
