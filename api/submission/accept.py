"""How a submission becomes a job that cannot be lost: marker, uploads, job.json (accepted), ledger, doorbell."""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from typing import Any

from flask import request

from maskmill.api.services import Services
from maskmill.api.submission import job_request, multipart
from maskmill.api.submission.bodies import JSON_BYTES, gather, parse_json, read_json_bytes
from maskmill.api.submission.job_request import Base64Source, JobRequest, ManifestUrl
from maskmill.api.submission.uploads import Uploads
from maskmill.shared.errors import (
    BodyTooLarge,
    Conflict,
    InvalidRequest,
    LedgerUnavailable,
    RequestError,
    StorageError,
    StorageUnavailable,
)
from maskmill.shared.jobs import deletions
from maskmill.shared.jobs.classes import check_named_classes
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.keys import id_of, job_ref, tenant_of
from maskmill.shared.jobs.records import Job, Options, new_job_id
from maskmill.shared.jobs.sources import PdfOptions, Source
from maskmill.shared.recovery import enter_stored

log = logging.getLogger(__name__)

FILES, MANIFEST, JOB = "files", "manifest", "job"
STORAGE_ERRORS = (StorageUnavailable, StorageError)


def accept(services: Services, idempotency_key: str | None) -> Job:
    """Store the request's job, or find the one that the same key and request made before.

    When this returns the job is accepted, whatever becomes of Redis.
    Raises RequestError for what is wrong with the request, Conflict while the key's job before is being deleted,
    StorageUnavailable where nothing can be accepted.
    """
    tenant = services.tenant()
    job_id = job_request.job_id_of(tenant, idempotency_key) if idempotency_key else new_job_id()
    files = JobFiles(services.storage, job_ref(tenant, job_id))
    # Two requests with one key at the same time must not overwrite each other's uploads.
    folder = secrets.token_hex(8)
    uploads = Uploads(files, services.settings, folder)
    try:
        earlier = files.job() if idempotency_key else None
        if idempotency_key:
            _check_kept(files)
        document = _receive(services, uploads)
        wanted = job_request.parse(document)
        digest = job_request.digest(document, uploads.digests)
        job = earlier or _job(services, uploads, wanted, files.ref, digest)
    except BaseException:
        with contextlib.suppress(*STORAGE_ERRORS):
            uploads.discard()
        raise
    # From here on it may be accepted whatever is raised: what was stored stays, and if it is no job's, for a day.
    accepted = earlier or files.store_job(job)
    if idempotency_key and earlier is None:
        # The key's job before may have run, and been deleted, while this request was on its way.
        _check_kept(files)
    is_new = earlier is None and accepted == job
    with contextlib.suppress(*STORAGE_ERRORS):
        if is_new:
            uploads.keep()
        else:
            uploads.discard()
    if accepted.request_digest != digest:
        raise InvalidRequest("this Idempotency-Key was used for another request; take a new key")
    _announce(services, files, accepted, is_new=is_new)
    return accepted


def _check_kept(files: JobFiles) -> None:
    """Raise Conflict while the key's job before is being deleted: it would take this one along."""
    if deletions.is_under_way(files.storage, files.ref):
        raise Conflict("the job that this Idempotency-Key made is being deleted; try again in a minute")


