"""rtmdet_ins: RTMDet-Ins as mmdeploy exports it, suppression inside.

One input float32 [n, 3, height, width], BGR, the picture at the top left at its ratio, padded with 114. Outputs: `dets`
float32 [n, k, 5], x1 y1 x2 y2 in input pixels and the score; `labels` int64 [n, k]; `masks` float32 [n, k, rows,
columns], probabilities over the whole input. Rows that hold nothing have score 0 or label -1. A mask is where its
probability, interpolated, exceeds one half; it is not cut to its box.
"""

from __future__ import annotations

import numpy as np

from maskmill.worker.images.image import Image
from maskmill.worker.masks.instances import Instances
from maskmill.worker.models.family import Outputs, Port, Prepared, Signature, Thresholds
from maskmill.worker.models.fit import Fit, corner, tensor
from maskmill.worker.models.manifest import Manifest, Normalisation
from maskmill.worker.models.nms import best
from maskmill.worker.models.ports import (
    Expected,
    check_classes,
    fixed_batch,
    picture_input,
    probabilities,
    read,
    settled_size,
)

MASK_LEVEL = 0.5
MMDET = Normalisation(scale=1, mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395), channels="BGR")


class RtmDetIns:
    """The family of one loaded model."""

    def __init__(self, manifest: Manifest, signature: Signature) -> None:
        self._labels = len(manifest.labels)
        self._normalisation = manifest.normalisation if "normalisation" in manifest.model_fields_set else MMDET
        self._input = picture_input(signature)
        self._dets, self._classes, self._masks = _outputs(signature)
        self.batch = fixed_batch(self._input)
        self.input_size = settled_size(self._input, manifest)

    @staticmethod
    def describe(_signature: Signature) -> Manifest | None:
        """None: its files do not name their classes."""
        return None

    def prepare(self, image: Image) -> Prepared:
        """The picture resized at its ratio, and padded at the right or the bottom."""
        fit = corner(image.shape[0], image.shape[1], self.input_size)
        canvas = fit.apply(image, self._normalisation.pad)
        return Prepared({self._input.name: tensor(canvas, self._normalisation)}, fit)

    def finish(self, outputs: Outputs, fit: Fit, thresholds: Thresholds, nms_iou: float) -> Instances:  # noqa: ARG002
        """The rows whose score exceeds their class's threshold; what the model suppressed does not come back."""
        dets, classes, masks = read(
            outputs,
            Expected(self._dets, "f", ("k", 5)),
            Expected(self._classes, "i", ("k",)),
            Expected(self._masks, "f", ("k", "rows", "columns")),
        )
        rows = best(dets[:, 4], float(thresholds.min()), len(dets))
        rows = rows[(classes[rows] >= 0) & np.isfinite(dets[rows, :4]).all(axis=1)]
        check_classes(self._classes.name, classes[rows], self._labels)
        rows = rows[dets[rows, 4] > thresholds[classes[rows]]]
        class_ids = classes[rows].astype(np.int64)
        grid = fit.grid(*masks.shape[1:])
        found = [grid.whole(masks[row], fit.height, fit.width, MASK_LEVEL) for row in rows]
        scores = probabilities(self._dets.name, dets[rows, 4])
        return Instances.filled(fit.boxes(dets[rows, :4]), scores, class_ids, found)


def _outputs(signature: Signature) -> tuple[Port, Port, Port]:
    by_rank = {len(port.shape): port for port in signature.outputs}
    if len(signature.outputs) != 3 or set(by_rank) != {2, 3, 4} or not _fits(by_rank[3], by_rank[2]):
        expected = "three outputs: float32[n, rows, 5], int64[n, rows] and float32[n, rows, mask rows, mask columns]"
        raise signature.mismatch(expected, signature.outputs)
    return by_rank[3], by_rank[2], by_rank[4]


def _fits(dets: Port, classes: Port) -> bool:
    return dets.shape[2] in (5, str(dets.shape[2])) and classes.dtype.startswith("int")
