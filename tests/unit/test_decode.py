"""Bytes become upright 8-bit RGB pictures, or fail for a reason of their own."""

from __future__ import annotations

import io
import random
import struct
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from maskmill.shared.errors import (
    EmptyInput,
    InputError,
    TooManyPages,
    TooManyPixels,
    TruncatedInput,
    UnreadableInput,
    UnsupportedFormat,
)
from maskmill.shared.formats import sniff
from maskmill.shared.settings import Settings
from maskmill.worker.images.decode import decode, page_count, pixels
from maskmill.worker.images.image import Image

WIDTH, HEIGHT = 96, 64
END_OF_IMAGE = b"\xff\xd9"
ORIENTATION = 0x0112
SETTINGS = Settings()

# How a picture that is to be seen upright is stored for each Exif orientation.
STORED: dict[int, Callable[[Image], Image]] = {
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.transpose(1, 0, 2),
    6: np.rot90,
    7: lambda seen: seen[::-1, ::-1].transpose(1, 0, 2),
    8: lambda seen: np.rot90(seen, -1),
}


def scene() -> Image:
    """A smooth picture unlike each of its own mirror images and turns."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    red, green, blue = x * 255 // (WIDTH - 1), y * 255 // (HEIGHT - 1), (x + 2 * y) * 255 // (WIDTH + 2 * HEIGHT)
    return np.stack((red, green, blue), axis=-1).astype(np.uint8)


def encoded(picture: Image | Pillow.Image, kind: str, **options: Any) -> bytes:
    """The bytes of a picture file that Pillow writes."""
    image = Pillow.fromarray(np.ascontiguousarray(picture)) if isinstance(picture, np.ndarray) else picture
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(data: bytes, page_index: int | None = None) -> Image:
    """The Image under the default settings."""
    return decode(data, page_index, None, SETTINGS)


def distance(one: Image, other: Image) -> float:
    """Mean absolute difference in grey levels; infinite where the sizes differ."""
    if one.shape != other.shape:
        return float("inf")
    return float(np.abs(one.astype(np.int16) - other).mean())


def tiff(values: bytes, bits: int, *, width: int, height: int, photometric: int = 1, kind: int = 1) -> bytes:
    """An uncompressed TIFF 6.0 of one sample a pixel, written by hand for depths that no library here writes."""
    entries = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, len(values)),
        (339, 3, kind),
    ]
    directory = b"".join(struct.pack("<HHII", tag, form, 1, value) for tag, form, value in entries)
    padding = b"\0" * (len(values) % 2)
    start = 8 + len(values) + len(padding)
    header = struct.pack("<2sHI", b"II", 42, start)
    return header + values + padding + struct.pack("<H", len(entries)) + directory + bytes(4)


LOSSLESS: dict[str, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {"compression": "tiff_lzw"}),
    "webp": ("WEBP", {"lossless": True}),
    "jp2": ("JPEG2000", {}),
}
LOSSY: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {"quality": 95}),
    "webp": ("WEBP", {"quality": 95}),
    "avif": ("AVIF", {"quality": 90}),
    "gif": ("GIF", {}),
}
ALL = [*LOSSLESS.items(), *LOSSY.items()]


class TestFormats:
    @pytest.mark.parametrize(("name", "how"), ALL)
    def test_a_format_is_told_by_its_content(self, name: str, how: tuple[str, dict[str, Any]]) -> None:
        assert sniff(encoded(scene(), how[0], **how[1])[:64]) == name

    @pytest.mark.parametrize(("name", "how"), LOSSLESS.items())
    def test_lossless_formats_give_back_every_pixel(self, name: str, how: tuple[str, dict[str, Any]]) -> None:
        assert np.array_equal(decoded(encoded(scene(), how[0], **how[1])), scene()), name

    @pytest.mark.parametrize(("name", "how"), LOSSY.items())
    def test_lossy_formats_give_nearly_the_same_picture(self, name: str, how: tuple[str, dict[str, Any]]) -> None:
        assert distance(decoded(encoded(scene(), how[0], **how[1])), scene()) < 4, name

    @pytest.mark.parametrize(("name", "how"), ALL)
    def test_the_size_is_known_without_decoding(self, name: str, how: tuple[str, dict[str, Any]]) -> None:
        assert pixels(encoded(scene(), how[0], **how[1]), None, None, SETTINGS) == (WIDTH, HEIGHT), name

    @pytest.mark.parametrize(("name", "how"), ALL)
    def test_a_picture_file_has_no_pages(self, name: str, how: tuple[str, dict[str, Any]]) -> None:
        assert page_count(encoded(scene(), how[0], **how[1]), None, SETTINGS) is None, name

    @pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
    def test_of_an_animation_the_first_frame_is_taken(self, kind: str) -> None:
        frames = [Pillow.new("RGB", (20, 20), colour) for colour in ("red", "lime", "blue")]
        animation = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
        assert distance(decoded(animation), np.full((20, 20, 3), (255, 0, 0), np.uint8)) < 4

    def test_of_a_multi_picture_object_the_first_picture_is_taken(self) -> None:
        second = Pillow.new("RGB", (WIDTH, HEIGHT), "blue")
        pair = encoded(scene(), "MPO", save_all=True, append_images=[second], quality=95)
        assert distance(decoded(pair), scene()) < 4

    def test_an_image_is_an_array_that_may_be_drawn_on(self) -> None:
        for kind in ("JPEG", "PNG"):
            image = decoded(encoded(scene(), kind))
            image[0, 0] = 7
            assert image.flags.c_contiguous


class TestOrientation:
    @pytest.mark.parametrize("orientation", STORED)
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
    def test_every_format_that_carries_an_exif_orientation_comes_upright(self, kind: str, orientation: int) -> None:
        exif = Pillow.Exif()
        exif[ORIENTATION] = orientation
        assert distance(decoded(encoded(STORED[orientation](scene()), kind, exif=exif)), scene()) < 6

    @pytest.mark.parametrize("orientation", STORED)
    def test_a_jpeg_that_opencv_reads_and_one_that_pillow_reads_are_turned_alike(self, orientation: int) -> None:
        exif = Pillow.Exif()
        exif[ORIENTATION] = orientation
        stored = Pillow.fromarray(np.ascontiguousarray(STORED[orientation](scene())))
        by_opencv = decoded(encoded(stored, "JPEG", exif=exif, quality=95))
        by_pillow = decoded(encoded(stored.convert("CMYK"), "JPEG", exif=exif, quality=95))
        assert distance(by_opencv, by_pillow) < 4

    def test_the_orientation_of_xmp_counts_where_exif_has_none(self) -> None:
        xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
        assert distance(decoded(encoded(scene()[::-1, ::-1], "JPEG", xmp=xmp)), scene()) < 4

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_an_orientation_that_does_not_exist_changes_nothing(self, orientation: int) -> None:
        exif = Pillow.Exif()
        exif[ORIENTATION] = orientation
        assert distance(decoded(encoded(scene(), "JPEG", exif=exif)), scene()) < 4

    def test_broken_metadata_lose_no_picture(self) -> None:
        exif = b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(10)
        for kind in ("JPEG", "PNG"):
            assert distance(decoded(encoded(scene(), kind, exif=exif)), scene()) < 4


class TestColours:
    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
    def test_what_is_transparent_lies_on_white(self, kind: str) -> None:
        picture = np.zeros((16, 16, 4), np.uint8)
        picture[..., 0] = 255
        picture[:8, :, 3], picture[8:, :, 3] = 255, 0
        image = decoded(encoded(picture, kind, **({"lossless": True} if kind == "WEBP" else {})))
        assert distance(image[:6], np.full((6, 16, 3), (255, 0, 0), np.uint8)) < 4
        assert distance(image[10:], np.full((6, 16, 3), 255, np.uint8)) < 4

    def test_what_is_half_transparent_is_mixed_with_white(self) -> None:
        picture = np.full((4, 4, 4), (0, 0, 200, 128), np.uint8)
        assert decoded(encoded(picture, "PNG"))[0, 0].tolist() == [127, 127, 227]

    def test_transparent_colours_of_a_palette_lie_on_white(self) -> None:
        image = Pillow.new("P", (4, 4), 1)
        image.putpalette([10, 20, 30, 40, 50, 60])
        for kind in ("PNG", "GIF"):
            assert decoded(encoded(image, kind))[0, 0].tolist() == [40, 50, 60]
            assert decoded(encoded(image, kind, transparency=1))[0, 0].tolist() == [255, 255, 255]

    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000"])
    def test_16_bits_are_scaled_to_8(self, kind: str) -> None:
        values = np.array([[0, 128, 257, 32768, 65407, 65535]], np.uint16)
        assert decoded(encoded(Pillow.fromarray(values), kind))[0, :, 0].tolist() == [0, 0, 1, 128, 255, 255]

    def test_12_bits_of_a_tiff_are_scaled_from_their_own_white(self) -> None:
        packed = bytes.fromhex("000fff 800010".replace(" ", ""))
        assert decoded(tiff(packed, 12, width=4, height=1))[0, :, 0].tolist() == [0, 255, 128, 1]

    def test_a_deep_tiff_in_which_white_is_zero_is_turned_round(self) -> None:
        values = np.array([0, 65535], "<u2").tobytes()
        assert decoded(tiff(values, 16, width=2, height=1, photometric=0))[0, :, 0].tolist() == [255, 0]

    def test_floats_are_stretched_from_lowest_to_highest(self) -> None:
        values = np.array([-1, 0, 1], "<f4").tobytes()
        assert decoded(tiff(values, 32, width=3, height=1, kind=3))[0, :, 0].tolist() == [0, 128, 255]

    def test_signed_integers_are_stretched_from_lowest_to_highest(self) -> None:
        values = np.array([-1000, 0, 1000], "<i2").tobytes()
        assert decoded(tiff(values, 16, width=3, height=1, kind=2))[0, :, 0].tolist() == [0, 128, 255]

    def test_values_that_are_no_numbers_do_not_spoil_the_others(self) -> None:
        values = np.array([np.nan, np.inf, -np.inf, 10, 15, 20], "<f4").tobytes()
        assert decoded(tiff(values, 32, width=6, height=1, kind=3))[0, :, 0].tolist() == [0, 255, 0, 0, 128, 255]

    def test_a_deep_picture_of_one_value_is_no_failure(self) -> None:
        values = np.array([7, 7], "<f4").tobytes()
        assert decoded(tiff(values, 32, width=2, height=1, kind=3)).shape == (1, 2, 3)

    @pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
    def test_one_bit_is_black_or_white(self, kind: str) -> None:
        image = Pillow.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
        assert decoded(encoded(image, kind))[..., 1].tolist() == [[0, 255], [255, 0]]

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "GIF", "JPEG2000"])
    def test_grey_has_three_equal_channels(self, kind: str) -> None:
        image = decoded(encoded(scene()[..., 0], kind))
        assert np.array_equal(image[..., 0], image[..., 2])
        assert distance(image[..., :1], scene()[..., :1]) < 4

    @pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
    def test_cmyk_without_ink_is_white_and_its_colours_are_those_of_pillow(self, kind: str) -> None:
        inks = Pillow.fromarray(scene()).convert("CMYK")
        inks.paste((0, 0, 0, 0), (0, 0, 32, 32))
        data = encoded(inks, kind)
        image = decoded(data)
        assert image[8, 8].min() > 250
        assert np.array_equal(image, np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB")))

    def test_lab_becomes_rgb(self) -> None:
        grey = Pillow.new("LAB", (4, 4), (255, 128, 128))
        assert decoded(encoded(grey, "TIFF"))[0, 0].min() > 250

    def test_pictures_higher_than_one_strip_are_whole(self) -> None:
        tall = np.arange(3000 * 700, dtype=np.uint32).reshape(3000, 700).view(np.uint8).reshape(3000, 700, 4)[..., :3]
        assert np.array_equal(decoded(encoded(tall, "BMP")), tall)


class TestTruncation:
    @pytest.mark.parametrize("progressive", [False, True])
    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
    def test_a_jpeg_cut_short_fails(self, share: float, progressive: bool) -> None:
        whole = encoded(noise(), "JPEG", progressive=progressive)
        with pytest.raises(TruncatedInput, match="ends before"):
            decoded(whole[: int(len(whole) * share)])

    def test_a_jpeg_cut_short_and_filled_up_with_zeros_fails(self) -> None:
        whole = encoded(noise(), "JPEG")
        half = len(whole) // 2
        with pytest.raises(TruncatedInput):
            decoded(whole[:half] + bytes(half))

    def test_a_jpeg_without_its_end_marker_is_whole(self) -> None:
        whole = encoded(noise(), "JPEG")
        assert np.array_equal(decoded(whole.removesuffix(END_OF_IMAGE)), decoded(whole))

    @pytest.mark.parametrize("junk", [b"\0" * 1000, b"more", b"\xff"])
    @pytest.mark.parametrize("progressive", [False, True])
    def test_junk_behind_a_jpeg_is_no_harm(self, junk: bytes, progressive: bool) -> None:
        whole = encoded(noise(), "JPEG", progressive=progressive)
        assert np.array_equal(decoded(whole + junk), decoded(whole))

    @pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "JPEG"])
    @pytest.mark.parametrize("share", [0.5, 0.9])
    def test_half_a_picture_is_a_failure_in_every_format(self, kind: str, share: float) -> None:
        whole = encoded(noise(), kind)
        with pytest.raises(TruncatedInput):
            decoded(whole[: int(len(whole) * share)])


def noise() -> Image:
    """A picture whose every part needs its bytes."""
    return np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


class TestLimits:
    @pytest.mark.parametrize(("name", "how"), ALL)
    def test_one_pixel_too_many_is_refused_and_the_last_allowed_one_read(
        self, name: str, how: tuple[str, dict[str, Any]]
    ) -> None:
        data = encoded(scene(), how[0], **how[1])
        tight = Settings(max_pixels=WIDTH * HEIGHT - 1)
        for ask in (pixels, decode):
            with pytest.raises(TooManyPixels, match=f"{WIDTH} x {HEIGHT}"):
                ask(data, None, None, tight)
        assert decode(data, None, None, Settings(max_pixels=WIDTH * HEIGHT)).shape == (HEIGHT, WIDTH, 3), name

    def test_a_header_that_announces_gigapixels_is_refused(self) -> None:
        data = bytearray(encoded(scene(), "JPEG"))
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = b"\xff\xff\xff\xff"
        with pytest.raises(TooManyPixels, match="65535 x 65535"):
            decoded(bytes(data))

    def test_a_first_gif_frame_larger_than_its_canvas_counts(self) -> None:
        data = bytearray(encoded(Pillow.new("P", (8, 8)), "GIF"))
        at = data.index(b",\0\0\0\0\x08\0\x08\0") + 5
        data[at : at + 4] = struct.pack("<HH", 60000, 60000)
        with pytest.raises(TooManyPixels):
            decoded(bytes(data))

    def test_the_limit_of_the_settings_alone_decides(self) -> None:
        data = encoded(Pillow.new("1", (20_000, 20_000)), "PNG")
        assert pixels(data, None, None, Settings(max_pixels=400_000_000)) == (20_000, 20_000)
        with pytest.raises(TooManyPixels):
            decoded(data)

    def test_a_jpeg_of_nothing_but_markers_is_given_up(self) -> None:
        with pytest.raises(UnreadableInput, match="markers"):
            decoded(b"\xff\xd8" + b"\xff\xe1\0\2" * 50_000)


class TestRefusals:
    def test_no_bytes_are_their_own_failure(self) -> None:
        with pytest.raises(EmptyInput):
            decoded(b"")

    @pytest.mark.parametrize(
        ("head", "looks_like"),
        [
            (b"just a few words\n", "text"),
            (b"<!DOCTYPE html><html>404</html>", "HTML"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
            (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "MP4"),
            (b"\0\0\2\0\1\0", "CUR"),
            (b"8BPS\0\1", "Photoshop"),
            (b"PK\3\4\x14", "ZIP"),
            (bytes(128) + b"DICM", "DICOM"),
            (b"P6\n2 2\n255\n", "PNM"),
            (b"\x93\x94\x95\x96", "no format known"),
        ],
    )
    def test_an_unsupported_format_is_named_with_those_that_are_read(self, head: bytes, looks_like: str) -> None:
        with pytest.raises(UnsupportedFormat, match=looks_like) as failure:
            page_count(head + b"\n" * 40, None, SETTINGS)
        assert "JPEG, PNG, BMP, WebP, TIFF, GIF, AVIF, JPEG 2000, ICO, HEIC and PDF are read" in failure.value.reason

    def test_a_12_bit_jpeg_is_unsupported(self) -> None:
        data = bytearray(encoded(scene(), "JPEG"))
        data[data.index(b"\xff\xc0") + 4] = 12
        with pytest.raises(UnsupportedFormat, match="12 bits"):
            decoded(bytes(data))

    @pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "JPEG"])
    def test_spoiled_bytes_give_a_picture_or_an_input_error_and_nothing_else(self, kind: str) -> None:
        whole, chance, failed = encoded(scene(), kind), random.Random(kind), 0
        for _ in range(60):
            data = bytearray(whole)
            for _ in range(chance.choice((1, 4, 30))):
                data[chance.randrange(8, len(data))] = chance.randrange(256)
            try:
                assert decode(bytes(data), None, None, Settings(max_pixels=1_000_000)).shape[2] == 3
            except InputError as error:
                failed += bool(error.reason)
        assert failed > 0 or kind in ("BMP", "JPEG2000")


class TestPages:
    def pages(self, count: int) -> bytes:
        frames = [Pillow.new("RGB", (10 + number, 10), (number * 40, 0, 0)) for number in range(count)]
        return encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])

    def test_every_page_of_a_tiff_is_a_picture_of_its_own(self) -> None:
        data = self.pages(3)
        assert page_count(data, None, SETTINGS) == [0, 1, 2]
        for number in range(3):
            assert pixels(data, number, None, SETTINGS) == (10 + number, 10)
            assert decoded(data, number)[0, 0].tolist() == [number * 40, 0, 0]

    def test_a_tiff_of_one_page_is_a_plain_picture(self) -> None:
        assert page_count(self.pages(1), None, SETTINGS) is None

    def test_too_many_pages_are_refused(self) -> None:
        assert page_count(self.pages(4), None, Settings(max_pages=4)) == [0, 1, 2, 3]
        with pytest.raises(TooManyPages, match="more than 3"):
            page_count(self.pages(4), None, Settings(max_pages=3))

    def test_a_page_too_large_fails_alone(self) -> None:
        tight = Settings(max_pixels=110)
        assert decode(self.pages(3), 1, None, tight).shape == (10, 11, 3)
        with pytest.raises(TooManyPixels):
            decode(self.pages(3), 2, None, tight)

    def test_a_broken_page_is_listed_and_fails_alone(self) -> None:
        data = bytearray(self.pages(2))
        first = struct.unpack_from("<I", data, 4)[0]
        link = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
        second = struct.unpack_from("<I", data, link)[0]
        data[second + 2 : second + 60] = b"\xff" * 58
        assert page_count(bytes(data), None, SETTINGS) == [0, 1]
        assert decoded(bytes(data), 0).shape == (10, 10, 3)
        with pytest.raises(UnreadableInput):
            decoded(bytes(data), 1)

    def test_a_page_that_is_not_there_is_a_failure(self) -> None:
        with pytest.raises(InputError):
            decoded(self.pages(2), 5)


class TestWarnings:
    def test_no_warning_escapes_from_any_thread_and_the_filters_are_as_before(self) -> None:
        broken = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x09\0\0\0\x01\0"
        data = [encoded(scene(), kind, exif=broken) for kind in ("PNG", "WEBP")]
        data.append(encoded(Pillow.fromarray(scene()).convert("CMYK"), "JPEG", exif=broken))
        before = list(warnings.filters)
        with ThreadPoolExecutor(4) as pool:
            images = list(pool.map(decoded, data * 20))
        assert all(image.shape == (HEIGHT, WIDTH, 3) for image in images)
        assert list(warnings.filters) == before
