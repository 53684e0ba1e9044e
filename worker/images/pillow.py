"""Every picture format by Pillow: its frames, and their pixels as 8-bit RGB."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, TiffImagePlugin
from PIL import Image as Pillow

from maskmill.shared.errors import InputError, TooManyPages
from maskmill.shared.formats import LABELS
from maskmill.worker.images.flaws import flaw_of_header, flaw_of_pixels
from maskmill.worker.images.silence import silence
from maskmill.worker.images.tiff import BITS_PER_SAMPLE, PHOTOMETRIC

# The pixel limit of this project's settings decides; Pillow's own would refuse some pictures that it allows.
Pillow.MAX_IMAGE_PIXELS = None

PLUGINS = {
    "jpeg": "JPEG",
    "png": "PNG",
    "bmp": "BMP",
    "webp": "WEBP",
    "tiff": "TIFF",
    "gif": "GIF",
    "avif": "AVIF",
    "jp2": "JPEG2000",
    "ico": "ICO",
}
# Converted at once, so that no second whole picture is held in another mode.
STRIP_PIXELS = 1 << 20
SHORT_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
DEEP_MODES = SHORT_MODES | {"I", "F"}
YCBCR_COEFFICIENTS = 529
WHITE_IS_ZERO = 0


@contextmanager
def opened(data: bytes, name: str, page_index: int | None) -> Iterator[Pillow.Image]:
    """The frame `page_index` (none: the first) with its size known and its pixels not read yet.

    Whatever breaks inside the block is raised as TruncatedInput or UnreadableInput.
    """
    flaw = flaw_of_header
    try:
        with silence, Pillow.open(io.BytesIO(data), formats=(PLUGINS[name],)) as frame:
            if page_index:
                frame.seek(page_index)
            flaw = flaw_of_pixels
            yield frame
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise flaw(error, data, name, page_index or 0) from error


def frame_count(data: bytes, name: str, limit: int) -> int:
    """How many frames there are, one that cannot be read ending the count as its last; TooManyPages past `limit`."""
    with opened(data, name, None) as frame:
        for count in range(1, limit + 1):
            try:
                frame.seek(count)
            except EOFError:
                return count
            except Exception:  # noqa: BLE001 - a broken frame may raise anything; it fails alone when it is decoded
                return count + 1
    raise TooManyPages(f"the {LABELS[name]} has more than {limit} pages, the most allowed (MASKMILL_MAX_PAGES)")


def pixels_of(frame: Pillow.Image) -> NDArray[np.uint8]:
    """Pixels uint8 [H, W, 3] RGB of the frame: deep ones scaled to 8 bits, transparent ones laid on white."""
    frame.load()
    tags = _tags(frame)
    picture = np.empty((frame.height, frame.width, 3), np.uint8)
    scale = _deep_range(frame, tags) if frame.mode in DEEP_MODES else None
    for top, strip in _strips(frame):
        picture[top : top + strip.height] = _to_rgb(strip, tags) if scale is None else _from_deep(strip, *scale)
    return picture


def same_pixels(one: bytes, other: bytes, name: str) -> bool:
    """Whether two files of format `name` hold the same picture of the same size."""
    with opened(one, name, None) as frame, opened(other, name, None) as second:
        frame.load()
        second.load()
        pairs = zip(_strips(frame), _strips(second), strict=True)
        return all(np.array_equal(np.asarray(strip), np.asarray(against)) for (_, strip), (_, against) in pairs)


def orientation_of(frame: Pillow.Image) -> int:
    """The Exif orientation, 1 to 8, that is still to be applied to a loaded frame; broken metadata count as 1."""
    try:
        orientation = frame.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - broken metadata may raise anything and must not lose a good picture
        return 1
    return orientation if orientation in range(1, 9) else 1


def _strips(frame: Pillow.Image) -> Iterator[tuple[int, Pillow.Image]]:
    rows = max(1, STRIP_PIXELS // frame.width)
    if frame.height <= rows:
        yield 0, frame
        return
    for top in range(0, frame.height, rows):
        yield top, frame.crop((0, top, frame.width, min(frame.height, top + rows)))


def _tags(frame: Pillow.Image) -> Any:
    return frame.tag_v2 if isinstance(frame, TiffImagePlugin.TiffImageFile) else {}


def _to_rgb(strip: Pillow.Image, tags: Any) -> NDArray[np.uint8]:
    if strip.mode == "YCbCr" and YCBCR_COEFFICIENTS in tags:
        return _from_ycbcr(np.asarray(strip, np.float32), *tags[YCBCR_COEFFICIENTS])
    if strip.has_transparency_data:
        ground = Pillow.new("RGBA", strip.size, "white")
        ground.alpha_composite(strip.convert("RGBA"))
        strip = ground
    return np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))


def _from_ycbcr(strip: NDArray[np.float32], red: float, green: float, blue: float) -> NDArray[np.uint8]:
    """RGB of a strip whose luma weighs the primaries so (TIFF 6.0, section 21); Pillow knows only one weighting."""
    luma, cb, cr = strip[..., 0], strip[..., 1] - 128, strip[..., 2] - 128
    reds = luma + cr * (2 - 2 * float(red))
    blues = luma + cb * (2 - 2 * float(blue))
    greens = (luma - float(red) * reds - float(blue) * blues) / float(green)
    return _to_bytes(np.stack((reds, greens, blues), axis=-1))


def _deep_range(frame: Pillow.Image, tags: Any) -> tuple[float, float]:
    """The values that become black and white: of short integers those of their bits, else the lowest and highest."""
    if frame.mode in SHORT_MODES:
        black, white = 0.0, float((1 << tags.get(BITS_PER_SAMPLE, (16,))[0]) - 1)
    else:
        black, white = _finite_range(frame)
    return (white, black) if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else (black, white)


def _finite_range(frame: Pillow.Image) -> tuple[float, float]:
    """The lowest and highest finite value; 0 and 1 where they are not two."""
    lowest, highest = math.inf, -math.inf
    for _, strip in _strips(frame):
        values = np.asarray(strip, np.float64)
        finite = values[np.isfinite(values)]
        lowest, highest = float(finite.min(initial=lowest)), float(finite.max(initial=highest))
    return (lowest, highest) if lowest < highest else (0.0, 1.0)


def _from_deep(strip: Pillow.Image, black: float, white: float) -> NDArray[np.uint8]:
    values = np.nan_to_num(np.asarray(strip, np.float64), nan=black)
    inside = np.clip(values, min(black, white), max(black, white))
    grey = _to_bytes((inside - black) * (255 / (white - black)))
    return np.repeat(grey[..., None], 3, axis=2)


def _to_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    as_bytes: NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return as_bytes
