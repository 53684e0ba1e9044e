"""What families ask of a model's tensors alike: one picture in, its size and batch, classes that have labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskmill.shared.errors import ModelInvalid
from maskmill.worker.models.family import Outputs, Port, Signature
from maskmill.worker.models.manifest import Manifest

BACKGROUND = "__background__"
"""What a list of labels may begin with, where the model counts its classes from 1."""

HIGHEST_SCORE = 1.1
"""Half precision or eight bits make less than this of a score of 1; logits go far beyond."""


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


def may_be(declared: int | str, size: int) -> bool:
    """Whether a dimension is that size, or left open."""
    return isinstance(declared, str) or declared == size


def settled_size(port: Port, manifest: Manifest) -> tuple[int, int]:
    """The input's height and width: the fixed ones, else the manifest's.

    Raises ModelInvalid where the two differ, or where there is neither.
    """
    fixed = fixed_size(port)
    if manifest.input_size is not None and not all(map(may_be, port.shape[-2:], manifest.input_size)):
        raise ModelInvalid(f"input_size: expected {list(port.shape[-2:])} ({port}), got {list(manifest.input_size)}")
    if fixed is None and manifest.input_size is None:
        raise ModelInvalid(f"input_size: needed, because {port} leaves it open")
    size = fixed or manifest.input_size
    assert size is not None
    return size


class Expected(NamedTuple):
    """An output after its batch dimension: "f" for floating numbers, "i" for whole ones, and its sizes.

    A word stands for any size, and the same word for the same. Only the first size may be 0: nothing was found.
    """

    port: Port
    kind: Literal["f", "i"]
    shape: tuple[int | str, ...]


def read(outputs: Outputs, *expected: Expected) -> list[NDArray[Any]]:
    """One picture's outputs without their batch dimension, floating numbers as float32.

    Raises ModelInvalid with the first that is not as expected.
    """
    sizes: dict[int | str, int] = {}
    values = []
    for port, kind, shape in expected:
        value = outputs[port.name]
        wanted = [sizes.get(size, size) for size in shape]
        if value.dtype.kind != kind or not _fits(value.shape, wanted):
            layout = f"{'float32' if kind == 'f' else 'int64'}[1, {', '.join(map(str, wanted))}]"
            raise ModelInvalid(f"{port.name}: expected {layout}, got {value.dtype}{list(value.shape)}")
        sizes |= zip(shape, value.shape[1:], strict=True)
        values.append(value[0].astype(np.float32, copy=False) if kind == "f" else value[0])
    return values


def _fits(shape: tuple[int, ...], wanted: Sequence[int | str]) -> bool:
    known = (isinstance(size, str) or size == there for size, there in zip(wanted, shape[1:], strict=False))
    return len(shape) == 1 + len(wanted) and shape[0] == 1 and 0 not in shape[2:] and all(known)


def check_classes(tensor: str, class_ids: NDArray[Any], labels: int, first: int = 0) -> None:
    """Raises ModelInvalid, naming the tensor, where a class, counted from `first`, has no label."""
    strange = class_ids[~((class_ids >= first) & (class_ids < first + labels))]
    if len(strange):
        raise ModelInvalid(
            f"{tensor}: expected classes {first} to {first + labels - 1}, as {labels} labels are given, "
            f"got {strange[0]:g}; the model needs a label for each of its classes"
        )


def probabilities(tensor: str, scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """The scores, none above 1; raises ModelInvalid, naming the tensor, where they go beyond what rounding makes."""
    highest = scores.max(initial=0)
    if not highest <= HIGHEST_SCORE:
        raise ModelInvalid(
            f"{tensor}: expected scores from 0 to 1, got {highest:g}; export it with them as probabilities"
        )
    return np.minimum(scores, np.float32(1))


def shapes(tensors: dict[str, NDArray[Any]]) -> str:
    """Tensors as `name dtype[shape]`, for an error."""
    return ", ".join(f"{name} {value.dtype}{list(value.shape)}" for name, value in tensors.items())
