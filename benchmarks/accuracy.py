"""Mask AP of a yolo_seg model on COCO pictures: this project's decoder against a plain one, from the same outputs.

Run `python -m benchmarks.accuracy MODEL FOLDER`, where FOLDER holds instances.json and images/. The plain decoder
below makes full-size masks in the way a reader would first write it; it shares no code with the project's.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskmill.shared.settings import Settings
from maskmill.worker.device import Device, limit_threads
from maskmill.worker.images.decode import decode
from maskmill.worker.masks.instances import Instances
from maskmill.worker.models import Outputs, load

THRESHOLD, OVERLAP = 0.001, 0.7

Entry = dict[str, Any]


def main() -> None:
    """Run the model over the folder and print both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    limit_threads()
    settings = Settings.from_env({})
    model = load(given.model, Device("cpu"), settings)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(given.folder / "instances.json"))
    category_ids = {category["name"]: category["id"] for category in truth.dataset["categories"]}
    ids = [category_ids[label] for label in model.labels]
    ours: list[Entry] = []
    plain: list[Entry] = []
    seconds = 0.0
    for picture in map(dict, truth.dataset["images"]):
        data = (given.folder / "images" / picture["file_name"]).read_bytes()
        image = decode(data, None, None, settings)
        prepared = model.prepare(image)
        outputs = model.infer([prepared])[0]
        started = time.perf_counter()
        instances = model.finish(outputs, prepared, THRESHOLD, OVERLAP)
        ours += entries(instances, picture, ids)
        seconds += time.perf_counter() - started
        plain += plain_entries(outputs, picture, ids)
    count = len(truth.dataset["images"])
    print(f"{model.name}: {count} pictures, threshold {THRESHOLD}, NMS {OVERLAP}, at most 100 instances a picture")
    for name, found in (("this project", ours), ("plain decoder", plain)):
        ap, ap50 = average_precision(truth, found)
        print(f"{name:14} mask AP {ap:.4f}  AP50 {ap50:.4f}")
    print(f"finish and RLE: {seconds / count * 1e3:.1f} ms a picture ({len(ours) / count:.0f} instances)")


def entries(instances: Instances, picture: Entry, ids: list[int]) -> list[Entry]:
    """The instances in COCO's form."""
    height, width = picture["height"], picture["width"]
    columns = zip(instances.masks, instances.class_ids.tolist(), instances.scores.tolist(), strict=True)
    return [
        entry(picture, ids[class_id], score, {"size": [height, width], "counts": mask.rle(height, width)})
        for mask, class_id, score in columns
    ]


def plain_entries(outputs: Outputs, picture: Entry, ids: list[int]) -> list[Entry]:
    """The same from full-size masks: prototypes enlarged to the letterbox, cut, resized, above 0, cut to the box."""
    height, width = picture["height"], picture["width"]
    head, prototypes = outputs["output0"][0].T, outputs["output1"][0]
    count, size = len(prototypes), prototypes.shape[1] * 4
    gain = min(size / height, size / width)
    inner = round(width * gain), round(height * gain)
    left, top = (round((size - side) / 2 - 0.1) for side in inner)
    rows = head[head[:, 4:-count].max(axis=1) > THRESHOLD]
    rows = rows[np.argsort(-rows[:, 4:-count].max(axis=1), kind="stable")]
    class_ids, scores = rows[:, 4:-count].argmax(axis=1), rows[:, 4:-count].max(axis=1)
    boxes = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], axis=1)
    found: list[Entry] = []
    for index in plain_nms(boxes + class_ids[:, None] * 7680.0):
        x1, y1, x2, y2 = (boxes[index] - (left, top, left, top)) / gain
        field = cv2.resize(np.tensordot(rows[index, -count:], prototypes, 1), (size, size))
        field = cv2.resize(field[top : top + inner[1], left : left + inner[0]], (width, height))
        across, down = np.arange(width), np.arange(height)[:, None]
        mask = (field > 0) & (across >= x1) & (across < x2) & (down >= y1) & (down < y2)
        if mask.any():
            rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            found.append(entry(picture, ids[class_ids[index]], float(scores[index]), rle))
    return found


def plain_nms(boxes: NDArray[np.float64]) -> list[int]:
    """Greedy suppression, one pair after the other, at most 300."""
    kept: list[int] = []
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for index in range(len(boxes)):
        corner1, corner2 = np.maximum(boxes[kept, :2], boxes[index, :2]), np.minimum(boxes[kept, 2:], boxes[index, 2:])
        common = np.prod(np.maximum(corner2 - corner1, 0), axis=1)
        if not (common > OVERLAP * (areas[kept] + areas[index] - common)).any():
            kept.append(index)
        if len(kept) == 300:
            break
    return kept


def entry(picture: Entry, category_id: int, score: float, rle: Any) -> Entry:
    """One line of a COCO result file."""
    return {"image_id": picture["id"], "category_id": category_id, "score": score, "segmentation": rle}


def average_precision(truth: COCO, found: list[Entry]) -> tuple[float, float]:
    """Mask AP and AP50 as pycocotools computes them."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


if __name__ == "__main__":
    main()
