"""One picture after the other as PaddleX does it: full-size masks, a Pillow drawing, dense and indented JSON."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

OVERLAP = 0.7
OPACITY = 0.7
Array = NDArray[Any]


class PlainLoop:
    """An Ultralytics export of a fixed size, with onnxruntime's own defaults for threads."""

    def __init__(self, model: Path, threshold: float) -> None:
        self._session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        names = ast.literal_eval(self._session.get_modelmeta().custom_metadata_map["names"])
        self._labels = [names[index] for index in sorted(names)]
        self._size = self._session.get_inputs()[0].shape[2]
        self._threshold = threshold
        self._session.run(None, {"images": np.zeros((1, 3, self._size, self._size), np.float32)})

    def run(self, path: Path, out: Path, lap: Callable[[str], None]) -> int:
        """Segment one picture and save both files; how many instances there are."""
        bgr = cv2.imread(str(path))
        assert bgr is not None
        lap("read")
        blob, scale, top, left = self._prepare(bgr)
        lap("prepare")
        head, prototypes = self._session.run(None, {"images": blob})
        lap("infer")
        boxes, scores, class_ids, coefficients = self._decode(head[0].T, scale, top, left, bgr.shape)
        lap("boxes")
        wholes = [self._mask(row, prototypes[0], bgr.shape, scale, top, left) for row in coefficients]
        masks = [_inside(whole, box) for whole, box in zip(wholes, boxes, strict=True)]
        lap("full-size masks")
        self._draw(bgr, boxes, scores, class_ids, masks).save(out / f"{path.stem}_res{path.suffix}")
        lap("draw and save")
        self._write(path, out, (boxes, scores, class_ids, masks))
        lap("write JSON")
        return len(boxes)

    def _prepare(self, bgr: Array) -> tuple[Array, float, int, int]:
        height, width = bgr.shape[:2]
        scale = min(self._size / height, self._size / width)
        inner = round(height * scale), round(width * scale)
        top, left = (round((self._size - side) / 2 - 0.1) for side in inner)
        canvas = np.full((self._size, self._size, 3), 114, np.uint8)
        canvas[top : top + inner[0], left : left + inner[1]] = cv2.resize(bgr, inner[::-1])
        blob = canvas[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255
        return np.ascontiguousarray(blob), scale, top, left

    def _decode(self, rows: Array, scale: float, top: int, left: int, shape: Any) -> tuple[Array, Array, Array, Array]:
        classes = rows[:, 4 : 4 + len(self._labels)]
        rows, classes = (part[classes.max(axis=1) > self._threshold] for part in (rows, classes))
        scores, class_ids = classes.max(axis=1), classes.argmax(axis=1)
        corner = rows[:, :2] - rows[:, 2:4] / 2
        listed = np.concatenate([corner, rows[:, 2:4]], axis=1)
        kept = np.array(cv2.dnn.NMSBoxesBatched(listed, scores, class_ids, self._threshold, OVERLAP), int)  # type: ignore[arg-type, type-var]
        boxes = np.concatenate([corner, corner + rows[:, 2:4]], axis=1)[kept]
        boxes = (boxes - [left, top, left, top]) / scale
        boxes = boxes.clip(0, [shape[1], shape[0], shape[1], shape[0]])
        return boxes, scores[kept], class_ids[kept], rows[kept, 4 + len(self._labels) :]

    def _mask(self, row: Array, prototypes: Array, shape: Any, scale: float, top: int, left: int) -> Array:
        field = np.tensordot(row, prototypes, 1)
        whole = cv2.resize(field, (self._size, self._size))
        inner = whole[top : top + round(shape[0] * scale), left : left + round(shape[1] * scale)]
        return (cv2.resize(inner, (shape[1], shape[0])) > 0).astype(np.int32)

    def _draw(self, bgr: Array, boxes: Array, scores: Array, class_ids: Array, masks: list[Array]) -> Image.Image:
        rgb = bgr[:, :, ::-1].astype(np.float32)
        for class_id, mask in zip(class_ids, masks, strict=True):
            where = np.nonzero(mask)
            rgb[where] = rgb[where] * (1 - OPACITY) + np.array(_colour(class_id)) * OPACITY
        picture = Image.fromarray(rgb.astype(np.uint8))
        pen, font = ImageDraw.Draw(picture), ImageFont.load_default(int(0.018 * picture.width) + 2)
        for box, score, class_id in zip(boxes.tolist(), scores, class_ids, strict=True):
            pen.rectangle(box, outline=_colour(class_id), width=max(int(0.002 * max(picture.size)), 1))
            pen.text(box[:2], f"{self._labels[class_id]} {score:.2f}", fill="white", font=font)
        return picture

    def _write(self, path: Path, out: Path, found: tuple[Array, Array, Array, list[Array]]) -> None:
        boxes, masks = [], []
        for box, score, class_id, mask in zip(*found, strict=True):
            facts = {"cls_id": int(class_id), "label": self._labels[class_id], "score": float(score)}
            boxes.append(facts | {"coordinate": box.tolist()})
            x1, y1, x2, y2 = map(round, box.tolist())
            masks.append(mask[y1:y2, x1:x2].tolist())
        document = {"input_path": str(path), "page_index": None, "boxes": boxes, "masks": masks}
        with (out / f"{path.stem}_res.json").open("w", encoding="utf-8") as file:
            json.dump(document, file, indent=4, ensure_ascii=False)


def _inside(mask: Array, box: Array) -> Array:
    """The mask without what lies outside its box."""
    x1, y1, x2, y2 = map(round, box.tolist())
    cut = np.zeros_like(mask)
    cut[y1:y2, x1:x2] = mask[y1:y2, x1:x2]
    return cut


def _colour(class_id: int) -> tuple[int, int, int]:
    red, green, blue = (int(part) for part in np.random.default_rng(int(class_id)).integers(0, 256, 3))
    return red, green, blue
