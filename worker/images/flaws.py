"""What is wrong with a picture that Pillow could not read, found in its bytes: Pillow's own words help no user."""

from __future__ import annotations

from maskmill.shared.errors import InputError, UnreadableInput, UnsupportedFormat
from maskmill.shared.formats import LABELS, ends_early
from maskmill.worker.images import png, tiff
from maskmill.worker.images.reasons import damaged, truncated

# Formats whose container says where the file should end, so that a reader that runs out of bytes was misled.
SELF_DELIMITING = frozenset({"png", "gif", "webp", "avif", "jp2", "ico"})

BMP_FORMS = {0: "in plain form", 1: "in RLE8", 2: "in RLE4", 3: "in bit fields", 4: "in JPEG", 5: "in PNG"}


def flaw_of_header(error: Exception, data: bytes, name: str, page_index: int) -> InputError:
    """Why a picture could not be opened; `page_index` counts from 0."""
    if isinstance(error, EOFError):
        return UnreadableInput(f"page {page_index + 1} was asked for, and the {LABELS[name]} has fewer")
    return _flaw(error, data, name) or _flaw_of_header(data, name, page_index)


def flaw_of_pixels(error: Exception, data: bytes, name: str, page_index: int) -> InputError:
    """Why the pixels of a picture that could be opened could not be decoded; `page_index` counts from 0."""
    found = _flaw(error, data, name)
    if found is None and name == "tiff":
        return tiff.flaw_of_pixels(data, page_index)
    return found or damaged(name, "its pixels cannot be decoded")


def _flaw(error: Exception, data: bytes, name: str) -> InputError | None:
    if name == "png":
        return png.flaw(data)
    ran_out = name not in SELF_DELIMITING and "truncat" in str(error).lower()
    return truncated(name) if ran_out or ends_early(data, name) else None


def _flaw_of_header(data: bytes, name: str, page_index: int) -> InputError:
    if name == "tiff":
        return tiff.flaw_of_header(data, page_index)
    if name == "bmp":
        bits, form = int.from_bytes(data[28:30], "little"), int.from_bytes(data[30:34], "little")
        return UnsupportedFormat(
            f"the BMP has {bits} bits a pixel {BMP_FORMS.get(form, 'in an unknown form')}, which is not read; "
            "save it with 24 bits a pixel"
        )
    if name == "ico":
        return damaged("ico", "its largest picture cannot be decoded")
    if name == "gif" and b"\0\0" in (data[6:8], data[8:10]):
        return damaged("gif", "its header gives it no width or no height")
    return UnreadableInput(
        f"the {LABELS[name]}'s header is damaged, or of a kind that is not read; send an undamaged copy, or a PNG"
    )
