"""Which format bytes are in, by their content alone; a name's suffix is never asked."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from maskmill.shared.errors import EmptyInput, UnsupportedFormat

LABELS = {
    "jpeg": "JPEG",
    "png": "PNG",
    "bmp": "BMP",
    "webp": "WebP",
    "tiff": "TIFF",
    "gif": "GIF",
    "avif": "AVIF",
    "jp2": "JPEG 2000",
    "ico": "ICO",
    "heic": "HEIC",
    "pdf": "PDF",
}
# Formats of which one file can hold many pages.
PAGED = frozenset({"pdf", "tiff"})
# First bytes that `sniff` wants to see: a PDF's header may come so late.
HEAD_BYTES = 1024
AVIF_SEARCH = 1 << 16
OS2_HEADER_SIZE = 12
BMP_HEADER_SIZES = frozenset({OS2_HEADER_SIZE, 16, 40, 52, 56, 64, 108, 124})

_MAGICS = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),
    (b"\0\0\1\0", "ico"),
)
_FOREIGN = (
    (b"\0\0\2\0", "a Windows cursor (CUR)"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"8BPS", "a Photoshop document (PSD)"),
    (b"v/1\1", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
    (b"%!PS", "PostScript"),
    (b"PK\3\4", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"RIFF", "a RIFF sound or video"),
)
_DOCUMENTS = (b"[Content_Types].xml", b"_rels/", b"mimetype", b"META-INF/")
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


def sniff(head: bytes) -> str | None:
    """The format whose marks the first bytes carry, a key of LABELS; None where they are of none that is read."""
    for magic, name in _MAGICS:
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in BMP_HEADER_SIZES:
        return "bmp"
    if brands := _brands(head):
        return _named_by(brands)
    # Of an archive it may be the first file's.
    return "pdf" if b"%PDF-" in head[:HEAD_BYTES] and not _archive_mark(head) else None


def archive_kind(head: bytes) -> str | None:
    """ "zip", "tar" or "gzip" where the first bytes are those of such an archive.

    Office documents, e-books and Java's archives are zips as well, which nobody sends for the pictures in them: their
    first file tells them (ECMA-376-2; ODF 1.3, part 2, 3.3; EPUB 3.3, 4.2; the JAR specification).
    """
    kind = _archive_mark(head)
    return None if kind == "zip" and head[30:].startswith(_DOCUMENTS) else kind


def identify(data: bytes) -> str:
    """`sniff`, or EmptyInput for no bytes and UnsupportedFormat, naming what the bytes look like, for the rest."""
    if not data:
        raise EmptyInput("the input has no bytes at all")
    if name := sniff(data[:HEAD_BYTES]):
        return name
    *most, last = LABELS.values()
    read = f"{', '.join(most)} and {last} are read"
    raise UnsupportedFormat(f"this {_foreign(data[:HEAD_BYTES])}; {read}")


def ends_early(data: bytes, name: str) -> bool:
    """Whether the container of format `name` says that there should be more bytes; False where it cannot say."""
    if name == "jpeg":
        return b"\xff\xd9" not in data
    if name == "gif":
        return not data.rstrip(b"\0").endswith(b";")
    if name == "webp":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if name == "bmp":
        return int.from_bytes(data[2:6], "little") > len(data)
    return name in {"avif", "heic", "jp2"} and any(end > len(data) for end in _box_ends(data))


def avif_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of the largest picture that an AVIF's `ispe` boxes announce (ISO/IEC 23008-12, 6.5.3)."""
    sizes = [struct.unpack(">II", size) for size in re.findall(rb"ispe....(.{8})", data[:AVIF_SEARCH], re.DOTALL)]
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def bmp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a BMP's header gives, the width perhaps negative; None where there is too little of it."""
    if len(data) < 26:
        return None
    if int.from_bytes(data[14:18], "little") == OS2_HEADER_SIZE:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    # A negative height says that the rows run from the top.
    return width, abs(height)


def plain_webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP that is one lossy picture and nothing else (RFC 9649, 2.5); None for others."""
    if data[12:16] != b"VP8 " or len(data) < 30:
        return None
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _archive_mark(head: bytes) -> str | None:
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return "zip"
    if head[257:262] == b"ustar":
        return "tar"
    return "gzip" if head.startswith(b"\x1f\x8b") else None


def _box_ends(data: bytes) -> Iterator[int]:
    """Where each top-level box ends (ISO/IEC 14496-12, 4.2); sizes 0 (to the end) and 1 (64 bits) end the walk."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8:
            return
        at += size
        yield at


def _brands(head: bytes) -> set[bytes]:
    """The brands of an ISO base media file (ISO/IEC 14496-12, 4.3); none for other bytes."""
    if head[4:8] != b"ftyp":
        return set()
    end = int.from_bytes(head[:4], "big")
    return {head[8:12], *(head[at : at + 4] for at in range(16, min(end, len(head)), 4))}


def _named_by(brands: set[bytes]) -> str | None:
    """The picture format that the brands of an ISO base media file stand for."""
    if brands & _AVIF_BRANDS:
        return "avif"
    return "heic" if brands & _HEIF_BRANDS else None


def _foreign(head: bytes) -> str:
    if _brands(head):
        return "looks like an MP4 or QuickTime video"
    for magic, name in _FOREIGN:
        if head.startswith(magic):
            return f"looks like {name}"
    if b"IHDR" in head[:32]:
        return "looks like a PNG whose first bytes are damaged, as when it is sent as text"
    if head[128:132] == b"DICM":
        return "looks like DICOM"
    if head[:1] == b"P" and head[1:2] in b"1234567" and head[2:3].isspace():
        return "looks like a PNM picture"
    text = _text(head)
    return f"looks like {text}" if text else "is in no format known here"


def _text(head: bytes) -> str | None:
    """Which kind of text the bytes are; None where they are none."""
    try:
        # The last character may have been cut in two.
        text = head.decode("utf-8", "strict" if len(head) < HEAD_BYTES else "ignore").lstrip("\ufeff \t\r\n").lower()
    except UnicodeDecodeError:
        return None
    if any(character < " " and character not in "\t\r\n\f" for character in text):
        return None
    if text.startswith(("<!doctype html", "<html")):
        return "an HTML page, perhaps an error page"
    return "SVG" if "<svg" in text else "text"
