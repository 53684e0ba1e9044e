"""What a user reads of a picture that is not read: what is wrong and what to do, in words of this project's own."""

from __future__ import annotations

import io
import random
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from maskmill.shared.errors import InputError, TruncatedInput, UnreadableInput, UnsupportedFormat
from maskmill.shared.settings import Settings
from maskmill.worker.images.decode import decode, page_count, pixels

SETTINGS = Settings()
WIDTH, HEIGHT = 96, 64
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ORIENTATION, UPSIDE_DOWN = 0x0112, 3
# Words of Pillow, libtiff, libjpeg and pdfium, and of Python.
LIBRARY_WORDS = re.compile(
    r"decoder|Unable to|Failed to|data stream|Unsupported|unpack requires|b'|object at 0x|Error|codec|MAX_TEXT|\bPIL"
)


def scene() -> Pillow.Image:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return Pillow.fromarray(np.stack((x * 2, y * 3, x + y), axis=-1).astype(np.uint8))


def encoded(kind: str, picture: Pillow.Image | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    (picture or scene()).save(file, kind, **options)
    return file.getvalue()


def noise() -> Pillow.Image:
    """A picture whose every part needs its bytes."""
    return Pillow.fromarray(np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def reason(data: bytes, kind: type[InputError] = UnreadableInput) -> str:
    """Why the bytes are not read; the failure must be of that kind itself."""
    with pytest.raises(InputError) as failure:
        decode(data, (page_count(data, None, SETTINGS) or [None])[0], None, SETTINGS)
    assert failure.type is kind, failure.value
    assert not LIBRARY_WORDS.search(failure.value.reason)
    return failure.value.reason


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_chunk(extra: bytes, *, behind_pixels: bool = False, **options: Any) -> bytes:
    """A sound PNG with one chunk more."""
    data = encoded("PNG", **options)
    at = data.index(b"IEND") - 4 if behind_pixels else len(PNG_SIGNATURE) + 25
    return data[:at] + extra + data[at:]


def tiff(values: bytes, tags: dict[int, tuple[int, int | tuple[int, ...]]]) -> bytes:
    """A TIFF 6.0 of one strip, `tags` giving each tag's type (3 or 4) and one value or several shorts."""
    start = 8 + len(values) + len(values) % 2
    entries, outside = b"", b""
    behind = start + 2 + 12 * len(tags) + 4
    for tag, (form, value) in sorted(tags.items()):
        several = value if isinstance(value, tuple) else (value,)
        field = struct.pack("<I", several[0])
        if len(several) > 1:
            field = struct.pack("<I", behind + len(outside))
            outside += struct.pack(f"<{len(several)}H", *several)
        entries += struct.pack("<HHI", tag, form, len(several)) + field
    head = struct.pack("<2sHI", b"II", 42, start)
    return head + values + bytes(len(values) % 2) + struct.pack("<H", len(tags)) + entries + bytes(4) + outside


def tiff_tags(width: int, height: int, length: int, **other: int | tuple[int, ...]) -> dict[int, Any]:
    numbers = {"bits": 258, "packed": 259, "photometric": 262, "samples": 277, "kind": 339}
    given = {"bits": (8, 8, 8), "packed": 1, "photometric": 2, "samples": 3} | other
    plain = {256: (4, width), 257: (4, height), 273: (4, 8), 278: (4, height), 279: (4, length)}
    return plain | {numbers[name]: (3, value) for name, value in given.items()}


def float_rgb() -> bytes:
    values = np.linspace(0, 1, 4 * 4 * 3, dtype="<f4").tobytes()
    return tiff(values, tiff_tags(4, 4, len(values), bits=(32, 32, 32), kind=(3, 3, 3)))


class TestMetadataOfASoundPng:
    @pytest.mark.parametrize("behind_pixels", [False, True])
    @pytest.mark.parametrize(
        "extra",
        [
            chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2 << 20))),
            chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(2 << 20))),
            chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(2 << 20))),
            chunk(b"zTXt", b"Comment\0\7" + zlib.compress(b"text")),
            chunk(b"tEXt", b"Comment\0text")[:-1] + b"!",
            chunk(b"gAMA", b"\0"),
        ],
        ids=["large zTXt", "large iTXt", "large profile", "unknown packing", "wrong checksum", "short gamma"],
    )
    def test_a_text_that_cannot_be_read_costs_no_picture(self, extra: bytes, behind_pixels: bool) -> None:
        data = with_chunk(extra, behind_pixels=behind_pixels)
        assert pixels(data, None, None, SETTINGS) == (WIDTH, HEIGHT)
        assert np.array_equal(decode(data, None, None, SETTINGS), np.asarray(scene()))

    def test_the_orientation_beside_such_a_text_counts(self) -> None:
        exif = Pillow.Exif()
        exif[ORIENTATION] = UPSIDE_DOWN
        data = with_chunk(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2 << 20))), exif=exif)
        assert np.array_equal(decode(data, None, None, SETTINGS), np.asarray(scene())[::-1, ::-1])


