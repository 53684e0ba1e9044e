"""Job, Item, Outcome and Options, as they are stored and sent; the job states and the moves between them."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from maskmill.shared.errors import MaskmillError
from maskmill.shared.folder_inputs import LeftOut
from maskmill.shared.jobs.keys import DEFAULT_TENANT, TENANT_PATTERN, job_ref
from maskmill.shared.jobs.sources import Location, PdfOptions, Source, Wire

ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
JOB_ID_PATTERN = r"^[0-9a-z]{8,40}$"

JobState = Literal["queued", "planning", "running", "paused", "finalizing", "completed", "failed", "cancelled"]
OutcomeStatus = Literal["succeeded", "failed", "skipped"]
Lane = Literal["bulk", "interactive"]
EntryForm = Literal["picture", "paged", "archive", "unknown"]
MaskFormat = Literal["rle", "polygon", "dense"]

SHARDS_A_PAGE = 32
"""Shards whose items are planned, stored and entered together."""
SHARDS_A_ROLLUP = 1000
"""Shards whose outcomes are counted together in one file."""

MEMBERS_A_PIECE = 1000
"""Files of an archive that are stored, and read again, together."""

MOST_LABELS = 1 << 31
"""No model has so many classes."""
MOST_DAYS = 36_500
"""A hundred years."""
DAY_SECONDS = 86_400.0
MOST_NAMED = 10_000
"""Classes that a job may name: every worker reads them with the job's head."""

FINAL_STATES: frozenset[JobState] = frozenset({"completed", "failed", "cancelled"})

# From a state to those it may move to. `planning` and `running` differ in whether the last shard is known; a retry
# queues a job that is over again.
MOVES: dict[JobState, frozenset[JobState]] = {
    "queued": frozenset({"planning", "cancelled", "failed", "paused"}),
    "planning": frozenset({"running", "finalizing", "cancelled", "failed", "paused"}),
    "running": frozenset({"finalizing", "cancelled", "failed", "paused"}),
    "paused": frozenset({"queued", "planning", "running", "cancelled"}),
    "finalizing": frozenset({"completed", "failed"}),
    "completed": frozenset({"queued"}),
    "failed": frozenset({"queued"}),
    "cancelled": frozenset({"queued"}),
}


def model_name(place: str | Path) -> str:
    """What the model is called that has this name, or lies there: the last part, "-" for what no name may hold."""
    name = Path(place).absolute().name.removesuffix(".onnx")
    return re.sub("[^A-Za-z0-9._-]+", "-", name).lstrip("._-")[:100] or "model"


def new_job_id() -> str:
    """An id of 24 characters that sorts by time: 10 for the millisecond, 14 random (70 bits)."""
    millisecond = time.time_ns() // 1_000_000
    stamp = "".join(ID_ALPHABET[(millisecond >> shift) & 31] for shift in range(45, -1, -5))
    return stamp + "".join(secrets.choice(ID_ALPHABET) for _ in range(14))


def _inside_unit_interval(value: float) -> float:
    if not 0 < value < 1:
        raise ValueError(f"must lie between 0 and 1, both excluded; got {value:g}")
    return value


UnitFloat = Annotated[
    float,
    AfterValidator(_inside_unit_interval),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}),
]


def _label_or_number(value: object) -> object:
    known = isinstance(value, (str, int)) and not isinstance(value, bool)
    if not known or (isinstance(value, int) and not 0 <= value < MOST_LABELS):
        raise ValueError(f"expected a label, or a class's number from 0 on; got {value!r:.80}")
    # A ValueError where it holds half of a surrogate pair, which no JSON file can.
    str(value).encode()
    return value


def _some(classes: tuple[str | int, ...] | None) -> tuple[str | int, ...] | None:
    if classes is not None and not classes:
        raise ValueError("names no class, so nothing would be kept; leave it out to keep all")
    return classes


ClassName = Annotated[
    str | int,
    BeforeValidator(_label_or_number),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}]}),
]


