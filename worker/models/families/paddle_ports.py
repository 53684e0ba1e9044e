"""The tensors of PaddleX's graphs: which is which, whatever their generated names, and what the graph found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskmill.shared.errors import ModelInvalid
from maskmill.worker.models.family import Outputs, Port, Signature
from maskmill.worker.models.nms import best
from maskmill.worker.models.ports import may_be, shapes

_EXPECTED_INPUTS = (
    "three inputs float32: image [1, 3, height, width], im_shape [1, 2] and scale_factor [1, 2], the 1 fixed or open"
)
_EXPECTED_OUTPUTS = (
    "outputs boxes float32[n, 6] and masks [n, height, width], "
    "or labels int64[n], scores float32[n] and masks [n, height, width]"
)

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Which input is which."""

    image: Port
    im_shape: Port
    scale_factor: Port

    @classmethod
    def of(cls, signature: Signature) -> Inputs:
        """The pairs are told apart by name, or, where the names are generated, by PaddleX's order of them."""
        ports = signature.inputs
        images = [port for port in ports if len(port.shape) == 4 and all(map(may_be, port.shape, (1, 3)))]
        pairs = [port for port in ports if len(port.shape) == 2 and all(map(may_be, port.shape, (1, 2)))]
        if (len(ports), len(images), len(pairs)) != (3, 1, 2) or any(port.dtype != "float32" for port in ports):
            raise signature.mismatch(_EXPECTED_INPUTS, ports)
        if "im_shape" in pairs[1].name or "scale_factor" in pairs[0].name:
            pairs.reverse()
        return cls(images[0], *pairs)


@dataclass(frozen=True, slots=True)
class Rows:
    """What the graph found, row by row: scores float32 [n], class_ids int64 [n], masks [n,h,w] of any type, set where
    above 0; boxes float32 [n,4], x1 y1 x2 y2 in the masks' pixels, where there are any. `source` is the tensor that
    holds the classes, `scored_by` the one that holds the scores."""

    source: str
    scored_by: str
    scores: Floats
    class_ids: NDArray[np.int64]
    boxes: Floats | None
    masks: NDArray[Any]

    def above(self, threshold: float) -> NDArray[np.intp]:
        """Rows whose score exceeds `threshold`, best first; never one that only fills up (score 0, or class -1)."""
        rows = best(self.scores, max(threshold, 0), len(self.scores))
        rows = rows[self.class_ids[rows] >= 0]
        return rows if self.boxes is None else rows[np.isfinite(self.boxes[rows]).all(axis=1)]


@dataclass(frozen=True, slots=True)
class Answers:
    """Which output is which: either `boxes`, or `scores` and `labels`."""

    masks: Port
    boxes: Port | None = None
    scores: Port | None = None
    labels: Port | None = None

    @classmethod
    def of(cls, signature: Signature) -> Answers:
        """Raises ModelInvalid where ranks and types leave it open."""
        ports = signature.outputs
        masks = [port for port in ports if len(port.shape) == 3]
        boxes = [port for port in ports if _is(port, "float32", 2) and may_be(port.shape[1], 6)]
        scores = [port for port in ports if _is(port, "float32", 1)]
        labels = [port for port in ports if _is(port, "int64", 1) and port.shape != (1,)]
        if len(masks) == len(boxes) == 1:
            return cls(masks[0], boxes=boxes[0])
        if not boxes and len(masks) == len(scores) == len(labels) == 1:
            return cls(masks[0], scores=scores[0], labels=labels[0])
        raise signature.mismatch(_EXPECTED_OUTPUTS, ports)

    def rows(self, outputs: Outputs) -> Rows:
        """The rows of one picture; raises ModelInvalid where shapes left open turn out not to fit."""
        masks = outputs[self.masks.name]
        if self.boxes is not None:
            table = outputs[self.boxes.name]
            if table.shape[1:] != (6,):
                raise ModelInvalid(f"expected {_EXPECTED_OUTPUTS}; got {shapes(outputs)}")
            # Beyond a float32's whole numbers no class is meant, and no int64 would hold it.
            class_ids = np.nan_to_num(table[:, 0], nan=-1).clip(-1, 1 << 24).astype(np.int64)
            rows = Rows(self.boxes.name, self.boxes.name, table[:, 1], class_ids, table[:, 2:6], masks)
        else:
            assert self.scores is not None
            assert self.labels is not None
            named = (self.labels.name, self.scores.name)
            rows = Rows(*named, outputs[self.scores.name], outputs[self.labels.name], None, masks)
        if not len(rows.scores) == len(rows.class_ids) == len(masks):
            raise ModelInvalid(
                f"expected as many masks as {'boxes' if self.boxes else 'scores'}, got {shapes(outputs)}"
            )
        if len(masks) and not masks.size:
            raise ModelInvalid(f"{self.masks.name}: expected masks [n, height, width], got {list(masks.shape)}")
        return rows


def _is(port: Port, dtype: str, rank: int) -> bool:
    return port.dtype == dtype and len(port.shape) == rank
