"""Instances: what was found on a picture, the value that flows from the model to the artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskmill.worker.masks.mask import Mask


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """What a model found in one picture, as parallel arrays, best score first.

    boxes: float32 [n,4], x1 y1 x2 y2 in picture pixels; scores: float32 [n], 0 to 1; class_ids: int64 [n];
    masks: n masks, none of them empty. Raises ValueError where these do not hold.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    masks: tuple[Mask, ...]

    def __post_init__(self) -> None:
        count = len(self.masks)
        _check("boxes", self.boxes, np.dtype(np.float32), (count, 4))
        _check("scores", self.scores, np.dtype(np.float32), (count,))
        _check("class_ids", self.class_ids, np.dtype(np.int64), (count,))
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()):
            raise ValueError("boxes and scores must be finite")

    def __len__(self) -> int:
        return len(self.masks)

    @classmethod
    def filled(
        cls,
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
        class_ids: NDArray[np.int64],
        masks: Sequence[Mask | None],
    ) -> Instances:
        """Those of n candidates whose mask is not empty (None), nor their box."""
        kept = {
            index: mask
            for index, (mask, (x1, y1, x2, y2)) in enumerate(zip(masks, boxes.tolist(), strict=True))
            if mask is not None and x1 < x2 and y1 < y2
        }
        there = list(kept)
        return cls(boxes[there], scores[there], class_ids[there], tuple(kept.values()))

    def best(self, most: int | None) -> Instances:
        """The `most` that score best, the earlier one where two score the same; all of them for None."""
        kept = slice(most)
        return Instances(self.boxes[kept], self.scores[kept], self.class_ids[kept], self.masks[kept])

    @classmethod
    def none(cls) -> Instances:
        """A picture in which nothing was found."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), ())


def _check(name: str, array: NDArray[np.generic], dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{name}: expected {dtype}{list(shape)}, got {array.dtype}{list(array.shape)}")
