"""A TIFF's directories of tags (TIFF 6.0, section 2), asked what is wrong where its picture cannot be read."""

from __future__ import annotations

import io
from typing import Any

from PIL.TiffImagePlugin import COMPRESSION_INFO, ImageFileDirectory_v2

from maskmill.shared.errors import InputError, UnreadableInput, UnsupportedFormat
from maskmill.worker.images.reasons import damaged, truncated
from maskmill.worker.images.silence import silence

BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC, SAMPLES_PER_PIXEL, SAMPLE_FORMAT = 258, 259, 262, 277, 339
# Where the strips or tiles of the picture begin, and how many bytes each has.
PLACES = ((273, 279), (324, 325))
FLOAT = 3
SAVE_ANEW = "save it as RGB with 8 bits a sample"


def flaw_of_header(data: bytes, page_index: int) -> InputError:
    """Why the page cannot be opened."""
    tags = _directory(data, page_index)
    if not tags:
        return damaged("tiff", f"the list of tags of page {page_index + 1} cannot be read")
    if _ends_early(tags, len(data)):
        return truncated("tiff")
    compression = tags.get(COMPRESSION, 1)
    if compression not in COMPRESSION_INFO:
        return UnsupportedFormat(f"the TIFF is packed by method {compression}, which is not read; save it with LZW")
    bits = " and ".join(str(number) for number in sorted(set(tags.get(BITS_PER_SAMPLE, (1,)))))
    layout = f"{tags.get(SAMPLES_PER_PIXEL, 1)} a pixel of {bits} bits"
    if FLOAT in tags.get(SAMPLE_FORMAT, ()):
        return UnsupportedFormat(
            f"the TIFF has float samples, {layout}, and nothing says which of them are black and white; {SAVE_ANEW}"
        )
    return UnreadableInput(
        f"the TIFF's samples, {layout}, photometric interpretation {tags.get(PHOTOMETRIC, 0)}, are of a kind that is "
        f"not read; {SAVE_ANEW}"
    )


def flaw_of_pixels(data: bytes, page_index: int) -> InputError:
    """Why the pixels of a page that could be opened cannot be decoded."""
    tags = _directory(data, page_index)
    if _ends_early(tags, len(data)):
        return truncated("tiff")
    method = COMPRESSION_INFO.get(tags.get(COMPRESSION, 1), "raw").removeprefix("tiff_").replace("_", " ")
    packed = "" if method == "raw" else f", packed by {method},"
    return damaged("tiff", f"the pixels{packed} of page {page_index + 1} cannot be decoded")


def _directory(data: bytes, page_index: int) -> dict[int, Any]:
    """The tags of the page; none where they cannot be read."""
    stream = io.BytesIO(data)
    try:
        with silence:
            tags = ImageFileDirectory_v2(data[: 16 if 43 in data[2:4] else 8])
            for _ in range(page_index + 1):
                stream.seek(tags.next)
                tags.load(stream)
            return dict(tags)
    except Exception:  # noqa: BLE001 - a broken directory may raise anything
        return {}


def _ends_early(tags: dict[int, Any], size: int) -> bool:
    """Whether some of the pixels should lie behind the file's end."""
    ends = [
        start + length
        for starts, lengths in PLACES
        for start, length in zip(tags.get(starts, ()), tags.get(lengths, ()), strict=False)
    ]
    return any(end > size for end in ends)
