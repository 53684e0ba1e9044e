"""Bytes → records: the lines, CSV records and array elements of a manifest, each with the place behind it.

Each is a pure function of a byte stream that begins at a place of the manifest, so that what is read behind a record's
place is the same whether or not what stands before it was read. No more than one record is held.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections import deque
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from maskmill.shared.errors import ManifestInvalid

BOM = b"\xef\xbb\xbf"
MOST_CHARACTERS = 100_000
"""Of a record, as of a line of an augmented manifest (SageMaker developer guide, augmented-manifest)."""
MOST_LINES = 100_000_000
"""Of one file: so many blank lines are no manifest any more."""
PIECE_BYTES = 1 << 16
WORDS = re.compile(r"[^ \t\r\n]")


class Place(NamedTuple):
    """Where a record ends: behind so many bytes, unpacked, and behind the line or element of that number, from 1."""

    offset: int = 0
    number: int = 0


class Record(NamedTuple):
    """A line's text, a CSV record's fields or an array's element; `problem` says why there is none."""

    behind: Place
    text: str
    value: Any = None
    problem: str = ""


def lines(stream: BinaryIO, at: Place) -> Iterator[Record]:
    """The lines from `at` on, without their ends; ManifestInvalid where there are more than any manifest has."""
    offset, number = at
    while data := stream.readline(4 * MOST_CHARACTERS + 1):
        begin, number = offset, number + 1
        offset += len(data)
        if number > MOST_LINES:
            raise ManifestInvalid(f"it has more than {MOST_LINES} lines")
        if data == b"\n":
            # Of these there may be many: a quick way.
            yield Record(Place(offset, number), "")
            continue
        if data[-1:] != b"\n" and len(data) > 4 * MOST_CHARACTERS:
            offset += _rest_of_line(stream)
        yield _line(data.removeprefix(BOM) if begin == 0 else data, Place(offset, number))


def _line(data: bytes, behind: Place) -> Record:
    problem = ""
    try:
        text = data.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError as error:
        text, problem = data.decode("utf-8", "replace"), f"is not UTF-8, from its byte {error.start} on"
    if len(text) > MOST_CHARACTERS:
        problem = f"has more than {MOST_CHARACTERS} characters"
    return Record(behind, text, problem=problem)


def _rest_of_line(stream: BinaryIO) -> int:
    """Read past the end of the line; how many bytes that were."""
    size = 0
    while data := stream.readline(PIECE_BYTES):
        size += len(data)
        if data[-1:] == b"\n":
            break
    return size


def csv_records(stream: BinaryIO, at: Place) -> Iterator[Record]:
    """The records of a CSV file (RFC 4180) from `at` on, as lists of fields; blank lines are none.

    Where a quote is not closed within a record's length only its line is spoiled.
    """
    left = _Lines(lines(stream, at))
    for first in left:
        if first.problem:
            yield first
        elif '"' in first.text:
            yield _quoted(first, left)
        elif first.text.strip():
            yield first._replace(value=first.text.split(","))


class _Lines:
    """Lines of which some can be given back."""

    def __init__(self, found: Iterator[Record]) -> None:
        self._found = found
        self._returned: deque[Record] = deque()

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> Record:
        return self._returned.popleft() if self._returned else next(self._found)

    def give_back(self, lines: list[Record]) -> None:
        """They come next."""
        self._returned.extendleft(reversed(lines))


def _quoted(first: Record, left: _Lines) -> Record:
    """The record that begins with a line, and goes on in the lines `left` while a quote is open."""
    taken: list[Record] = []

    def texts() -> Iterator[str]:
        yield f"{first.text}\n"
        size = len(first.text)
        for line in left:
            taken.append(line)
            size += len(line.text) + 1
            if line.problem or size > MOST_CHARACTERS:
                raise csv.Error("a quote is not closed")
            yield f"{line.text}\n"

    try:
        fields = next(csv.reader(texts(), strict=True))
    except csv.Error as error:
        left.give_back(taken)
        return first._replace(problem=f"is no CSV: {error}")
    return Record(taken[-1].behind if taken else first.behind, first.text, fields)


def elements(stream: BinaryIO, at: Place) -> Iterator[Record]:
    """The elements of a JSON array behind the one that ends at `at`; ManifestInvalid where it is broken or ends early.

    At most one element is held, and what was read with its end.
    """
    buffer = _Buffer(stream)
    offset, number = at
    while True:
        sign = buffer.word()
        buffer.skip(1)
        if sign == "]":
            break
        if sign != ",":
            raise ManifestInvalid(f"the array goes on with {sign!r}" if sign else "the array is not closed")
        value = buffer.value()
        offset, number = at.offset + buffer.done, number + 1
        yield Record(Place(offset, number), json.dumps(value, ensure_ascii=False), value)
    if buffer.word():
        raise ManifestInvalid("something stands behind the array")


class _Buffer:
    """Text that is read as it is needed; `done` counts the bytes that were passed."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        # Bytes that are no UTF-8 are kept, as they have to be counted.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text, self._at, self._ended = "", 0, False
        self.done = 0

    def word(self) -> str:
        """The next character that is no space, which is not passed; "" at the end."""
        while True:
            found = WORDS.search(self._text, self._at)
            self.skip((found.start() if found else len(self._text)) - self._at)
            if found or self._ended:
                return found[0] if found else ""
            self._read()

    def skip(self, count: int) -> None:
        """Pass so many characters."""
        self.done += len(self._text[self._at : self._at + count].encode("utf-8", "surrogateescape"))
        self._at += count

    def value(self) -> Any:
        """The next JSON value, which is passed; ManifestInvalid where there is none within a record's length."""
        self.word()
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self._text, self._at)
            except RecursionError:
                raise ManifestInvalid("the next element is nested too deeply") from None
            except ValueError as error:
                if self._ended or len(self._text) - self._at > MOST_CHARACTERS:
                    raise ManifestInvalid(f"the next element is no JSON, or is too long: {_said(error)}") from None
            else:
                # A number may go on in what is not read yet.
                if end < len(self._text) or self._ended:
                    self.skip(end - self._at)
                    return value
            self._read()

    def _read(self) -> None:
        data = self._stream.read(PIECE_BYTES)
        self._ended = not data
        self._text = self._text[self._at :] + self._decoder.decode(data, final=self._ended)
        self._at = 0


def parsed(text: str) -> Any:
    """The JSON document of a text; ManifestInvalid where it is none."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ManifestInvalid("is nested too deeply") from None
    except ValueError as error:
        raise ManifestInvalid(f"is no JSON: {_said(error)}") from None


def _said(error: ValueError) -> str:
    # Its position would count from where reading went on.
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)[:100]
