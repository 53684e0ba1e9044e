"""JobFiles: the one owner of what a job keeps in storage, what lies where and in which form.

open/REF, open/REF~N       marker: the job, or its retry N, is not finished; recovery lists only these
deleting/REF/...           marker: the job is being deleted; deletions.py has more of it
expire/DAY/REF/...         marker: from that day on it may be; retention.py has more of it
receiving/REF/FOLDER       marker: a request is storing its uploads; what it leaves behind is removed after a day
jobs/ID/head.json          the job without its sources: what workers, status and pages need
jobs/ID/sized.json         the same, with the shards as small as the planner has made them
jobs/ID/job.json           the job as accepted, immutable; once it is stored the job is accepted
jobs/ID/paused, cancelled  markers, so that a ledger made anew knows
jobs/ID/priority           the priority that the job was given after it was accepted
jobs/ID/inputs/...         uploads, what URLs gave that has pages or is a manifest or archive, what a tar.gz holds, and
                           passwords.json while it runs
jobs/ID/chunks/N           entries of the listing that a worker has to look into
jobs/ID/expanded/N         what it found there
jobs/ID/members/ARCHIVE/N  the inputs of an archive, MEMBERS_A_PIECE together
jobs/ID/plan/N             a plan page: SHARDS_A_PAGE shards of items, immutable
jobs/ID/outcomes/N         a shard's outcomes, written once and whole: THE commit of the shard
jobs/ID/annotations/N      a shard's instances in compact form, for exports
jobs/ID/rollups/N          counts of SHARDS_A_ROLLUP shards, and which of them hold failures
jobs/ID/artifacts/...      _res.json and _res.jpg, unless the job names a bucket for them:
jobs/ID/estimate.json      what a dry run has counted
jobs/ID/report.json        the final status, of the last run that is over
jobs/ID/retries/N.json     what retry N runs again; once it is stored the retry is accepted
jobs/ID/retries/N/...      its own plan, outcomes, annotations, rollups, paused and cancelled, as above

alike/HASH                 the last completed job of those whose results stand for one another's

Below the URL of a job's output:
...                        _res.json and _res.jpg
_maskmill/ID/N.jsonl       a shard's inputs and results as s3:// URLs, readable as a manifest
_SUCCESS                   the last job that wrote here is completed
So lie the jobs of the default tenant; another's lie under tenants/TENANT/jobs/ID/.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from maskmill.shared.errors import KeyNotFound
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import (
    MEMBERS_A_PIECE,
    Chunk,
    Estimate,
    Expansion,
    Job,
    JobHead,
    JobStatus,
    Member,
    MemberList,
    Outcome,
    PlanPage,
    Retry,
    Rollup,
    encode_lines,
)
from maskmill.shared.storage import Storage

ABANDONED_SECONDS = 86_400.0
# Options that change nothing about an item's results.
INDIFFERENT = {"priority", "max_failure_rate", "sample", "skip_existing", "since_job"}


@dataclass(frozen=True)
class JobFiles:
    """The files of one job; methods raise what the storage raises, and readers give None for what is not there.

    `output` is where its artifacts go, if not beside the job. `retry` says of which run of the job plan, outcomes,
    annotations, roll-ups and markers are: 0 is its first.
    """

    storage: Storage
    ref: str
    output: Storage | None = None
    retry: int = 0

    @property
    def first_run(self) -> JobFiles:
        """The files of the job's first run, into which what its retries gave is folded back."""
        return replace(self, retry=0)

    # The job as accepted

    def store_job(self, job: Job) -> Job:
        """Accept the job; the job of its id that is accepted, this one or one before. It may be, whatever is raised."""
        self.storage.put(keys.open_marker(self.ref), str(job.created_at).encode())
        stored = self.storage.put(keys.job(self.ref), job.model_dump_json().encode(), if_absent=True)
        # What is there already is another's, or of an own first try that succeeded unheard.
        accepted = job if stored else self.job()
        assert accepted is not None, "it is stored"
        self.storage.put(keys.head(self.ref), accepted.head.model_dump_json().encode())
        return accepted

    def job(self) -> Job | None:
        """The job as accepted."""
        data = self._read(keys.job(self.ref))
        return Job.model_validate_json(data) if data else None

    def head(self) -> JobHead | None:
        """The job without its sources; once it is planned, with the size that its shards have."""
        data = self._read(keys.sized(self.ref)) or self._read(keys.head(self.ref))
        if data:
            return JobHead.model_validate_json(data)
        # Whoever accepted it died before it was stored.
        job = self.job()
        return job.head if job else None

    def store_estimate(self, estimate: Estimate) -> None:
        """Store what a dry run has counted."""
        self.storage.put(keys.estimate(self.ref), estimate.model_dump_json().encode())

    def estimate(self) -> Estimate | None:
        """What a dry run has counted."""
        data = self._read(keys.estimate(self.ref))
        return Estimate.model_validate_json(data) if data else None

    def settle_size(self, head: JobHead, shard_size: int) -> int:
        """Let the job's shards have that size, before the first is planned; the size that the first to say so gave."""
        sized = head.model_copy(update={"shard_size": shard_size})
        if self.storage.put(keys.sized(self.ref), sized.model_dump_json().encode(), if_absent=True):
            return shard_size
        settled = self.head()
        assert settled is not None, "it is stored"
        return settled.shard_size

    def is_accepted(self) -> bool:
        """Whether the job is accepted, or its retry."""
        key = keys.retry(self.ref, self.retry) if self.retry else keys.job(self.ref)
        return self.storage.size(key) is not None

    def accept_retry(self, retry: Retry) -> Retry:
        """Accept a retry; the one of its number that is accepted, this or one before. It may be, whatever is raised."""
        self.storage.put(keys.open_marker(self.ref, retry.number), str(retry.accepted_at).encode())
        self.storage.put(keys.retry(self.ref, retry.number), retry.model_dump_json().encode(), if_absent=True)
        accepted = self.accepted_retry(retry.number)
        assert accepted is not None, "it is stored"
        return accepted

    def accepted_retry(self, number: int) -> Retry | None:
        """The retry of that number."""
        data = self._read(keys.retry(self.ref, number))
        return Retry.model_validate_json(data) if data else None

    def store_passwords(self, folder: str, passwords: dict[str, str]) -> str:
        """Store passwords of PDFs by the number of their source, "" for all others; the key for the job's head."""
        key = keys.inputs(self.ref, f"{folder}/passwords.json")
        self.storage.put(key, json.dumps(passwords).encode())
        return key

    def passwords(self, head: JobHead) -> dict[str, str]:
        """Passwords of PDFs by the number of their source, "" for all others."""
        data = self._read(head.passwords) if head.passwords else None
        return dict(json.loads(data)) if data else {}

    def mark_receiving(self, folder: str, now: float) -> None:
        """A request begins to store its uploads in that folder of the inputs."""
        self.storage.put(keys.receiving(self.ref, folder), str(now).encode())

    def mark_received(self, folder: str) -> None:
        """The uploads belong to a job now, or are removed."""
        self.storage.delete(keys.receiving(self.ref, folder))

    def is_of_job(self, folder: str) -> bool:
        """Whether what lies in that folder of the inputs belongs to the job as it was accepted."""
        job = self.job()
        sources = job.sources if job else ()
        held = [job.passwords if job else None, *(source.key for source in sources if source.type == "upload")]
        return any(key and key.startswith(keys.inputs(self.ref, f"{folder}/")) for key in held)

    # Its plan

    def store_page(self, page: PlanPage) -> bool:
        """Store a plan page; False where one is there already."""
        return self.storage.put(keys.page(self.ref, page.number, self.retry), page.encode(), if_absent=True)

    def page(self, number: int) -> PlanPage | None:
        """A plan page."""
        data = self.page_data(number)
        return PlanPage.decode(data) if data else None

    def page_data(self, number: int) -> bytes | None:
        """A plan page as it is stored, for `PlanPage.decode_shard`."""
        return self._read(keys.page(self.ref, number, self.retry))

    def has_page(self, number: int) -> bool:
        """Whether that plan page is stored."""
        return self.storage.size(keys.page(self.ref, number, self.retry)) is not None

    def page_count(self, known: int = 0) -> int:
        """How many plan pages are stored, where `known` are known to be; they are numbered without a gap."""
        start_after = keys.page(self.ref, known - 1, self.retry) if known else ""
        return known + sum(1 for _ in self.storage.list(keys.pages(self.ref, self.retry), start_after))

    def drop_page(self, number: int) -> None:
        """Delete a page that never counted."""
        self.storage.delete(keys.page(self.ref, number, self.retry))

    def store_chunk(self, chunk: Chunk) -> bool:
        """Store entries for a worker to look into; False where some are there already."""
        return self.storage.put(keys.chunk(self.ref, chunk.number), chunk.model_dump_json().encode(), if_absent=True)

    def chunk(self, number: int) -> Chunk | None:
        """Entries for a worker to look into."""
        data = self._read(keys.chunk(self.ref, number))
        return Chunk.model_validate_json(data) if data else None

    def store_expansions(self, chunk: int, expansions: Iterable[Expansion]) -> None:
        """Store what the entries of a chunk were found to be, unless another worker has."""
        self.storage.put(keys.expanded(self.ref, chunk), encode_lines(expansions), if_absent=True)

    def expansions(self, chunk: int) -> dict[int, Expansion] | None:
        """What the entries of a chunk were found to be, by entry."""
        data = self._read(keys.expanded(self.ref, chunk))
        if data is None:
            return None
        found = map(Expansion.model_validate_json, data.splitlines())
        return {expansion.entry: expansion for expansion in found}

    def store_members(self, archive: str, members: Iterable[Member]) -> MemberList:
        """Store the inputs of an archive; no more than MEMBERS_A_PIECE of them are held.

        `archive` must be another for each state of an archive: whoever stores them anew stores the same.
        """
        left, total = iter(members), 0
        folder = keys.members(self.ref, archive)
        while piece := list(itertools.islice(left, MEMBERS_A_PIECE)):
            self.storage.put(_piece_key(folder, total // MEMBERS_A_PIECE), encode_lines(piece))
            total += len(piece)
        return MemberList(folder=folder, count=total)

    def members(self, of: MemberList, first: int = 0) -> Iterator[Member]:
        """The inputs of an archive from the place `first` on, of which MEMBERS_A_PIECE are held."""
        for number in range(first // MEMBERS_A_PIECE, -(-of.count // MEMBERS_A_PIECE)):
            lines = self.storage.get(_piece_key(of.folder, number)).splitlines()
            yield from map(Member.model_validate_json, lines[max(first - number * MEMBERS_A_PIECE, 0) :])

    # Its outcomes

    def commit(self, shard: int, outcomes: Iterable[Outcome]) -> dict[str, int]:
        """Store a shard's outcomes, unless another attempt has; the counts of those that are stored."""
        in_order = sorted(outcomes, key=_number)
        data = encode_lines(in_order)
        key = keys.outcome(self.ref, shard, self.retry)
        if self.storage.put(key, data, if_absent=True):
            return count(in_order)
        return count(_decode_outcomes(self.storage.get(key)))

    def outcomes(self, shard: int) -> list[Outcome] | None:
        """A shard's outcomes, by number of the item."""
        data = self._read(keys.outcome(self.ref, shard, self.retry))
        return None if data is None else sorted(_decode_outcomes(data), key=_number)

    def replace_outcomes(self, shard: int, outcomes: Iterable[Outcome]) -> None:
        """Store a shard's outcomes in place of those that are stored."""
        in_order = sorted(outcomes, key=_number)
        data = encode_lines(in_order)
        self.storage.put(keys.outcome(self.ref, shard, self.retry), data)

    def committed_shards(self, first: int, last: int) -> Iterator[int]:
        """The shards from `first` to before `last` whose outcomes are stored; read by listing."""
        start_after = keys.outcome(self.ref, first - 1, self.retry) if first else ""
        numbers = map(keys.number_of, self.storage.list(keys.outcomes(self.ref, self.retry), start_after))
        return itertools.takewhile(lambda number: number < last, numbers)

    def store_annotations(self, shard: int, lines: bytes) -> None:
        """Store a shard's instances."""
        self.storage.put(keys.annotation(self.ref, shard, self.retry), lines)

    def annotations(self, shard: int) -> dict[int, bytes]:
        """The lines of a shard's instances, by number of the item."""
        lines = (self._read(keys.annotation(self.ref, shard, self.retry)) or b"").splitlines()
        return {int(json.loads(line)["number"]): line for line in lines}

    @property
    def results(self) -> Storage:
        """Where its artifacts are."""
        return self.output or self.storage

    def artifact_key(self, name: str) -> str:
        """Their key there; raises nothing, whatever the name is."""
        return name if self.output else keys.artifact(self.ref, name)

    def store_artifact(self, name: str, data: bytes, content_type: str) -> None:
        """Store an artifact of an item."""
        self.results.put(self.artifact_key(name), data, content_type=content_type)

    def store_refs(self, head: JobHead, shard: int, outcomes: Iterable[Outcome]) -> None:
        """Store a shard's inputs and results where the results are, as a manifest that others read too."""
        if self.output and head.output:
            lines = [_refs(head.output, outcome) for outcome in sorted(outcomes, key=_number) if outcome.artifacts]
            if lines:
                key = keys.refs(keys.id_of(self.ref), shard)
                self.output.put(key, b"".join(lines), content_type="application/jsonl")

    def mark_success(self) -> None:
        """All that the job wrote to its output is there."""
        if self.output:
            self.output.put(keys.SUCCESS, b"")

    def store_rollup(self, rollup: Rollup, *, if_absent: bool = False) -> bool:
        """Store the counts of a run of shards; with `if_absent`, False where some are there already."""
        key = keys.rollup(self.ref, rollup.number, self.retry)
        return self.storage.put(key, rollup.model_dump_json().encode(), if_absent=if_absent)

    def rollup(self, number: int) -> Rollup | None:
        """The counts of a run of shards."""
        data = self._read(keys.rollup(self.ref, number, self.retry))
        return Rollup.model_validate_json(data) if data else None

    # Its end

    def mark_cancelled(self, *, cancelled: bool = True) -> None:
        """A ledger made anew must not run the job again."""
        self._mark(keys.cancelled(self.ref, self.retry), there=cancelled)

    def mark_paused(self, *, paused: bool = True) -> None:
        """A ledger made anew must hold the job."""
        self._mark(keys.paused(self.ref, self.retry), there=paused)

    def _mark(self, key: str, *, there: bool) -> None:
        if there:
            self.storage.put(key, b"")
        else:
            self.storage.delete(key)

    def is_cancelled(self) -> bool:
        """Whether somebody cancelled the job."""
        return self.storage.size(keys.cancelled(self.ref, self.retry)) is not None

    def is_paused(self) -> bool:
        """Whether somebody paused the job and nobody resumed it."""
        return self.storage.size(keys.paused(self.ref, self.retry)) is not None

    def store_priority(self, priority: int) -> None:
        """A ledger made anew must know the priority that the job was given."""
        self.storage.put(keys.priority(self.ref), str(priority).encode())

    def priority(self) -> int | None:
        """The priority that the job was given after it was accepted, if it was."""
        data = self._read(keys.priority(self.ref))
        return int(data) if data else None

    def store_report(self, report: JobStatus) -> None:
        """Store the final status, unless it is there; that of a retry takes the place of the one before."""
        self.storage.put(keys.report(self.ref), report.model_dump_json().encode(), if_absent=not self.retry)

    def report(self) -> JobStatus | None:
        """The final status."""
        data = self._read(keys.report(self.ref))
        return JobStatus.model_validate_json(data) if data else None

    def is_over(self) -> bool:
        """Whether the final status of this run is stored."""
        report = self.report()
        return report is not None and report.retries >= self.retry

    def is_open(self) -> bool:
        """Whether the job, or a retry of it, is marked as not finished; while its closing is under way it is."""
        marker = keys.open_marker(self.ref)
        return any(key == marker or key.startswith(f"{marker}~") for key in self.storage.list(marker))

    def forget_records(self) -> None:
        """The job is not there any more, for whoever asks, though most of what it stored still is.

        Its report goes last: without that, a job that is over would be one that waits to be entered.
        """
        for key in (keys.job(self.ref), keys.sized(self.ref), keys.head(self.ref), keys.report(self.ref)):
            self.storage.delete(key)

    def forget_open(self) -> None:
        """The job is over: its marker goes, and what only its run needed."""
        head = self.head()
        if head and head.passwords:
            self.storage.delete(head.passwords)
        self.storage.delete(keys.open_marker(self.ref, self.retry))

    def forget_unaccepted(self, now: float) -> None:
        """Remove the marker of a job that was never accepted, a day after it was set."""
        marker = keys.open_marker(self.ref, self.retry)
        if now - _time_in(self._read(marker)) > ABANDONED_SECONDS:
            self.storage.delete(marker)

    def _read(self, key: str) -> bytes | None:
        with suppress(KeyNotFound):
            return self.storage.get(key)
        return None


def open_runs(storage: Storage) -> Iterator[JobFiles]:
    """The files of the jobs and retries that are marked as not finished."""
    opened = map(keys.opened, storage.list(keys.OPEN))
    return (JobFiles(storage, ref, retry=retry) for ref, retry in opened)


def abandoned_uploads(storage: Storage, now: float) -> Iterator[str]:
    """Remove what requests stored that never became a job's, a day after they began; the folders removed."""
    for marker in list(storage.list(keys.RECEIVING)):
        with suppress(KeyNotFound):
            began = _time_in(storage.get(marker))
            if now - began < ABANDONED_SECONDS:
                continue
            ref, _, folder = marker.removeprefix(keys.RECEIVING).partition("/")
            files = JobFiles(storage, ref)
            if files.is_of_job(folder):
                # Whoever accepted the job died before it took the marker back.
                files.mark_received(folder)
                continue
            for key in list(storage.list(keys.inputs(ref, f"{folder}/"))):
                storage.delete(key)
            files.mark_received(folder)
            yield f"{ref}/{folder}"


def last_alike(storage: Storage, job: Job, digest: str) -> str | None:
    """The id of the last completed job of the tenant whose results stand for this one's, with a model of `digest`."""
    with suppress(KeyNotFound):
        return storage.get(keys.alike(job.tenant, _alike(job, digest))).decode()
    return None


def remember_alike(storage: Storage, job: Job, digest: str) -> None:
    """The job is completed: its results stand for those of jobs like it."""
    storage.put(keys.alike(job.tenant, _alike(job, digest)), job.id.encode())


def _alike(job: Job, digest: str) -> str:
    """A hash of what such jobs share: sources, output, model, and what is kept and made of each picture."""
    shared = {"sources": [source.model_dump(mode="json") for source in job.sources], "output": job.output}
    options = job.options.model_dump(mode="json", exclude=INDIFFERENT)
    document = json.dumps({**shared, "options": options, "digest": digest}, sort_keys=True)
    return hashlib.sha256(document.encode()).hexdigest()


def _piece_key(folder: str, number: int) -> str:
    return f"{folder}{number:08d}.jsonl"


def _time_in(marker: bytes | None) -> float:
    """The time that a marker holds; 0 where it is spoiled, as by a power cut."""
    with suppress(ValueError):
        return float(marker or 0)
    return 0


def count(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How many outcomes there are of each status."""
    return dict(Counter[str](outcome.status for outcome in outcomes))


def _refs(output: str, outcome: Outcome) -> bytes:
    """A line as Ground Truth has them: `source-ref` is the input, `maskmill-ref` its result."""
    top = output.rstrip("/") + "/"
    results = {f"maskmill-{kind}": top + name for kind, name in outcome.artifacts.items()}
    line = {"source-ref": outcome.input_path, "maskmill-ref": next(iter(results.values())), **results}
    page = {} if outcome.page_index is None else {"page_index": outcome.page_index}
    return json.dumps(line | page, ensure_ascii=False).encode() + b"\n"


def _number(outcome: Outcome) -> int:
    return outcome.number


def _decode_outcomes(data: bytes) -> Iterator[Outcome]:
    return map(Outcome.model_validate_json, data.splitlines())
