"""Lettering: a label in the characters that the drawing's font has, in the order in which they are read.

The font is the one inside OpenCV: Latin, Cyrillic, Greek, Chinese, Japanese, Korean, Hebrew and Arabic letters. It sets
every text from left to right and does not join letters.
"""

from __future__ import annotations

import functools
import re
import unicodedata

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = 24
WEIGHT = 600
LACKING = "?"


@functools.cache
def font() -> cv2.FontFace:
    """The font that ships with OpenCV."""
    return cv2.FontFace("sans")


@functools.lru_cache(maxsize=4096)
def shown(label: str, class_id: int) -> str:
    """The label without what the font lacks, right-to-left words turned; `#` and the class id where nothing is left."""
    text = "".join(letter for letter in unicodedata.normalize("NFC", label) if _has(letter) or letter.isspace())
    return _turned(" ".join(text.split())) or f"#{class_id}"


def _turned(text: str) -> str:
    """The text with its runs of right-to-left letters reversed, with what stands between two of them."""
    sides = "".join("R" if unicodedata.bidirectional(letter) in ("R", "AL") else _side(letter) for letter in text)
    for run in re.finditer("R[RN]*R", sides):
        start, end = run.span()
        text = text[:start] + text[start:end][::-1] + text[end:]
    return text


def _side(letter: str) -> str:
    return "L" if unicodedata.bidirectional(letter) == "L" else "N"


@functools.lru_cache(maxsize=4096)
def _has(letter: str) -> bool:
    """Whether the font has the letter: for one it lacks it draws a question mark."""
    return letter == LACKING or (letter.isprintable() and not np.array_equal(_drawn(letter), _drawn(LACKING)))


def _drawn(letter: str) -> NDArray[np.uint8]:
    canvas = np.zeros((2 * SIZE, 3 * SIZE), np.uint8)
    cv2.putText(canvas, letter, (0, SIZE), (255,), font(), SIZE, WEIGHT)
    return canvas
