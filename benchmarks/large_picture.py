"""The peak memory of a process that takes a 108-megapixel picture through a graph that ends as Mask-RT-DETR does.

Run `python -m benchmarks.large_picture`. The graph enlarges 100 masks to the size that it is asked for; at the
picture's own size that would be 43 GB. Decoding, all three steps of the model, drawing and encoding are in the figure.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from maskmill.shared.settings import Settings
from maskmill.worker.device import Device, limit_threads
from maskmill.worker.images.decode import decode
from maskmill.worker.models import load
from maskmill.worker.rendering.draw import draw
from maskmill.worker.rendering.encode import Subject, encode_image, encode_result, result_document
from tests.paddlex_models import LABELS, write_config, write_enlarging

HEIGHT, WIDTH, ROWS, FOUND = 9000, 12000, 100, 20


def main() -> None:
    """Print peak and seconds, step by step."""
    with tempfile.TemporaryDirectory() as folder:
        _fresh(write_inputs, Path(folder))
        _fresh(run, Path(folder))


def write_inputs(folder: Path) -> None:
    """The model directory `model` and the picture `picture.jpg`."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0:160, 0:160] / 160
    centres = random.uniform(0.2, 0.8, (ROWS, 2)).astype(np.float32)
    distances = np.hypot(rows - centres[:, 1, None, None], columns - centres[:, 0, None, None])
    scores = np.where(np.arange(ROWS) < FOUND, 0.9, 0.1)
    boxes = np.column_stack([np.arange(ROWS) % len(LABELS), scores, centres - 0.2, centres + 0.2])
    write_enlarging(folder / "model", boxes.astype(np.float32), (8 * (0.2 - distances)).astype(np.float32))
    write_config(folder / "model")
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:, : WIDTH // 2] = 200
    cv2.imwrite(str(folder / "picture.jpg"), picture)


def run(folder: Path) -> None:
    """Every step on the picture, as a worker takes them."""
    limit_threads()
    settings = Settings(models_dir=folder, cpu_threads=1)
    started = time.perf_counter()
    model = load("model", Device("cpu"), settings)
    _report("load", started)
    image = decode((folder / "picture.jpg").read_bytes(), None, None, settings)
    _report("decode", started)
    prepared = model.prepare(image)
    [outputs] = model.infer([prepared])
    _report("infer", started)
    instances = model.finish(outputs, prepared, model.threshold)
    del outputs
    _report("finish", started)
    subject = Subject("picture.jpg", None, *image.shape[:2])
    document = encode_result(result_document(subject, instances, model, model.threshold))
    _report("encode, JSON", started)
    drawn = encode_image(draw(image, instances, model.labels, in_place=True), "jpg")
    _report("draw, encode", started)
    print(f"{len(instances)} instances, JSON {len(document) / 1e6:.1f} MB, drawn {len(drawn) / 1e6:.1f} MB")


def _report(step: str, started: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{step:14}{time.perf_counter() - started:8.1f} s{peak:10.0f} MiB peak so far", flush=True)


def _fresh(step: Callable[[Path], None], folder: Path) -> None:
    """Run the step in a process of its own, whose peak is nobody else's."""
    process = multiprocessing.get_context("spawn").Process(target=step, args=(folder,))
    process.start()
    process.join()


if __name__ == "__main__":
    main()
