"""Milliseconds that each stage takes for one picture, alone on one thread (inference: on the threads of the settings).

Run `python -m benchmarks.one_picture MODEL PICTURE`. The least of the rounds is what the stage costs on an idle core,
the median what it cost beside whatever else ran.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskmill.shared.settings import Settings
from maskmill.worker.device import Device, limit_threads
from maskmill.worker.images.decode import decode
from maskmill.worker.models import load
from maskmill.worker.rendering.draw import draw
from maskmill.worker.rendering.encode import Subject, encode_image, encode_result, result_document

ROUNDS = 30


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("picture", type=Path)
    given = parser.parse_args()
    limit_threads()
    settings = Settings.from_env({})
    model = load(given.model, Device("cpu"), settings)
    data = given.picture.read_bytes()
    image = decode(data, None, None, settings)
    height, width = image.shape[:2]
    prepared = model.prepare(image)
    [outputs] = model.infer([prepared])
    found = model.finish(outputs, prepared, model.threshold)
    crowd = model.finish(outputs, prepared, 0.001)
    drawn = draw(image, found, model.labels)
    subject = Subject(given.picture.name, None, height, width)
    print(f"{model.name}, {width} x {height}, {len(found)} instances above {model.threshold}, {len(crowd)} above 0.001")
    print(f"{'stage':32}{'least ms':>10}{'median ms':>10}")
    stages: dict[str, Callable[[], Any]] = {
        "decode": lambda: decode(data, None, None, settings),
        "prepare": lambda: model.prepare(image),
        f"infer, {settings.cpu_threads} threads": lambda: model.infer([prepared]),
        f"finish, threshold {model.threshold}": lambda: model.finish(outputs, prepared, model.threshold),
        "finish, threshold 0.001": lambda: model.finish(outputs, prepared, 0.001),
        "draw": lambda: draw(image, found, model.labels),
        "encode, JPEG": lambda: encode_image(drawn, "jpg"),
        "encode, JSON with RLE": lambda: encode_result(result_document(subject, found, model, model.threshold)),
    }
    for name, stage in stages.items():
        times = rounds(stage)
        print(f"{name:32}{min(times):10.2f}{statistics.median(times):10.2f}")


def rounds(stage: Callable[[], Any]) -> list[float]:
    """Milliseconds of each of ROUNDS runs, after one to warm up."""
    stage()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        stage()
        times.append((time.perf_counter() - started) * 1e3)
    return times


if __name__ == "__main__":
    main()
