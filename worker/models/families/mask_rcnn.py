"""mask_rcnn: Mask R-CNN as torchvision exports it, and as the ONNX Model Zoo has it (MaskRCNN-10 and -12).

One input float32 [3, height, width] or [1, 3, height, width], whose 1 may be left open. Four outputs, told by rank and
dtype because their names vary: boxes float32 [n, 4], x1 y1 x2 y2 in input pixels; labels int64 [n], from 1, 0 being the
background; scores float32 [n]; masks float32 [n, 1, rows, columns], probabilities. A leading dimension of 1 before each
is read too.

torchvision  RGB from 0 to 1 at the picture's own size: resizing and normalising are inside. Masks are of the input's
             size.
Model Zoo    BGR from 0 to 255 less a mean, the shorter side 800, zeros to a multiple of 32. Masks are 28 x 28 inside
             their boxes.

A mask is where its probability, interpolated, exceeds one half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskmill.shared.errors import ModelInvalid
from maskmill.worker.images.image import Image
from maskmill.worker.masks.instances import Instances
from maskmill.worker.masks.mask import Mask, Window
from maskmill.worker.masks.resample import SampleGrid
from maskmill.worker.models.family import Outputs, Port, Prepared, Signature, Thresholds
from maskmill.worker.models.fit import Fit, corner, tensor, within
from maskmill.worker.models.manifest import Manifest, Normalisation
from maskmill.worker.models.nms import best
from maskmill.worker.models.ports import (
    BACKGROUND,
    check_classes,
    fixed_size,
    may_be,
    probabilities,
    settled_size,
    shapes,
)

MASK_LEVEL = 0.5
STRIDE = 32
ZOO = Normalisation(scale=1, mean=(102.9801, 115.9465, 122.7717), channels="BGR")
ZOO_SHORT, ZOO_BOUNDS = 800, (1333, 1333)

# torchvision's graph fills a float32 mask of the input's size for each of up to 100 instances.
MASK_BYTES = 512 << 20
MOST_PIXELS = MASK_BYTES // (100 * 4)

EXPECTED = "boxes float32[n, 4], labels int64[n], scores float32[n] and masks float32[n, 1, rows, columns]"

Floats = NDArray[np.float32]


class MaskRcnn:
    """The family of one loaded model.

    The manifest's `labels` begin with class 1, or with `__background__`. Its `input_size`, [height, width], is what a
    resized picture has to fit into; without it, and with masks that are not declared small, nothing is resized.
    """

    def __init__(self, manifest: Manifest, signature: Signature) -> None:
        self._labels = len(manifest.labels)
        self._first = 0 if manifest.labels[0] == BACKGROUND else 1
        self._input = _only_input(signature)
        self._fixed = fixed_size(self._input)
        zoo = _has_small_masks(_checked(signature), self._fixed)
        given = "normalisation" in manifest.model_fields_set
        self._normalisation = ZOO if zoo and not given else manifest.normalisation
        if self._fixed is not None:
            settled_size(self._input, manifest)
        self._bounds = manifest.input_size or (ZOO_BOUNDS if zoo else None)

    @staticmethod
    def describe(_signature: Signature) -> Manifest | None:
        """None: its files do not name their classes."""
        return None

    @property
    def batch(self) -> int:
        """One: the outputs do not say which picture a row belongs to."""
        return 1

    @property
    def input_size(self) -> tuple[int, int] | None:
        """The size that the export fixed, or None."""
        return self._fixed

    def prepare(self, image: Image) -> Prepared:
        """The picture at the size that the model is made for, zeros at its right and bottom after normalising."""
        fit = self._fit(*image.shape[:2])
        inside = tensor(fit.smooth(image), self._normalisation)
        below, right = (outer - inner for outer, inner in zip(fit.outer, fit.inner, strict=True))
        padded = np.pad(inside, ((0, 0), (0, 0), (0, below), (0, right))) if below or right else inside
        return Prepared({self._input.name: padded if len(self._input.shape) == 4 else padded[0]}, fit)

    def finish(self, outputs: Outputs, fit: Fit, thresholds: Thresholds, nms_iou: float) -> Instances:  # noqa: ARG002
        """The rows whose score exceeds their class's threshold; what the model suppressed does not come back."""
        found, names = _read(outputs)
        rows = best(found.scores, float(thresholds.min()), len(found.scores))
        rows = rows[np.isfinite(found.boxes[rows]).all(axis=1)]
        check_classes(names["labels"], found.labels[rows], self._labels, self._first)
        rows = rows[found.scores[rows] > thresholds[found.labels[rows] - self._first]]
        class_ids, scores = found.labels[rows] - self._first, probabilities(names["scores"], found.scores[rows])
        # Views: all of them copied would be half a gibibyte.
        masks = [found.masks[row] for row in rows]
        if found.masks.shape[1:] == fit.outer:
            decoded = _laid_over(masks, fit)
        else:
            decoded = _pasted(masks, fit.whole_boxes(found.boxes[rows]), fit)
        return Instances.filled(fit.boxes(found.boxes[rows]), scores, class_ids, decoded)

    def _fit(self, height: int, width: int) -> Fit:
        if self._fixed is not None:
            return corner(height, width, self._fixed)
        if self._bounds is not None:
            fit = corner(height, width, self._bounds, ZOO_SHORT)
            return replace(fit, outer=(_strides(fit.inner[0]), _strides(fit.inner[1])))
        inner = within(height, width, MOST_PIXELS)
        return Fit(height, width, inner, inner)


