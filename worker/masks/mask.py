"""A binary mask as column-major spans inside a window: decoded there, never drawn at the picture's size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Offsets = NDArray[np.int64]


class Window(NamedTuple):
    """A rectangle of whole pixels: columns x to x + width, rows y to y + height, ends excluded."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def inside(cls, box: Sequence[float] | Floats, height: int, width: int) -> Window:
        """The pixels of a height x width picture with x1 <= column < x2 and y1 <= row < y2."""
        x1, x2 = (min(max(math.ceil(edge), 0), width) for edge in (box[0], box[2]))
        y1, y2 = (min(max(math.ceil(edge), 0), height) for edge in (box[1], box[3]))
        return cls(x1, y1, max(x2 - x1, 0), max(y2 - y1, 0))

    @classmethod
    def rounded(cls, box: Sequence[float] | Floats, height: int, width: int) -> Window:
        """The pixels between the box's edges rounded half to even: the crop that the seed's results use."""
        x1, x2 = (min(max(round(float(edge)), 0), width) for edge in (box[0], box[2]))
        y1, y2 = (min(max(round(float(edge)), 0), height) for edge in (box[1], box[3]))
        return cls(x1, y1, max(x2 - x1, 0), max(y2 - y1, 0))


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """The set pixels of `window` as spans start <= p < end, where p = column * height + row; no span leaves its column.

    `starts` and `ends` are int64[k], ascending, at least one; in picture pixels the window lies at (x, y).
    """

    window: Window
    starts: Offsets
    ends: Offsets

    @classmethod
    def from_bitmap(cls, bitmap: NDArray[Any], x: int = 0, y: int = 0) -> Mask | None:
        """The mask of the non-zero pixels of `bitmap` [h,w], whose corner lies at (x, y); None where there are none."""
        height, width = bitmap.shape
        columns = np.zeros((width, height + 2), dtype=bool)
        columns[:, 1:-1] = bitmap.T != 0
        turns = np.flatnonzero(columns[:, 1:] != columns[:, :-1])
        turns -= turns // (height + 1)
        return cls(Window(x, y, width, height), turns[0::2], turns[1::2]) if len(turns) else None

    @property
    def area(self) -> int:
        """How many pixels are set."""
        return int((self.ends - self.starts).sum())

    def bitmap(self) -> Pixels:
        """The window as uint8 [height,width] of 0 and 1."""
        size = self.window.width * self.window.height
        steps = np.zeros(size + 1, dtype=np.int8)
        steps[self.starts] = 1
        steps[self.ends] -= 1
        columns = np.cumsum(steps[:size], dtype=np.int8).view(np.uint8)
        return columns.reshape(self.window.width, self.window.height).T

    def crop(self, target: Window) -> Pixels:
        """The pixels of `target`, uint8 [height,width] of 0 and 1; what lies outside the mask's window is 0."""
        crop = np.zeros((target.height, target.width), dtype=np.uint8)
        x, y = max(target.x, self.window.x), max(target.y, self.window.y)
        right = min(target.x + target.width, self.window.x + self.window.width)
        bottom = min(target.y + target.height, self.window.y + self.window.height)
        if x < right and y < bottom:
            part = self.bitmap()[y - self.window.y : bottom - self.window.y, x - self.window.x : right - self.window.x]
            crop[y - target.y : bottom - target.y, x - target.x : right - target.x] = part
        return crop

    def spans(self, height: int) -> tuple[Offsets, Offsets]:
        """Starts and ends of the spans, column-major in a whole picture of that height; none touches the next."""
        column, row = np.divmod(self.starts, self.window.height)
        starts = (column + self.window.x) * height + row + self.window.y
        ends = starts + (self.ends - self.starts)
        apart = starts[1:] != ends[:-1]
        return starts[np.append(True, apart)], ends[np.append(apart, True)]

    def rle(self, height: int, width: int) -> str:
        """COCO's compressed RLE counts of the whole height x width picture."""
        return compress(*self.spans(height), height, width)


def compress(starts: Offsets, ends: Offsets, height: int, width: int) -> str:
    """COCO's compressed counts of column-major spans in a height x width picture."""
    edges = np.empty(2 * len(starts) + 2, dtype=np.int64)
    edges[0], edges[1:-1:2], edges[2:-1:2], edges[-1] = 0, starts, ends, height * width
    counts = np.diff(edges)
    counts = counts[:-1] if counts[-1] == 0 else counts
    packed = coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)  # type: ignore[call-overload]
    return counts_text(packed)


def counts_text(packed: Any) -> str:
    """The counts of one of pycocotools' RLE objects as text."""
    return bytes(packed["counts"]).decode("ascii")
