"""What the system calls a job, its ref, and the keys of all that it stores, relative to the storage URL.

An id is what a job's tenant calls it: what users see, and what jobs of two tenants may share. A ref is one in the whole
system: the id of a job of the default tenant, TENANT.ID of any other. The ledger, the markers and what is done for a
job call it so. JobFiles says what lies under each key.
"""

import re

DEFAULT_TENANT = "default"
_TENANT = "[a-z0-9][a-z0-9-]{0,39}"
TENANT_PATTERN = f"^{_TENANT}$"

# What everything below the storage URL begins with.
TOPS = ("jobs/", "alike/", "open/", "receiving/", "deleting/", "expire/", "interactive/", "probe/", "tenants/")
OPEN = "open/"
RECEIVING = "receiving/"
DELETING = "deleting/"
EXPIRE = "expire/"

# Anything else is the id of a job of the default tenant. _shared.lua of the ledger reads refs too.
_REF = re.compile(rf"(?!{DEFAULT_TENANT}\.)({_TENANT})\.([0-9a-z]+)")


def job_ref(tenant: str, job_id: str) -> str:
    """What the system calls the job of that id and tenant."""
    return job_id if tenant == DEFAULT_TENANT else f"{tenant}.{job_id}"


def tenant_of(ref: str) -> str:
    """The tenant whose job it is."""
    return _parts(ref)[0]


def id_of(ref: str) -> str:
    """The job's id, as its tenant knows it."""
    return _parts(ref)[1]


def _parts(ref: str) -> tuple[str, str]:
    found = _REF.fullmatch(ref)
    return (found[1], found[2]) if found else (DEFAULT_TENANT, ref)


def folder(ref: str) -> str:
    """What all keys of the job begin with."""
    tenant, job_id = _parts(ref)
    return f"jobs/{job_id}/" if tenant == DEFAULT_TENANT else f"tenants/{tenant}/jobs/{job_id}/"


def run(ref: str, retry: int) -> str:
    """What the keys of one run of the job begin with: of the first, 0, or of a retry."""
    return f"{folder(ref)}retries/{retry}/" if retry else folder(ref)


def retry(ref: str, number: int) -> str:
    return f"{folder(ref)}retries/{number}.json"


def open_marker(ref: str, retry: int = 0) -> str:
    return f"{OPEN}{ref}~{retry}" if retry else f"{OPEN}{ref}"


def opened(marker: str) -> tuple[str, int]:
    """The ref and the retry of which it is the marker."""
    ref, tilde, number = marker.removeprefix(OPEN).rpartition("~")
    return (ref, int(number)) if tilde and number.isdecimal() else (marker.removeprefix(OPEN), 0)


def receiving(ref: str, upload: str) -> str:
    return f"{RECEIVING}{ref}/{upload}"


def deleting(ref: str, part: str) -> str:
    """The marker that what `part` names of the job is being deleted."""
    return f"{DELETING}{ref}/{part}"


def expire(day: str, ref: str, part: str) -> str:
    """The marker that from that day on, as in 2026-11-25, what `part` names of the job may be deleted."""
    return f"{EXPIRE}{day}/{ref}/{part}"


def job(ref: str) -> str:
    return f"{folder(ref)}job.json"


def estimate(ref: str) -> str:
    return f"{folder(ref)}estimate.json"


def sized(ref: str) -> str:
    return f"{folder(ref)}sized.json"


def head(ref: str) -> str:
    return f"{folder(ref)}head.json"


def members(ref: str, archive: str) -> str:
    return f"{folder(ref)}members/{archive}/"


def inputs(ref: str, name: str) -> str:
    return f"{folder(ref)}inputs/{name}"


def pages(ref: str, retry: int = 0) -> str:
    return f"{run(ref, retry)}plan/"


def page(ref: str, number: int, retry: int = 0) -> str:
    return f"{pages(ref, retry)}{number:08d}.jsonl"


def chunk(ref: str, number: int) -> str:
    return f"{folder(ref)}chunks/{number:08d}.json"


def alike(tenant: str, digest: str) -> str:
    top = "" if tenant == DEFAULT_TENANT else f"tenants/{tenant}/"
    return f"{top}alike/{digest}"


SUCCESS = "_SUCCESS"
REFS = "_maskmill/"


def refs(job_id: str, shard: int) -> str:
    """Below the URL of the job's output."""
    return f"{REFS}{job_id}/{shard:08d}.jsonl"


def expanded(ref: str, number: int) -> str:
    return f"{folder(ref)}expanded/{number:08d}.jsonl"


def outcomes(ref: str, retry: int = 0) -> str:
    return f"{run(ref, retry)}outcomes/"


def outcome(ref: str, number: int, retry: int = 0) -> str:
    return f"{outcomes(ref, retry)}{number:08d}.jsonl"


def annotation(ref: str, number: int, retry: int = 0) -> str:
    return f"{run(ref, retry)}annotations/{number:08d}.jsonl"


def rollup(ref: str, number: int, retry: int = 0) -> str:
    return f"{run(ref, retry)}rollups/{number:08d}.json"


def artifact(ref: str, name: str) -> str:
    return f"{folder(ref)}artifacts/{name}"


def cancelled(ref: str, retry: int = 0) -> str:
    return f"{run(ref, retry)}cancelled"


def paused(ref: str, retry: int = 0) -> str:
    return f"{run(ref, retry)}paused"


def priority(ref: str) -> str:
    return f"{folder(ref)}priority"


def report(ref: str) -> str:
    return f"{folder(ref)}report.json"


def number_of(key: str) -> int:
    """The number in the key of a page or an outcomes file."""
    return int(key.rsplit("/", 1)[1].partition(".")[0])
