"""The status of a job, from its hash of the ledger."""

from __future__ import annotations

from maskmill.shared.ledger.records import job_status


def test_what_a_cancelled_job_skips_is_no_work_done() -> None:
    fields = {
        **dict.fromkeys(("name", "priority"), "0"),
        "state": "cancelled",
        "model": "shapes",
        "total": "1000",
        "planned": "1000",
        "created_at": "100",
        "succeeded": "15",
        "failed": "5",
        "skipped": "980",
        "started_at": "100",
        "progress_at": "110",
    }
    assert job_status("a" * 24, fields, now=200).rate == 2.0
