"""Instances for tests, made from bitmaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmill.worker.masks.instances import Instances
from maskmill.worker.masks.mask import Mask

Found = tuple[tuple[float, float, float, float], int, float, NDArray[np.uint8]]


def instances_of(*found: Found) -> Instances:
    """Instances of (box, class id, score, bitmap of the whole picture)."""
    masks = [Mask.from_bitmap(bitmap) for *_, bitmap in found]
    assert all(masks)
    return Instances(
        np.array([box for box, *_ in found], np.float32).reshape(-1, 4),
        np.array([score for _, _, score, _ in found], np.float32),
        np.array([class_id for _, class_id, *_ in found], np.int64),
        tuple(mask for mask in masks if mask is not None),
    )


def filled(height: int, width: int, x: int, y: int, right: int, bottom: int) -> NDArray[np.uint8]:
    """A bitmap of a height x width picture, set from (x, y) up to (right, bottom)."""
    bitmap = np.zeros((height, width), np.uint8)
    bitmap[y:bottom, x:right] = 1
    return bitmap
