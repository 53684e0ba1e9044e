"""An ICO is read as its largest picture, however that is coded."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image as Pillow

from maskmill.shared.errors import InputError, TooManyPixels, TruncatedInput, UnreadableInput
from maskmill.shared.formats import sniff
from maskmill.shared.settings import Settings
from maskmill.worker.images.decode import decode, page_count, pixels
from maskmill.worker.images.image import Image
from tests.icons import as_bitmap, as_png, icon

SETTINGS = Settings()


def scene(width: int, height: int) -> Pillow.Image:
    y, x = np.mgrid[0:height, 0:width]
    return Pillow.fromarray(np.stack((x * 255 // width, y * 255 // height, (x + y) % 256), axis=-1).astype(np.uint8))


def decoded(data: bytes) -> Image:
    return decode(data, None, None, SETTINGS)


@pytest.mark.parametrize("code", [as_png, as_bitmap])
def test_the_largest_picture_is_read_wherever_it_stands(code: Callable[[Pillow.Image], bytes]) -> None:
    sizes = [(16, 16), (64, 48), (300, 200), (32, 32)]
    for order in (sizes, sizes[::-1]):
        data = icon(*(code(scene(*size)) for size in order))
        assert sniff(data) == "ico"
        assert page_count(data, None, SETTINGS) is None
        assert pixels(data, None, None, SETTINGS) == (300, 200)
        assert np.array_equal(decoded(data), np.asarray(scene(300, 200)))


def test_a_picture_that_its_entry_calls_small_is_read_in_its_own_size() -> None:
    data = icon(as_png(scene(16, 16)), as_bitmap(scene(40, 30)), sides=(8, 8))
    assert np.array_equal(decoded(data), np.asarray(scene(40, 30)))


@pytest.mark.parametrize("mode", ["RGB", "P", "L", "1"])
def test_what_the_mask_of_a_bitmap_hides_is_white(mode: str) -> None:
    picture = scene(33, 20).convert(mode)
    hidden = np.zeros((20, 33), bool)
    hidden[:7, 5:] = True
    expected = np.array(picture.convert("RGB"))
    expected[hidden] = 255
    assert np.array_equal(decoded(icon(as_bitmap(picture, hidden))), expected)


@pytest.mark.parametrize("bits", [0, 24, 32])
@pytest.mark.parametrize("code", [as_png, as_bitmap])
def test_alpha_is_mixed_with_white_whatever_the_entry_says(code: Callable[[Pillow.Image], bytes], bits: int) -> None:
    picture = Pillow.new("RGBA", (8, 4), (0, 0, 200, 128))
    assert decoded(icon(code(picture), bits=bits))[0, 0].tolist() == [127, 127, 227]


def test_of_a_bitmap_whose_alpha_is_0_everywhere_the_mask_counts() -> None:
    hidden = np.zeros((4, 8), bool)
    hidden[0] = True
    image = decoded(icon(as_bitmap(Pillow.new("RGBA", (8, 4), (9, 8, 7, 0)), hidden), bits=32))
    assert (image[0] == 255).all()
    assert image[1:].reshape(-1, 3).tolist() == [[9, 8, 7]] * 24


def test_transparent_colours_of_a_palette_are_white() -> None:
    picture = Pillow.new("P", (4, 4), 1)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.info["transparency"] = 1
    assert decoded(icon(as_png(picture)))[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("code", [as_png, as_bitmap])
def test_one_pixel_too_many_is_refused_before_anything_is_decoded(code: Callable[[Pillow.Image], bytes]) -> None:
    content = bytearray(code(scene(40, 30)))
    content[60:] = bytes(len(content) - 60)
    for ask in (pixels, decode):
        with pytest.raises(TooManyPixels, match="the ICO announces 40 x 30 pixels"):
            ask(icon(bytes(content)), None, None, Settings(max_pixels=40 * 30 - 1))


@pytest.mark.parametrize("code", [as_png, as_bitmap])
@pytest.mark.parametrize("left", [4, 20, 30, 0.5, 0.99])
def test_an_icon_cut_short_is_told_so(code: Callable[[Pillow.Image], bytes], left: float) -> None:
    data = icon(code(scene(16, 16)), code(scene(64, 64)))
    with pytest.raises(TruncatedInput, match="the ICO ends before its picture does; send the whole file"):
        decoded(data[: left if isinstance(left, int) else int(left * len(data))])


def test_an_icon_without_a_picture_is_told_so() -> None:
    with pytest.raises(UnreadableInput, match="the ICO is damaged: it holds no picture"):
        decoded(icon())


def test_a_bitmap_with_too_few_bytes_for_its_size_is_damaged() -> None:
    content = as_bitmap(scene(64, 64))[:-2000]
    with pytest.raises(UnreadableInput, match="the ICO is damaged: its largest picture cannot be decoded"):
        decoded(icon(content))


def test_a_negative_width_is_named() -> None:
    content = bytearray(as_bitmap(scene(16, 16)))
    content[4:8] = struct.pack("<i", -16)
    with pytest.raises(UnreadableInput, match=r"negative width \(-16\)"):
        decoded(icon(bytes(content)))


@pytest.mark.parametrize("code", [as_png, as_bitmap])
def test_spoiled_bytes_give_a_picture_or_an_input_error_and_nothing_else(code: Callable[[Pillow.Image], bytes]) -> None:
    whole, chance = icon(code(scene(16, 16)), code(scene(48, 32))), random.Random(0)
    failed = 0
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 4, 30))):
            data[chance.randrange(4, min(len(data), chance.choice((100, len(data)))))] = chance.randrange(256)
        try:
            assert decode(bytes(data), None, None, Settings(max_pixels=1_000_000)).shape[2] == 3
        except InputError as error:
            failed += bool(error.reason)
    assert failed
