"""Request → Job: what a submission may say, checked against every limit; nothing here touches a service."""

from __future__ import annotations

import binascii
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from maskmill.api.responses.problems import FieldError, InvalidFields
from maskmill.shared.buckets import Buckets, ObjectUrl
from maskmill.shared.errors import BodyTooLarge, InvalidRequest, PathRefused, Unavailable, UnknownModel
from maskmill.shared.http_urls import check_http_url
from maskmill.shared.jobs.keys import DEFAULT_TENANT
from maskmill.shared.jobs.records import ID_ALPHABET, MOST_DAYS, Options, model_name
from maskmill.shared.jobs.sources import (
    ManifestSource,
    ObjectBytes,
    PathSource,
    PdfOptions,
    S3Source,
    UrlBytes,
    UrlSource,
    Wire,
)
from maskmill.shared.key_patterns import KeyPattern, is_pattern
from maskmill.shared.settings import Settings

ID_LENGTH = 24


class Base64Source(Wire):
    """A file's bytes in the request itself, in base64."""

    type: Literal["base64"] = "base64"
    name: str = Field(min_length=1, max_length=1024, description="The file's name; its results are named after it.")
    data: str = Field(description="Base64; line breaks are allowed.")
    pdf: PdfOptions | None = None


class ManifestUrl(Wire):
    """A file whose rows name the inputs, as an object of a bucket or behind an http(s) URL."""

    type: Literal["manifest"] = "manifest"
    url: str = Field(max_length=8192, description="s3://bucket/key or https://example.org/list.csv.")
    pdf: PdfOptions | None = None

    @property
    def is_object(self) -> bool:
        """Whether it lies in a bucket."""
        return self.url[:5].lower() == "s3://"

    def source(self) -> ManifestSource:
        """The source that a job has of it."""
        if not self.is_object:
            return ManifestSource(name=self.url, location=UrlBytes(url=self.url), pdf=self.pdf)
        bucket, key = ObjectUrl.parse(self.url)
        return ManifestSource(name=self.url, location=ObjectBytes(bucket=bucket, key=key), pdf=self.pdf)


RequestSource = Annotated[
    UrlSource | PathSource | S3Source | ManifestUrl | Base64Source,
    Field(discriminator="type"),
]


class JobRequest(Wire):
    """What to segment and how."""

    sources: tuple[RequestSource, ...] = ()
    options: Options = Options()
    name: str | None = Field(default=None, max_length=200, description="A name for people.")
    dry_run: bool = Field(
        default=False,
        description="Count the inputs and run a sample of them only, writing nothing to `output`; then the job has an "
        "`estimate`.",
    )
    output: str | None = Field(
        default=None,
        max_length=2048,
        description="s3://bucket/prefix/ for the artifacts, named after their inputs; none: beside the job.",
    )
    keep_days: int | None = Field(
        default=None,
        ge=0,
        le=MOST_DAYS,
        description="Days the job is kept once it is over, with its results; 0: for ever; none: MASKMILL_KEEP_DAYS.",
    )


class PriorityRequest(Wire):
    """Which priority a job is to have from now on."""

    priority: int = Field(ge=0, le=9, description="Higher goes first.")


class RetryRequest(Wire):
    """What of a job that is over is to run again."""

    codes: tuple[Annotated[str, Field(max_length=100)], ...] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Only what failed with one of these codes; none: all that failed.",
    )


Request = TypeVar("Request", bound=Wire)


def parse(document: Any) -> JobRequest:
    """The request of a JSON document; raises InvalidFields that names each wrong field by JSON pointer."""
    return parse_as(JobRequest, document)


def parse_as(kind: type[Request], document: Any) -> Request:
    """As `parse`, of a request of another kind."""
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise InvalidFields([_explain(dict(problem), kind) for problem in error.errors()]) from None


def check_sources(request: JobRequest, uploads: int, buckets: Buckets) -> None:
    """Raise unless the sources are some, not too many, and each is one that this server may read."""
    count = len(request.sources) + uploads
    if not count:
        raise InvalidRequest("a job needs a source: a file, url, s3 URL, path, manifest or base64", pointer="/sources")
    check_count(count, buckets.settings)
    for index, source in enumerate(request.sources):
        if isinstance(source, UrlSource):
            _check_url(source.url, f"/sources/{index}/url")
        elif isinstance(source, PathSource):
            _check_path(source.path, buckets.settings.local_roots, f"/sources/{index}/path")
        elif isinstance(source, S3Source):
            _check_bucket(source.url, buckets, f"/sources/{index}/url")
        elif isinstance(source, ManifestUrl):
            _check_manifest(source, buckets, f"/sources/{index}/url")


def check_count(count: int, settings: Settings) -> None:
    """Raise BodyTooLarge where a job names more sources than allowed."""
    if count > settings.max_sources:
        raise BodyTooLarge(
            f"a job takes at most {settings.max_sources} sources; send a folder, or several jobs", pointer="/sources"
        )


