"""What became of each item, and its artifacts."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from maskmill.api.services import Services
from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import Failure
from tests.integration.conftest import finish_shard, plan_shards

BROKEN = Failure(stage="decode", code="unreadable", reason="broken")


@pytest.fixture
def job_id(web: FlaskClient) -> str:
    """An accepted job; its shards hold two items."""
    answer = web.post("/v1/jobs", json={"sources": [{"type": "url", "url": "https://example.org/a.jpg"}]})
    return str(answer.json["id"])


@pytest.fixture
def five_items(services: Services, job_id: str) -> str:
    """A job of five items: two done, one of them failed; then one done; the rest is planned."""
    plan_shards(services, job_id, [["a", "b"], ["c", "d"], ["e"]])
    finish_shard(services, job_id, 0, {"b": BROKEN})
    return job_id


def collect(web: FlaskClient, job_id: str, **query: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    while True:
        page = web.get(f"/v1/jobs/{job_id}/items", query_string=query).json
        items += page["items"]
        if not page["has_more"]:
            assert page["next"] is None
            return items
        query["after"] = page["next"]


def test_planned_items_and_outcomes_are_one_list(web: FlaskClient, five_items: str) -> None:
    items = collect(web, five_items)
    assert [item["number"] for item in items] == [0, 1, 2, 3, 4]
    assert [item["status"] for item in items] == ["succeeded", "failed", "pending", "pending", "pending"]
    assert items[1]["error"] == {"stage": "decode", "code": "unreadable", "reason": "broken"}


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 1000])
def test_pages_of_any_size_hold_every_item_once(web: FlaskClient, five_items: str, limit: int) -> None:
    assert [item["number"] for item in collect(web, five_items, limit=limit)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("status", "numbers"), [("succeeded", [0]), ("failed", [1]), ("pending", [2, 3, 4]), ("skipped", [])]
)
def test_items_are_filtered_by_status(web: FlaskClient, five_items: str, status: str, numbers: list[int]) -> None:
    for limit in (1, 100):
        assert [item["number"] for item in collect(web, five_items, status=status, limit=limit)] == numbers


def test_what_a_cancelled_job_left_undone_is_skipped(web: FlaskClient, five_items: str) -> None:
    web.post(f"/v1/jobs/{five_items}/cancel")
    assert [item["status"] for item in collect(web, five_items)] == ["succeeded", "failed"] + ["skipped"] * 3


def test_one_page_reads_a_bounded_number_of_shards(web: FlaskClient, services: Services, job_id: str) -> None:
    plan_shards(services, job_id, [[f"{number}a", f"{number}b"] for number in range(40)])
    page = web.get(f"/v1/jobs/{job_id}/items", query_string={"status": "succeeded"}).json
    assert page == {"items": [], "has_more": True, "next": 63}
    assert collect(web, job_id, status="succeeded") == collect(web, job_id, status="failed") == []


def test_a_job_without_planned_items_has_an_empty_list(web: FlaskClient, job_id: str) -> None:
    assert collect(web, job_id) == []


def test_one_item_is_shown_with_links_that_lead_to_its_artifacts(web: FlaskClient, five_items: str) -> None:
    item = web.get(f"/v1/jobs/{five_items}/items/0").json
    assert web.get(item["links"]["self"]).json == item
    result = web.get(item["links"]["json"])
    assert (result.data, result.content_type) == (b"json of a", "application/json")
    drawn = web.get(item["links"]["image"])
    assert (drawn.data, drawn.content_type) == (b"image of a", "image/jpeg")
    assert drawn.headers["Content-Length"] == "10"


def test_an_item_that_is_not_there_is_not_found(web: FlaskClient, five_items: str) -> None:
    for number in ("5", "99999999", "abc", "-1"):
        assert web.get(f"/v1/jobs/{five_items}/items/{number}").status_code == 404


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 1001}, {"status": "done"}, {"after": "x"}])
def test_a_wrong_query_is_named(web: FlaskClient, five_items: str, query: dict[str, Any]) -> None:
    answer = web.get(f"/v1/jobs/{five_items}/items", query_string=query)
    assert answer.status_code == 422
    assert answer.json["errors"][0]["pointer"] == f"?{next(iter(query))}"


def test_an_artifact_of_any_name_is_served(web: FlaskClient, services: Services, job_id: str) -> None:
    plan_shards(services, job_id, [["sub folder/ä #1?%.x"]])
    finish_shard(services, job_id, 0)
    link = collect(web, job_id)[0]["links"]["json"]
    assert web.get(link).data == b"json of sub folder/\xc3\xa4 #1?%.x"


@pytest.mark.parametrize(
    "name",
    [
        "none.json",
        "..%2fjob.json",
        "../job.json",
        "%2e%2e/job.json",
        "a/../../job.json",
        "/etc/passwd",
        "a%00b",
        "a//b",
    ],
)
def test_no_name_leads_out_of_the_artifacts(web: FlaskClient, job_id: str, name: str) -> None:
    answer = web.get(f"/v1/jobs/{job_id}/artifacts/{name}")
    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"


def test_a_large_artifact_is_whole(web: FlaskClient, services: Services, job_id: str) -> None:
    data = bytes(range(256)) * 8192
    services.storage.put(keys.artifact(job_id, "large_res.jpg"), data)
    assert web.get(f"/v1/jobs/{job_id}/artifacts/large_res.jpg").data == data
