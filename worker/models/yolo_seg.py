"""yolo_seg: Ultralytics' YOLOv8 and YOLO11 segmentation layout, its raw head and prototypes.

One input float32 [n, 3, height, width]; output of rank 3 [n, 4 + classes + coefficients, anchors]: box as centre x,
centre y, width, height in input pixels, one score a class, mask coefficients; output of rank 4 [n, coefficients,
rows, columns]: prototypes. A mask is coefficients @ prototypes above 0, inside its box.
"""

from __future__ import annotations

import ast
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import ModelInvalid
from worker.instances import Image, Instances
from worker.masks import Mask, Window
from worker.models.family import Outputs, Port, Prepared, Signature
from worker.models.fit import Fit, letterbox, tensor
from worker.models.manifest import Manifest
from worker.models.nms import suppress

MOST_CANDIDATES = 30_000
MOST_INSTANCES = 300
STRIDE = 32

Floats = NDArray[np.float32]


class YoloSeg:
    """The family of one loaded model."""

    def __init__(self, manifest: Manifest, signature: Signature) -> None:
        self._labels = len(manifest.labels)
        self._normalisation = manifest.normalisation
        self._input = _only_input(signature)
        self._head, self._prototypes = _outputs(signature, self._labels)
        height, width = self._input.shape[2:]
        self._fixed = isinstance(height, int) and isinstance(width, int)
        self._size = self._settle_size(manifest)

    @staticmethod
    def describe(signature: Signature) -> Manifest | None:
        """The manifest that the metadata of an Ultralytics export amounts to."""
        metadata = signature.metadata
        if metadata.get("task") != "segment" or "names" not in metadata:
            return None
        names = _literal(metadata, "names")
        size = _literal(metadata, "imgsz") if "imgsz" in metadata else None
        labels = tuple(str(names[index]) for index in sorted(names)) if isinstance(names, dict) else tuple(names)
        return Manifest(family="yolo_seg", labels=labels, input_size=size, threshold=0.25)

    @property
    def batch(self) -> int | None:
        """The batch size that the export fixed, or None."""
        count = self._input.shape[0]
        return count if isinstance(count, int) else None

    @property
    def input_size(self) -> tuple[int, int]:
        """The size that the export fixed, or the one that pictures are fitted into."""
        return self._size

    def prepare(self, image: Image) -> Prepared:
        """The picture letterboxed: into the fixed square, or into the smallest rectangle of whole strides."""
        height, width = image.shape[:2]
        fit = letterbox(height, width, self._size, None if self._fixed else STRIDE)
        canvas = fit.apply(image, self._normalisation.pad)
        return Prepared({self._input.name: tensor(canvas, self._normalisation)}, fit)

    def finish(self, outputs: Outputs, fit: Fit, threshold: float, nms_iou: float) -> Instances:
        """Best class of each anchor, suppression within a class, at most 300, masks decoded inside their boxes."""
        head, prototypes = outputs[self._head.name][0], outputs[self._prototypes.name][0]
        coefficients = len(prototypes)
        if len(head) != 4 + self._labels + coefficients:
            expected = f"4 + {self._labels} labels + {coefficients} coefficients"
            raise ModelInvalid(f"{self._head.name}: expected {expected} rows, got {len(head)}")
        classes = head[4 : 4 + self._labels]
        anchors = _candidates(classes.max(axis=0), threshold)
        anchors = anchors[np.isfinite(head[:, anchors]).all(axis=0)]
        class_ids = classes[:, anchors].argmax(axis=0).astype(np.int64)
        boxes = _corners(head[:4, anchors])
        kept = suppress(boxes, class_ids, nms_iou, MOST_INSTANCES)
        chosen = anchors[kept]
        scores = np.minimum(classes[class_ids[kept], chosen], np.float32(1))
        found = fit.boxes(boxes[kept])
        masks = _masks(head[-coefficients:, chosen].T, prototypes, found, fit)
        return Instances.filled(found, scores, class_ids[kept], masks)

    def _settle_size(self, manifest: Manifest) -> tuple[int, int]:
        height, width = self._input.shape[2:]
        if isinstance(height, int) and isinstance(width, int):
            if manifest.input_size not in (None, (height, width)):
                raise ModelInvalid(f"input_size: expected {[height, width]} ({self._input}), got {manifest.input_size}")
            return height, width
        if manifest.input_size is None:
            raise ModelInvalid(f"input_size: needed, because {self._input} leaves it open")
        return manifest.input_size


def _only_input(signature: Signature) -> Port:
    inputs = signature.inputs
    if len(inputs) != 1 or inputs[0].dtype != "float32" or len(inputs[0].shape) != 4 or inputs[0].shape[1] != 3:
        raise signature.mismatch("one input float32[n, 3, height, width]", inputs)
    return inputs[0]


def _outputs(signature: Signature, labels: int) -> tuple[Port, Port]:
    by_rank = {len(port.shape): port for port in signature.outputs}
    if len(signature.outputs) != 2 or set(by_rank) != {3, 4}:
        expected = "two outputs: [n, 4 + classes + coefficients, anchors] and [n, coefficients, rows, columns]"
        raise signature.mismatch(expected, signature.outputs)
    head, prototypes = by_rank[3], by_rank[4]
    coefficients, rows = prototypes.shape[1], head.shape[1]
    if not isinstance(coefficients, int):
        raise signature.mismatch("a known number of prototypes", (prototypes,))
    if head.shape[2] == 6 + coefficients and rows != 4 + labels + coefficients:
        raise ModelInvalid(
            f"{head}: this export has suppression inside (nms=True, or an end-to-end head); export it with nms=False"
        )
    if isinstance(rows, int) and rows != 4 + labels + coefficients:
        raise signature.mismatch(f"{4 + labels + coefficients} rows (4 + {labels} labels + {coefficients})", (head,))
    return head, prototypes


def _literal(metadata: Any, key: str) -> Any:
    try:
        return ast.literal_eval(metadata[key])
    except (ValueError, SyntaxError):
        raise ModelInvalid(f"metadata {key}: expected a Python literal, got {metadata[key][:80]!r}") from None


def _candidates(scores: Floats, threshold: float) -> NDArray[np.intp]:
    """Anchors whose score exceeds the threshold, best first, at most MOST_CANDIDATES."""
    anchors = np.flatnonzero(scores > threshold)
    order = np.argsort(-scores[anchors], kind="stable")
    return anchors[order[:MOST_CANDIDATES]]


def _corners(boxes: Floats) -> Floats:
    """Centre, width and height [4,n] as x1 y1 x2 y2 [n,4]."""
    centre, half = boxes[:2], boxes[2:] / 2
    return np.concatenate([centre - half, centre + half]).T


def _masks(coefficients: Floats, prototypes: Floats, boxes: Floats, fit: Fit) -> list[Mask | None]:
    lattice = fit.lattice(*prototypes.shape[1:])
    masks: list[Mask | None] = []
    for weights, box in zip(coefficients, boxes.tolist(), strict=True):
        window = Window.inside(box, fit.height, fit.width)
        if not (window.width and window.height):
            masks.append(None)
            continue
        rows, columns = lattice.around(window)
        # Not tensordot: for one small product BLAS would wake threads that then spin on the cores inference needs.
        samples = np.einsum("c,crk->rk", weights, prototypes[:, rows, columns])
        masks.append(lattice.mask(samples, window))
    return masks