def choose_model(request: JobRequest, served: Iterable[str], settings: Settings) -> Options:
    """The options with a model that is served: the one asked for, else the first of the settings, else the only one."""
    names = sorted(served)
    if not names:
        raise Unavailable("no worker is running, so no model is served; start one with `maskmill worker`")
    asked = "model" in request.options.model_fields_set
    model = request.options.model if asked else default_model(names, settings)
    if model not in names:
        raise UnknownModel(f"no worker serves model {model!r}; served: {', '.join(names)}", pointer="/options/model")
    return request.options.model_copy(update={"model": model})


def default_model(names: Sequence[str], settings: Settings) -> str:
    """The model of a request that names none."""
    first = model_name(settings.models[0]) if settings.models else Options().model
    return names[0] if len(names) == 1 and first not in names else first


def decode_base64(source: Base64Source, pointer: str) -> bytes:
    """The bytes of a base64 source; what is not of the alphabet, such as line breaks, is skipped."""
    try:
        return binascii.a2b_base64(source.data)
    except ValueError as error:
        raise InvalidRequest(f"not base64: {error}", pointer=pointer) from None


def digest(document: Any, files: Sequence[tuple[str, ...]]) -> str:
    """What two requests must share to be the same: the JSON document, and the names and hashes of the files."""
    canonical = json.dumps([_without_passwords(document), files], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _without_passwords(document: Any) -> Any:
    """What is stored of a request must not tell a password, not even by its hash."""
    if isinstance(document, dict):
        return {key: "" if key == "password" else _without_passwords(value) for key, value in document.items()}
    return [_without_passwords(one) for one in document] if isinstance(document, list) else document


def job_id_of(tenant: str, idempotency_key: str) -> str:
    """The id of the one job that a tenant's key makes."""
    # A header holds no NUL: no key of the default tenant can read so.
    whole = idempotency_key if tenant == DEFAULT_TENANT else f"{tenant}\0{idempotency_key}"
    number = int.from_bytes(hashlib.sha256(whole.encode()).digest())
    return "".join(ID_ALPHABET[(number >> (5 * place)) & 31] for place in range(ID_LENGTH))


def _check_url(url: str, pointer: str) -> None:
    try:
        check_http_url(url)
    except InvalidRequest as error:
        raise InvalidRequest(error.reason, pointer=pointer) from None


def _check_manifest(manifest: ManifestUrl, buckets: Buckets, pointer: str) -> None:
    if not manifest.is_object:
        _check_url(manifest.url, pointer)
        return
    try:
        at = ObjectUrl.parse(manifest.url)
    except InvalidRequest as error:
        raise InvalidRequest(error.reason, pointer=pointer) from None
    if not at.path or at.path.endswith("/"):
        raise InvalidRequest(f"{manifest.url!r} names no object; a manifest is one file", pointer=pointer)
    buckets.check(at, "read", pointer=pointer)


def _check_path(path: str, roots: Sequence[Path], pointer: str) -> None:
    if not roots:
        raise PathRefused(
            "this server reads no local paths; MASKMILL_LOCAL_ROOTS names folders it may", pointer=pointer
        )
    if not path.startswith("/") or "\0" in path:
        raise InvalidRequest(f"a path is absolute, as the worker sees it; got {path[:100]!r}", pointer=pointer)
    # Lexical only: the worker, whose disk it is, follows the symbolic links and checks again.
    plain = Path(os.path.normpath(path))
    if not any(plain.is_relative_to(os.path.normpath(root)) for root in roots):
        allowed = ", ".join(map(str, roots))
        raise PathRefused(f"{path[:200]} is outside the folders that may be read: {allowed}", pointer=pointer)


def _check_bucket(url: str, buckets: Buckets, pointer: str) -> None:
    try:
        at = ObjectUrl.parse(url)
        if is_pattern(at.path):
            KeyPattern.parse(at.path)
    except InvalidRequest as error:
        raise InvalidRequest(error.reason, pointer=pointer) from None
    buckets.check(at, "read", pointer=pointer)


_KNOWN: Mapping[tuple[str, ...], type[BaseModel]] = {
    ("options",): Options,
    ("options", "pdf"): PdfOptions,
}


def _explain(problem: Mapping[str, Any], kind: type[BaseModel]) -> FieldError:
    loc = _without_tag(problem["loc"])
    detail = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        known = _KNOWN.get(loc[:-1]) if loc[:-1] else kind
        detail = "unknown field" + (f"; known: {', '.join(sorted(known.model_fields))}" if known else "")
    return FieldError(pointer="".join(f"/{_escape(part)}" for part in loc), detail=detail)


def _without_tag(loc: tuple[Any, ...]) -> tuple[Any, ...]:
    # pydantic puts the kind of a source between its index and its field.
    return (*loc[:2], *loc[3:]) if loc[:1] == ("sources",) else loc


def _escape(part: object) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")
