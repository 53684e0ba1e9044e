"""Where inputs come from: the forms a Source takes in a job, and where an Item's bytes lie."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

PAGE_RANGES = r"^\s*\d+(\s*-\s*\d*)?(\s*,\s*\d+(\s*-\s*\d*)?)*\s*$"


class Wire(BaseModel):
    """What every stored or sent type shares: frozen, and unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PdfOptions(Wire):
    """How a PDF becomes pictures: `pages` counts from 1, as in "1-3,5,8-"; none means every page."""

    dpi: int = Field(default=144, ge=36, le=600, description="Pixels to the inch of the rendered page.")
    pages: str | None = Field(default=None, pattern=PAGE_RANGES, description='Pages from 1, as in "1-3,5,8-".')
    password: str | None = Field(default=None, max_length=256, description="Opens an encrypted PDF.")

    @field_validator("pages")
    @classmethod
    def _ranges_ascend(cls, pages: str | None) -> str | None:
        for first, last in page_ranges(pages or ""):
            if first < 1 or (last is not None and last < first):
                raise ValueError(f"page ranges count from 1 and ascend, got {pages!r}")
        return pages


def page_ranges(pages: str) -> list[tuple[int, int | None]]:
    """The (first, last) pairs of a page range string, 1-based and inclusive; last None means to the end."""
    pairs: list[tuple[int, int | None]] = []
    for part in filter(None, (piece.strip() for piece in pages.split(","))):
        first, dash, last = part.partition("-")
        pairs.append((int(first), int(last) if last.strip() else None if dash else int(first)))
    return pairs


class UploadSource(Wire):
    """Bytes that the API has stored under `key` of the job's storage."""

    type: Literal["upload"] = "upload"
    name: str
    key: str
    form: Literal["picture", "paged", "archive", "unknown"] = "unknown"
    pdf: PdfOptions | None = None


class UrlSource(Wire):
    """An http(s) URL of an image or a PDF."""

    type: Literal["url"] = "url"
    url: str = Field(max_length=8192)
    pdf: PdfOptions | None = None


class PathSource(Wire):
    """A file, or a folder with all below it, on the worker's own disk, under one of the configured roots."""

    type: Literal["path"] = "path"
    path: str = Field(min_length=1, max_length=4096)
    pdf: PdfOptions | None = None


class S3Source(Wire):
    """An object of a bucket that MASKMILL_BUCKETS lists, all below a prefix, or what a pattern of keys means.

    s3://bucket/a/1.jpg is that object, or all below a/1.jpg/; s3://bucket/a/ all below it; s3://bucket/a/**/*.{jpg,png}
    the keys that match, as shared/key_patterns.py says.
    """

    type: Literal["s3"] = "s3"
    url: str = Field(max_length=2048, description="s3://bucket/key, s3://bucket/folder/ or s3://bucket/a/**/*.jpg.")
    pdf: PdfOptions | None = None


class StoredBytes(Wire):
    """An Item's bytes lie in storage under `key`."""

    type: Literal["stored"] = "stored"
    key: str


class UrlBytes(Wire):
    """An Item's bytes are fetched from `url`."""

    type: Literal["url"] = "url"
    url: str


class FileBytes(Wire):
    """An Item's bytes are read from the local file `path`."""

    type: Literal["file"] = "file"
    path: str


class ObjectBytes(Wire):
    """An Item's bytes are an object of a user's bucket: the one that had this `etag` when it was listed."""

    type: Literal["object"] = "object"
    bucket: str
    key: str
    etag: str | None = None
    size: int | None = None
    version: str | None = None

    @property
    def url(self) -> str:
        """The object as an s3:// URL; the key stands in it as it is."""
        return f"s3://{self.bucket}/{self.key}"


# What can be read from anywhere on, and so may be an archive.
Seekable = Annotated[StoredBytes | FileBytes | ObjectBytes, Field(discriminator="type")]


class MemberBytes(Wire):
    """An Item's bytes are a file of an archive that is not unpacked.

    They lie somewhere from `start` to before `end`: in a tar they are what is there, in a zip they stand behind a
    header of their own, which only who reads them looks at.
    """

    type: Literal["member"] = "member"
    archive: Seekable
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    method: Literal["tar", "stored", "deflated", "bzip2"] = "tar"
    packed: int = Field(ge=0, description="Bytes that it takes in the archive.")
    size: int = Field(ge=0, description="Bytes that it has.")
    crc: int | None = None
    changed: int | None = Field(default=None, description="When the archive, if it is a file, was changed, in ns.")


class ManifestSource(Wire):
    """A file whose rows name inputs, in one of the forms of docs/buckets.md; `name` is its file name or its URL.

    `location` is where its bytes lie: an upload, a URL, or an object of a bucket that MASKMILL_BUCKETS lists.
    """

    type: Literal["manifest"] = "manifest"
    name: str
    location: Annotated[StoredBytes | UrlBytes | ObjectBytes, Field(discriminator="type")]
    pdf: PdfOptions | None = None


Source = Annotated[
    UploadSource | UrlSource | PathSource | S3Source | ManifestSource,
    Field(discriminator="type"),
]

Location = Annotated[StoredBytes | UrlBytes | FileBytes | ObjectBytes | MemberBytes, Field(discriminator="type")]
