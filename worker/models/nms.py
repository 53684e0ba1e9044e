"""Non-maximum suppression, class by class, in memory linear in the number of boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def suppress(boxes: NDArray[np.float32], class_ids: NDArray[np.int64], overlap: float, limit: int) -> NDArray[np.intp]:
    """Indexes of at most `limit` boxes [n,4] xyxy, sorted best first, that no better one of their class overlaps more.

    Greedy: each kept box drops those of its class whose intersection over union with it exceeds `overlap`.
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    left = np.arange(len(boxes))
    while len(left) and len(kept) < limit:
        best, left = left[0], left[1:]
        kept.append(int(best))
        others = boxes[left]
        sides = np.minimum(boxes[best, 2:], others[:, 2:]) - np.maximum(boxes[best, :2], others[:, :2])
        common = np.prod(np.maximum(sides, 0), axis=1)
        union = areas[best] + areas[left] - common
        left = left[(common <= overlap * union) | (class_ids[left] != class_ids[best])]
    return np.array(kept, np.intp)
