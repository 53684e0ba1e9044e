"""The `Preprocess` steps of a PaddleX `inference.yml`, run as the file lists them, in its order.

Formulas and their rounding are those of PaddleX 3 (recorded tensors hold them); the picture is RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from maskmill.worker.images.image import Image
from maskmill.worker.models.manifest import Frozen, Positive, Side

Pixels = NDArray[Any]
"""uint8 [height,width,3], or one colour of it: uint8 or float32 [height,width]."""

Floats = NDArray[np.float32]


class Resize(Frozen):
    """To `target_size` [height, width]; with `keep_ratio` so that no side exceeds its target, long side to long."""

    type: Literal["Resize"]
    target_size: tuple[Side, Side]
    keep_ratio: bool = False
    interp: Literal[0, 1, 2, 3, 4] = 2
    """Nearest, linear, cubic, area, Lanczos: OpenCV's own codes."""

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The [height, width] that a picture of that size gets; sides round half to even."""
        if not self.keep_ratio:
            return self.target_size
        scale = min(max(self.target_size) / max(height, width), min(self.target_size) / min(height, width))
        return max(round(height * scale), 1), max(round(width * scale), 1)

    def apply(self, pixels: Pixels) -> Pixels:
        """The pixels at their new size, of the same type."""
        size = self.size(*pixels.shape[:2])
        return pixels if size == pixels.shape[:2] else cv2.resize(pixels, size[::-1], interpolation=self.interp)


class NormalizeImage(Frozen):
    """(x / 255 - mean) / std for each colour; x / 255 where `norm_type` is none, no division where not `is_scale`."""

    type: Literal["NormalizeImage"]
    norm_type: Literal["mean_std", "none"] = "mean_std"
    is_scale: bool = True
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)

    def normalise(self, plane: Pixels, colour: int) -> Floats:
        """One colour (0 red, 1 green, 2 blue) as x * (1 / 255 / std) + (-mean / std), each factor a float32."""
        mean, std = (0.0, 1.0) if self.norm_type == "none" else (self.mean[colour], self.std[colour])
        scale = (1 / 255 if self.is_scale else 1.0) / std
        result: Floats = np.multiply(plane, np.float32(scale), dtype=np.float32)
        if mean:
            result += np.float32(-mean / std)
        return result


class Permute(Frozen):
    """Colours before rows and columns, which `tensor` does in any case."""

    type: Literal["Permute"]

    def apply(self, pixels: Pixels) -> Pixels:
        """The pixels as they are."""
        return pixels


class PadStride(Frozen):
    """Zeros at the right and the bottom, up to whole strides; none where `stride` is not positive."""

    type: Literal["PadStride"]
    stride: int = Field(le=1 << 13)

    def apply(self, pixels: Pixels) -> Pixels:
        """The pixels with their border."""
        if self.stride <= 0:
            return pixels
        border = [(0, -side % self.stride) for side in pixels.shape[:2]]
        return np.pad(pixels, border + [(0, 0)] * (pixels.ndim - 2))


Step = Annotated[Resize | NormalizeImage | Permute | PadStride, Field(discriminator="type")]


def resized(steps: Sequence[Step], height: int, width: int) -> tuple[int, int]:
    """The [height, width] of a picture after the steps, before any padding: PaddleX's `im_shape`."""
    for step in steps:
        if isinstance(step, Resize):
            height, width = step.size(height, width)
    return height, width


def fixed_size(steps: Sequence[Step]) -> tuple[int, int] | None:
    """The [height, width] that every picture is resized to, or None where that depends on the picture."""
    sizes = [step.target_size for step in steps if isinstance(step, Resize) and not step.keep_ratio]
    return sizes[-1] if sizes else None


def tensor(steps: Sequence[Step], image: Image) -> Floats:
    """The picture after the steps, float32 [1,3,rows,columns].

    From the first NormalizeImage on the colours go one by one: where it comes before the Resize, a third of the
    picture is float32 at a time.
    """
    first = next((index for index, step in enumerate(steps) if isinstance(step, NormalizeImage)), len(steps))
    pixels: Pixels = image
    for step in steps[:first]:
        pixels = _apply(step, pixels, 0)
    planes = []
    for colour in range(3):
        plane = pixels[..., colour]
        for step in steps[first:]:
            plane = _apply(step, plane, colour)
        planes.append(plane)
    return np.stack(planes, dtype=np.float32)[None]


def _apply(step: Step, pixels: Pixels, colour: int) -> Pixels:
    return step.normalise(pixels, colour) if isinstance(step, NormalizeImage) else step.apply(pixels)
