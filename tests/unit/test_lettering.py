"""Labels are drawn in their own script; what the font lacks is never drawn as question marks."""

from __future__ import annotations

import numpy as np
import pytest

from tests.instances import filled, instances_of
from worker.draw import draw
from worker.instances import Image
from worker.lettering import shown

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
}
LACKING = {"Hindi": "बिल्ली", "Thai": "แมว", "Tamil": "பூனை", "Georgian": "კატა", "Armenian": "կատու", "emoji": "🐱"}


def labelled(label: str) -> Image:
    """A picture of one instance of class 7, with that label."""
    found = instances_of(((10, 60, 190, 140), 7, 0.9, filled(150, 400, 60, 100, 140, 130)))
    return draw(np.full((150, 400, 3), 100, np.uint8), found, (*[""] * 7, label))


@pytest.mark.parametrize("script", SCRIPTS)
def test_words_of_a_script_are_drawn_and_drawn_differently(script: str) -> None:
    one, other = SCRIPTS[script]
    assert not np.array_equal(labelled(one), labelled(other))
    assert not np.array_equal(labelled(one), labelled("?" * len(one)))
    assert not np.array_equal(labelled(one), labelled("#7"))


@pytest.mark.parametrize("script", LACKING)
def test_a_label_that_the_font_lacks_is_drawn_as_its_class_id(script: str) -> None:
    assert np.array_equal(labelled(LACKING[script]), labelled("#7"))


def test_a_label_that_the_font_has_in_part_keeps_that_part() -> None:
    assert np.array_equal(labelled("cat 🐱"), labelled("cat"))


def test_a_question_mark_of_the_label_itself_is_drawn() -> None:
    assert shown("what?", 0) == "what?"


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("חתול", "לותח"),
        ("my חתול", "my לותח"),
        ("חתול לבן", "ןבל לותח"),
        ("cat", "cat"),
        ("e\N{COMBINING ACUTE ACCENT}t\té\n", "ét é"),
        ("", "#3"),
    ],
)
def test_a_label_is_written_in_the_order_in_which_it_is_read(label: str, expected: str) -> None:
    assert shown(label, 3) == expected
