"""The keys of everything a job stores, relative to the storage URL; JobFiles says what lies under each."""

# What everything below the storage URL begins with.
TOPS = ("jobs/", "open/", "receiving/", "interactive/", "probe/", "tenants/")
OPEN = "open/"
RECEIVING = "receiving/"


def open_marker(job_id: str) -> str:
    return f"{OPEN}{job_id}"


def receiving(job_id: str, folder: str) -> str:
    return f"{RECEIVING}{job_id}/{folder}"


def job(job_id: str) -> str:
    return f"jobs/{job_id}/job.json"


def head(job_id: str) -> str:
    return f"jobs/{job_id}/head.json"


def inputs(job_id: str, name: str) -> str:
    return f"jobs/{job_id}/inputs/{name}"


def pages(job_id: str) -> str:
    return f"jobs/{job_id}/plan/"


def page(job_id: str, number: int) -> str:
    return f"{pages(job_id)}{number:08d}.jsonl"


def chunk(job_id: str, number: int) -> str:
    return f"jobs/{job_id}/chunks/{number:08d}.json"


def expanded(job_id: str, number: int) -> str:
    return f"jobs/{job_id}/expanded/{number:08d}.jsonl"


def outcomes(job_id: str) -> str:
    return f"jobs/{job_id}/outcomes/"


def outcome(job_id: str, number: int) -> str:
    return f"{outcomes(job_id)}{number:08d}.jsonl"


def annotation(job_id: str, number: int) -> str:
    return f"jobs/{job_id}/annotations/{number:08d}.jsonl"


def rollup(job_id: str, number: int) -> str:
    return f"jobs/{job_id}/rollups/{number:08d}.json"


def artifact(job_id: str, name: str) -> str:
    return f"jobs/{job_id}/artifacts/{name}"


SUCCESS = "_SUCCESS"
REFS = "_maskmill/"


def refs(job_id: str, shard: int) -> str:
    """Below the URL of the job's output."""
    return f"{REFS}{job_id}/{shard:08d}.jsonl"


def cancelled(job_id: str) -> str:
    return f"jobs/{job_id}/cancelled"


def paused(job_id: str) -> str:
    return f"jobs/{job_id}/paused"


def report(job_id: str) -> str:
    return f"jobs/{job_id}/report.json"


def number_of(key: str) -> int:
    """The number in the key of a page or an outcomes file."""
    return int(key.rsplit("/", 1)[1].partition(".")[0])
