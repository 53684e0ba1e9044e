"""Patterns of object keys: which keys one means, and which prefixes have to be listed to find them.

    *           any characters but a slash
    **          any characters; at the beginning of a part `**/` may be nothing: a/**/b.jpg is a/b.jpg too
    ?           one character but a slash
    [abc] [!a]  one of these, none of these
    {a,b}       one or the other; not nested
    \\           takes the next character as it is

A key is no path: `//`, `.` and `..` are characters like others. Matching takes time in proportion to the key, as no
part of a pattern is tried twice (Python's atomic groups).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from maskmill.shared.errors import InvalidRequest

MOST_ALTERNATIVES = 64
SPECIAL = re.compile(r"(?<!\\)(?:\\\\)*[*?\[{]")
TOKEN = re.compile(r"\\.|\[!?\]?[^\]]*\]|\*{2,}/|\*{2,}|.", re.DOTALL)
FLAT, DEEP = "[^/]*?", {"**": ".*?", "**/": "(?:.*?/)??"}


@dataclass(frozen=True)
class KeyPattern:
    """`prefixes` in their order, none within another: every key that matches begins with one of them."""

    prefixes: tuple[str, ...]
    _regex: re.Pattern[str]

    @classmethod
    def parse(cls, pattern: str) -> KeyPattern:
        """Raises InvalidRequest for a bracket or brace that is not closed, or too many alternatives."""
        alternatives = [_pieces(text) for text in _expand(pattern)]
        prefixes = sorted({_literal_prefix(pieces) for pieces in alternatives})
        kept = [one for one in prefixes if not any(one != other and one.startswith(other) for other in prefixes)]
        try:
            return cls(tuple(kept), re.compile("|".join(map(_regex, alternatives)), re.DOTALL))
        except re.error as error:
            raise InvalidRequest(f"{pattern[:200]!r} is no pattern of keys: {error}") from None

    def matches(self, key: str) -> bool:
        """Whether the whole key is meant."""
        return self._regex.fullmatch(key) is not None


def is_pattern(path: str) -> bool:
    """Whether any character of it is special."""
    return SPECIAL.search(path) is not None


def unescaped(path: str) -> str:
    """The key that a pattern without special characters means."""
    return re.sub(r"\\(.)", r"\1", path, flags=re.DOTALL)


def _expand(pattern: str) -> list[str]:
    """The pattern once for each choice of its braces."""
    done = [""]
    for part in _brace_parts(pattern):
        done = [text + choice for text in done for choice in part]
        if len(done) > MOST_ALTERNATIVES:
            raise InvalidRequest(f"{pattern[:200]!r}: its braces make more than {MOST_ALTERNATIVES} patterns")
    return done


def _brace_parts(pattern: str) -> list[list[str]]:
    parts: list[list[str]] = [[""]]
    inside = False
    for token in TOKEN.findall(pattern):
        if token == "{" and not inside:
            inside = True
            parts.append([""])
        elif token == "{":
            raise InvalidRequest(f"{pattern[:200]!r}: braces within braces are not read")
        elif token == "}" and inside:
            inside = False
            parts.append([""])
        elif token == "," and inside:
            parts[-1].append("")
        elif token == "[":
            raise InvalidRequest(rf"{pattern[:200]!r}: a bracket is not closed; write \[ for the character")
        else:
            parts[-1][-1] += token
    if inside:
        raise InvalidRequest(rf"{pattern[:200]!r}: a brace is not closed; write \{{ for the character")
    return parts


def _pieces(text: str) -> list[str]:
    """Tokens of a pattern without braces: `**/`, `**`, `*`, `?`, a class, a character that stands for itself."""
    pieces: list[str] = []
    for token in TOKEN.findall(text):
        piece = re.sub(r"^\*{2,}", "**", token)
        # Folders begin at a slash only: of `a**/b` the slash is one that must be there.
        whole = piece != "**/" or not pieces or pieces[-1][-1] == "/"
        pieces += [piece] if whole else ["**", "/"]
    return pieces


def _literal_prefix(pieces: list[str]) -> str:
    prefix = ""
    for piece in pieces:
        if piece[0] in "*?[":
            break
        prefix += piece[-1]
    return prefix


def _regex(pieces: list[str]) -> str:
    first, *deep = _split(pieces, DEEP)
    sections = [_section(section, last=False) for section in deep[:-1]]
    if not deep:
        return _section(first, last=True)
    return (
        _section(first, last=False) + "".join(f"(?>{section})" for section in sections) + _section(deep[-1], last=True)
    )


def _section(pieces: list[str], *, last: bool) -> str:
    """What stands between two `**`. Each wildcard takes as little as lets what follows it match, and then is settled;
    only one before the end of the pattern has to try further.
    """
    first, *runs = _split(pieces, {"*": FLAT})
    settled = [f"(?>{FLAT}{_literal(run[1:])})" for run in (runs[:-1] if last else runs)]
    open_run = [FLAT + _literal(runs[-1][1:])] if last and runs else []
    return "".join([_literal(first), *settled, *open_run])


def _split(pieces: list[str], wildcards: Mapping[str, str]) -> list[list[str]]:
    """The pieces, cut before each of the wildcards."""
    runs: list[list[str]] = [[]]
    for piece in pieces:
        if piece in wildcards:
            runs.append([])
        runs[-1].append(piece)
    return runs


def _literal(pieces: list[str]) -> str:
    return "".join(map(_one, pieces))


def _one(piece: str) -> str:
    if piece in DEEP:
        return DEEP[piece]
    if piece == "?":
        return "[^/]"
    if piece.startswith("[") and len(piece) > 1:
        negated = piece[1] in "!^"
        characters = re.sub(r"([&~|\\\[\]^])", r"\\\1", piece[2 if negated else 1 : -1])
        return f"(?!/)[{'^' if negated else ''}{characters}]"
    return re.escape(piece[-1])
