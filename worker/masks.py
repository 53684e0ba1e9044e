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


@dataclass(frozen=True, slots=True)
class Axis:
    """Samples 0..size-1 laid along one side of a picture: pixel p is at sample scale * (p + 0.5) + offset - 0.5.

    Beyond the first and the last sample the field keeps their value.
    """

    scale: float
    offset: float
    size: int

    def at(self, pixels: NDArray[Any]) -> NDArray[np.float64]:
        """Where the centres of those pixels lie among the samples, held inside [0, size - 1]."""
        at: NDArray[np.float64] = self.scale * (pixels + 0.5) + (self.offset - 0.5)
        return at.clip(0, self.size - 1)

    def pixel(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse of `at` where nothing was held."""
        return (samples + (0.5 - self.offset)) / self.scale - 0.5

    def around(self, start: int, length: int) -> slice:
        """The samples on which the pixels start .. start + length - 1 depend."""
        low = self.scale * (start + 0.5) + self.offset - 0.5
        high = low + self.scale * (length - 1)
        last = self.size - 1
        return slice(int(min(max(low, 0), last)), min(int(max(high, 0)) + 2, self.size))


@dataclass(frozen=True, slots=True)
class Lattice:
    """A coarse lattice of samples over a picture, bilinear in between."""

    rows: Axis
    columns: Axis

    def around(self, window: Window) -> tuple[slice, slice]:
        """Rows and columns of the samples on which the window's pixels depend."""
        return self.rows.around(window.y, window.height), self.columns.around(window.x, window.width)

    def mask(self, samples: Floats, window: Window) -> Mask | None:
        """The pixels of `window` where the field is above 0; None where it nowhere is.

        `samples` are the field at `around(window)`. In one column the field is linear between two samples, so where
        it passes 0 is computed, not searched: the cost grows with width x samples, not with the window's area.
        """
        rows, columns = self.around(window)
        profiles = self._profiles(samples, window, columns.start)
        count = profiles.shape[1]
        above = np.zeros((window.width, count + 2), dtype=bool)
        np.greater(profiles, 0, out=above[:, 1:-1])
        column, knot = np.divmod(np.flatnonzero(above[:, 1:] != above[:, :-1]), count + 1)
        row = self._crossings(profiles, column, knot, rows.start) - window.y
        row[knot == 0] = -1
        row[knot == count] = window.height
        starts = (np.floor(row[0::2]) + 1).clip(0, window.height)
        ends = np.ceil(row[1::2]).clip(0, window.height)
        return _joined(window, column[0::2], starts.astype(np.int64), ends.astype(np.int64))

    def _profiles(self, samples: Floats, window: Window, first: int) -> Floats:
        """The field along the window's columns at the sample rows, [width, rows]; `samples` begin at column `first`."""
        at = self.columns.at(np.arange(window.x, window.x + window.width)) - first
        left = at.astype(np.intp)
        lines = np.ascontiguousarray(samples.T)
        steps = np.diff(lines, axis=0, append=lines[-1:])
        profiles: Floats = steps[left]
        profiles *= (at - left).astype(np.float32)[:, None]
        profiles += lines[left]
        return profiles

    def _crossings(self, profiles: Floats, column: Offsets, knot: Offsets, first: int) -> NDArray[np.float64]:
        """The picture's row, with its fraction, where a column's field passes 0 between samples knot - 1 and knot."""
        before = profiles[column, np.maximum(knot - 1, 0)].astype(np.float64)
        after = profiles[column, np.minimum(knot, profiles.shape[1] - 1)]
        share = before / np.where(before == after, 1, before - after)
        return self.rows.pixel(first - 1 + knot + share)


def _joined(window: Window, column: Offsets, starts: Offsets, ends: Offsets) -> Mask | None:
    """The mask of those spans without the empty ones, those that touch inside a column made one."""
    filled = starts < ends
    column, starts, ends = column[filled], starts[filled], ends[filled]
    if not len(starts):
        return None
    apart = (starts[1:] != ends[:-1]) | (column[1:] != column[:-1])
    base = column * window.height
    return Mask(window, (base + starts)[np.append(True, apart)], (base + ends)[np.append(apart, True)])
