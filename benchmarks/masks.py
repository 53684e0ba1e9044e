"""What 300 instances on a 12-megapixel picture cost from the network's outputs to RLE and drawing, in time and memory.

Run `python -m benchmarks.masks`. Every case runs in a fresh process; memory is the peak resident set above what the
process held with the picture and the outputs in memory, so a full-size copy of the picture counts as 36 MB.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmill.worker.device import limit_threads
from maskmill.worker.models.families.yolo_seg import YoloSeg
from maskmill.worker.models.family import Outputs, Port, Signature
from maskmill.worker.models.manifest import Manifest
from maskmill.worker.rendering.draw import draw

HEIGHT, WIDTH, COUNT, SIZE = 3000, 4000, 300, 640
# The shortest and longest side of the boxes, as shares of the picture's.
CASES = {"everyday: boxes 3-12 % of a side": (0.03, 0.12), "harsh: boxes 60-100 % of a side": (0.6, 1.0)}
LABELS = tuple(f"class {number}" for number in range(COUNT))


def outputs(shares: tuple[float, float], seed: int = 1) -> Outputs:
    """A head with COUNT boxes of COUNT classes, and 32 smooth prototypes, as a 640-pixel export gives them."""
    random = np.random.default_rng(seed)
    head = np.zeros((4 + COUNT + 32, 8400), np.float32)
    top, inner = SIZE * (1 - HEIGHT / WIDTH) / 2, np.array([SIZE, SIZE * HEIGHT / WIDTH])
    sides = random.uniform(*shares, (COUNT, 2)) * inner
    corners = random.uniform(0, 1, (COUNT, 2)) * (inner - sides) + (0, top)
    head[:4, :COUNT] = np.concatenate([corners + sides / 2, sides], axis=1).T
    head[4 + np.arange(COUNT), np.arange(COUNT)] = random.uniform(0.3, 0.95, COUNT)
    head[-32:, :COUNT] = random.standard_normal((32, COUNT))
    head[-32, :COUNT] = 4
    noise = random.standard_normal((32, 12, 12)).astype(np.float32)
    prototypes = np.stack([cv2.resize(plane, (160, 160), interpolation=cv2.INTER_CUBIC) for plane in noise])
    prototypes[0] = 1
    return {"output0": head[None], "output1": prototypes[None]}


def family() -> YoloSeg:
    """The family as a static 640-pixel export with COUNT classes makes it."""
    signature = Signature(
        path=Path("model.onnx"),
        inputs=(Port("images", "float32", (1, 3, SIZE, SIZE)),),
        outputs=(
            Port("output0", "float32", (1, 4 + COUNT + 32, 8400)),
            Port("output1", "float32", (1, 32, SIZE // 4, SIZE // 4)),
        ),
        metadata={},
    )
    return YoloSeg(Manifest(family="yolo_seg", labels=LABELS), signature)


def measure(case: str) -> dict[str, Any]:
    """One case, in this process."""
    limit_threads()
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    found, yolo = outputs(CASES[case]), family()
    fit = yolo.prepare(image).fit
    _warm_up(yolo, image)
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    instances, finish = _timed(lambda: yolo.finish(found, fit, np.full(COUNT, 0.25, np.float32), 0.7))
    rles, rle = _timed(lambda: [mask.rle(HEIGHT, WIDTH) for mask in instances.masks])
    _, drawing = _timed(lambda: draw(image, instances, LABELS))
    return {
        "case": case,
        "instances": len(instances),
        "megapixels": sum(mask.area for mask in instances.masks) / 1e6,
        "rle_kb": sum(map(len, rles)) / 1e3,
        "finish": finish,
        "rle": rle,
        "draw": drawing,
        "total": finish + rle + drawing,
        "memory": _memory("VmHWM") - before,
    }


def main() -> None:
    """Run every case in its own process and print the table."""
    whole = COUNT * HEIGHT * WIDTH / 1e6
    print(
        f"{COUNT} instances on {WIDTH} x {HEIGHT} pixels; as N x H x W bytes the masks alone would be {whole:,.0f} MB"
    )
    head = ("case", "found", "mask Mpx", "RLE kB", "finish ms", "RLE ms", "draw ms", "total ms", "MB above")
    print(f"{head[0]:34}" + "".join(f"{name:>10}" for name in head[1:]))
    for case in CASES:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.masks", case], check=True, capture_output=True, text=True
        )
        row = json.loads(done.stdout)
        times = "".join(f"{row[key] * 1e3:10.0f}" for key in ("finish", "rle", "draw", "total"))
        print(
            f"{case:34}{row['instances']:10}{row['megapixels']:10.1f}{row['rle_kb']:10.0f}{times}{row['memory']:10.0f}"
        )


def _timed(step: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    value = step()
    return value, time.perf_counter() - started


def _warm_up(yolo: YoloSeg, image: NDArray[np.uint8]) -> None:
    """Load code and font once, on a small corner, as a running worker has."""
    corner = np.ascontiguousarray(image[:64, :64])
    found = yolo.finish(outputs((0.1, 0.2)), yolo.prepare(corner).fit, np.full(COUNT, 0.9, np.float32), 0.7)
    draw(corner, found, LABELS)


def _memory(field: str) -> float:
    """A field of /proc/self/status, in MB."""
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert match is not None
    return int(match[1]) * 1024 / 1e6


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
