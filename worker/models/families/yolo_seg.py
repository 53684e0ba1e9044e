"""yolo_seg: Ultralytics' YOLOv8, YOLO11 and YOLO26 segmentation layouts.

One input float32 [n, 3, height, width]; an output of rank 4 [n, coefficients, rows, columns], the prototypes; and an
output of rank 3, the head, in one of two layouts:

raw    [n, 4 + classes + coefficients, anchors]: box as centre x, centre y, width, height in input pixels, one score a
       class, mask coefficients; suppression is left to whoever reads it.
final  [n, rows, 6 + coefficients]: box as x1 y1 x2 y2 in input pixels, score, class, mask coefficients; exported with
       nms=True, or with the NMS-free head (end2end). Rows that hold nothing have score 0.

A mask is coefficients @ prototypes above 0, inside its box.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskmill.shared.errors import ModelInvalid
from maskmill.worker.images.image import Image
from maskmill.worker.masks.instances import Instances
from maskmill.worker.masks.mask import Mask, Window
from maskmill.worker.models.family import Outputs, Port, Prepared, Signature, Thresholds
from maskmill.worker.models.fit import Fit, letterbox, tensor
from maskmill.worker.models.manifest import Manifest, checked
from maskmill.worker.models.nms import best, suppress
from maskmill.worker.models.ports import (
    Expected,
    check_classes,
    fixed_batch,
    picture_input,
    probabilities,
    read,
    settled_size,
)

MOST_CANDIDATES = 30_000
MOST_INSTANCES = 300
STRIDE = 32

Floats = NDArray[np.float32]


class YoloSeg:
    """The family of one loaded model."""

    def __init__(self, manifest: Manifest, signature: Signature) -> None:
        self._labels = len(manifest.labels)
        self._normalisation = manifest.normalisation
        self._input = picture_input(signature)
        self._head, self._prototypes = _outputs(signature)
        self._final = _is_final(signature, self._head, self._prototypes, self._labels)
        # One open side of two leaves no room for a smaller rectangle either.
        self._fixed = any(isinstance(side, int) for side in self._input.shape[2:])
        self.batch = fixed_batch(self._input)
        self.input_size = settled_size(self._input, manifest)

    @staticmethod
    def describe(signature: Signature) -> Manifest | None:
        """The manifest that the metadata of an Ultralytics export amounts to."""
        metadata = signature.metadata
        if "task" not in metadata or "names" not in metadata:
            return None
        if metadata["task"] != "segment":
            raise ModelInvalid(f"metadata task: expected 'segment', got {metadata['task']!r}: it finds no masks")
        size = _literal(metadata, "imgsz") if "imgsz" in metadata else None
        found = {
            "family": "yolo_seg",
            "labels": _labels(metadata),
            "input_size": [size, size] if isinstance(size, int) else size,
            "threshold": 0.25,
        }
        return checked(Manifest, found, "metadata imgsz")

    def prepare(self, image: Image) -> Prepared:
        """The picture letterboxed: into the fixed square, or into the smallest rectangle of whole strides."""
        height, width = image.shape[:2]
        fit = letterbox(height, width, self.input_size, None if self._fixed else STRIDE)
        canvas = fit.apply(image, self._normalisation.pad)
        return Prepared({self._input.name: tensor(canvas, self._normalisation)}, fit)

    def finish(self, outputs: Outputs, fit: Fit, thresholds: Thresholds, nms_iou: float) -> Instances:
        """Best class of each box, at most 300, masks decoded inside their boxes; suppression where the model has none.

        A final head was thresholded and suppressed by its export: a lower threshold brings nothing back.
        """
        head, prototypes = read(
            outputs,
            Expected(self._head, "f", ("rows", "columns")),
            Expected(self._prototypes, "f", (int(self._prototypes.shape[1]), "mask rows", "mask columns")),
        )
        sizes = _Sizes(self._labels, len(prototypes))
        if self._final:
            found = _from_rows(self._head, head, sizes, thresholds)
        else:
            found = _from_anchors(self._head, head, sizes, thresholds, nms_iou)
        boxes = fit.boxes(found.boxes)
        masks = _masks(found.coefficients, prototypes, boxes, fit)
        return Instances.filled(boxes, probabilities(self._head.name, found.scores), found.class_ids, masks)


def _outputs(signature: Signature) -> tuple[Port, Port]:
    by_rank = {len(port.shape): port for port in signature.outputs}
    if len(signature.outputs) != 2 or set(by_rank) != {3, 4}:
        expected = (
            "two outputs: [n, coefficients, rows, columns] and a head, [n, 4 + classes + coefficients, anchors] "
            "or [n, rows, 6 + coefficients]"
        )
        raise signature.mismatch(expected, signature.outputs)
    if not isinstance(by_rank[4].shape[1], int):
        raise signature.mismatch("a known number of prototypes", (by_rank[4],))
    return by_rank[3], by_rank[4]


def _is_final(signature: Signature, head: Port, prototypes: Port, labels: int) -> bool:
    """Whether the head is of the final layout; the metadata decides only where the shape could be both.

    `end2end` alone would not do: it is False for exports with nms=True.
    """
    _, rows, columns = head.shape
    coefficients = int(prototypes.shape[1])
    raw, final = rows == 4 + labels + coefficients, columns == 6 + coefficients
    if raw and final:
        return _says_final(signature)
    if not (raw or final or isinstance(rows, str)):
        expected = f"{4 + labels + coefficients} rows (4 + {labels} labels + {coefficients})"
        raise signature.mismatch(f"{expected} or {6 + coefficients} columns (6 + {coefficients})", (head,))
    return final


def _says_final(signature: Signature) -> bool:
    metadata = signature.metadata
    arguments = _literal(metadata, "args") if "args" in metadata else {}
    return metadata.get("end2end") == "True" or (isinstance(arguments, dict) and arguments.get("nms") is True)


def _labels(metadata: Mapping[str, str]) -> list[str]:
    """The names in the order of their classes, which are counted from 0."""
    names = _literal(metadata, "names")
    if isinstance(names, dict):
        numbered = {int(key): name for key, name in names.items() if str(key).isdecimal()}
        names = [numbered.get(index) for index in range(len(names))]
    if not isinstance(names, list | tuple) or not names or None in names:
        raise ModelInvalid(
            f"metadata names: expected a name for each class, counted from 0, got {metadata['names'][:80]!r}; "
            "labels in a model.yaml go before it"
        )
    return [str(name) for name in names]


def _literal(metadata: Mapping[str, str], key: str) -> Any:
    try:
        return ast.literal_eval(metadata[key])
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise ModelInvalid(f"metadata {key}: expected a Python literal, got {metadata[key][:80]!r}") from None


class _Sizes(NamedTuple):
    labels: int
    coefficients: int


class _Found(NamedTuple):
    """Boxes float32 [n,4] xyxy in input pixels, best first, scores float32 [n], class ids, coefficients [n,c]."""

    boxes: Floats
    scores: Floats
    class_ids: NDArray[np.int64]
    coefficients: Floats


def _from_anchors(port: Port, head: Floats, sizes: _Sizes, thresholds: Thresholds, nms_iou: float) -> _Found:
    """What a raw head [rows, anchors] says, suppressed within each class."""
    if len(head) != 4 + sum(sizes):
        expected = f"4 + {sizes.labels} labels + {sizes.coefficients} coefficients"
        raise ModelInvalid(f"{port.name}: expected {expected} rows, got {len(head)}")
    classes = head[4 : 4 + sizes.labels]
    anchors = best(classes.max(axis=0), float(thresholds.min()), MOST_CANDIDATES)
    anchors = anchors[np.isfinite(head[:, anchors]).all(axis=0)]
    class_ids = classes[:, anchors].argmax(axis=0).astype(np.int64)
    wanted = classes[class_ids, anchors] > thresholds[class_ids]
    anchors, class_ids = anchors[wanted], class_ids[wanted]
    boxes = _corners(head[:4, anchors])
    kept = suppress(boxes, class_ids, nms_iou, MOST_INSTANCES)
    chosen = anchors[kept]
    return _Found(boxes[kept], classes[class_ids[kept], chosen], class_ids[kept], head[-sizes.coefficients :, chosen].T)


def _from_rows(port: Port, head: Floats, sizes: _Sizes, thresholds: Thresholds) -> _Found:
    """What a final head [rows, columns] says."""
    if head.shape[1] != 6 + sizes.coefficients:
        raise ModelInvalid(f"{port.name}: expected {6 + sizes.coefficients} columns, got {head.shape[1]}")
    rows = best(head[:, 4], float(thresholds.min()), len(head))
    found = head[rows[np.isfinite(head[rows]).all(axis=1)]]
    check_classes(port.name, found[:, 5], sizes.labels)
    found = found[found[:, 4] > thresholds[found[:, 5].astype(np.int64)]][:MOST_INSTANCES]
    return _Found(found[:, :4], found[:, 4], found[:, 5].astype(np.int64), found[:, 6:])


def _corners(boxes: Floats) -> Floats:
    """Centre, width and height [4,n] as x1 y1 x2 y2 [n,4]."""
    centre, half = boxes[:2], boxes[2:] / 2
    return np.concatenate([centre - half, centre + half]).T


def _masks(coefficients: Floats, prototypes: Floats, boxes: Floats, fit: Fit) -> list[Mask | None]:
    grid = fit.grid(*prototypes.shape[1:])
    masks: list[Mask | None] = []
    for weights, box in zip(coefficients, boxes.tolist(), strict=True):
        window = Window.inside(box, fit.height, fit.width)
        if not (window.width and window.height):
            masks.append(None)
            continue
        rows, columns = grid.around(window)
        # Not tensordot: for one small product BLAS would wake threads that then spin on the cores inference needs.
        samples = np.einsum("c,crk->rk", weights, prototypes[:, rows, columns])
        masks.append(grid.mask(samples, window))
    return masks