class Options(Wire):
    """What the user wants done with every input of a job."""

    model: str = Field(
        default="shapes",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="Name of the model; left out, the first of the API's MASKMILL_MODELS, or the only one served.",
    )
    threshold: UnitFloat | None = Field(default=None, description="Lowest score kept; none means the model's own.")
    nms_iou: UnitFloat | None = Field(
        default=None, description="Overlap at which NMS drops the lower score, where the model leaves NMS to us."
    )
    classes: Annotated[tuple[ClassName, ...] | None, AfterValidator(_some)] = Field(
        default=None,
        max_length=MOST_NAMED,
        description="Only these classes are kept, each by its label or its number from 0; at least one.",
    )
    thresholds: dict[ClassName, UnitFloat] | None = Field(
        default=None,
        max_length=MOST_NAMED,
        description="Lowest score kept by class, by its label or number; the others keep `threshold`.",
    )
    max_instances: int | None = Field(
        default=None, ge=1, description="At most so many are kept of a picture, those of the highest score."
    )
    mask_format: MaskFormat = Field(
        default="rle",
        description="Form of the masks: COCO's run lengths, polygons, or rows of 0 and 1 inside the box.",
    )
    save_json: bool = Field(default=True, description="Store NAME_res.json for each item.")
    save_image: bool = Field(default=True, description="Store the picture with masks, boxes and labels drawn.")
    image_format: Literal["jpg", "input"] = Field(
        default="jpg", description='Format of the drawn picture: JPEG, or "input" for the input\'s own.'
    )
    sample: int | None = Field(
        default=None, ge=2, description="Only every so-manieth input, from the first on; a PDF is one."
    )
    skip_existing: bool = Field(
        default=False,
        description="Skip objects of buckets that the last completed job of the same sources and options has done.",
    )
    since_job: str | None = Field(
        default=None, pattern=JOB_ID_PATTERN, description="Skip objects of buckets that this job has done."
    )
    priority: int = Field(default=0, ge=0, le=9, description="Higher goes first.")
    max_failure_rate: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="The job fails once more than this share of its items has failed; judged from 100 done items on.",
    )
    pdf: PdfOptions = Field(
        default=PdfOptions(), description="How PDFs become pictures; a source's own `pdf` goes first."
    )


class JobHead(Wire):
    """What workers, status and pages need of a job: all but its sources; stored as head.json."""

    version: Literal[1] = 1
    id: str = Field(pattern=JOB_ID_PATTERN, description="What its tenant calls it.")
    tenant: str = Field(default=DEFAULT_TENANT, pattern=TENANT_PATTERN)
    created_at: float
    options: Options = Options()
    shard_size: int = Field(ge=1)
    name: str | None = Field(default=None, max_length=200)
    dry_run: bool = Field(default=False, description="It is listed and counted; of its inputs a sample is run.")
    output: str | None = Field(default=None, description="s3://bucket/prefix/ for its artifacts; none: beside the job.")
    keep_days: int | None = Field(
        default=None, ge=1, le=MOST_DAYS, description="Once it is over it is kept so long; none: for ever."
    )
    keep_uploads_days: int | None = Field(
        default=None, ge=1, le=MOST_DAYS, description="So long its uploads are kept, if not as long as the job."
    )
    passwords: str | None = Field(default=None, description="Where the passwords of its PDFs lie while it runs.")

    @property
    def ref(self) -> str:
        """What the system calls it."""
        return job_ref(self.tenant, self.id)

    @property
    def page_size(self) -> int:
        """Items in a plan page; only the last page has fewer."""
        return self.shard_size * SHARDS_A_PAGE


class Job(JobHead):
    """A job as accepted, immutable; stored as job.json."""

    sources: tuple[Source, ...]
    request_digest: str | None = None

    @property
    def head(self) -> JobHead:
        """The job without its sources."""
        return JobHead.model_validate({name: getattr(self, name) for name in JobHead.model_fields})


class Failure(Wire):
    """Why an item or a job failed: in which stage, a code for programs, a reason for people."""

    stage: str
    code: str
    reason: str

    @classmethod
    def of(cls, stage: str, error: Exception) -> Failure:
        """The failure that `error` makes at `stage`; what is not ours says its type, not its traceback."""
        if isinstance(error, MaskmillError):
            return cls(stage=stage, code=error.code, reason=error.reason)
        return cls(stage=stage, code="internal", reason=f"{type(error).__name__}: {error}"[:500])


