"""Archives for tests, sound ones and such as nobody should send."""

from __future__ import annotations

import io
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping

Files = Mapping[str, bytes] | Iterable[tuple[str, bytes]]


def zip_of(files: Files, method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    """A zip of these files, in their order; a name may be there twice."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in pairs(files):
            archive.writestr(name, data)
        archive.comment = comment
    return made.getvalue()


def tar_of(files: Files, mode: str = "w", more: Iterable[tarfile.TarInfo] = ()) -> bytes:
    """A tar of these files and of what has no bytes; "w:gz" makes a tar.gz."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in pairs(files):
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
        for header in more:
            archive.addfile(header)
    return made.getvalue()


def gz_of(files: Files) -> bytes:
    """A tar.gz of these files."""
    return tar_of(files, "w:gz")


MAKERS: dict[str, Callable[[Files], bytes]] = {"a.zip": zip_of, "a.tar": tar_of, "a.tar.gz": gz_of}


def pairs(files: Files) -> Iterable[tuple[str, bytes]]:
    return files.items() if isinstance(files, Mapping) else files


def in_directory(data: bytes, number: int) -> int:
    """Where in a zip the directory's entry of that number begins."""
    at = -1
    for _ in range(number + 1):
        at = data.index(b"PK\1\2", at + 1)
    return at


def patched(data: bytes, at: int, form: str, *values: int) -> bytes:
    """The bytes with numbers in them written over."""
    changed = bytearray(data)
    struct.pack_into(form, changed, at, *values)
    return bytes(changed)


def header(name: str, kind: bytes, **more: object) -> tarfile.TarInfo:
    """What a tar holds beside files: links, devices, folders."""
    made = tarfile.TarInfo(name)
    made.type = kind
    for field, value in more.items():
        setattr(made, field, value)
    return made
