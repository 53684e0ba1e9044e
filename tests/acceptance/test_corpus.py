"""154 awkward real files as one job: an outcome for each, no crash, memory under a stated bound."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from maskmill.shared.jobs.records import Outcome
from maskmill.shared.jobs.sources import PathSource, PdfOptions
from tests.services.workers import descendants, run_workers, settings_for

# The largest picture of the corpus has 15 megapixels (46 MB); a child with model and libraries takes about 250 MB.
PEAK_RSS_MB = 900
# A page of four gigapixels is refused on purpose, whatever another reader makes of it.
REFUSED = {"pdf-bad/poppler-85140-0.pdf"}


def readable(entry: dict[str, Any]) -> bool:
    """Whether the libraries that the manifest asked read the file."""
    probe = entry["probe"]
    pictures = probe.get("load") == "ok" and bool(probe.get("cv2"))
    return entry["file"] not in REFUSED and (pictures or "pdfium" in probe or "with_password" in probe)


def peak_rss_mb() -> int:
    """The most memory that any process below this one has held, in MB."""
    status = "\n".join(Path(f"/proc/{pid}/status").read_text() for pid in descendants(os.getpid()))
    return max(int(kilobytes) for kilobytes in re.findall(r"VmHWM:\s+(\d+)", status)) // 1024


def test_every_file_has_its_outcomes_and_harms_no_other(test_data: Path, tmp_path: Path, redis_url: str) -> None:
    corpus = test_data / "corpus"
    entries = json.loads((corpus / "manifest.json").read_text())
    sources = [
        PathSource(path=str(corpus / entry["file"]), pdf=PdfOptions(password=entry.get("password")))
        for entry in entries
    ]
    settings = settings_for(tmp_path, redis_url, MASKMILL_LOCAL_ROOTS=str(corpus))
    with run_workers(settings) as workers:
        job_id = workers.submit(sources, shard_size=32)
        report = workers.wait(job_id, 240)
        peak = peak_rss_mb()
        found = workers.outcomes(job_id)
    assert report.state == "completed"
    by_file: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in found:
        by_file[str(Path(outcome.input_path).relative_to(corpus))].append(outcome)
    assert set(by_file) == {entry["file"] for entry in entries}
    unread = [
        (name, outcome.error)
        for name in (entry["file"] for entry in entries if readable(entry))
        for outcome in by_file[name]
        if outcome.status != "succeeded"
    ]
    assert unread == []
    assert {outcome.error.code for outcome in found if outcome.error} <= {
        *("unreadable", "truncated", "empty", "unsupported_format", "too_many_pixels"),
        *("pdf_encrypted", "pdf_no_pages", "pdf_page_too_large"),
    }
    assert peak < PEAK_RSS_MB
    print(f"\n{len(entries)} files, {len(found)} items, {report.counts.failed} failed, peak RSS {peak} MB")
