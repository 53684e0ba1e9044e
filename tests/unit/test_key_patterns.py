"""Patterns of object keys: what they mean, which prefixes they list, and that no key can make them slow."""

from __future__ import annotations

import random
import re
import time

import pytest

from maskmill.shared.errors import InvalidRequest
from maskmill.shared.key_patterns import KeyPattern, is_pattern, unescaped

MEANINGS = [
    ("2026/**/*.jpg", ["2026/a.jpg", "2026/x/y/a.b.jpg", "2026//a.jpg", "2026/../a.jpg"], ["2026a.jpg", "2026/a.png"]),
    ("*.jpg", ["a.jpg", "a.jpg.jpg", ".jpg"], ["a/b.jpg", "a.jpgx"]),
    ("**a*b", ["a/ab", "ab", "xaxb"], ["a/b"]),
    ("a/**/b/*.jpg", ["a/b/c.jpg", "a/x/b/c.jpg", "a/b/x/b/c.jpg"], ["a/b/x/c.jpg"]),
    ("a**/b", ["a/b", "ax/y/b"], ["ab"]),
    ("**", ["", "a", "a/b", "line\nbreak"], []),
    ("a[0-9]?.{jpg,png}", ["a1x.jpg", "a1x.png"], ["ax1.jpg", "a1/.jpg", "a1x.{jpg,png}"]),
    ("a[!x]b", ["ayb"], ["axb", "a/b"]),
    ("a[^x]b", ["ayb"], ["axb", "a/b"]),
    ("[]&&~|^]", ["]", "&", "^"], ["a"]),
    (r"a\[1\]\*.jpg", ["a[1]*.jpg"], ["a1x.jpg"]),
    (r"{a\,b,c}", ["a,b", "c"], ["a", "b"]),
    ("{a,b}/**/c*d/**/e", ["a/cd/e", "b/x/cxd/y/e"], ["a/c/d/e"]),
    ("{,x}y", ["y", "xy"], ["xxy"]),
]


@pytest.mark.parametrize(("pattern", "meant", "others"), MEANINGS, ids=[pattern for pattern, _, _ in MEANINGS])
def test_what_a_pattern_means(pattern: str, meant: list[str], others: list[str]) -> None:
    parsed = KeyPattern.parse(pattern)
    assert [key for key in meant if not parsed.matches(key)] == []
    assert [key for key in others if parsed.matches(key)] == []


def test_what_settles_early_finds_what_trying_everything_finds() -> None:
    dice = random.Random(1)
    for _ in range(20_000):
        pattern = "".join(dice.choice(["a", "b", "/", "*", "**", "**/", "?"]) for _ in range(dice.randint(1, 8)))
        pattern = re.sub(r"\*{3,}", "**", pattern)
        key = "".join(dice.choice("ab/") for _ in range(dice.randint(0, 8)))
        assert KeyPattern.parse(pattern).matches(key) is bool(trying_everything(pattern).fullmatch(key)), (pattern, key)


def trying_everything(pattern: str) -> re.Pattern[str]:
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.findall(r"(?:(?<=/)|^)\*\*/|\*\*|.", pattern)
    return re.compile("".join(words.get(token, re.escape(token)) for token in tokens), re.DOTALL)


@pytest.mark.parametrize("pattern", ["**a" * 20 + "*b", "*a" * 200 + "*b", "**/*a" * 30 + "b"])
def test_no_key_makes_a_pattern_slow(pattern: str) -> None:
    parsed = KeyPattern.parse(pattern)
    began = time.process_time()
    assert not parsed.matches("a" * 1000)
    # Trying everything would take longer than the sun will shine.
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("pattern", "prefixes"),
    [
        ("2026/**/*.jpg", ("2026/",)),
        ("{2026,2025}/a*", ("2025/a", "2026/a")),
        ("a/{b,bc}*", ("a/b",)),
        ("*", ("",)),
        (r"a\*b*", ("a*b",)),
    ],
)
def test_only_what_can_match_is_listed(pattern: str, prefixes: tuple[str, ...]) -> None:
    assert KeyPattern.parse(pattern).prefixes == prefixes


@pytest.mark.parametrize("pattern", ["a[b", "a{b", "{a,{b}}", "[z-a]", "{a,b}" * 7])
def test_what_is_no_pattern_is_told(pattern: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(pattern[:20])):
        KeyPattern.parse(pattern)


def test_what_is_special_is_special_unless_escaped() -> None:
    assert [is_pattern(path) for path in ("a/b.jpg", "a*", "a?", "[a]", "{a}", r"a\*", r"a\\*")] == [
        False,
        *[True] * 4,
        False,
        True,
    ]
    assert unescaped(r"a\[1\]\\.jpg") == r"a[1]\.jpg"
