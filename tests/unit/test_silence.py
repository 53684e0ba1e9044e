"""Reading bad pictures leaves nothing on the process's standard error: each one's reason says what is wrong."""

from __future__ import annotations

import io
import json
import logging
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from maskmill.shared.errors import InputError
from maskmill.shared.settings import Settings
from maskmill.worker.images.decode import decode

# Reads every file, spoiled in several ways and as it is, and prints how many readings failed.
READ = """
import random, sys
from pathlib import Path
from maskmill.shared.errors import InputError
from maskmill.shared.settings import Settings
from maskmill.worker.images.decode import decode, page_count

settings, failed = Settings(max_pixels=4_000_000), 0

def read(data):
    for page in (page_count(data, None, settings) or [None])[:3]:
        decode(data, page, None, settings)

for name in sys.argv[1:]:
    whole, chance = Path(name).read_bytes(), random.Random(name)
    for spoiled in (0, 0, 1, 4, 30):
        data = bytearray(whole)
        for _ in range(spoiled):
            data[chance.randrange(8, len(data))] = chance.randrange(256)
        try:
            read(bytes(data))
        except InputError:
            failed += 1
print(failed)
"""


def encoded(kind: str, **options: Any) -> bytes:
    picture = Pillow.fromarray(np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    file = io.BytesIO()
    picture.convert(options.pop("mode", "RGB")).save(file, kind, **options)
    return file.getvalue()


def spoiled(data: bytes, at: int, filling: bytes) -> bytes:
    return data[:at] + filling + data[at + len(filling) :]


def many_samples() -> bytes:
    """A TIFF of 65535 samples a pixel, of which Pillow logs an error."""
    data = encoded("TIFF")
    at = data.index(struct.pack("<HHI", 277, 3, 1)) + 8
    return spoiled(data, at, b"\xff\xff")


# Each makes libjpeg, libtiff or Pillow say something.
LOUD = {
    "stray.jpg": encoded("JPEG").replace(b"\xff\xdb", b"\0\xff\xdb", 1),
    "cut.jpg": encoded("JPEG")[:-400] + b"\xff\xd9",
    "huffman.jpg": spoiled(encoded("JPEG"), 1500, bytes(range(64))),
    "fax.tif": spoiled(encoded("TIFF", mode="1", compression="group4"), 40, bytes(range(100))),
    "deflate.tif": spoiled(encoded("TIFF", compression="tiff_adobe_deflate"), 40, bytes(range(100))),
    "samples.tif": many_samples(),
}


def said(files: list[Path]) -> tuple[str, int]:
    """What a process that reads the files says on its standard error, and how many readings failed."""
    done = subprocess.run([sys.executable, "-c", READ, *files], capture_output=True, text=True, check=True)
    return done.stderr, int(done.stdout)


def test_bad_pictures_leave_no_line_on_standard_error(tmp_path: Path) -> None:
    for name, data in LOUD.items():
        (tmp_path / name).write_bytes(data)
    stderr, failed = said(sorted(tmp_path.iterdir()))
    assert failed > len(LOUD)
    assert stderr == ""


def test_the_corpus_and_spoiled_copies_leave_no_line_on_standard_error(test_data: Path) -> None:
    corpus = test_data / "corpus"
    entries = json.loads((corpus / "manifest.json").read_text())
    files = [corpus / entry["file"] for entry in entries]
    stderr, failed = said([file for file in files if 16 <= file.stat().st_size < 300_000])
    assert failed > 100
    assert stderr == ""


def test_what_a_program_itself_does_with_pillow_is_logged_as_before(caplog: pytest.LogCaptureFixture) -> None:
    loud = LOUD["samples.tif"]
    with caplog.at_level(logging.ERROR, "PIL"):
        with pytest.raises(InputError):
            decode(loud, None, None, Settings())
        assert caplog.records == []
        with pytest.raises(OSError, match="identify"):
            Pillow.open(io.BytesIO(loud))
        assert [record.name for record in caplog.records] == ["PIL.TiffImagePlugin"]
