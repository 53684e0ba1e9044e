"""The best scores, and suppression of their rivals, in memory that does not grow with the square of the boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 128

Indexes = NDArray[np.intp]


def best(scores: NDArray[np.float32], threshold: float, limit: int) -> Indexes:
    """Indexes of at most `limit` scores [n] that exceed the threshold, best first, the earlier one where equal."""
    above = np.flatnonzero(scores > threshold)
    order = np.argsort(-scores[above], kind="stable")
    return above[order[:limit]]


# A box too large for its area to be a number overlaps nothing.
@np.errstate(over="ignore", invalid="ignore")
def suppress(boxes: NDArray[np.float32], class_ids: NDArray[np.int64], overlap: float, limit: int) -> Indexes:
    """Indexes of at most `limit` boxes [n,4] xyxy, sorted best first, that no better one of their class overlaps more.

    Greedy: each kept box drops those of its class whose intersection over union with it exceeds `overlap`. Goes block
    by block, so that the largest array has BLOCK x `limit` elements and a crowded picture ends early.
    """
    rivals = _Rivals(boxes, class_ids, overlap)
    kept = np.zeros(0, np.intp)
    for start in range(0, len(boxes), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(boxes)))
        block = block[~rivals(block, kept).any(axis=1)]
        clashes = rivals(block, block)
        alive = np.ones(len(block), bool)
        for index in range(len(block)):
            if alive[index]:
                alive[index + 1 :] &= ~clashes[index, index + 1 :]
        kept = np.concatenate([kept, block[alive]])
        if len(kept) >= limit:
            break
    return kept[:limit]


class _Rivals:
    """Which boxes are of one class and overlap too much."""

    def __init__(self, boxes: NDArray[np.float32], class_ids: NDArray[np.int64], overlap: float) -> None:
        self._x1, self._y1, self._x2, self._y2 = np.ascontiguousarray(boxes.T)
        self._areas = (self._x2 - self._x1) * (self._y2 - self._y1)
        self._class_ids = class_ids
        self._overlap = overlap

    def __call__(self, some: Indexes, others: Indexes) -> NDArray[np.bool_]:
        """bool [some, others]."""
        common = self._shared(self._x1, self._x2, some, others) * self._shared(self._y1, self._y2, some, others)
        union = np.add.outer(self._areas[some], self._areas[others]) - common
        same = np.equal.outer(self._class_ids[some], self._class_ids[others])
        return np.asarray((common > self._overlap * union) & same)

    @staticmethod
    def _shared(
        low: NDArray[np.float32], high: NDArray[np.float32], some: Indexes, others: Indexes
    ) -> NDArray[np.float32]:
        length = np.minimum.outer(high[some], high[others])
        length -= np.maximum.outer(low[some], low[others])
        return np.maximum(length, 0, out=length)
