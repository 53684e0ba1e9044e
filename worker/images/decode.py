"""Bytes to Image: what is in them, how many pages, how many pixels, and then the pixels.

An Image is uint8 [H, W, 3] RGB with the Exif orientation applied. Every function here may be called by many threads
at once; decoding releases the GIL. Pillow reads all but plain WebP, which OpenCV reads with less memory: of a damaged
JPEG, OpenCV prints a line to standard error and gives back a picture that is grey where it could not go on. A process
that decodes is started with `worker.device.opencv_environment` in its environment.
"""

from __future__ import annotations

from maskmill.shared.errors import TooManyPixels, UnreadableInput, UnsupportedFormat
from maskmill.shared.formats import LABELS, avif_size, bmp_size, identify, plain_webp_size
from maskmill.shared.jobs.sources import PdfOptions
from maskmill.shared.settings import Settings
from maskmill.worker.images import heif, ico, jpeg, pdf, pillow, png
from maskmill.worker.images.image import Image
from maskmill.worker.images.opencv import imdecode, upright

DEFAULT_PDF = PdfOptions()
# How many times the Image decoding holds at its most, the Image included: as measured, rounded up.
COPIES = {
    "jpeg": 3,
    "progressive": 4,
    "png": 4,
    "bmp": 3,
    "webp": 7,
    "tiff": 4,
    "gif": 2,
    "avif": 4,
    "jp2": 7,
    "ico": 5,
    "heic": 5,
    "pdf": 4,
}

# Where width and height stand in the header, for those formats of which that is easily told.
SIZES = {"webp": plain_webp_size, "avif": avif_size, "bmp": bmp_size, "ico": ico.size}


def page_count(data: bytes, options: PdfOptions | None, settings: Settings) -> list[int] | None:
    """The pages, from 0, that become Items: of a PDF those `options` ask for, of a TIFF with more than one all.

    None means a plain picture. Raises an InputError for what is no picture or PDF, or has too many pages.
    """
    name = identify(data)
    if name == "pdf":
        return pdf.page_indexes(data, options or DEFAULT_PDF, settings)
    if name != "tiff":
        return None
    count = pillow.frame_count(data, name, settings.max_pages)
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
    if name == "heic":
        with heif.opened(data) as file:
            return _checked(*heif.size(file), name, settings)
    with pillow.opened(_sound(data, name), name, page_index) as frame:
        return _checked(*frame.size, name, settings)


def copies(data: bytes) -> int:
    """How many times the pixels of its Image decoding these bytes holds at most."""
    name = identify(data)
    header = jpeg.read_header(data) if name == "jpeg" else None
    return COPIES["progressive" if header and header.progressive else name]


def decode(data: bytes, page_index: int | None, options: PdfOptions | None, settings: Settings) -> Image:
    """The Image of a picture file, or of page `page_index` (none: the first) of a PDF or TIFF; of an animation
    the first frame.

    Raises an InputError, and for no bytes whatever anything else: TooManyPixels and PdfPageTooLarge before
    decoding, TruncatedInput where part of the picture is missing.
    """
    name = identify(data)
    if name == "pdf":
        return pdf.render(data, page_index or 0, options or DEFAULT_PDF, settings)
    if name == "heic":
        return _decode_heic(data, settings)
    _announced(data, name, settings)
    if name == "ico":
        name, data = ico.unwrapped(data)
    picture = imdecode(data) if name == "webp" and plain_webp_size(data) else None
    return _decode_by_pillow(_sound(data, name), name, page_index, settings) if picture is None else picture


def _announced(data: bytes, name: str, settings: Settings) -> tuple[int, int] | None:
    """Width and height where they are found without a decoder, within the limit."""
    size = None
    if name == "jpeg":
        size = _jpeg_size(data)
    elif name in SIZES:
        size = SIZES[name](data)
    return _checked(*size, name, settings) if size else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    header = jpeg.read_header(data)
    if header is None:
        return None
    if header.bits != 8:
        raise UnsupportedFormat(f"the JPEG has {header.bits} bits a sample; JPEGs of 8 bits are read")
    return header.width, header.height


def _sound(data: bytes, name: str) -> bytes:
    """The bytes without what would keep Pillow from a picture that is sound."""
    if name == "png":
        return png.without_bad_metadata(data)
    return jpeg.completed(data) if name == "jpeg" else data


def _decode_heic(data: bytes, settings: Settings) -> Image:
    with heif.opened(data) as file:
        _checked(*heif.size(file), "heic", settings)
        return heif.pixels_of(file)


def _decode_by_pillow(data: bytes, name: str, page_index: int | None, settings: Settings) -> Image:
    with pillow.opened(data, name, page_index) as frame:
        _checked(*frame.size, name, settings)
        picture = pillow.pixels_of(frame)
        orientation = pillow.orientation_of(frame)
    return upright(picture, orientation)


def _checked(width: int, height: int, name: str, settings: Settings) -> tuple[int, int]:
    for side, length in (("width", width), ("height", height)):
        if length <= 0:
            sign = "negative" if length else "no"
            raise UnreadableInput(
                f"the {LABELS[name]} is damaged: its header gives it {sign} {side} ({length}); send an undamaged copy"
            )
    if width * height > settings.max_pixels:
        raise TooManyPixels(
            f"the {LABELS[name]} announces {width} x {height} pixels, "
            f"and {settings.max_pixels} are the most allowed (MASKMILL_MAX_PIXELS)"
        )
    return width, height
