"""Measure the mask AP of a `shapes` model: python -m training.shapes.evaluate MODEL.onnx."""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskmill.deploy.demo.scenes import CLASSES, Scene, draw_scene
from training.shapes.decode import Found, Limits, decode, letterbox
from training.shapes.pool import picture_size

FIRST_SEED = 1_000_000


@dataclass
class Truths:
    """The truth and the findings of a set of pictures in COCO's form."""

    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)

    def add(self, scene: Scene, found: Found) -> None:
        """Add one picture."""
        number = len(self.images) + 1
        height, width = scene.image.shape[:2]
        self.images.append({"id": number, "height": height, "width": width})
        for mask, class_id in zip(scene.masks, scene.class_ids, strict=True):
            code = _encode(mask)
            box = [float(part) for part in rle.toBbox(code)]
            known: dict[str, Any] = {
                "id": len(self.annotations) + 1,
                "image_id": number,
                "category_id": int(class_id),
                "iscrowd": 0,
            }
            self.annotations.append({**known, "segmentation": code, "area": float(mask.sum()), "bbox": box})
        for mask, class_id, score in zip(found.masks, found.class_ids, found.scores, strict=True):
            guess = {"image_id": number, "category_id": int(class_id), "score": float(score)}
            self.findings.append({**guess, "segmentation": _encode(mask)})

    def dataset(self) -> Any:
        """Return the truth as pycocotools reads it from a file."""
        categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
        return {"images": self.images, "annotations": self.annotations, "categories": categories}

    def score(self) -> dict[str, float]:
        """Return AP, AP50, AP75 and the AP of each class, all of masks and in 0..1, as pycocotools counts them."""
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = self.dataset()
            truth.createIndex()
            counted = COCOeval(truth, truth.loadRes(self.findings), "segm")
            counted.evaluate()
            counted.accumulate()
            counted.summarize()
        precision = counted.eval["precision"][:, :, :, 0, 2]
        whole = dict(zip(("AP", "AP50", "AP75"), map(float, counted.stats[:3]), strict=True))
        return whole | {name: float(precision[:, :, number].mean()) for number, name in enumerate(CLASSES)}


def measure(model: Path, pictures: int, limits: Sequence[Limits]) -> tuple[list[dict[str, float]], float]:
    """Return the scores at each of the limits on held-out pictures, and the median milliseconds of a network run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[2]
    sets, spent = [Truths() for _ in limits], []
    for seed in range(FIRST_SEED, FIRST_SEED + pictures):
        scene = draw_scene(seed, *picture_size(seed))
        square, box = letterbox(scene.image, size)
        images = (square.transpose(2, 0, 1)[None] / np.float32(255)).astype(np.float32)
        began = time.perf_counter()
        output, prototypes = session.run(None, {"images": images})
        spent.append(time.perf_counter() - began)
        for truths, limit in zip(sets, limits, strict=True):
            truths.add(scene, decode(output[0], prototypes[0], box, scene.image.shape[:2], limit))
    return [truths.score() for truths in sets], 1000 * float(np.median(spent))


def _encode(mask: npt.NDArray[np.bool_]) -> Any:
    return rle.encode(np.asfortranarray(mask, dtype=np.uint8))


def main() -> None:
    """Print the scores as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--threshold", type=float, action="append", help="least score that counts; may be repeated")
    parser.add_argument("--iou", type=float, default=0.7, help="overlap from which two boxes of a class are one")
    options = parser.parse_args()
    limits = [Limits(score, options.iou) for score in options.threshold or [0.01]]
    scores, spent = measure(options.model, options.pictures, limits)
    for limit, values in zip(limits, scores, strict=True):
        print(f"threshold {limit.score}: " + " ".join(f"{name} {value:.4f}" for name, value in values.items()))
    print(f"{options.pictures} pictures, {spent:.1f} ms a network run, {options.model.stat().st_size} bytes")


if __name__ == "__main__":
    main()
