"""Resample: a coarse field over a picture, such as the mask of a network, turned into a Mask without enlarging it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskmill.worker.masks.mask import Floats, Mask, Offsets, Window

BEYOND = 1e30
"""Stands for infinity: far above all samples, and its differences are finite."""


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

    def reach(self, first: int, last: int, length: int) -> tuple[int, int]:
        """The pixels start <= p < end, of `length`, whose value depends on one of the samples first .. last."""
        before, after = self.pixel(np.array([first - 1, last + 1], np.float64)).tolist()
        start = 0 if first == 0 else min(max(math.floor(before) + 1, 0), length)
        end = length if last == self.size - 1 else min(max(math.ceil(after), 0), length)
        return start, end

    def around(self, start: int, length: int) -> slice:
        """The samples on which the pixels start .. start + length - 1 depend."""
        low = self.scale * (start + 0.5) + self.offset - 0.5
        high = low + self.scale * (length - 1)
        last = self.size - 1
        return slice(int(min(max(low, 0), last)), min(int(max(high, 0)) + 2, self.size))


@dataclass(frozen=True, slots=True)
class SampleGrid:
    """A coarse grid of samples over a picture; between them the field is interpolated bilinearly."""

    rows: Axis
    columns: Axis

    @classmethod
    def across(cls, box: Sequence[float], rows: int, columns: int) -> SampleGrid:
        """The grid whose rows x columns samples are spread evenly over a box x1 y1 x2 y2 that is not empty."""
        x1, y1, x2, y2 = box
        down, right = rows / (y2 - y1), columns / (x2 - x1)
        return cls(Axis(down, -y1 * down, rows), Axis(right, -x1 * right, columns))

    def whole(self, field: Floats, height: int, width: int, level: float = 0) -> Mask | None:
        """The pixels of a height x width picture where the field [rows, columns] exceeds `level`; None if nowhere."""
        above = field > level
        rows, columns = np.flatnonzero(above.any(axis=1)), np.flatnonzero(above.any(axis=0))
        if not len(rows):
            return None
        top, bottom = self.rows.reach(int(rows[0]), int(rows[-1]), height)
        left, right = self.columns.reach(int(columns[0]), int(columns[-1]), width)
        window = Window(left, top, right - left, bottom - top)
        return self.inside(field, window, level)

    def inside(self, field: Floats, window: Window, level: float = 0) -> Mask | None:
        """The pixels of `window` where the field [rows, columns] exceeds `level`; None if nowhere."""
        if window.width <= 0 or window.height <= 0:
            return None
        rows, columns = self.around(window)
        return self.mask(field[rows, columns] - np.float32(level), window)

    def around(self, window: Window) -> tuple[slice, slice]:
        """Rows and columns of the samples on which the window's pixels depend."""
        return self.rows.around(window.y, window.height), self.columns.around(window.x, window.width)

    def mask(self, samples: Floats, window: Window) -> Mask | None:
        """The pixels of `window` where the field is above 0; None where it nowhere is. What is no number is not above.

        `samples` are the field at `around(window)`. In one column the field is linear between two samples, so where
        it passes 0 is computed, not searched: the cost grows with width x samples, not with the window's area.
        """
        rows, columns = self.around(window)
        if not np.isfinite(samples).all():
            samples = np.nan_to_num(samples, nan=-1, posinf=BEYOND, neginf=-BEYOND).astype(np.float32)
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
