"""A plain reader of `yolo_seg` outputs in numpy and OpenCV, independent of the worker that serves the model."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
PAD = 114
MOST_FOUND = 300


@dataclass(frozen=True)
class Letterbox:
    """Where a picture lies in the square network input of `size`: all in input pixels but the scale."""

    size: int
    scale: float
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Found:
    """What was found: scores float32 [n], class_ids int64 [n], boxes float32 [n,4] x1y1x2y2, masks bool [n,h,w]."""

    scores: Floats
    class_ids: npt.NDArray[np.int64]
    boxes: Floats
    masks: npt.NDArray[np.bool_]


def letterbox(image: npt.NDArray[np.uint8], size: int) -> tuple[npt.NDArray[np.uint8], Letterbox]:
    """Return the picture, uint8 [h,w,3], resized into the middle of a grey square, and where it lies there."""
    height, width = image.shape[:2]
    scale = min(size / height, size / width)
    inner_w, inner_h = round(width * scale), round(height * scale)
    left, top = round((size - inner_w) / 2 - 0.1), round((size - inner_h) / 2 - 0.1)
    square = np.full((size, size, 3), PAD, np.uint8)
    resized = cv2.resize(image, (inner_w, inner_h), interpolation=cv2.INTER_LINEAR)
    square[top : top + inner_h, left : left + inner_w] = resized
    return square, Letterbox(size, scale, left, top, inner_w, inner_h)


def decode(output: Floats, prototypes: Floats, box: Letterbox, shape: tuple[int, int], limits: Limits) -> Found:
    """Turn one picture's output0 [4+c+m,anchors] and output1 [m,h,w] into instances at the picture's size."""
    classes = output.shape[0] - 4 - prototypes.shape[0]
    scores = output[4 : 4 + classes].max(axis=0)
    kept = np.flatnonzero(scores > limits.score)
    centre, extent = output[:2, kept].T, output[2:4, kept].T
    corners = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)
    labels = output[4 : 4 + classes, kept].argmax(axis=0)
    best = suppress(corners + labels[:, None] * 4096.0, scores[kept], limits.iou)[:MOST_FOUND]
    kept, corners = kept[best], corners[best]
    masks = [
        _mask(np.tensordot(output[4 + classes :, i], prototypes, 1), corner, box, shape)
        for i, corner in zip(kept, corners, strict=True)
    ]
    stacked = np.array(masks, bool).reshape(-1, *shape)
    full = stacked.any(axis=(1, 2))
    boxes = ((corners - np.array([box.left, box.top] * 2)) / box.scale).astype(np.float32)
    return Found(scores[kept][full], labels[best][full].astype(np.int64), boxes[full], stacked[full])


@dataclass(frozen=True)
class Limits:
    """The least score that counts, and the overlap from which two boxes of a class are one."""

    score: float = 0.25
    iou: float = 0.7


def suppress(boxes: npt.NDArray[np.floating], scores: Floats, limit: float) -> list[int]:
    """Return the positions of boxes [n,4] that no better one overlaps by more than limit, best first."""
    order = list(np.argsort(-scores, kind="stable"))
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept: list[int] = []
    while order:
        best = order.pop(0)
        kept.append(int(best))
        rest = np.array(order, int)
        low = np.maximum(boxes[rest, :2], boxes[best, :2])
        high = np.minimum(boxes[rest, 2:], boxes[best, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        order = list(rest[shared <= limit * (areas[rest] + areas[best] - shared)])
    return kept


def _mask(logits: Floats, corner: Floats, box: Letterbox, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    square = cv2.resize(logits, (box.size, box.size), interpolation=cv2.INTER_LINEAR)
    inner = square[box.top : box.top + box.height, box.left : box.left + box.width]
    mask = cv2.resize(inner, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR) > 0
    x1, y1, x2, y2 = (corner - np.array([box.left, box.top] * 2)) / box.scale
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    return np.asarray(mask & (columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2))