class TestDamage:
    @pytest.mark.parametrize("at", [19, 30])
    def test_a_png_header_whose_checksum_is_wrong_is_damaged_and_not_cut_short(self, at: int) -> None:
        data = bytearray(encoded("PNG"))
        data[at] ^= 1
        assert re.search("damaged: .*checksum of its IHDR.*; send an undamaged copy$", reason(bytes(data)))

    def test_a_png_chunk_with_a_wrong_length_is_damaged_and_not_cut_short(self) -> None:
        data = bytearray(with_chunk(chunk(b"tEXt", b"Comment\0text")))
        at = data.index(b"tEXt") - 4
        data[at : at + 4] = struct.pack(">I", 1 << 24)
        assert "the length of its tEXt chunk reaches past the file's end" in reason(bytes(data))

    def test_png_pixels_that_are_spoiled_name_the_chunk(self) -> None:
        data = bytearray(encoded("PNG", noise()))
        at = data.index(b"IDAT") + 100
        data[at : at + 50] = bytes(50)
        assert "the checksum of its IDAT chunk is wrong" in reason(bytes(data))

    def test_a_png_header_of_a_kind_that_does_not_exist_says_so(self) -> None:
        header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 1, 0, 0, 0)
        data = PNG_SIGNATURE + chunk(b"IHDR", header) + encoded("PNG")[len(PNG_SIGNATURE) + 25 :]
        assert "8 bits a sample for colour type 1" in reason(data)

    @pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "tiff_lzw", "jpeg"])
    def test_tiff_pixels_that_cannot_be_decoded_say_of_which_page(self, compression: str) -> None:
        pages = [noise(), noise()]
        data = bytearray(encoded("TIFF", pages[0], compression=compression, save_all=True, append_images=pages[1:]))
        start = Pillow.open(io.BytesIO(data)).tag_v2[273][0]  # type: ignore[attr-defined]
        data[start : start + 200] = bytes(range(100, 0, -1)) * 2
        assert re.search(
            r"the TIFF is damaged: .*page 1 cannot be decoded; send an undamaged copy$", reason(bytes(data))
        )

    def test_a_tiff_that_lacks_its_last_strips_is_cut_short(self) -> None:
        values = bytes(4 * 4 * 3)
        tags = tiff_tags(4, 4, len(values))
        assert "send the whole file" in reason(tiff(values, tags | {273: (4, 5000)}), TruncatedInput)

    def test_a_jpeg_of_which_a_part_cannot_be_decoded_is_no_half_grey_picture(self) -> None:
        data = bytearray(encoded("JPEG", noise(), quality=95))
        at = data.index(b"\xff\xda") + len(data) // 3
        data[at : at + 2] = b"\xff\xc4"
        assert "the JPEG is damaged" in reason(bytes(data))

    @pytest.mark.parametrize(
        ("width", "height", "words"),
        [(-127, 64, r"negative width \(-127\)"), (0, 64, "no width"), (127, 0, "no height")],
    )
    def test_a_bmp_without_a_sensible_size_says_which_side_it_is(self, width: int, height: int, words: str) -> None:
        data = bytearray(encoded("BMP"))
        data[18:26] = struct.pack("<ii", width, height)
        for ask in (pixels, decode):
            with pytest.raises(UnreadableInput, match=f"the BMP is damaged: its header gives it {words}"):
                ask(bytes(data), None, None, SETTINGS)

    def test_a_bmp_from_the_top_down_has_a_negative_height_and_is_read(self) -> None:
        data = bytearray(encoded("BMP"))
        data[22:26] = struct.pack("<i", -HEIGHT)
        assert pixels(bytes(data), None, None, SETTINGS) == (WIDTH, HEIGHT)
        assert np.array_equal(decode(bytes(data), None, None, SETTINGS), np.asarray(scene())[::-1])

    def test_a_gif_without_width_says_so(self) -> None:
        data = bytearray(encoded("GIF"))
        at = data.index(b",\0\0\0\0") + 5
        data[6:8] = data[at : at + 2] = bytes(2)
        assert "no width" in reason(bytes(data))


