"""What families ask of a model's tensors alike: one picture in, its size and batch, classes that have labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import ModelInvalid
from worker.models.family import Port, Signature
from worker.models.manifest import Manifest

BACKGROUND = "__background__"
"""What a list of labels may begin with, where the model counts its classes from 1."""


def picture_input(signature: Signature) -> Port:
    """The only input, float32 [n, 3, height, width]; raises ModelInvalid where it is another."""
    inputs = signature.inputs
    if len(inputs) != 1 or inputs[0].dtype != "float32" or len(inputs[0].shape) != 4 or inputs[0].shape[1] != 3:
        raise signature.mismatch("one input float32[n, 3, height, width]", inputs)
    return inputs[0]


def fixed_batch(port: Port) -> int | None:
    """The batch size that the export fixed, or None."""
    count = port.shape[0]
    return count if isinstance(count, int) else None


def fixed_size(port: Port) -> tuple[int, int] | None:
    """The input's height and width where the export fixed both."""
    height, width = port.shape[-2:]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def settled_size(port: Port, manifest: Manifest) -> tuple[int, int]:
    """The input's height and width: the fixed ones, else the manifest's.

    Raises ModelInvalid where the two differ, or where there is neither.
    """
    fixed = fixed_size(port)
    if fixed is None and manifest.input_size is None:
        raise ModelInvalid(f"input_size: needed, because {port} leaves it open")
    if fixed is not None and manifest.input_size not in (None, fixed):
        raise ModelInvalid(f"input_size: expected {list(fixed)} ({port}), got {manifest.input_size}")
    size = fixed or manifest.input_size
    assert size is not None
    return size


def check_classes(tensor: str, class_ids: NDArray[np.int64], labels: int) -> None:
    """Raises ModelInvalid, naming the tensor, where a class has no label."""
    strange = class_ids[(class_ids < 0) | (class_ids >= labels)]
    if len(strange):
        raise ModelInvalid(f"{tensor}: expected classes below {labels} (labels), got {strange[0]}")


def shapes(tensors: dict[str, NDArray[Any]]) -> str:
    """Tensors as `name dtype[shape]`, for an error."""
    return ", ".join(f"{name} {value.dtype}{list(value.shape)}" for name, value in tensors.items())
