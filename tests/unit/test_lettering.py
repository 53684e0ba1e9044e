"""A label is drawn in its own script, as that script is written; where no font has its letters it is romanised."""

from __future__ import annotations

import numpy as np
import pytest

from maskmill.worker.images.image import Image
from maskmill.worker.rendering.draw import draw
from maskmill.worker.rendering.text import Line, line
from tests.instances import filled, instances_of

SCRIPTS = {
    "Latin": ("Straßenbahn", "Café"),
    "Vietnamese": ("Đường", "Mèo"),
    "Cyrillic": ("Кошка", "Собака"),
    "Greek": ("Γάτα", "Σκύλος"),
    "Chinese": ("猫", "貓"),
    "Japanese": ("ねこ", "ネコ"),
    "Korean": ("고양이", "개"),
    "Hebrew": ("חתול", "כלב"),
    "Arabic": ("قطة", "كلب"),
    "Persian": ("گربه", "سگ"),
    "Devanagari": ("बिल्ली", "कुत्ता"),
    "Bengali": ("বিড়াল", "কুকুর"),
    "Gurmukhi": ("ਬਿੱਲੀ", "ਕੁੱਤਾ"),
    "Gujarati": ("બિલાડી", "કૂતરો"),
    "Oriya": ("ବିଲେଇ", "କୁକୁର"),
    "Tamil": ("பூனை", "நாய்"),
    "Telugu": ("పిల్లి", "కుక్క"),
    "Kannada": ("ಬೆಕ್ಕು", "ನಾಯಿ"),
    "Malayalam": ("പൂച്ച", "നായ"),
    "Sinhala": ("බළලා", "බල්ලා"),
    "Thai": ("แมว", "หมา"),
    "Lao": ("ແມວ", "ໝາ"),
    "Khmer": ("ឆ្មា", "ឆ្កែ"),
    "Burmese": ("ကြောင်", "ခွေး"),
    "Georgian": ("კატა", "ძაღლი"),
    "Armenian": ("կատու", "շուն"),
    "Ethiopic": ("ድመት", "ውሻ"),
    "emoji": ("🐱", "👩‍🌾"),
}
ROMANISED = {"ཞི་མི": "zhi-mi", "ᏪᏌ": "WeSa", "ބުޅާ": "bulhaa", "ⵎⵓⵛⵛ": "mucc"}

Shapes = list[tuple[int, int]]


def labelled(label: str, score: float = 0.9, width: int = 400) -> Image:
    """A picture of one instance of class 7, with that label."""
    found = instances_of(((10, 60, width - 10, 140), 7, score, filled(150, width, width // 4, 100, width // 2, 130)))
    return draw(np.full((150, width, 3), 100, np.uint8), found, (*[""] * 7, label))


def shapes(text: Line) -> Shapes:
    """Which glyphs of which fonts, from left to right."""
    return [(id(glyph.font), glyph.number) for glyph in text.glyphs]


def alone(visual: str) -> Shapes:
    """The glyphs of the letters set one by one, in that order, without spaces."""
    return [shape for letter in visual.replace(" ", "") for shape in shapes(line(letter))]


@pytest.mark.parametrize("script", SCRIPTS)
def test_words_of_a_script_are_drawn_with_glyphs_of_its_font(script: str) -> None:
    one, other = SCRIPTS[script]
    assert all(glyph.number for word in (one, other) for glyph in line(word).glyphs)
    assert line(one).glyphs
    assert not np.array_equal(labelled(one), labelled(other))
    assert not np.array_equal(labelled(one), labelled("#7"))


def test_arabic_letters_are_joined() -> None:
    assert not set(shapes(line("ببب"))) <= set(alone("ببب"))
    assert line("ببب").width < 3 * line("ب").width


def test_devanagari_vowels_stand_where_they_are_written() -> None:
    assert shapes(line("कि"))[-1] == shapes(line("क"))[0]
    assert shapes(line("की"))[0] == shapes(line("क"))[0]


def test_conjuncts_and_emoji_sequences_become_one_sign() -> None:
    assert len(line("क्ष").glyphs) == 1
    assert len(line("👩‍🌾").glyphs) == 1


@pytest.mark.parametrize(
    ("label", "visual"),
    [
        ("חתול", "לותח"),
        ("חתול לבן", "ןבל לותח"),
        ("my חתול", "my לותח"),
        ("my חתול לבן cat", "my ןבל לותח cat"),
        ("חתול 12", "12 לותח"),
        ("חתול 1.5 לבן", "ןבל 1.5 לותח"),
        ("חתול (my cat)", "(my cat) לותח"),
        ("cat 12", "cat 12"),
        ("חתול 12%", "12% לותח"),
        ("חתול $5", "$5 לותח"),
        ("cat (חתול) 12", "cat (לותח) 12"),
        ("חתול (cat) 12", "12 (cat) לותח"),
    ],
)
def test_words_stand_in_the_order_in_which_they_are_read(label: str, visual: str) -> None:
    space = shapes(line("a b"))[1]
    assert [shape for shape in shapes(line(label)) if shape != space] == alone(visual)


@pytest.mark.parametrize("label", ROMANISED)
def test_a_script_without_a_font_is_romanised(label: str) -> None:
    assert line(label) == line(ROMANISED[label])


def test_white_space_is_one_space_and_accents_are_put_together() -> None:
    assert line("  e\N{COMBINING ACUTE ACCENT}t\té\n") == line("ét é")


@pytest.mark.parametrize("label", ["", " \n", "\ue000", "\0", "\u200b\ufe0f"])
def test_a_label_without_a_letter_is_drawn_as_its_class_id(label: str) -> None:
    assert np.array_equal(labelled(label), labelled("#7"))


def test_a_label_that_can_be_drawn_in_part_keeps_that_part() -> None:
    assert np.array_equal(labelled("cat \ue000"), labelled("cat"))


def test_ink_that_goes_high_or_deep_gets_a_higher_label() -> None:
    tinted = [(labelled(label)[:60] != 100).any(axis=(1, 2)).sum() for label in ("cat", "ကြောင်")]
    assert tinted[0] < tinted[1]


def test_a_narrow_picture_has_the_name_without_the_score() -> None:
    assert not np.array_equal(labelled("person", 0.9), labelled("person", 0.1))
    assert np.array_equal(labelled("person", 0.9, width=48), labelled("person", 0.1, width=48))
    assert not np.array_equal(labelled("person", width=48), labelled("parrot", width=48))
