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
from maskmill.worker.device import opencv_environment
from tests.heic import stored
from tests.icons import as_bitmap, as_png, icon

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
MODES = {"cmyk.jpg": "CMYK", "clear.png": "RGBA", "clear.ico": "RGBA"}


@pytest.fixture(scope="module")
def scene() -> Pillow.Image:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT // 10, WIDTH // 10, 3), np.uint8)
    return Pillow.fromarray(cv2.resize(noise, (WIDTH, HEIGHT)))


def write(picture: Pillow.Image, path: Path) -> None:
    """Write the picture in the way that the file's name says."""
    converted = picture.convert(MODES.get(path.name, "RGB"))
    if path.suffix == ".ico":
        path.write_bytes(icon(as_png(converted) if path.name == "png.ico" else as_bitmap(converted)))
        return
    if path.suffix == ".heic":
        path.write_bytes(stored("large" if picture.width == WIDTH else "clear"))
        return
    exif = Pillow.Exif()
    exif[0x0112] = 6
    converted.save(path, **FORMATS.get(path.name, {}) | ({"exif": exif} if path.name == "turned.png" else {}))


@pytest.mark.parametrize(
    "name", [*FORMATS, "cmyk.jpg", "turned.png", "clear.png", "png.ico", "clear.ico", "bitmap.ico", "clear.heic"]
)
def test_decoding_holds_no_more_than_it_says(scene: Pillow.Image, tmp_path: Path, name: str) -> None:
    small, large = tmp_path / f"small{Path(name).suffix}", tmp_path / name
    if name == "clear.heic":
        pytest.importorskip("pi_heif", reason="the extra `heic` is not installed")
    write(scene, large)
    write(scene.resize((64, 48)), small)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, small, large],
        env={**os.environ, **opencv_environment(Settings())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    held, said = map(float, done.stdout.split())
    assert 1 <= held <= said + 0.3
