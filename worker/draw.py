"""Draw: masks, boxes and labels on the picture, one colour a class."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.instances import Image, Instances

# The seed's palette, RGB, in its order.
PALETTE: tuple[tuple[int, int, int], ...] = tuple(
    (value >> 16, value >> 8 & 255, value & 255)
    for value in (
        *(0xFF0000, 0xCCFF00, 0x00FF66, 0x0066FF, 0xCC00FF, 0xFF4D00, 0x80FF00, 0x00FFB2, 0x001AFF, 0xFF00E5),
        *(0xFF9900, 0x33FF00, 0x00FFFF, 0x3300FF, 0xFF0099, 0xFFE500, 0x00FF1A, 0xB200FF, 0xFF8000, 0xFF004D),
    )
)


def colour(class_id: int) -> tuple[int, int, int]:
    """The RGB colour of a class, the same in every picture."""
    return PALETTE[class_id % len(PALETTE)]


def draw(image: Image, instances: Instances, labels: tuple[str, ...], *, in_place: bool = False) -> Image:
    """The picture with its instances on it; a new array, or the given one where `in_place`."""
    canvas = image if in_place else image.copy()
    for mask, class_id in zip(instances.masks, instances.class_ids.tolist(), strict=True):
        x, y, width, height = mask.window
        region = canvas[y : y + height, x : x + width]
        tint = np.array(colour(class_id)) * 0.5
        blended = cv2.convertScaleAbs(region * 0.5 + tint)
        np.copyto(region, blended, where=mask.bitmap().astype(bool)[..., None])
    for box, class_id in zip(instances.boxes.tolist(), instances.class_ids.tolist(), strict=True):
        x1, y1, x2, y2 = (round(edge) for edge in box)
        cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), colour(class_id), 2)
    return canvas
