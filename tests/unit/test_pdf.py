"""Pages of a PDF become pictures, each failing alone and for a reason of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from maskmill.shared.errors import PdfNoPages, PdfPageTooLarge, TooManyPages, UnreadableInput
from maskmill.shared.formats import sniff
from maskmill.shared.jobs.sources import PdfOptions
from maskmill.shared.settings import Settings
from maskmill.worker.images.decode import decode, page_count, pixels
from maskmill.worker.images.image import Image

SETTINGS = Settings()
INCH = 72
BROKEN = "(no page)"


def pdf(*pages: str) -> bytes:
    """A PDF whose pages are these dictionaries' entries; each draws its upper left quarter of 72 points red."""
    drawing = b"1 0 0 rg 0 36 36 36 re f"
    numbers = range(4, 4 + len(pages))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{' '.join(f'{number} 0 R' for number in numbers)}] >>".encode(),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawing), drawing),
        *(
            (page if page == BROKEN else f"<< /Type /Page /Parent 2 0 R /Contents 3 0 R {page} >>").encode()
            for page in pages
        ),
    ]
    body, offsets = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"trailer << /Root 1 0 R /Size %d >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(body))
    return body + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + end


def box(width: float, height: float) -> str:
    """The entry that gives a page its size in points."""
    return f"/MediaBox [0 0 {width} {height}]"


def render(data: bytes, page: int = 0, **options: int) -> Image:
    """The page under the default settings."""
    return decode(data, page, PdfOptions(**options), SETTINGS)


ONE = pdf(box(INCH, INCH))
MANY = pdf(*(box(INCH + number, INCH) for number in range(10)))


class TestPages:
    def test_a_pdf_of_one_page_has_a_page_index_as_well(self) -> None:
        assert page_count(ONE, None, SETTINGS) == [0]

    @pytest.mark.parametrize(
        ("pages", "indexes"),
        [
            ("1-3,5,8-", [0, 1, 2, 4, 7, 8, 9]),
            ("10", [9]),
            ("9-1000", [8, 9]),
            ("3,1,1-2", [0, 1, 2]),
            (None, list(range(10))),
            ("1,500", [0]),
        ],
    )
    def test_a_range_names_pages_from_1_ascending_and_once(self, pages: str | None, indexes: list[int]) -> None:
        assert page_count(MANY, PdfOptions(pages=pages), SETTINGS) == indexes

    def test_a_range_behind_the_last_page_is_a_failure_that_says_which_is_last(self) -> None:
        with pytest.raises(PdfNoPages, match="ends with page 10"):
            page_count(MANY, PdfOptions(pages="11-12"), SETTINGS)

    def test_a_range_far_behind_the_last_page_costs_nothing(self) -> None:
        with pytest.raises(PdfNoPages):
            page_count(MANY, PdfOptions(pages="999999999999-9999999999999"), SETTINGS)

    def test_a_page_behind_the_last_one_is_a_failure(self) -> None:
        with pytest.raises(PdfNoPages, match="ends with page 1"):
            render(ONE, 1)

    def test_only_the_pages_asked_for_count_against_the_limit(self) -> None:
        few = Settings(max_pages=3)
        assert page_count(MANY, PdfOptions(pages="8-"), few) == [7, 8, 9]
        with pytest.raises(TooManyPages, match="10 pages"):
            page_count(MANY, None, few)

    def test_a_pdf_without_pages_is_a_failure(self) -> None:
        with pytest.raises(UnreadableInput):
            page_count(b"%PDF-1.7\nnothing more", None, SETTINGS)
        with pytest.raises(PdfNoPages, match="no pages"):
            page_count(pdf(), None, SETTINGS)

    def test_a_broken_page_fails_alone(self) -> None:
        data = pdf(box(INCH, INCH), BROKEN, box(INCH, INCH))
        pages = page_count(data, None, SETTINGS)
        assert pages == [0, 1, 2]
        assert render(data, 0).shape == render(data, 2).shape == (144, 144, 3)
        reason = "the PDF is damaged: page 2 cannot be read; send the whole file, or print it to a new PDF"
        for ask in (pixels, decode):
            with pytest.raises(UnreadableInput, match=reason):
                ask(data, 1, None, SETTINGS)


class TestPixels:
    def test_144_dots_an_inch_are_the_default(self) -> None:
        assert render(pdf(box(612, 792))).shape == (1584, 1224, 3)

    @pytest.mark.parametrize("dpi", [36, 100, 300])
    def test_the_resolution_is_that_asked_for_and_known_beforehand(self, dpi: int) -> None:
        assert render(ONE, dpi=dpi).shape == (dpi, dpi, 3)
        assert pixels(ONE, 0, PdfOptions(dpi=dpi), SETTINGS) == (dpi, dpi)

    def test_colours_are_rgb_on_white_paper(self) -> None:
        image = render(ONE)
        assert image[10, 10].tolist() == [255, 0, 0]
        assert image[10, 130].tolist() == image[130, 10].tolist() == [255, 255, 255]

    def test_a_page_to_be_turned_is_turned(self) -> None:
        data = pdf(box(INCH, 2 * INCH) + " /Rotate 90")
        assert pixels(data, 0, None, SETTINGS) == (288, 144)
        assert render(data).shape == (144, 288, 3)

    def test_a_page_as_large_as_a_country_is_refused_before_it_is_drawn(self) -> None:
        data = pdf(box(595, 2147483648), box(INCH, INCH))
        for ask in (pixels, decode):
            with pytest.raises(PdfPageTooLarge, match=r"page 1 .*lower pdf\.dpi"):
                ask(data, 0, None, SETTINGS)
        assert render(data, 1).shape == (144, 144, 3)

    def test_the_resolution_decides_whether_a_page_is_too_large(self) -> None:
        tight = Settings(max_pixels=144 * 144)
        assert decode(ONE, 0, None, tight).shape == (144, 144, 3)
        with pytest.raises(PdfPageTooLarge):
            decode(ONE, 0, PdfOptions(dpi=145), tight)

    def test_a_page_may_be_drawn_on(self) -> None:
        image = render(ONE)
        image[:] = 0
        assert image.flags.c_contiguous


class TestBytes:
    def test_a_header_behind_other_bytes_is_found(self) -> None:
        assert sniff(b"\r\n" * 100 + ONE) == "pdf"

    def test_a_pdf_without_its_last_third_is_read_as_far_as_it_goes_or_fails(self) -> None:
        with pytest.raises(UnreadableInput, match="cut short"):
            page_count(ONE[: len(ONE) // 4], None, SETTINGS)

    def test_a_password_for_a_pdf_that_needs_none_is_no_harm(self) -> None:
        assert page_count(ONE, PdfOptions(password="secret"), SETTINGS) == [0]

    def test_many_threads_may_render_at_once(self) -> None:
        alone = [render(MANY, page) for page in range(10)]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda page: render(MANY, page), [*range(10)] * 4))
        assert all(np.array_equal(image, alone[number % 10]) for number, image in enumerate(together))
