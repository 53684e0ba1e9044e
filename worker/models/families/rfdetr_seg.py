"""rfdetr_seg: RF-DETR's segmentation layout, as its own export writes it.

One input float32 [n, 3, height, width], RGB, the picture stretched to it, ImageNet's normalisation. Outputs, of q
queries: `dets` [n, q, 4], centre x, centre y, width and height as shares of the picture; `labels` [n, q, classes],
logits; `masks` [n, q, rows, columns], logits over the whole picture. A score is a logit's sigmoid, and each query may
be found once for each class; there is no suppression. A mask is where its logits, interpolated, are above 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmill.shared.errors import ModelInvalid
from maskmill.worker.images.image import Image
from maskmill.worker.masks.instances import Instances
from maskmill.worker.models.family import Outputs, Port, Prepared, Signature, Thresholds
from maskmill.worker.models.fit import Fit, tensor
from maskmill.worker.models.manifest import Manifest, Normalisation
from maskmill.worker.models.nms import best
from maskmill.worker.models.ports import BACKGROUND, Expected, fixed_batch, picture_input, read, settled_size

MOST_INSTANCES = 300
IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

# COCO numbers its 80 classes from 1 to 90; these numbers are not used.
COCO_LOGITS, COCO_LABELS = 91, 80
COCO_GAPS = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)

Floats = NDArray[np.float32]


class RfDetrSeg:
    """The family of one loaded model."""

    def __init__(self, manifest: Manifest, signature: Signature) -> None:
        self._labels = len(manifest.labels)
        self._named = np.array([label != BACKGROUND for label in manifest.labels])
        given = "normalisation" in manifest.model_fields_set
        self._normalisation = manifest.normalisation if given else IMAGENET
        self._input = picture_input(signature)
        self._boxes, self._logits, self._masks = _outputs(signature)
        self.batch = fixed_batch(self._input)
        self.input_size = settled_size(self._input, manifest)
        count = self._logits.shape[2]
        if isinstance(count, int):
            _columns(self._logits.name, count, self._labels)

    @staticmethod
    def describe(_signature: Signature) -> Manifest | None:
        """None: its files do not name their classes."""
        return None

    def prepare(self, image: Image) -> Prepared:
        """The picture stretched to the input's size."""
        fit = Fit(image.shape[0], image.shape[1], self.input_size, self.input_size)
        return Prepared({self._input.name: tensor(fit.smooth(image), self._normalisation)}, fit)

    def finish(self, outputs: Outputs, fit: Fit, thresholds: Thresholds, nms_iou: float) -> Instances:  # noqa: ARG002
        """The best 300 pairs of query and class whose score exceeds the class's threshold."""
        boxes, logits, masks = read(
            outputs,
            Expected(self._boxes, "f", ("queries", 4)),
            Expected(self._logits, "f", ("queries", "classes")),
            Expected(self._masks, "f", ("queries", "rows", "columns")),
        )
        logits = logits[:, _columns(self._logits.name, logits.shape[1], self._labels)]
        # Beyond 80 a float32 sigmoid does not change any more, and exp would overflow.
        scores = 1 / (1 + np.exp(-logits.clip(-80, 80)))
        scores *= self._named & np.isfinite(boxes).all(axis=1)[:, None]
        scores *= scores > thresholds
        pairs = best(scores.ravel(), float(thresholds.min()), MOST_INSTANCES)
        queries, class_ids = np.divmod(pairs, self._labels)
        grid = fit.grid(*masks.shape[1:])
        found = [grid.whole(masks[query], fit.height, fit.width) for query in queries]
        corners = fit.boxes(_corners(boxes[queries], fit.outer))
        return Instances.filled(corners, scores.ravel()[pairs], class_ids.astype(np.int64), found)


def _outputs(signature: Signature) -> tuple[Port, Port, Port]:
    """Boxes, logits and masks, by rank and last dimension; by order where there are 4 classes too."""
    masks = [port for port in signature.outputs if len(port.shape) == 4]
    flat = [port for port in signature.outputs if len(port.shape) == 3]
    boxes = next((port for port in flat if port.shape[2] == 4), None)
    if len(signature.outputs) != 3 or len(masks) != 1 or len(flat) != 2 or boxes is None:
        expected = "three outputs: [n, queries, 4], [n, queries, classes] and [n, queries, rows, columns]"
        raise signature.mismatch(expected, signature.outputs)
    logits = next(port for port in flat if port is not boxes)
    return boxes, logits, masks[0]


def _columns(tensor: str, count: int, labels: int) -> NDArray[np.intp]:
    """Which logit belongs to each label.

    One logit a label, or one more at the end that stands for nothing; or COCO's 91 category numbers for its 80 labels.
    A model that was trained with classes from 1 on has the background as its first label.
    """
    if (count, labels) == (COCO_LOGITS, COCO_LABELS):
        return np.setdiff1d(np.arange(count), COCO_GAPS)
    if count not in (labels, labels + 1):
        raise ModelInvalid(f"{tensor}: expected {labels} or {labels + 1} logits for {labels} labels, got {count}")
    return np.arange(labels)


def _corners(boxes: Floats, size: tuple[int, int]) -> Floats:
    """Shares of the canvas, centre and extent [n,4], as x1 y1 x2 y2 in pixels of a canvas [height, width]."""
    height, width = size
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1) * np.array([width, height] * 2, np.float32)