class TestKindsThatAreNotRead:
    def test_float_colours_of_a_tiff_have_no_one_reading(self) -> None:
        assert "float samples, 3 a pixel of 32 bits" in reason(float_rgb(), UnsupportedFormat)

    def test_a_packing_of_a_tiff_that_is_not_known_is_named(self) -> None:
        values = bytes(48)
        assert "method 34712" in reason(tiff(values, tiff_tags(4, 4, 48, packed=34712)), UnsupportedFormat)

    def test_samples_of_a_tiff_that_are_not_read_are_described(self) -> None:
        values = bytes(4 * 4 * 7)
        tags = tiff_tags(4, 4, len(values), bits=(8,) * 7, samples=7, photometric=5)
        assert "7 a pixel of 8 bits, photometric interpretation 5" in reason(tiff(values, tags))

    def test_bit_fields_of_a_bmp_that_are_not_read_are_named(self) -> None:
        masks = struct.pack("<III", 0x3FF00000, 0xFFC00, 0x3FF)
        header = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 32, 3, 8, 0, 0, 0, 0)
        data = b"BM" + struct.pack("<IHHI", 14 + 40 + 12 + 8, 0, 0, 66) + header + masks + bytes(8)
        assert "32 bits a pixel in bit fields" in reason(data, UnsupportedFormat)

    @pytest.mark.parametrize("spoil", [lambda data: data[:4] + data[5:], lambda data: b"\x09" + data[1:]])
    def test_a_png_whose_signature_was_changed_on_its_way_is_recognised(self, spoil: Callable[[bytes], bytes]) -> None:
        assert "a PNG whose first bytes are damaged" in reason(spoil(encoded("PNG")), UnsupportedFormat)


def test_a_page_that_is_not_there_is_named_by_its_number() -> None:
    two = encoded("TIFF", save_all=True, append_images=[scene()])
    with pytest.raises(UnreadableInput, match="page 6 was asked for, and the TIFF has fewer"):
        decode(two, 5, None, SETTINGS)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "JPEG", "PDF"])
def test_no_reason_has_a_librarys_words(kind: str) -> None:
    whole, chance = encoded(kind, noise()), random.Random(kind)
    reasons = set()
    for _ in range(150):
        data = bytearray(whole[: chance.choice((len(whole), len(whole), chance.randrange(30, len(whole))))])
        for _ in range(chance.choice((1, 4, 30))):
            data[chance.randrange(8, min(len(data), chance.choice((200, len(data)))))] = chance.randrange(256)
        try:
            decode(bytes(data), None, None, Settings(max_pixels=1_000_000))
        except InputError as error:
            reasons.add(error.reason)
    assert reasons
    assert not [text for text in reasons if LIBRARY_WORDS.search(text)]
