"""The order in which a line of mixed directions is seen, by the Unicode Bidirectional Algorithm (UAX #9).

A label is one paragraph on one line without tabs or spaces at its end, so L1 has nothing to do. Embeddings and isolates
(X1 to X8) are not made: the characters for them are passed over, as X9 passes over those without width. Mirrored glyphs
(L4) are HarfBuzz's part. The names of the rules stand beside what does them.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator

IGNORED = frozenset({"BN", "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
STRONG = frozenset({"L", "R", "AL"})
NUMBERS = frozenset({"EN", "AN"})
NEUTRAL = frozenset({"B", "S", "WS", "ON"})
SEPARATORS = frozenset({"ES", "ET", "CS"})
# Opening and closing in turns, as BidiBrackets.txt of Unicode 15 pairs them.
_BRACKETS = (
    "()[]{}༺༻༼༽᚛᚜⁅⁆⁽⁾₍₎⌈⌉⌊⌋❨❩❪❫❬❭❮❯❰❱❲❳❴❵⟅⟆⟦⟧⟨⟩⟪⟫⟬⟭⟮⟯⦃⦄⦅⦆⦇⦈⦉⦊⦋⦌⦍⦐⦏⦎⦑⦒⦓⦔⦕⦖⦗⦘⧘⧙⧚⧛⧼⧽"
    "⸢⸣⸤⸥⸦⸧⸨⸩⹕⹖⹗⹘⹙⹚⹛⹜〈〉《》「」『』【】〔〕〖〗〘〙〚〛﹙﹚﹛﹜﹝﹞（）［］｛｝｟｠｢｣"
)
CLOSING = dict(zip(_BRACKETS[::2], _BRACKETS[1::2], strict=True))
# BD16: a line with more open brackets at once has no pairs.
MOST_OPEN = 63


def parts_as_seen(text: str) -> Iterator[tuple[str, str]]:
    """The parts of the line from left to right, each with the direction in which it is read, "ltr" or "rtl"."""
    pairs = zip(levels(text), text, strict=True)
    parts = [
        (level, "".join(letter for _, letter in run)) for level, run in itertools.groupby(pairs, lambda pair: pair[0])
    ]
    for level, part in _reordered(parts):
        yield part, "rtl" if level % 2 else "ltr"


def levels(text: str) -> list[int]:
    """The embedding level of each character: even ones are read from left to right, odd ones from right to left."""
    found = [unicodedata.bidirectional(letter) or "L" for letter in text]
    base = int(next((kind for kind in found if kind in STRONG), "L") != "L")  # P2, P3
    places = [place for place, kind in enumerate(found) if kind not in IGNORED]  # X9
    letters, original = [text[place] for place in places], [found[place] for place in places]
    direction = "LR"[base]
    kinds = _resolve_weak(original, direction)
    _resolve_brackets(letters, kinds, original, direction)
    _resolve_neutral(kinds, direction)
    resolved = dict(zip(places, (_level(kind, base) for kind in kinds), strict=True))
    # What was passed over goes with the character before it.
    seen = itertools.accumulate(range(len(text)), lambda level, place: resolved.get(place, level), initial=base)
    return list(seen)[1:]


def _reordered(parts: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """L2: from the highest level down, each run of parts at that level or above is turned round."""
    for lowest in range(max((level for level, _ in parts), default=0), 0, -1):
        runs = itertools.groupby(parts, lambda part, lowest=lowest: part[0] >= lowest)  # type: ignore[misc]
        parts = [part for turns, run in runs for part in (reversed(list(run)) if turns else run)]
    return parts


def _resolve_weak(original: list[str], direction: str) -> list[str]:
    """W1 to W7: marks and numbers."""
    kinds: list[str] = []
    strong = direction
    for kind in original:
        known = (kinds[-1] if kinds else direction) if kind == "NSM" else kind  # W1
        strong = known if known in STRONG else strong
        kinds.append("AN" if known == "EN" and strong == "AL" else known)  # W2
    kinds = ["R" if kind == "AL" else kind for kind in kinds]  # W3
    _join_numbers(kinds)
    strong = direction
    for place, kind in enumerate(kinds):
        strong = kind if kind in STRONG else strong
        if kind in SEPARATORS:
            kinds[place] = "ON"  # W6
        elif kind == "EN" and strong == "L":
            kinds[place] = "L"  # W7
    return kinds


def _join_numbers(kinds: list[str]) -> None:
    """W4 and W5: a separator between two numbers, and signs such as % beside one, become part of them."""
    for place in range(1, len(kinds) - 1):
        before, kind, after = kinds[place - 1 : place + 2]
        if before == after and (kind, before) in {("ES", "EN"), ("CS", "EN"), ("CS", "AN")}:
            kinds[place] = before
    place = 0
    for kind, run in itertools.groupby(list(kinds)):
        end = place + len(list(run))
        if kind == "ET" and "EN" in (*kinds[max(place - 1, 0) : place], *kinds[end : end + 1]):
            kinds[place:end] = ["EN"] * (end - place)
        place = end


def _resolve_brackets(letters: list[str], kinds: list[str], original: list[str], direction: str) -> None:
    """N0: a pair of brackets takes the line's direction if that is inside, else the one inside if it is before too."""
    for start, end in sorted(_bracket_pairs(letters, kinds)):
        inside = {_side(kind) for kind in kinds[start + 1 : end]} - {None}
        if not inside:
            continue
        before = next((side for kind in reversed(kinds[:start]) if (side := _side(kind))), direction)
        side = direction if direction in inside else before
        for place in (start, end):
            kinds[place] = side
            for mark in itertools.takewhile(lambda at: original[at] == "NSM", range(place + 1, len(kinds))):
                kinds[mark] = side


def _bracket_pairs(letters: list[str], kinds: list[str]) -> list[tuple[int, int]]:
    """BD16: where the brackets that belong together stand."""
    awaited: list[tuple[str, int]] = []
    pairs: list[tuple[int, int]] = []
    for place, letter in enumerate(letters):
        if kinds[place] != "ON":
            continue
        if letter in CLOSING:
            if len(awaited) == MOST_OPEN:
                return []
            awaited.append((CLOSING[letter], place))
        elif (depth := _last([closing for closing, _ in awaited], letter)) is not None:
            pairs.append((awaited[depth][1], place))
            del awaited[depth:]
    return pairs


def _last(items: list[str], wanted: str) -> int | None:
    return next((place for place in reversed(range(len(items))) if items[place] == wanted), None)


def _resolve_neutral(kinds: list[str], direction: str) -> None:
    """N1 and N2: what has no direction takes that of both its sides, or the line's where they differ."""
    place, before = 0, direction
    for neutral, run in itertools.groupby(list(kinds), lambda kind: kind in NEUTRAL):
        end = place + len(list(run))
        if neutral:
            after = (_side(kinds[end]) if end < len(kinds) else direction) or direction
            kinds[place:end] = [before if before == after else direction] * (end - place)
        else:
            before = _side(kinds[end - 1]) or direction
        place = end


def _side(kind: str) -> str | None:
    """The direction, L or R, that a character has towards its neighbours: a number counts as R."""
    return "R" if kind in NUMBERS else kind if kind in STRONG else None


def _level(kind: str, base: int) -> int:
    """I1 and I2."""
    if base:
        return base if kind == "R" else base + 1
    return {"L": 0, "R": 1}.get(kind, 2)
