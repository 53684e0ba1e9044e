"""Decoding takes no more memory than it says it does, whatever the format."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from maskmill.shared.settings import Settings
from maskmill.worker.images.opencv import opencv_environment

HEIGHT, WIDTH = 2000, 3000

# Prints how many times the Image decoding held at its most, and how many times it says.
MEASURE = """
import sys
from pathlib import Path
from maskmill.shared.settings import Settings
from maskmill.worker.images.decode import copies, decode

def memory(of):
    return next(int(line.split()[1]) << 10 for line in Path("/proc/self/status").open() if line.startswith(of))

warm, data = (Path(name).read_bytes() for name in sys.argv[1:])
decode(warm, None, None, Settings())
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
image = decode(data, None, None, Settings())
print((memory("VmHWM") - before) / image.nbytes, copies(data))
"""

FORMATS: dict[str, dict[str, Any]] = {
    "plain.jpg": {},
    "progressive.jpg": {"progressive": True, "subsampling": 0},
    "plain.png": {"compress_level": 1},
    "plain.bmp": {},
    "lossless.webp": {"lossless": True, "method": 0},
    "plain.tiff": {},
    "packed.tiff": {"compression": "tiff_lzw"},
    "plain.gif": {},
    "plain.jp2": {},
    "plain.avif": {"speed": 10},
    "plain.pdf": {"resolution": 144},
}


@pytest.fixture(scope="module")
def scene() -> Pillow.Image:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT // 10, WIDTH // 10, 3), np.uint8)
    return Pillow.fromarray(cv2.resize(noise, (WIDTH, HEIGHT)))


@pytest.mark.parametrize("name", [*FORMATS, "cmyk.jpg", "turned.png", "clear.png"])
def test_decoding_holds_no_more_than_it_says(scene: Pillow.Image, tmp_path: Path, name: str) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6 if name == "turned.png" else 1
    mode = {"cmyk.jpg": "CMYK", "clear.png": "RGBA"}.get(name, "RGB")
    options = FORMATS.get(name, {}) | ({"exif": exif} if name == "turned.png" else {})
    scene.convert(mode).save(tmp_path / name, **options)
    scene.resize((64, 48)).save(tmp_path / f"small{Path(name).suffix}", **FORMATS.get(name, {}))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path / f"small{Path(name).suffix}", tmp_path / name],
        env={**os.environ, **opencv_environment(Settings())},
        capture_output=True,
        text=True,
        check=True,
    )
    held, said = map(float, done.stdout.split())
    assert 1 <= held <= said + 0.3
