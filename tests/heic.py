"""HEIC files of any structure, put together around coded pictures that are stored (ISO/IEC 14496-12 and 23008-12)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PICTURES = Path(__file__).parent / "pictures"
WIDTH, HEIGHT = 96, 64


def stored(name: str) -> bytes:
    """One of the stored files."""
    return (PICTURES / f"{name}.heic").read_bytes()


def box(name: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + name + content


def full_box(name: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return box(name, struct.pack(">I", flags), *parts)


def size(width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """The property that says how large a picture is."""
    return full_box(b"ispe", struct.pack(">II", width, height))


def turned(quarters: int) -> bytes:
    """The property that turns a picture by so many quarters to the left."""
    return box(b"irot", bytes([quarters]))


def mirrored(axis: int) -> bytes:
    """The property that exchanges top and bottom (0), or left and right (1), of a picture."""
    return box(b"imir", bytes([axis]))


@dataclass(frozen=True)
class Part:
    """An item of the file: its kind, content, properties, and the numbers of the items that it is about or made of."""

    kind: bytes
    content: bytes
    properties: tuple[bytes, ...] = ()
    refers: tuple[bytes, tuple[int, ...]] | None = None
    hidden: bool = False


def picture(*properties: bytes, shown: bytes | None = None, hidden: bool = False) -> Part:
    """The stored scene as an item, 96 x 64 unless the property `shown` says otherwise."""
    whole = stored("scene")
    at = whole.index(b"hvcC") - 4
    settings = whole[at : at + int.from_bytes(whole[at : at + 4], "big")]
    content = whole[whole.index(b"mdat") + 4 :]
    return Part(b"hvc1", content, (settings, shown or size(), *properties), hidden=hidden)


def exif(orientation: int, about: int) -> Part:
    """Exif metadata of item `about` that give an orientation."""
    tiff = struct.pack(">2sHIHHHIHH", b"MM", 42, 8, 1, 0x0112, 3, 1, orientation, 0) + bytes(4)
    return Part(b"Exif", struct.pack(">I", 6) + b"Exif\0\0" + tiff, refers=(b"cdsc", (about,)))


def grid(rows: int, columns: int, tiles: Sequence[int], *properties: bytes) -> Part:
    """A picture made of the items `tiles`, as phones store theirs."""
    width, height = columns * WIDTH, rows * HEIGHT
    content = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    return Part(b"grid", content, (size(width, height), *properties), (b"dimg", tuple(tiles)))


def heic(*parts: Part, primary: int = 1) -> bytes:
    """The file of these items, numbered from 1."""
    kinds = box(b"ftyp", b"heic", bytes(4), b"mif1", b"heic")
    head = len(kinds) + len(_meta(parts, primary, 0)) + 8
    return kinds + _meta(parts, primary, head) + box(b"mdat", *(part.content for part in parts))


def _meta(parts: Sequence[Part], primary: int, offset: int) -> bytes:
    infos, places, links, shelf, labels = b"", b"", b"", b"", b""
    shelved = 0
    for number, part in enumerate(parts, 1):
        infos += full_box(b"infe", struct.pack(">HH", number, 0), part.kind, b"\0", flags=2 << 24 | part.hidden)
        places += struct.pack(">HHHII", number, 0, 1, offset, len(part.content))
        offset += len(part.content)
        if part.refers:
            name, others = part.refers
            links += box(name, struct.pack(f">HH{len(others)}H", number, len(others), *others))
        shelf += b"".join(part.properties)
        indexes = range(shelved + 1, shelved + 1 + len(part.properties))
        shelved += len(part.properties)
        labels += struct.pack(">HB", number, len(indexes)) + b"".join(struct.pack(">H", 1 << 15 | n) for n in indexes)
    count = len(parts)
    return full_box(
        b"meta",
        full_box(b"hdlr", bytes(4), b"pict", bytes(13)),
        full_box(b"pitm", struct.pack(">H", primary)),
        full_box(b"iloc", b"\x44\0", struct.pack(">H", count), places),
        full_box(b"iinf", struct.pack(">H", count), infos),
        full_box(b"iref", links),
        box(b"iprp", box(b"ipco", shelf), full_box(b"ipma", struct.pack(">I", count), labels, flags=1)),
    )
