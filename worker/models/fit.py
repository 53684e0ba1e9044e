"""Fit: how a picture was resized and padded into a network's input, and the exact way back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL.Image import Resampling

from maskmill.worker.images.image import Image
from maskmill.worker.masks.resample import Axis, SampleGrid
from maskmill.worker.models.manifest import Normalisation


@dataclass(frozen=True, slots=True)
class Fit:
    """A height x width picture, resized to `inner` (rows, columns), placed at (top, left) of an `outer` canvas."""

    height: int
    width: int
    inner: tuple[int, int]
    outer: tuple[int, int]
    top: int = 0
    left: int = 0

    def apply(self, image: Image, border: int, interpolation: int = cv2.INTER_LINEAR) -> Image:
        """The canvas, uint8 [outer rows, outer columns, 3], with `border` around the resized picture."""
        if image.shape[:2] != self.inner:
            image = np.asarray(cv2.resize(image, self.inner[::-1], interpolation=interpolation), np.uint8)
        if self.inner == self.outer:
            return image
        canvas = np.full((*self.outer, 3), border, np.uint8)
        canvas[self.top : self.top + self.inner[0], self.left : self.left + self.inner[1]] = image
        return canvas

    def smooth(self, image: Image) -> Image:
        """The resized picture without a canvas, uint8 [inner rows, inner columns, 3]; no pixel is left out.

        Bilinear as Pillow resizes, and torchvision with antialias.
        """
        if image.shape[:2] == self.inner:
            return image
        return np.asarray(Pillow.fromarray(image).resize(self.inner[::-1], Resampling.BILINEAR))

    def boxes(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes [n,4] xyxy of the canvas, in picture pixels and cut to the picture."""
        return self.whole_boxes(boxes).clip(0, np.array([self.width, self.height] * 2, np.float32))

    def whole_boxes(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes [n,4] xyxy of the canvas, in picture pixels, uncut: they may lie outside."""
        scale = np.array([self.width / self.inner[1], self.height / self.inner[0]] * 2, np.float32)
        moved: NDArray[np.float32] = (boxes - np.array([self.left, self.top] * 2, np.float32)) * scale
        return moved

    def grid(self, rows: int, columns: int) -> SampleGrid:
        """Where rows x columns samples spread evenly over the canvas lie on the picture."""
        return SampleGrid(
            _axis(rows / self.outer[0], self.inner[0] / self.height, self.top, rows),
            _axis(columns / self.outer[1], self.inner[1] / self.width, self.left, columns),
        )


def _axis(coarseness: float, scale: float, margin: int, size: int) -> Axis:
    return Axis(scale * coarseness, margin * coarseness, size)


def letterbox(height: int, width: int, size: tuple[int, int], stride: int | None = None) -> Fit:
    """The Fit that keeps the ratio and centres the picture in `size`; with a stride, in the smallest multiple of it.

    Sizes and margins are rounded as Ultralytics rounds them, so that the network sees the same tensor.
    """
    ratio = min(size[0] / height, size[1] / width)
    inner = max(round(height * ratio), 1), max(round(width * ratio), 1)
    outer = size if stride is None else (-(-inner[0] // stride) * stride, -(-inner[1] // stride) * stride)
    top, left = (round((outer[side] - inner[side]) / 2 - 0.1) for side in (0, 1))
    return Fit(height, width, inner, outer, top, left)


def corner(height: int, width: int, bounds: tuple[int, int], short: int | None = None) -> Fit:
    """The Fit that keeps the ratio, with the picture at the top left of a canvas of the size `bounds`.

    With `short` that is the most its shorter side may be. Sizes are rounded as mmcv rounds them.
    """
    ratio = min(bounds[0] / height, bounds[1] / width)
    if short is not None:
        ratio = min(ratio, short / min(height, width))
    inner = max(int(height * ratio + 0.5), 1), max(int(width * ratio + 0.5), 1)
    return Fit(height, width, inner, bounds)


def tensor(canvas: Image, normalisation: Normalisation) -> NDArray[np.float32]:
    """The canvas as float32 [1,3,rows,columns]: (value / scale - mean) / std for each channel."""
    planes = cv2.split(canvas)
    planes = planes if normalisation.channels == "RGB" else planes[::-1]
    result = np.empty((1, 3, *canvas.shape[:2]), np.float32)
    for plane, out, mean, std in zip(planes, result[0], normalisation.mean, normalisation.std, strict=True):
        np.divide(plane, np.float32(normalisation.scale), out=out)
        if (mean, std) != (0, 1):
            out[:] = (out - np.float32(mean)) / np.float32(std)
    return result


def within(height: int, width: int, most_pixels: int) -> tuple[int, int]:
    """That [height, width], or the largest of the same shape that has no more than `most_pixels`."""
    shrink = math.sqrt(min(most_pixels / (height * width), 1))
    rows = min(max(int(height * shrink), 1), most_pixels)
    return rows, min(max(int(width * shrink), 1), most_pixels // rows)
