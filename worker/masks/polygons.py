"""Polygons: a mask's outlines along pixel edges, so that filling them gives the mask back to the pixel."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmill.worker.masks.mask import Mask

Coordinates = NDArray[np.int64]
Flags = NDArray[np.bool_]

Ring = list[int]
"""x0, y0, x1, y1, …: the corners in order, in picture pixels, not closed by a repeated point."""


def polygons(mask: Mask) -> list[list[Ring]]:
    """One list for each part connected by pixel sides: its outer ring, then one ring for each of its holes."""
    bitmap = np.pad(mask.bitmap(), 1)
    count, parts = cv2.connectedComponents(bitmap, connectivity=4)
    outer: list[list[Ring]] = [[] for _ in range(count - 1)]
    holes: list[list[Ring]] = [[] for _ in range(count - 1)]
    origin = np.array([mask.window.x - 1, mask.window.y - 1])
    for ring in _rings(bitmap.astype(bool)):
        x, y = ring[0]
        # The ring's first corner is its uppermost, then leftmost: below it lies the part, above a hole lies the part.
        inside = bool(bitmap[y, x])
        part = parts[y if inside else y - 1, x] - 1
        (outer if inside else holes)[part].append((ring + origin).ravel().tolist())
    return [[*rings, *inner] for rings, inner in zip(outer, holes, strict=True)]


def _rings(filled: Flags) -> list[Coordinates]:
    """Closed outlines as corners [n,2] of x, y: every ring starts at its uppermost, then leftmost corner.

    The corners in one row are joined in pairs from left to right, those in one column from top to bottom. Where two
    pixels touch by a corner only, the corner stands twice, once for each pixel.
    """
    xs, ys, leftward, upward = _corners(filled)
    by_row = np.lexsort((~leftward, xs, ys))
    by_column = np.lexsort((~upward, ys, xs))
    across, along = _partners(by_row), _partners(by_column)
    rings: list[Coordinates] = []
    seen = [False] * len(xs)
    for start in by_row.tolist():
        ring: list[int] = []
        corner = start
        while not seen[corner]:
            opposite = across[corner]
            ring += (corner, opposite)
            seen[corner] = seen[opposite] = True
            corner = along[opposite]
        if ring:
            rings.append(np.stack([xs[ring], ys[ring]], axis=1))
    return rings


def _corners(filled: Flags) -> tuple[Coordinates, Coordinates, Flags, Flags]:
    """x and y of the outline's corners, and whether each one's edges go left (else right) and up (else down)."""
    above_left, above_right = filled[:-1, :-1], filled[:-1, 1:]
    below_left, below_right = filled[1:, :-1], filled[1:, 1:]
    single = above_left ^ above_right ^ below_left ^ below_right
    falling = above_left & below_right & ~above_right & ~below_left
    rising = above_right & below_left & ~above_left & ~below_right
    # At a touching pair `left` and `up` are True for both kinds, so each copy takes them as they are or inverted.
    left, up = above_left ^ below_left, above_left ^ above_right
    pieces = [
        (single, left, up),
        *((falling, side, side) for side in (left, ~left)),
        *((rising, side, ~side) for side in (left, ~left)),
    ]
    xs = np.concatenate([np.nonzero(where)[1] + 1 for where, _, _ in pieces])
    ys = np.concatenate([np.nonzero(where)[0] + 1 for where, _, _ in pieces])
    leftward = np.concatenate([goes_left[where] for where, goes_left, _ in pieces])
    upward = np.concatenate([goes_up[where] for where, _, goes_up in pieces])
    return xs, ys, leftward, upward


def _partners(order: Coordinates) -> list[int]:
    """Each corner's partner where `order` lists the partners next to each other."""
    partners = np.empty_like(order)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return [int(partner) for partner in partners]
