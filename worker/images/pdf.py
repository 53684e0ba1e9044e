"""Pages of a PDF as pictures, by pdfium."""

from __future__ import annotations

import math
import stringprep
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium
from numpy.typing import NDArray

from maskmill.shared.errors import InputError, PdfEncrypted, PdfNoPages, PdfPageTooLarge, TooManyPages, UnreadableInput
from maskmill.shared.jobs.sources import PdfOptions, page_ranges
from maskmill.shared.settings import Settings

POINTS_PER_INCH = 72
PRINT_ANEW = "send the whole file, or print it to a new PDF"
# pdfium is not thread safe at all, not even for two documents.
_pdfium = threading.Lock()


def page_indexes(data: bytes, options: PdfOptions, settings: Settings) -> list[int]:
    """The pages asked for, from 0, ascending, each once.

    Raises PdfEncrypted, UnreadableInput, PdfNoPages where there is none of them, TooManyPages past `max_pages`.
    """
    with _document(data, options, "its list of pages") as document:
        total = len(document)
    ranges = page_ranges(options.pages) if options.pages else [(1, None)]
    chosen: set[int] = set()
    for first, last in ranges:
        chosen.update(range(first - 1, min(total, last or total)))
    if not chosen:
        raise PdfNoPages(f"pages {options.pages} were asked for, and the PDF ends with page {total}")
    if len(chosen) > settings.max_pages:
        raise TooManyPages(
            f"{len(chosen)} pages of the PDF were asked for, and {settings.max_pages} are the most allowed "
            "(MASKMILL_MAX_PAGES); name a range in pdf.pages"
        )
    return sorted(chosen)


def page_size(data: bytes, index: int, options: PdfOptions, settings: Settings) -> tuple[int, int]:
    """Width and height in pixels that page `index` will have; PdfPageTooLarge past the pixel limit."""
    with _document(data, options, f"page {index + 1}") as document:
        return _size(document, index, options.dpi, settings.max_pixels)


def render(data: bytes, index: int, options: PdfOptions, settings: Settings) -> NDArray[np.uint8]:
    """Pixels uint8 [H, W, 3] RGB of page `index`, filled-in form fields included, on white.

    Raises what `page_size` does, and UnreadableInput for a page that is broken.
    """
    with _document(data, options, f"page {index + 1}") as document:
        # pdfium wants to know of the forms before it is asked for anything else.
        document.init_forms()
        _size(document, index, options.dpi, settings.max_pixels)
        bitmap = document[index].render(scale=options.dpi / POINTS_PER_INCH, rev_byteorder=True)
        picture: NDArray[np.uint8] = bitmap.to_numpy()
        bitmap.close()
        return picture


@contextmanager
def _document(data: bytes, options: PdfOptions, part: str) -> Iterator[pypdfium2.PdfDocument]:
    """The open document, with pdfium to oneself; what pdfium raises in the block becomes UnreadableInput of `part`."""
    with _pdfium:
        document = _open(data, options.password)
        try:
            yield document
        except (InputError, MemoryError):
            raise
        except Exception as error:
            raise UnreadableInput(f"the PDF is damaged: {part} cannot be read; {PRINT_ANEW}") from error
        finally:
            document.close()


def _open(data: bytes, password: str | None) -> pypdfium2.PdfDocument:
    code = 0
    for spelling in _spellings(password):
        # Opened by the raw call: pdfium's last error means something only where no document came of it.
        opened = pdfium.FPDF_LoadMemDocument64(data, len(data), spelling)
        if opened:
            return _with_pages(pypdfium2.PdfDocument(opened))
        code = pdfium.FPDF_GetLastError()
        if code != pdfium.FPDF_ERR_PASSWORD:
            break
    raise _refusal(code, password)


def _with_pages(document: pypdfium2.PdfDocument) -> pypdfium2.PdfDocument:
    if len(document) > 0:
        return document
    document.close()
    raise PdfNoPages("the PDF has no pages, or none that can be found")


def _spellings(password: str | None) -> list[bytes | None]:
    """The password in UTF-8 as given, then as SASLprep (RFC 4013) writes it, which AES-256 encryption prescribes."""
    if password is None:
        return [None]
    mapped = "".join(" " if stringprep.in_table_c12(letter) else letter for letter in password)
    kept = "".join(letter for letter in mapped if not stringprep.in_table_b1(letter))
    spellings = dict.fromkeys((password, unicodedata.normalize("NFKC", kept)))
    return [spelling.encode("utf-8", "replace") + b"\0" for spelling in spellings]


def _refusal(code: int, password: str | None) -> InputError:
    if code == pdfium.FPDF_ERR_PASSWORD:
        return PdfEncrypted(
            "the PDF is encrypted; a job takes its password, as pdf.password or maskmill submit --password"
            if password is None
            else "the PDF is encrypted, and the password given does not open it"
        )
    if code == pdfium.FPDF_ERR_SECURITY:
        return PdfEncrypted("the PDF is encrypted in a way that is not read; save it without encryption")
    return UnreadableInput(f"the PDF is damaged or cut short: no document can be found in it; {PRINT_ANEW}")


def _size(document: pypdfium2.PdfDocument, index: int, dpi: int, max_pixels: int) -> tuple[int, int]:
    if not 0 <= index < len(document):
        raise PdfNoPages(f"page {index + 1} was asked for, and the PDF ends with page {len(document)}")
    points = document.get_page_size(index)
    if not all(math.isfinite(side) and side > 0 for side in points):
        raise UnreadableInput(f"page {index + 1} of the PDF has no area")
    width, height = (math.ceil(side * dpi / POINTS_PER_INCH) for side in points)
    if width * height > max_pixels:
        raise PdfPageTooLarge(
            f"page {index + 1} of the PDF, {points[0]:g} x {points[1]:g} points, is {width} x {height} pixels at "
            f"{dpi} dpi, and {max_pixels} pixels are the most allowed (MASKMILL_MAX_PIXELS); lower pdf.dpi"
        )
    return width, height