class Item(Wire):
    """One picture to segment: a whole image file, or one page of a PDF or TIFF (`page_index` from 0)."""

    number: int
    input_path: str
    name: str
    location: Location
    page_index: int | None = None
    pdf: PdfOptions | None = None
    existing: bool = Field(default=False, description="An earlier job has done it; it is skipped.")
    source: int = Field(default=0, description="Which of the job's sources it is of, from 0.")
    failure: Failure | None = Field(default=None, description="Set by the planner where the input cannot be read.")


class Entry(Wire):
    """What a listing finds: a file or URL, not yet its pages.

    `position` is its place inside its source, from which the listing goes on; `name` what its results are called after;
    `form` what its name says of it: one picture, a file that may have pages, or nothing.
    """

    source: int
    position: str
    index: int = Field(default=0, description="How many entries the listing has before it.")
    input_path: str
    name: str
    location: Location
    form: EntryForm = "unknown"
    pdf: PdfOptions | None = None
    failure: Failure | None = None
    named: bool = Field(default=True, description="Whether it is an input whatever its bytes are.")
    left_out: LeftOut | None = Field(default=None, description="What the listing has left out since the entry before.")

    @property
    def behind(self) -> ListingCursor:
        """Where its listing goes on after it."""
        return ListingCursor(source=self.source, position=self.position, listed=self.index + 1)


class ListingCursor(Wire):
    """Where a listing goes on: behind `position` of the source of that number; None is before its first entry."""

    source: int = 0
    position: str | None = None
    listed: int = Field(default=0, description="How many entries are before it.")


class Member(Wire):
    """A file of an archive that is an input; `name` is its path below the archive's, `label` its path as shown."""

    name: str
    label: str
    location: Location
    pages: tuple[tuple[int, int], ...] | None = None
    failure: Failure | None = None


class MemberList(Wire):
    """The members of an archive: `count` of them, stored MEMBERS_A_PIECE together below the key `folder`."""

    folder: str
    count: int


class Expansion(Wire):
    """What a worker found an entry to be: its pages as (first, last) pairs from 0, None for a plain picture.

    `entry` counts the entries of its chunk; `location` is where its bytes lie from now on; `is_input` is False for what
    nobody named and whose bytes are of no format that is read.
    """

    entry: int
    pages: tuple[tuple[int, int], ...] | None = None
    location: Location | None = None
    failure: Failure | None = None
    is_input: bool = True
    members: MemberList | None = Field(default=None, description="The inputs of an archive.")
    left_out: LeftOut | None = Field(default=None, description="What of an archive is no input.")


class Chunk(Wire):
    """A run of a listing that a worker has to look into; `after` is where the listing goes on, None at its end."""

    number: int
    after: ListingCursor | None
    entries: tuple[Entry, ...]


class PlanCursor(Wire):
    """Where planning goes on: with the listing and, before it, behind an entry's page inside a stored chunk.

    `chunks` counts the chunks that are stored; `inside` is (entry, page) of the last one, page None for a picture, and
    `member`, where that entry is an archive, the place in its list.
    """

    listing: ListingCursor | None = ListingCursor()
    chunks: int = 0
    inside: tuple[int, int | None] | None = None
    member: int | None = None


class PlanPage(Wire):
    """A run of a job's items, SHARDS_A_PAGE shards of them; `cursor` is where planning goes on, None after the last."""

    number: int
    items: tuple[Item, ...]
    cursor: PlanCursor | None = None
    left_out: LeftOut = Field(default_factory=LeftOut, description="What the listing has left out so far.")
    digest: str | None = Field(default=None, description="Of the model, as workers served it when this was planned.")

    def planned(self, head: JobHead) -> int:
        """How many items the plan holds up to and with this page; all pages before it are full."""
        return self.number * head.page_size + len(self.items)

    def shard(self, number: int, head: JobHead) -> tuple[Item, ...]:
        """The items of a shard of this page."""
        return self.items[_span_in_page(number, head)]

    def encode(self) -> bytes:
        """JSON lines: a header, then one line an item."""
        return encode_lines([self.model_copy(update={"items": ()})], whole=True) + encode_lines(self.items)

    @classmethod
    def decode(cls, data: bytes) -> PlanPage:
        """The inverse of `encode`."""
        first, *rest = data.splitlines()
        items = tuple(Item.model_validate_json(line) for line in rest)
        return cls.model_validate_json(first).model_copy(update={"items": items})

    @staticmethod
    def decode_shard(data: bytes, number: int, head: JobHead) -> tuple[Item, ...]:
        """The items of one shard of an encoded page; the others are not looked at."""
        _, *lines = data.splitlines()
        return tuple(map(Item.model_validate_json, lines[_span_in_page(number, head)]))


