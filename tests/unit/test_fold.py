"""What a retry gave, in place of the failures before."""

from __future__ import annotations

from maskmill.shared.jobs.records import Failure, Item, Outcome, Retry, Rollup
from maskmill.shared.jobs.sources import ObjectBytes, UrlBytes
from maskmill.worker.control.failed_items import anew
from maskmill.worker.control.fold import Ended, folded_outcomes, folded_rollup

AWAY = Failure(stage="fetch", code="url_unreachable", reason="nobody answers")


def succeeded(number: int) -> Outcome:
    return Outcome(number=number, status="succeeded", input_path="a")


def failed(number: int, code: str = "url_unreachable") -> Outcome:
    return Outcome(number=number, status="failed", input_path="a", error=AWAY.model_copy(update={"code": code}))


def test_what_ended_again_takes_the_place_of_its_failure_and_nothing_else_moves() -> None:
    stored = [succeeded(0), failed(1), failed(2), failed(3)]
    ended = [Ended(0, succeeded(1)), Ended(0, failed(3, "truncated"))]
    folded = folded_outcomes(stored, ended)
    assert folded == [succeeded(0), succeeded(1), failed(2), failed(3, "truncated")]
    assert folded_outcomes(folded, ended) == folded


def test_a_rollup_counts_what_fails_now_however_often_it_is_folded() -> None:
    stored = Rollup(number=0, shards=1000, succeeded=3990, failed=10, failures={1: 4, 2: 3, 7: 2, 8: 1})
    folded = folded_rollup(stored, {1: 0, 7: 1})
    assert (folded.succeeded, folded.failed, folded.failures) == (3995, 5, {2: 3, 7: 1, 8: 1})
    assert folded_rollup(folded, {1: 0, 7: 1}) == folded
    # As one that died among the shards and goes on with a part of them.
    assert folded_rollup(folded, {7: 1}) == folded


def test_a_retry_wants_failures_of_its_codes() -> None:
    every, some = Retry(number=1, accepted_at=0), Retry(number=1, codes=("truncated",), accepted_at=0)
    assert [every.wants(one) for one in (succeeded(0), failed(1))] == [False, True]
    assert [some.wants(one) for one in (failed(1), failed(2, "truncated"))] == [False, True]


def test_an_input_that_was_put_right_is_read_as_it_lies_there_now() -> None:
    pinned = ObjectBytes(bucket="photos", key="a", etag="old", size=3)
    item = Item(number=7, input_path="a", name="a", location=pinned, failure=AWAY)
    assert anew(item) == item.model_copy(update={"failure": None, "location": ObjectBytes(bucket="photos", key="a")})
    version = pinned.model_copy(update={"version": "v1"})
    assert anew(item.model_copy(update={"location": version})).location == version.model_copy(update={"size": None})
    page = item.model_copy(update={"page_index": 2})
    assert anew(page).location == pinned
    url = item.model_copy(update={"location": UrlBytes(url="http://example.com/a")})
    assert anew(url).location == url.location
