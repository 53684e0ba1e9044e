"""paddlex: the instance segmentation models of PaddleX, from their directory (`inference.onnx`, `inference.yml`).

Three float32 inputs: the picture [1,3,height,width]; `im_shape` [1,2], its size after the Resize; `scale_factor` [1,2],
that size over the size at which the masks are wanted. Mask-RT-DETR, PP-YOLOE_seg, Mask R-CNN and Cascade Mask R-CNN
answer boxes float32 [n,6] of class, score, x1 y1 x2 y2, a count and masks [n,height,width]; SOLOv2 answers labels
int64 [n], scores float32 [n] and masks. Outputs are told apart by rank and type: their names are generated.

The graph enlarges the mask of every row, wanted or not, to the size asked for. That is the picture's where all rows fit
into MOST_MASK_BYTES, or it is of ALWAYS_PIXELS; else the largest of the same shape, enlarged again inside each box.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskmill.shared.errors import ModelInvalid
from maskmill.worker.images.image import Image
from maskmill.worker.masks.instances import Instances
from maskmill.worker.masks.mask import Mask, Window
from maskmill.worker.models.families.paddle_config import Config
from maskmill.worker.models.families.paddle_ports import Answers, Inputs
from maskmill.worker.models.families.paddle_steps import Resize, fixed_size, resized, tensor
from maskmill.worker.models.family import Outputs, Port, Prepared, Signature, Thresholds
from maskmill.worker.models.fit import Fit, within
from maskmill.worker.models.manifest import Manifest
from maskmill.worker.models.package import PADDLEX_CONFIG
from maskmill.worker.models.ports import check_classes, probabilities

MOST_MASK_BYTES = 256 << 20
"""All rows' masks at the size asked for, as the float32 that the graph makes of them; its peak is twice that."""

ALWAYS_PIXELS = 640 * 480
"""A size at which masks are asked for whatever they need: 352 MiB for the 300 rows of PP-YOLOE_seg."""

# Rows of one picture, by `arch`; the R-CNNs and SOLOv2 add one that means nothing.
_ROWS = {"DETR": 100, "RCNN": 101, "SOLOv2": 101, "PPYOLOE": 300}

Floats = NDArray[np.float32]


class PaddleX:
    """The family of one loaded model."""

    def __init__(self, manifest: Manifest, signature: Signature) -> None:
        config = Config.beside(signature.path)
        self._labels = len(manifest.labels)
        self._steps = config.steps
        self._inputs = Inputs.of(signature)
        self._outputs = Answers.of(signature)
        self._most_pixels = max(MOST_MASK_BYTES // (4 * _rows(self._outputs.masks, config.arch)), ALWAYS_PIXELS)
        self._check_size(manifest)

    @staticmethod
    def describe(signature: Signature) -> Manifest | None:
        """The manifest that the `inference.yml` beside the ONNX file amounts to."""
        if not (signature.path.parent / PADDLEX_CONFIG).is_file():
            return None
        config = Config.beside(signature.path)
        return Manifest(family="paddlex", labels=config.label_list, threshold=config.draw_threshold)

    @property
    def batch(self) -> int:
        """One: in a batch the graphs give every picture the first one's size, leave the others out, or fail."""
        return 1

    @property
    def input_size(self) -> tuple[int, int] | None:
        """The size that the Resize step fixes, or None where it keeps the ratio."""
        return fixed_size(self._steps)

    def prepare(self, image: Image) -> Prepared:
        """The picture after the Preprocess steps, and the two tensors that tell the graph how large the masks are."""
        height, width = image.shape[:2]
        inner = resized(self._steps, height, width)
        pixels = tensor(self._steps, image)
        canvas = within(height, width, self._most_pixels)
        tensors = {
            self._inputs.image.name: pixels,
            self._inputs.im_shape.name: np.array([inner], np.float32),
            self._inputs.scale_factor.name: np.divide([inner], [canvas], dtype=np.float32),
        }
        return Prepared(tensors, Fit(height, width, inner, (pixels.shape[2], pixels.shape[3])))

    def finish(self, outputs: Outputs, fit: Fit, thresholds: Thresholds, nms_iou: float) -> Instances:  # noqa: ARG002
        """Rows whose score exceeds their class's threshold (SOLOv2's too), masks cut to their rounded boxes.

        The graph has suppressed already, so `nms_iou` has no say. SOLOv2 has no boxes: a mask's extent is its box.
        """
        rows = self._outputs.rows(outputs)
        kept = rows.above(float(thresholds.min()))
        check_classes(rows.source, rows.class_ids[kept], self._labels)
        kept = kept[rows.scores[kept] > thresholds[rows.class_ids[kept]]]
        if not len(kept):
            return Instances.none()
        size: tuple[int, int] = rows.masks.shape[1:]
        canvas = Fit(fit.height, fit.width, size, size)
        boxes = canvas.boxes(_extents(rows.masks, kept) if rows.boxes is None else rows.boxes[kept])
        masks = [_mask(rows.masks[row], box, canvas) for row, box in zip(kept, boxes.tolist(), strict=True)]
        scores = probabilities(rows.scored_by, rows.scores[kept])
        return Instances.filled(boxes, scores, rows.class_ids[kept], masks)

    def _check_size(self, manifest: Manifest) -> None:
        if not any(isinstance(step, Resize) for step in self._steps):
            raise ModelInvalid(f"{PADDLEX_CONFIG}: Preprocess: expected a Resize among its steps")
        fixed = fixed_size(self._steps)
        if manifest.input_size not in (None, fixed):
            raise ModelInvalid(f"input_size: {PADDLEX_CONFIG} resizes to {fixed}, got {manifest.input_size}")
        image = self._inputs.image
        for side, resize in zip(image.shape[2:], fixed or ("a varying size",) * 2, strict=True):
            if isinstance(side, int) and side != resize:
                raise ModelInvalid(f"{image}: {PADDLEX_CONFIG} resizes pictures to {fixed or 'a varying size'}")


def _rows(masks: Port, arch: str) -> int:
    """How many masks one run can answer."""
    declared = masks.shape[0]
    return max(declared, 1) if isinstance(declared, int) else _ROWS.get(arch, max(_ROWS.values()))


def _extents(masks: NDArray[Any], rows: NDArray[np.intp]) -> Floats:
    """The boxes [n,4] around what is set in those rows of the masks; all zero where nothing is."""
    boxes = np.zeros((len(rows), 4), np.float32)
    for box, row in zip(boxes, rows, strict=True):
        mask = masks[row] > 0
        ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(xs):
            box[:] = xs[0], ys[0], xs[-1] + 1, ys[-1] + 1
    return boxes


def _mask(row: NDArray[Any], box: Sequence[float], canvas: Fit) -> Mask | None:
    """What is set of a row [h,w] inside the picture's `box`; enlarged where the row is not the picture's size."""
    window = Window.rounded(box, canvas.height, canvas.width)
    if not (window.width and window.height):
        return None
    if canvas.inner == (canvas.height, canvas.width):
        x, y, width, height = window
        return Mask.from_bitmap(row[y : y + height, x : x + width] > 0, x, y)
    grid = canvas.grid(*canvas.inner)
    # Half of one step between unset and set: the edge of the smaller mask stays where it was.
    return grid.mask((row[grid.around(window)] > 0) - np.float32(0.5), window)
