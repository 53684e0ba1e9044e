"""The keys of everything a job stores, relative to the storage URL."""

OPEN = "open/"


def open_marker(job_id: str) -> str:
    return f"{OPEN}{job_id}"


def job(job_id: str) -> str:
    return f"jobs/{job_id}/job.json"


def inputs(job_id: str, name: str) -> str:
    return f"jobs/{job_id}/inputs/{name}"


def shards(job_id: str) -> str:
    return f"jobs/{job_id}/shards/"


def shard(job_id: str, number: int) -> str:
    return f"{shards(job_id)}{number:08d}.jsonl"


def outcomes(job_id: str) -> str:
    return f"jobs/{job_id}/outcomes/"


def outcome(job_id: str, number: int) -> str:
    return f"{outcomes(job_id)}{number:08d}.jsonl"


def annotation(job_id: str, number: int) -> str:
    return f"jobs/{job_id}/annotations/{number:08d}.jsonl"


def artifact(job_id: str, name: str) -> str:
    return f"jobs/{job_id}/artifacts/{name}"


def cancelled(job_id: str) -> str:
    return f"jobs/{job_id}/cancelled"


def report(job_id: str) -> str:
    return f"jobs/{job_id}/report.json"


def number_of(key: str) -> int:
    """The shard number in the key of a shard or outcomes file."""
    return int(key.rsplit("/", 1)[1].removesuffix(".jsonl"))
