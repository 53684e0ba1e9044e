"""HEIC is read where its decoder is installed; where it is not, the reason names the extra."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from maskmill.shared.errors import InputError, TooManyPixels, TruncatedInput, UnreadableInput
from maskmill.shared.formats import sniff
from maskmill.shared.settings import Settings
from maskmill.worker.images.decode import decode, page_count, pixels
from maskmill.worker.images.image import Image
from tests.heic import HEIGHT, WIDTH, exif, grid, heic, mirrored, picture, size, stored, turned

SETTINGS = Settings()

# Decodes a file in a process in which nothing named pi_heif can be imported, and prints the reason.
WITHOUT_DECODER = """
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

class Absent(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {"pi_heif", "_pi_heif"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from maskmill.shared.errors import UnsupportedFormat
from maskmill.shared.settings import Settings
from maskmill.worker.images import decode

data = Path(sys.argv[1]).read_bytes()
assert decode.page_count(data, None, Settings()) is None
for ask in (decode.pixels, decode.decode):
    try:
        ask(data, None, None, Settings())
    except UnsupportedFormat as error:
        print(error.reason)
"""


def scene() -> Image:
    """What the stored picture shows."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    red, green, blue = x * 255 // (WIDTH - 1), y * 255 // (HEIGHT - 1), (x + 2 * y) * 255 // (WIDTH + 2 * HEIGHT)
    return np.stack((red, green, blue), axis=-1).astype(np.uint8)


def decoded(data: bytes) -> Image:
    return decode(data, None, None, SETTINGS)


def shows(image: Image, expected: Image) -> bool:
    """Whether the image is the expected one but for what its coding loses."""
    return image.shape == expected.shape and float(np.abs(image.astype(np.int16) - expected).mean()) < 2


def test_without_the_decoder_the_reason_names_the_extra(tmp_path: Path) -> None:
    file = tmp_path / "a.heic"
    file.write_bytes(heic(picture()))
    done = subprocess.run([sys.executable, "-c", WITHOUT_DECODER, file], capture_output=True, text=True, check=False)
    reason = "this HEIC needs a decoder that is not installed on the worker: pip install 'maskmill[heic]'"
    assert (done.stderr, done.stdout.splitlines()) == ("", [reason, reason])


def test_a_heic_is_told_by_its_content_and_has_no_pages() -> None:
    data = heic(picture(), picture())
    assert sniff(data[:64]) == "heic"
    assert page_count(data, None, SETTINGS) is None


class TestWithDecoder:
    @pytest.fixture(autouse=True)
    def decoder(self) -> None:
        pytest.importorskip("pi_heif", reason="the extra `heic` is not installed")

    @pytest.mark.parametrize("name", ["scene", "deep"])
    def test_8_and_10_bits_are_read(self, name: str) -> None:
        assert pixels(stored(name), None, None, SETTINGS) == (WIDTH, HEIGHT)
        assert shows(decoded(stored(name)), scene())

    def test_what_is_transparent_lies_on_white(self) -> None:
        expected = scene()
        expected[:, WIDTH // 2 :] = 255
        assert shows(decoded(stored("clear")), expected)

    def test_an_image_is_an_array_that_may_be_drawn_on(self) -> None:
        for name in ("scene", "clear"):
            image = decoded(stored(name))
            image[0, 0] = 7
            assert image.flags.c_contiguous

    @pytest.mark.parametrize("quarters", range(4))
    def test_a_picture_that_the_container_turns_is_turned_once(self, quarters: int) -> None:
        upright = np.rot90(scene(), quarters)
        data = heic(picture(turned(quarters)))
        assert pixels(data, None, None, SETTINGS) == upright.shape[1::-1]
        assert shows(decoded(data), upright)

    def test_a_picture_that_the_container_mirrors_is_mirrored(self) -> None:
        assert shows(decoded(heic(picture(mirrored(0)))), scene()[::-1])
        assert shows(decoded(heic(picture(mirrored(1)))), scene()[:, ::-1])

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_an_exif_orientation_turns_nothing_again(self, orientation: int) -> None:
        assert shows(decoded(heic(picture(), exif(orientation, 1))), scene())
        assert shows(decoded(heic(picture(turned(3)), exif(orientation, 1))), np.rot90(scene(), 3))

    @pytest.mark.parametrize("primary", [1, 2, 3])
    def test_of_several_pictures_the_primary_one_is_taken(self, primary: int) -> None:
        parts = [picture(turned(quarters)) for quarters in range(3)]
        assert shows(decoded(heic(*parts, primary=primary)), np.rot90(scene(), primary - 1))

    def test_a_picture_of_tiles_as_phones_write_it_is_put_together(self) -> None:
        tiles = [picture(hidden=True) for _ in range(12)]
        data = heic(grid(3, 4, range(2, 14), turned(3)), *tiles, exif(6, 1))
        assert pixels(data, None, None, SETTINGS) == (3 * HEIGHT, 4 * WIDTH)
        assert shows(decoded(data), np.rot90(np.tile(scene(), (3, 4, 1)), 3))

    def test_one_pixel_too_many_is_refused_before_anything_is_decoded(self) -> None:
        # Its coded pixels are none: had they been looked at, it would be damaged.
        data = heic(picture()).replace(picture().content, bytes(len(picture().content)))
        for ask in (pixels, decode):
            with pytest.raises(TooManyPixels, match=f"the HEIC announces {WIDTH} x {HEIGHT} pixels"):
                ask(data, None, None, Settings(max_pixels=WIDTH * HEIGHT - 1))
        with pytest.raises(UnreadableInput, match="the HEIC is damaged"):
            decoded(data)
        assert decode(stored("scene"), None, None, Settings(max_pixels=WIDTH * HEIGHT)).shape == (HEIGHT, WIDTH, 3)

    def test_a_size_that_is_not_that_of_the_coded_picture_is_no_way_past_the_limit(self) -> None:
        lying = stored("large").replace(struct.pack(">II", 3000, 2000), struct.pack(">II", 64, 64))
        with pytest.raises(UnreadableInput):
            decode(lying, None, None, Settings(max_pixels=64 * 64))
        with pytest.raises(UnreadableInput):
            decoded(heic(picture(shown=size(WIDTH * 10, HEIGHT * 10))))

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
    def test_a_heic_cut_short_is_told_so(self, share: float) -> None:
        data = stored("scene")
        with pytest.raises(TruncatedInput, match="the HEIC ends before its picture does; send the whole file"):
            decoded(data[: int(share * len(data))])

    def test_spoiled_bytes_give_a_picture_or_an_input_error_and_nothing_else(self) -> None:
        tiles = [picture(hidden=True) for _ in range(6)]
        files = [stored("scene"), stored("clear"), heic(grid(2, 3, range(2, 8)), *tiles, exif(6, 1))]
        chance, failed = random.Random(0), 0
        for _ in range(300):
            data = bytearray(chance.choice(files))
            for _ in range(chance.choice((1, 4, 30))):
                data[chance.randrange(28, len(data))] = chance.randrange(256)
            try:
                assert decode(bytes(data), None, None, Settings(max_pixels=1_000_000)).shape[2] == 3
            except InputError as error:
                failed += error.reason.startswith("the HEIC")
        assert failed > 20