class Estimate(Wire):
    """What a dry run has found: entries by what their names say, and the bytes of those whose size a listing tells.

    `paged` may have pages or members, `unknown` have names that say nothing, `failing` fail as they are listed.
    """

    pictures: int = 0
    paged: int = 0
    unknown: int = 0
    failing: int = 0
    existing: int = Field(default=0, description="Pictures that an earlier job has done, and this one would skip.")
    size: int = Field(default=0, description="Bytes of those whose size is known.")
    sized: int = Field(default=0, description="How many that are.")

    @property
    def inputs(self) -> int:
        """How many entries there are."""
        return self.pictures + self.paged + self.unknown + self.failing


class Rollup(Wire):
    """What became of SHARDS_A_ROLLUP shards: items by outcome, and the shards that hold failures with their number."""

    number: int
    shards: int
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    failures: dict[int, int] = Field(default={}, description="Shards that hold failures, and how many.")


class Outcome(Wire):
    """The one final line about an item."""

    number: int
    status: OutcomeStatus
    input_path: str
    page_index: int | None = None
    artifacts: dict[str, str] = Field(default={}, description='"json" and "image": names below artifacts/.')
    width: int | None = None
    height: int | None = None
    instances: int | None = None
    error: Failure | None = None


class Retry(Wire):
    """Another run of what failed in a job that was over; numbered from 1, the job's first run being 0."""

    number: int
    codes: tuple[str, ...] | None = Field(default=None, description="Only failures of these codes; none: of all.")
    accepted_at: float

    def wants(self, outcome: Outcome) -> bool:
        """Whether the item of that outcome is to run again."""
        code = outcome.error.code if outcome.error else None
        return outcome.status == "failed" and (self.codes is None or code in self.codes)


class Counts(Wire):
    """How many of a job's items ended how; `total` is None while the planner still lists."""

    total: int | None = None
    planned: int = 0
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def done(self) -> int:
        """Items that have their outcome."""
        return self.succeeded + self.failed + self.skipped


class JobStatus(Wire):
    """A job as the status endpoint shows it; times in seconds since 1970, `rate` in items a second."""

    id: str
    name: str | None = None
    state: JobState
    model: str
    priority: int = 0
    counts: Counts
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    rate: float | None = None
    eta_seconds: float | None = None
    output: str | None = Field(default=None, description="Where its artifacts go, if not beside the job.")
    retries: int = Field(default=0, description="How often what failed was run again, or is now.")
    expires_at: float | None = Field(
        default=None, description="From the next midnight (UTC) on it is deleted, with all that it stored; none: never."
    )
    error: Failure | None = None
    trouble: str | None = Field(default=None, description="What its workers wait for, such as a storage that refuses.")
    left_out: LeftOut = Field(
        default_factory=LeftOut,
        description="What of folders, buckets and archives is no input, by reason: how many, and the first names.",
    )


def expires_at(ended_at: float | None, days: int | None) -> float | None:
    """When that expires which is kept so many days after the job was over; None for never, or not known yet."""
    return None if ended_at is None or days is None else ended_at + days * DAY_SECONDS


def page_of(shard: int) -> int:
    """The plan page that holds a shard's items."""
    return shard // SHARDS_A_PAGE


def _span_in_page(shard: int, head: JobHead) -> slice:
    """Where the items of a shard stand in its page."""
    start = (shard % SHARDS_A_PAGE) * head.shard_size
    return slice(start, start + head.shard_size)


def rollup_of(shard: int) -> int:
    """The roll-up that counts a shard."""
    return shard // SHARDS_A_ROLLUP


def shards_of(items: int, head: JobHead) -> int:
    """How many shards so many items of a job make."""
    return -(-items // head.shard_size)


def encode_lines(records: Iterable[Wire], *, whole: bool = False) -> bytes:
    """JSON lines; what is None is left out unless they are to be `whole`."""
    return b"".join(record.model_dump_json(exclude_none=not whole).encode() + b"\n" for record in records)