class _Found(NamedTuple):
    """boxes [n,4], labels int64 [n], scores [n], masks [n,rows,columns]."""

    boxes: Floats
    labels: NDArray[np.int64]
    scores: Floats
    masks: Floats


def _only_input(signature: Signature) -> Port:
    inputs = signature.inputs
    shape = inputs[0].shape if len(inputs) == 1 and inputs[0].dtype == "float32" else ()
    wanted = {3: (3,), 4: (1, 3)}.get(len(shape), ())
    if not wanted or not all(may_be(size, one) for size, one in zip(shape, wanted, strict=False)):
        raise signature.mismatch("one input float32[3, height, width] or float32[1, 3, height, width]", inputs)
    return inputs[0]


def _checked(signature: Signature) -> Signature:
    """The signature itself; some exports declare no shapes, so that only a run shows the rest."""
    if sorted(port.dtype for port in signature.outputs) != ["float32"] * 3 + ["int64"]:
        raise signature.mismatch(f"four outputs: {EXPECTED}", signature.outputs)
    return signature


def _has_small_masks(signature: Signature, canvas: tuple[int, int] | None) -> bool:
    """Whether the masks are declared with a size of their own."""
    masks = max(signature.outputs, key=lambda port: len(port.shape))
    size = fixed_size(masks) if len(masks.shape) >= 3 else None
    return size is not None and size != canvas


def _read(outputs: Outputs) -> tuple[_Found, dict[str, str]]:
    """The outputs by rank and dtype, and their names; raises ModelInvalid with all of them where one does not fit."""
    labels = [value for value in outputs.values() if value.dtype == np.int64]
    batched = bool(labels) and labels[0].ndim == 2
    plain = [value[0] if batched and len(value) == 1 else value for value in outputs.values()]
    by_kind = {_kind(value): value for value in plain}
    names = {_kind(value): name for name, value in zip(outputs, plain, strict=True)}
    if set(by_kind) != {"boxes", "labels", "scores", "masks"}:
        raise ModelInvalid(f"expected {EXPECTED}; got {shapes(outputs)}")
    found = _Found(**by_kind)
    count = len(found.labels)
    if any(len(value) != count for value in found):
        raise ModelInvalid(f"expected as many boxes, labels, scores and masks; got {shapes(outputs)}")
    if count and not found.masks.size:
        raise ModelInvalid(f"{names['masks']}: expected masks [n, 1, rows, columns], got {list(found.masks.shape)}")
    return found._replace(masks=found.masks.reshape(count, *found.masks.shape[-2:])), names


def _kind(value: NDArray[Any]) -> str:
    if value.dtype == np.int64 and value.ndim == 1:
        return "labels"
    if value.dtype != np.float32:
        return ""
    if value.ndim == 2:
        return "boxes" if value.shape[1] == 4 else ""
    if value.ndim == 4:
        return "masks" if value.shape[1] == 1 else ""
    return {1: "scores", 3: "masks"}.get(value.ndim, "")


def _laid_over(masks: Sequence[Floats], fit: Fit) -> list[Mask | None]:
    grid = fit.grid(*fit.outer)
    return [grid.whole(mask, fit.height, fit.width, MASK_LEVEL) for mask in masks]


def _pasted(masks: Sequence[Floats], boxes: Floats, fit: Fit) -> list[Mask | None]:
    """Each mask stretched over its box [n,4] in picture pixels, which may reach beyond the picture."""
    pasted: list[Mask | None] = []
    for mask, box in zip(masks, boxes.tolist(), strict=True):
        window = Window.inside(box, fit.height, fit.width)
        empty = window.width == 0 or window.height == 0
        pasted.append(None if empty else SampleGrid.across(box, *mask.shape).inside(mask, window, MASK_LEVEL))
    return pasted


def _strides(pixels: int) -> int:
    return -(-pixels // STRIDE) * STRIDE