def _job(services: Services, uploads: Uploads, wanted: JobRequest, ref: str, digest: str) -> Job:
    job_request.check_sources(wanted, len(uploads.sources), services.buckets)
    if wanted.output is not None:
        services.outputs.check(wanted.output, pointer="/output")
    options = _with_model(services, wanted)
    sources: list[Source] = [*uploads.sources]
    for index, source in enumerate(wanted.sources):
        if isinstance(source, Base64Source):
            pointer = f"/sources/{index}/data"
            data = job_request.decode_base64(source, pointer)
            sources.append(uploads.add(source.name, [data], pointer=pointer, pdf=source.pdf))
        elif isinstance(source, ManifestUrl):
            sources.append(source.source())
        else:
            sources.append(source)
    uploads.wait()
    job = Job(
        id=id_of(ref),
        tenant=tenant_of(ref),
        created_at=time.time(),
        sources=tuple(sources),
        options=options,
        shard_size=services.settings.shard_size,
        name=wanted.name,
        dry_run=wanted.dry_run,
        # What a dry run segments is a sample, which is nobody's result.
        output=None if wanted.dry_run else wanted.output,
        keep_days=(services.settings.keep_days if wanted.keep_days is None else wanted.keep_days) or None,
        keep_uploads_days=services.settings.keep_uploads_days or None,
        request_digest=digest,
    )
    job, passwords = without_passwords(job)
    return job.model_copy(update={"passwords": uploads.store_passwords(passwords)}) if passwords else job


def without_passwords(job: Job) -> tuple[Job, dict[str, str]]:
    """The job without its PDFs' passwords, and these by the number of their source, "" for all others."""
    passwords: dict[str, str] = {}
    sources = []
    for number, source in enumerate(job.sources):
        if source.pdf and source.pdf.password:
            passwords[str(number)] = source.pdf.password
        sources.append(source.model_copy(update={"pdf": _open(source.pdf)}) if source.pdf else source)
    if job.options.pdf.password:
        passwords[""] = job.options.pdf.password
    options = job.options.model_copy(update={"pdf": _open(job.options.pdf)})
    return job.model_copy(update={"sources": tuple(sources), "options": options}), passwords


def _open(pdf: PdfOptions) -> PdfOptions:
    return pdf.model_copy(update={"password": None})


def _with_model(services: Services, wanted: JobRequest) -> Options:
    try:
        served = services.ledger.models()
    except LedgerUnavailable as error:
        # A job is accepted without Redis; one whose model nobody serves waits until a worker does.
        log.warning("accepting without a look at the models served: %s", error.reason)
        return wanted.options
    options = job_request.choose_model(wanted, served, services.settings)
    check_named_classes(options, served[options.model].labels)
    return options


def _receive(services: Services, uploads: Uploads) -> Any:
    if request.mimetype != "multipart/form-data":
        return parse_json(read_json_bytes(services.settings))
    limit = services.settings.max_body_bytes
    request.max_content_length = limit
    if (request.content_length or 0) > limit:
        raise BodyTooLarge(f"a request may have {limit} bytes at most; send several jobs")
    document: Any = {}
    for part in multipart.parts(request.stream, request.mimetype_params.get("boundary", "")):
        if part.filename == "":
            # What a browser sends for a file field left empty.
            _gather(part)
        elif part.filename is not None and part.name == FILES:
            uploads.add(part.filename, part.pieces, pointer=f"/{FILES}/{len(uploads.sources)}")
        elif part.filename is not None and part.name == MANIFEST:
            uploads.add_manifest(part.filename, part.pieces, pointer=f"/{MANIFEST}/{len(uploads.sources)}")
        elif part.name == JOB:
            document = parse_json(_gather(part))
        else:
            known = f'send files as "{FILES}", manifests as "{MANIFEST}" and the JSON as "{JOB}"'
            raise RequestError(f"unknown part {part.name!r}: {known}")
    return document


def _gather(part: multipart.Part) -> bytes:
    return gather(part.pieces, JSON_BYTES, f'the part "{JOB}" may have {JSON_BYTES} bytes at most')


def _announce(services: Services, files: JobFiles, job: Job, *, is_new: bool) -> None:
    try:
        if is_new:
            services.ledger.enter(job.head)
        elif files.report() is None:
            enter_stored(services.ledger, files)
        services.doorbell.ring_control()
    except LedgerUnavailable as error:
        # The sweeper finds the open marker and enters the job once Redis is back.
        log.warning("job %s is accepted but not entered yet: %s", job.ref, error.reason)
