"""Whether the queue changes a result: val79 through Redis, Celery and claims, against prediction in this process.

Run `python -m benchmarks.queue_accuracy`. The results must be equal to the byte, so their mask AP is one figure; beside
it stands that of the plain decoder of benchmarks.accuracy, which shares no code with the project's. Exits with 1 where
a result differs, or the plain decoder's AP by more than 0.003.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

from benchmarks.accuracy import OVERLAP, THRESHOLD, average_precision, entry, plain_entries
from benchmarks.machine import machine
from benchmarks.pictures import data_folder, val79
from benchmarks.stack import run_stack
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import Options
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device
from maskmill.worker.images.decode import decode
from maskmill.worker.models import load
from maskmill.worker.predict.predictor import Predictor

MODEL = "yolo11n-seg"
TOLERANCE = 0.003

Results = dict[str, bytes]


def main() -> int:
    """Run all three and print what they say; 0 where they agree."""
    print(machine())
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(val79() / "instances.json"))
    settings = Settings(models_dir=data_folder() / "weights")
    queued, direct = through_queue(), in_process(settings)
    differing = sorted(name for name in queued.keys() | direct.keys() if queued.get(name) != direct.get(name))
    print(f"{MODEL}: {len(queued)} pictures, threshold {THRESHOLD}, NMS {OVERLAP}")
    print(f"results that differ by any byte of JSON (boxes, scores, classes, RLE): {len(differing)} of {len(direct)}")
    figures = {
        "whole queue": average_precision(truth, _entries(truth, queued.values())),
        "in process": average_precision(truth, _entries(truth, direct.values())),
        "plain decoder": average_precision(truth, _plain(truth, settings)),
    }
    for name, (ap, ap50) in figures.items():
        print(f"{name:14} mask AP {ap!r}  AP50 {ap50!r}")
    apart = abs(figures["whole queue"][0] - figures["plain decoder"][0])
    print(
        f"queue and process equal: {figures['whole queue'] == figures['in process']}; plain decoder apart: {apart:.5f}"
    )
    return int(bool(differing) or figures["whole queue"] != figures["in process"] or apart > TOLERANCE)


def through_queue() -> Results:
    """`_res.json` of each picture by its file's name, of one job."""
    with run_stack(MODEL, [("cpu", "bulk")]) as stack:
        status = stack.wait(stack.submit(val79() / "images", _options()))
        storage = stack.workers.storage
        found = [outcome.artifacts["json"] for outcome in stack.workers.outcomes(status.id)]
        return _by_file(storage.get(keys.artifact(status.id, name)) for name in found)


def in_process(settings: Settings) -> Results:
    """The same by `predict`, without a queue."""
    with Predictor(settings, MODEL, Device("cpu")) as predictor:
        predictions = predictor.predict([str(val79() / "images")], _options())
        return _by_file(prediction.artifacts["json"].data for prediction in predictions)


def _options() -> Options:
    return Options(model=MODEL, threshold=THRESHOLD, nms_iou=OVERLAP, save_image=False)


def _by_file(results: Iterable[bytes]) -> Results:
    return {Path(json.loads(result)["input_path"]).name: result for result in results}


def _entries(truth: COCO, results: Iterable[bytes]) -> list[dict[str, Any]]:
    """The results in COCO's form."""
    pictures, ids = _pictures(truth), _category_ids(truth)
    found = []
    for result in map(json.loads, results):
        picture = pictures[Path(result["input_path"]).name]
        for box, mask in zip(result["boxes"], result["masks"], strict=True):
            found.append(entry(picture, ids[box["label"]], box["score"], mask))
    return found


def _plain(truth: COCO, settings: Settings) -> list[dict[str, Any]]:
    model, ids = load(MODEL, Device("cpu"), settings), _category_ids(truth)
    found = []
    for name, picture in _pictures(truth).items():
        image = decode((val79() / "images" / name).read_bytes(), None, None, settings)
        outputs = model.infer([model.prepare(image)])[0]
        found += plain_entries(outputs, picture, [ids[label] for label in model.labels])
    return found


def _pictures(truth: COCO) -> dict[str, Any]:
    return {picture["file_name"]: picture for picture in truth.dataset["images"]}


def _category_ids(truth: COCO) -> dict[str, int]:
    return {category["name"]: category["id"] for category in truth.dataset["categories"]}


if __name__ == "__main__":
    sys.exit(main())
