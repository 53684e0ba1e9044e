"""Text: a label set in its own script, from the Noto fonts that ship with the `manimgx-fonts` packages.

HarfBuzz joins and places the letters and fills their outlines. A letter that none of the fonts has is romanised.
"""

from __future__ import annotations

import functools
import itertools
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import uharfbuzz as harfbuzz
from anyascii import anyascii
from numpy.typing import NDArray

from maskmill.worker.rendering.bidirectional import parts_as_seen

WEIGHT = 600
SIMPLIFIED_CHINESE = 2
"""The face of that name in Noto Sans CJK; the faces differ in how they write the characters that languages share."""

Coverage = NDArray[np.uint8]
"""How much of each pixel is ink, 0 to 255, uint8 [h,w]."""

_opening = threading.Lock()


@dataclass(frozen=True)
class Run:
    """Letters of one font that are read one way, "ltr" or "rtl"."""

    font: harfbuzz.Font
    text: str
    direction: str


@dataclass(frozen=True)
class Glyph:
    """A glyph of a font and where its origin stands, in ems to the right and upwards."""

    font: harfbuzz.Font
    number: int
    x: float
    y: float


@dataclass(frozen=True)
class Line:
    """A text as it is drawn; its width, and how far its ink goes above and below the baseline, in ems."""

    glyphs: tuple[Glyph, ...] = ()
    width: float = 0.0
    above: float = 0.0
    below: float = 0.0

    def __add__(self, other: Line) -> Line:
        moved = (Glyph(glyph.font, glyph.number, self.width + glyph.x, glyph.y) for glyph in other.glyphs)
        higher, deeper = max(self.above, other.above), max(self.below, other.below)
        return Line((*self.glyphs, *moved), self.width + other.width, higher, deeper)

    def ink(self, size: float, height: int, width: int, origin: tuple[float, float]) -> Coverage:
        """The line on a canvas, `size` pixels an em, its baseline beginning at `origin`: x, and y downwards."""
        left, baseline = origin
        drawing = harfbuzz.RasterDraw()
        for glyph in self.glyphs:
            scale = size / glyph.font.face.upem
            drawing.transform = (scale, 0, 0, scale, left + size * glyph.x, height - baseline + size * glyph.y)
            drawing.draw_glyph(glyph.font, glyph.number)
        drawing.extents = harfbuzz.RasterExtents(0, 0, width, height, 0)
        image = drawing.render()
        rows = np.frombuffer(image.buffer, np.uint8).reshape(height, image.extents.stride)
        return rows[::-1, :width]


@functools.lru_cache(maxsize=4096)
def line(text: str) -> Line:
    """The text on one line; without glyphs where nothing of it can be drawn or spelt."""
    return sum(map(_shape, _runs(_spelt(text))), Line())


def _spelt(text: str) -> str:
    """The text on one line, in letters that a font has."""
    letters = " ".join(unicodedata.normalize("NFC", text).split())
    shown = (letter for letter in letters if unicodedata.category(letter) != "Cc")
    return "".join(letter if _font(letter) else anyascii(letter) for letter in shown).strip()


def _runs(text: str) -> Iterator[Run]:
    """The text's runs from left to right."""
    for part, direction in parts_as_seen(text):
        runs = list(_of_one_font(part, direction))
        yield from reversed(runs) if direction == "rtl" else runs


def _of_one_font(text: str, direction: str) -> Iterator[Run]:
    """Split where the font changes; marks, digits and signs stay with the letter before them if its font has them."""
    fonts: list[harfbuzz.Font] = []
    for letter in text:
        before = fonts[-1] if fonts and not (letter.isalpha() or letter.isspace()) else None
        fonts.append(before if before and _has(before, letter) else _font(letter))
    for font, pairs in itertools.groupby(zip(fonts, text, strict=True), key=lambda pair: pair[0]):
        yield Run(font, "".join(letter for _, letter in pairs), direction)


def _shape(run: Run) -> Line:
    """One run, its letters joined and placed as their script asks."""
    font = run.font
    buffer = harfbuzz.Buffer()
    buffer.add_str(run.text)
    buffer.direction = run.direction
    buffer.guess_segment_properties()
    harfbuzz.shape(font, buffer)
    em = font.face.upem
    glyphs, pen, above, below = [], 0, 0.0, 0.0
    for info, place in zip(buffer.glyph_infos, buffer.glyph_positions, strict=True):
        glyphs.append(Glyph(font, info.codepoint, (pen + place.x_offset) / em, place.y_offset / em))
        pen += place.x_advance
        extents = font.get_glyph_extents(info.codepoint)
        above = max(above, (place.y_offset + extents.y_bearing) / em)
        below = max(below, -(place.y_offset + extents.y_bearing + extents.height) / em)
    return Line(tuple(glyphs), pen / em, above, below)


@functools.lru_cache(maxsize=4096)
def _font(letter: str) -> harfbuzz.Font | None:
    """The first font that has the letter."""
    return next((font for font in _fonts() if _has(font, letter)), None)


def _has(font: harfbuzz.Font, letter: str) -> bool:
    return font.get_nominal_glyph(ord(letter)) is not None


def _fonts() -> tuple[harfbuzz.Font, ...]:
    """The fonts, opened when they are first asked for.

    Two threads that ask at once get the same ones: were each font opened twice, a word would fall apart where its
    letters are found once in the one and once in the other.
    """
    with _opening:
        return _opened()


@functools.cache
def _opened() -> tuple[harfbuzz.Font, ...]:
    """Noto Sans first, then its sisters for the other scripts, symbols and emoji, the large one for Chinese last."""
    files = sorted(path for path in _files("manimgx_fonts", ".ttf") if "Italic" not in path.name)
    files.sort(key=lambda path: not path.name.startswith("NotoSans["))
    (chinese,) = _files("manimgx_fonts_cjk", ".ttc")
    return (*(_open(path, 0) for path in files), _open(chinese, SIMPLIFIED_CHINESE))


def _files(package: str, suffix: str) -> list[Path]:
    folder = Path(str(resources.files(package)))
    return [path for path in folder.iterdir() if path.suffix == suffix]


def _open(path: Path, face: int) -> harfbuzz.Font:
    font = harfbuzz.Font(harfbuzz.Face(harfbuzz.Blob.from_file_path(str(path)), face))
    font.set_variations({"wght": WEIGHT})
    return font
