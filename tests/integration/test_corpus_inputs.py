"""Real files of many makers, good and bad: what two other readers read is read here, the rest fails properly."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

from maskmill.shared.errors import InputError, PdfEncrypted, PdfPageTooLarge, TruncatedInput
from maskmill.shared.jobs.sources import PdfOptions
from maskmill.shared.settings import Settings
from maskmill.worker.images.decode import decode, page_count, pixels
from maskmill.worker.images.image import Image

SETTINGS = Settings()
# Pages so large that they are refused on purpose, whatever another reader makes of them.
TOO_LARGE = {"pdf-bad/poppler-85140-0.pdf"}


@dataclass(frozen=True)
class Sample:
    """A file of the corpus, its password where it has one, and what Pillow, OpenCV and pdfium made of it."""

    name: str
    data: bytes
    password: str | None
    probe: dict[str, Any]

    @property
    def readable(self) -> bool:
        """Whether the other readers read it."""
        return (self.probe.get("load") == "ok" and bool(self.probe.get("cv2"))) or "pdfium" in self.probe

    @property
    def options(self) -> PdfOptions:
        return PdfOptions(password=self.password)

    def read(self) -> list[Image | InputError]:
        """Every page, or what its reading ended with; anything but an InputError is raised."""
        try:
            pages = page_count(self.data, self.options, SETTINGS)
        except InputError as error:
            return [error]
        return [self.page(index) for index in ([None] if pages is None else pages)]

    def page(self, index: int | None) -> Image | InputError:
        try:
            width, height = pixels(self.data, index, self.options, SETTINGS)
            image = decode(self.data, index, self.options, SETTINGS)
        except InputError as error:
            return error
        assert image.shape in ((height, width, 3), (width, height, 3)), self.name
        return image


@pytest.fixture(scope="module")
def corpus(test_data: Path) -> dict[str, Sample]:
    """All files of the corpus by their names."""
    folder = test_data / "corpus"
    return {
        entry["file"]: Sample(
            entry["file"], (folder / entry["file"]).read_bytes(), entry.get("password"), entry["probe"]
        )
        for entry in json.loads((folder / "manifest.json").read_text())
    }


@pytest.fixture(scope="module")
def readings(corpus: dict[str, Sample]) -> dict[str, list[Image | InputError]]:
    """What became of every page of every file."""
    return {name: sample.read() for name, sample in corpus.items()}


def picture(readings: dict[str, list[Image | InputError]], name: str) -> Image:
    """The only page of a file that must be readable."""
    (image,) = readings[name]
    assert not isinstance(image, InputError), (name, image)
    return image


def distance(one: Image, other: Image) -> float:
    """Mean absolute difference in grey levels; infinite where the sizes differ."""
    if one.shape != other.shape:
        return float("inf")
    return float(np.abs(one.astype(np.int16) - other).mean())


def test_what_the_other_readers_read_is_read_here(
    corpus: dict[str, Sample], readings: dict[str, list[Image | InputError]]
) -> None:
    readable = [name for name, sample in corpus.items() if sample.readable and name not in TOO_LARGE]
    failed = {
        name: [error.reason for error in readings[name] if isinstance(error, InputError)]
        for name in readable
        if any(isinstance(error, InputError) for error in readings[name])
    }
    assert not failed
    assert len(readable) >= 100


def test_every_failure_has_a_code_and_a_reason_for_people(readings: dict[str, list[Image | InputError]]) -> None:
    failures = [result for pages in readings.values() for result in pages if isinstance(result, InputError)]
    assert len(failures) > 20
    for failure in failures:
        assert failure.code != "bad_input"
        assert 15 < len(failure.reason) < 400
        assert "object at 0x" not in failure.reason


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("heif-bad/empty.heic", "empty"),
        ("ico/decompression_bomb.ico", "too_many_pixels"),
        ("jpeg/monkey12.jpg", "unsupported_format"),
        ("jpeg-bad/truncated_jpeg.jpg", "truncated"),
        ("png-bad/truncated_end_chunk.png", "truncated"),
        ("gif-bad/truncated.gif", "truncated"),
        ("bmp-bad/shortfile.bmp", "truncated"),
        ("bmp-bad/reallybig.bmp", "too_many_pixels"),
        ("avif-bad/17000x17000.avif", "too_many_pixels"),
        ("tiff-bad/libtiff_segfault.tif", "unreadable"),
        ("png/chunk_no_fctl.png", "unreadable"),
        ("pdf-bad/deep-pages.pdf", "unreadable"),
        ("pdf-bad/bug1020226.pdf", "unreadable"),
        ("pdf-bad/empty.pdf", "pdf_no_pages"),
        ("pdf-bad/poppler-85140-0.pdf", "pdf_page_too_large"),
    ],
)
def test_a_bad_file_fails_for_its_own_reason(
    readings: dict[str, list[Image | InputError]], name: str, code: str
) -> None:
    assert [result.code for result in readings[name] if isinstance(result, InputError)] == [code]


def test_heic_is_read(readings: dict[str, list[Image | InputError]]) -> None:
    pytest.importorskip("pi_heif", reason="the extra `heic` is not installed")
    assert [type(result) for result in readings["heif-bad/corrupted.heic"]] == [TruncatedInput]
    assert picture(readings, "heif/zPug_3.heic").shape == (64, 64, 3)
    assert picture(readings, "heif/bird_burst.heic").shape == (720, 1280, 3)


def test_pictures_have_the_size_that_opencv_gives_them(
    corpus: dict[str, Sample], readings: dict[str, list[Image | InputError]]
) -> None:
    for name, sample in corpus.items():
        for image in readings[name][:1]:
            if sample.readable and "cv2" in sample.probe and not isinstance(image, InputError):
                assert list(image.shape[:2]) == sample.probe["cv2"], name


def test_all_pages_are_found(corpus: dict[str, Sample], readings: dict[str, list[Image | InputError]]) -> None:
    for name, sample in corpus.items():
        if "pdfium" in sample.probe:
            assert len(readings[name]) == sample.probe["pdfium"]["pages"], name
            assert page_count(sample.data, sample.options, SETTINGS) is not None
        elif name.startswith("tiff/"):
            assert len(readings[name]) == sample.probe["n"], name


def test_a_page_of_absurd_size_is_refused_by_both_questions(corpus: dict[str, Sample]) -> None:
    for name in TOO_LARGE:
        for ask in (pixels, decode):
            with pytest.raises(PdfPageTooLarge):
                ask(corpus[name].data, 0, None, SETTINGS)


def test_encrypted_pdfs_open_with_their_password_only(
    corpus: dict[str, Sample], readings: dict[str, list[Image | InputError]]
) -> None:
    locked = [sample for sample in corpus.values() if sample.password]
    assert len(locked) >= 6
    for sample in locked:
        assert not any(isinstance(result, InputError) for result in readings[sample.name]), sample.name
        with pytest.raises(PdfEncrypted, match=r"pdf\.password or maskmill submit --password"):
            page_count(sample.data, None, SETTINGS)
        with pytest.raises(PdfEncrypted, match="does not open it"):
            page_count(sample.data, PdfOptions(password=f"{sample.password}!"), SETTINGS)


@pytest.mark.parametrize("motif", ["Landscape", "Portrait"])
def test_pictures_of_every_exif_orientation_are_upright(
    corpus: dict[str, Sample], readings: dict[str, list[Image | InputError]], motif: str
) -> None:
    names = [name for name in corpus if name.startswith(f"exif/{motif}_")]
    shape = (1200, 1800, 3) if motif == "Landscape" else (1800, 1200, 3)
    first = picture(readings, names[0])
    assert len(names) >= 3
    for name in names:
        image = picture(readings, name)
        upright = ImageOps.exif_transpose(Pillow.open(io.BytesIO(corpus[name].data)))
        assert image.shape == shape, name
        assert distance(image, np.asarray(upright)) < 1, name
        assert distance(image, first) < 8, name


@pytest.mark.parametrize("name", ["exif/xmp_tags_orientation.png", "exif/exif_imagemagick_orientation.png"])
def test_an_orientation_in_xmp_or_in_imagemagicks_text_counts(
    corpus: dict[str, Sample], readings: dict[str, list[Image | InputError]], name: str
) -> None:
    stored = Pillow.open(io.BytesIO(corpus[name].data)).convert("RGBA")
    on_white = Pillow.alpha_composite(Pillow.new("RGBA", stored.size, "white"), stored).convert("RGB")
    assert distance(picture(readings, name), np.asarray(on_white)[::-1, ::-1]) < 1


@pytest.mark.parametrize(
    "name", ["jpeg/pil_sample_cmyk.jpg", "tiff/tiff_strip_cmyk_jpeg.tif", "tiff/tiff_tiled_cmyk_jpeg.tif"]
)
def test_cmyk_is_converted_as_pillow_converts_it(
    corpus: dict[str, Sample], readings: dict[str, list[Image | InputError]], name: str
) -> None:
    reference = Pillow.open(io.BytesIO(corpus[name].data)).convert("RGB")
    assert np.array_equal(picture(readings, name), np.asarray(reference))


def test_the_same_motif_looks_the_same_in_every_encoding(readings: dict[str, list[Image | InputError]]) -> None:
    hopper = picture(readings, "tiff/hopper_bigtiff.tif")
    for name in ("tiff/hopper.Lab.tif", "tiff/hopper_lzma.tif", "jpeg/hopper.jpg"):
        assert distance(picture(readings, name), hopper) < 5, name


def test_ycbcr_of_a_tiff_is_converted_by_its_own_weights(corpus: dict[str, Sample], test_data: Path) -> None:
    import cv2

    sample = corpus["tiff/ycbcr_lzw_bt709.tif"]
    reference = cv2.imread(str(test_data / "corpus" / sample.name), cv2.IMREAD_COLOR_RGB)
    assert np.array_equal(decode(sample.data, None, None, SETTINGS), reference)


@pytest.mark.parametrize("name", ["png/basn2c16.png", "png/oi9n2c16.png"])
def test_16_bit_pictures_use_all_of_8_bits(readings: dict[str, list[Image | InputError]], name: str) -> None:
    image = picture(readings, name)
    assert (image.min(), image.max()) == (0, 255)


def test_a_transparent_corner_is_white(readings: dict[str, list[Image | InputError]]) -> None:
    for name in ("webp/transparent.webp", "png/basn6a08.png"):
        assert picture(readings, name)[0, 0].tolist() == [255, 255, 255], name
