"""Model: a package, the family that reads its tensors, and the runner that computes them."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmill.shared.errors import ModelInvalid
from maskmill.worker.images.image import Image
from maskmill.worker.masks.instances import Instances
from maskmill.worker.models.engines.engine import Runner
from maskmill.worker.models.family import Family, Outputs, Prepared
from maskmill.worker.models.manifest import Manifest
from maskmill.worker.models.package import Package

WARM_UP_SIDE = 1280
SEED_THRESHOLD = 0.5


class Model:
    """A loaded model. `prepare` and `finish` are for any thread, `infer` for `runs` threads at once."""

    def __init__(self, package: Package, manifest: Manifest, family: Family, runner: Runner, runs: int) -> None:
        self.name = package.name
        self.digest = package.digest
        self.runs = runs
        self.family = manifest.family
        self.labels = manifest.labels
        self.threshold = manifest.threshold
        self.input_size = family.input_size
        self.signature = runner.signature
        self.provider = runner.provider
        self.batch_limit = family.batch or sys.maxsize
        self.output_bytes = 1
        self._nms_iou = manifest.nms_iou
        self._family = family
        self._runner = runner

    def prepare(self, image: Image) -> Prepared:
        """The model's input tensors for a picture, and how it was fitted into them."""
        return self._family.prepare(image)

    def infer(self, prepared: Sequence[Prepared]) -> list[Outputs]:
        """One entry for each picture; all must share their `key`. Raises ModelError where the device does."""
        outputs: list[Outputs] = []
        step = min(self.batch_limit, max(len(prepared), 1))
        for start in range(0, len(prepared), step):
            outputs += self._run(prepared[start : start + step])
        return outputs

    def finish(
        self, outputs: Outputs, prepared: Prepared, threshold: float | Sequence[float], nms_iou: float | None = None
    ) -> Instances:
        """The instances whose score exceeds `threshold`, one for all classes or one for each, best first.

        None has an empty mask.
        """
        thresholds = np.broadcast_to(np.asarray(threshold, np.float32), len(self.labels))
        return self._family.finish(outputs, prepared.fit, thresholds, self._nms_iou if nms_iou is None else nms_iou)

    def check(self) -> None:
        """Run a picture of plain shapes through all three steps, which also warms the device up.

        The picture is so large that a graph which answers at the picture's size takes as much memory as it ever will:
        a runtime's arena that grows step by step ends half as large again. `output_bytes` is what it answered with.
        Raises ModelError: ModelInvalid where the outputs are not as the family needs them.
        """
        height, width = self.input_size or (WARM_UP_SIDE, WARM_UP_SIDE)
        enlarge = math.ceil(WARM_UP_SIDE / math.sqrt(height * width))
        prepared = self.prepare(_sample((height * enlarge, width * enlarge)))
        [outputs] = self.infer([prepared])
        self.output_bytes = max(sum(value.nbytes for value in outputs.values()), 1)
        self.finish(outputs, prepared, self.threshold)

    def _run(self, prepared: Sequence[Prepared]) -> list[Outputs]:
        names = [port.name for port in self._runner.signature.outputs]
        fill = self._family.batch or len(prepared)
        values = self._runner.run({name: _stack(prepared, name, fill) for name in prepared[0].tensors})
        if fill == 1:
            return [dict(zip(names, values, strict=True))]
        if any(value.shape[:1] != (fill,) for value in values):
            shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in zip(names, values, strict=True))
            raise ModelInvalid(f"expected {fill} rows in every output for {fill} pictures, got {shapes}")
        return [
            {name: value[row : row + 1] for name, value in zip(names, values, strict=True)}
            for row in range(len(prepared))
        ]


def seed_threshold(model: Model) -> float:
    """What holds where PaddleX's words name no threshold: 0.5, for PaddleX's own models their `draw_threshold`."""
    return model.threshold if model.family == "paddlex" else SEED_THRESHOLD


def _stack(prepared: Sequence[Prepared], name: str, fill: int) -> NDArray[Any]:
    """The pictures' tensors as one batch; one that the export fixed is filled up with zeros."""
    tensors = [one.tensors[name] for one in prepared]
    if len(tensors) < fill:
        tensors.append(np.zeros((fill - len(tensors), *tensors[0].shape[1:]), tensors[0].dtype))
    return tensors[0] if len(tensors) == 1 else np.concatenate(tensors)


def _sample(size: tuple[int, int]) -> Image:
    """A picture of that [height, width] with a few filled shapes."""
    height, width = size
    image = np.full((height, width, 3), (196, 204, 210), np.uint8)
    unit = max(min(height, width) // 8, 1)
    cv2.circle(image, (2 * unit, 2 * unit), unit, (200, 40, 40), -1)
    cv2.rectangle(image, (width - 3 * unit, unit), (width - unit, 4 * unit), (30, 90, 180), -1)
    triangle = np.array([[3 * unit, height - unit], [5 * unit, height - unit], [4 * unit, height - 3 * unit]])
    cv2.fillPoly(image, [triangle.astype(np.int32)], (20, 140, 60))
    return image
