"""Bytes to Image: what is in them, how many pages, how many pixels, and then the pixels.

An Image is uint8 [H, W, 3] RGB with the Exif orientation applied. Every function here may be called by many threads
at once; decoding releases the GIL. OpenCV reads what it reads fast and rightly, Pillow all the rest. A process that
decodes is started with `worker.device.opencv_environment` in its environment.
"""

from __future__ import annotations

from maskmill.shared.errors import TooManyPixels, UnsupportedFormat
from maskmill.shared.formats import LABELS, avif_size, identify, plain_webp_size
from maskmill.shared.jobs.sources import PdfOptions
from maskmill.shared.settings import Settings
from maskmill.worker.images import jpeg, pdf
from maskmill.worker.images import pillow as raster
from maskmill.worker.images.image import Image
from maskmill.worker.images.opencv import imdecode, upright

DEFAULT_PDF = PdfOptions()
# How many times the Image decoding holds at its most, the Image included: as measured, rounded up.
COPIES = {"jpeg": 3, "png": 4, "bmp": 3, "webp": 7, "tiff": 4, "gif": 2, "avif": 4, "jp2": 7, "pdf": 4}


def page_count(data: bytes, options: PdfOptions | None, settings: Settings) -> list[int] | None:
    """The pages, from 0, that become Items: of a PDF those `options` ask for, of a TIFF with more than one all.

    None means a plain picture. Raises an InputError for what is no picture or PDF, or has too many pages.
    """
    name = identify(data)
    if name == "pdf":
        return pdf.page_indexes(data, options or DEFAULT_PDF, settings)
    if name != "tiff":
        return None
    count = raster.frame_count(data, name, settings.max_pages)
    return list(range(count)) if count > 1 else None


def pixels(data: bytes, page_index: int | None, options: PdfOptions | None, settings: Settings) -> tuple[int, int]:
    """Width and height that the header announces, before any turning upright; nothing is decoded.

    Raises an InputError for what cannot be read, TooManyPixels or PdfPageTooLarge past the limit.
    """
    name = identify(data)
    if name == "pdf":
        return pdf.page_size(data, page_index or 0, options or DEFAULT_PDF, settings)
    announced = _announced(data, name, settings)
    if announced is not None:
        return announced
    with raster.opened(data, name, page_index) as frame:
        return _checked(*frame.size, name, settings)


def copies(data: bytes) -> int:
    """How many times the pixels of its Image decoding these bytes holds at most."""
    return COPIES[identify(data)]


def decode(data: bytes, page_index: int | None, options: PdfOptions | None, settings: Settings) -> Image:
    """The Image of a picture file, or of page `page_index` (none: the first) of a PDF or TIFF; of an animation
    the first frame.

    Raises an InputError, and for no bytes whatever anything else: TooManyPixels and PdfPageTooLarge before
    decoding, TruncatedInput where part of the picture is missing.
    """
    name = identify(data)
    if name == "pdf":
        return pdf.render(data, page_index or 0, options or DEFAULT_PDF, settings)
    _announced(data, name, settings)
    picture = _decode_fast(data, name)
    return _decode_raster(data, name, page_index, settings) if picture is None else picture


def _announced(data: bytes, name: str, settings: Settings) -> tuple[int, int] | None:
    """Width and height where they are found without a decoder, within the limit."""
    size = None
    if name == "jpeg" and (header := jpeg.read_header(data)):
        size = header.width, header.height
    elif name == "webp":
        size = plain_webp_size(data)
    elif name == "avif":
        size = avif_size(data)
    return _checked(*size, name, settings) if size else None


def _decode_fast(data: bytes, name: str) -> Image | None:
    """The Image by OpenCV; None where Pillow has to do it, or to say what is wrong."""
    if name == "webp" and plain_webp_size(data):
        return imdecode(data)
    return _decode_jpeg(data) if name == "jpeg" else None


def _decode_jpeg(data: bytes) -> Image | None:
    header = jpeg.read_header(data)
    if header is None:
        return None
    if header.bits != 8:
        raise UnsupportedFormat(f"the JPEG has {header.bits} bits a sample; JPEGs of 8 bits are read")
    picture = jpeg.decode(data, header) if header.components in (1, 3) else None
    return None if picture is None else upright(picture, header.orientation)


def _decode_raster(data: bytes, name: str, page_index: int | None, settings: Settings) -> Image:
    with raster.opened(data, name, page_index) as frame:
        _checked(*frame.size, name, settings)
        picture = raster.pixels_of(frame)
        orientation = raster.orientation_of(frame)
    return upright(picture, orientation)


def _checked(width: int, height: int, name: str, settings: Settings) -> tuple[int, int]:
    if width * height > settings.max_pixels:
        raise TooManyPixels(
            f"the {LABELS[name]} announces {width} x {height} pixels, "
            f"and {settings.max_pixels} are the most allowed (MASKMILL_MAX_PIXELS)"
        )
    return width, height
