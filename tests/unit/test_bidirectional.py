"""The words and numbers of a label stand as the Unicode Bidirectional Algorithm (UAX #9) orders them."""

from __future__ import annotations

import pytest

from maskmill.worker.rendering.bidirectional import levels, parts_as_seen


def seen(label: str) -> str:
    """The label's characters from left to right; brackets are not mirrored here, that is done to their glyphs."""
    return "".join(part[::-1] if direction == "rtl" else part for part, direction in parts_as_seen(label))


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("cat 12%", "cat 12%"),
        ("חתול", "לותח"),
        ("חתול שחור", "רוחש לותח"),
        # W2, W4: numbers keep their digits' order, after Arabic letters too.
        ("חתול 12", "12 לותח"),
        ("قطة 12", "12 ةطق"),
        ("قطة ١٢", "١٢ ةطق"),
        ("12 חתול", "לותח 12"),
        ("חתול 1.5", "1.5 לותח"),
        ("חתול 1,500", "1,500 לותח"),
        ("חתול 10:30", "10:30 לותח"),
        ("חתול 3-4", "3-4 לותח"),
        # W5: signs beside a number stay with it; beside an Arabic number they do not.
        ("חתול 12%", "12% לותח"),
        ("חתול $5", "$5 לותח"),
        ("חתול #7", "#7 לותח"),
        ("قطة 12%", "%12 ةطق"),
        # W6: a separator of which one side is no number is no part of one.
        ("חתול 12.", ".12 לותח"),
        ("חתול 1 - 2", "2 - 1 לותח"),
        # W7, N1: a number after a word that is read from left to right goes with it.
        ("חתול model 3 שחור", "רוחש model 3 לותח"),
        ("model 3 חתול", "model 3 לותח"),
        ("חתול A4", "A4 לותח"),
        ("cat חתול 12 dog", "cat 12 לותח dog"),
        # N0: both brackets of a pair go one way.
        ("חתול (12)", ")12( לותח"),
        ("חתול (cat)", ")cat( לותח"),
        ("חתול (my cat) שחור", "רוחש )my cat( לותח"),
        ("cat (חתול)", "cat (לותח)"),
        ("cat (חתול) dog", "cat (לותח) dog"),
        ("cat [חתול {dog}]", "cat [לותח {dog}]"),
        ("חתול (cat [12])", ")cat [12]( לותח"),
        ("חתול 「猫」", "」猫「 לותח"),
        ("cat (חתול", "cat (לותח"),
        # N1, N2: what stands between two directions takes the line's.
        ("cat, חתול", "cat, לותח"),
        ("חתול, cat", "cat ,לותח"),
        ("חתול/כלב", "בלכ/לותח"),
        ("cat/חתול/dog", "cat/לותח/dog"),
        ("חתול & cat & כלב", "בלכ & cat & לותח"),
        # W1: marks go with their letters.
        ("חָתוּל 1", "1 לּותָח"),
        # P2, P3: the first letter decides, whatever stands before it.
        ("(12) חתול cat", "cat לותח )12("),
        ("12", "12"),
        ("", ""),
        # Marks of direction are obeyed; embeddings are passed over.
        ("\u200fcat 1!", "!cat 1\u200f"),
    ],
)
def test_a_label_is_seen_in_the_order_of_the_algorithm(label: str, expected: str) -> None:
    assert seen(label) == expected


def test_levels_are_those_of_the_rules() -> None:
    assert levels("חת 12 cat") == [1, 1, 1, 2, 2, 1, 2, 2, 2]
    assert levels("ab חת 12.") == [0, 0, 0, 1, 1, 1, 2, 2, 0]


def test_a_character_without_width_goes_with_the_one_before_it() -> None:
    assert levels("ח\u200dת 1\u202b2") == [1, 1, 1, 1, 2, 2, 2]


def test_more_open_brackets_than_are_looked_at_are_no_pairs() -> None:
    assert levels("ח" + "(" * 64 + "a" + ")" * 64)[1] == 1
