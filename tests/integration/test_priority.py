"""Another priority for a job that runs: in effect at the next claim, and kept over a loss of Redis."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from maskmill.api.services import Services
from maskmill.client.client import Client, ClientError
from maskmill.shared.errors import IllegalMove, NotFound
from tests.services.api_server import ApiServer
from tests.services.commands import maskmill
from tests.services.control_site import ControlSite

URL = {"type": "url", "url": "https://example.org/a.jpg"}


def claimed(site: ControlSite, count: int) -> list[str]:
    """Whose shards are claimed next."""
    leases = [site.ledger.claim("shapes", "worker") for _ in range(count)]
    return [lease.ref for lease in leases if lease]


def test_the_next_claim_goes_by_it(site: ControlSite) -> None:
    first, second = site.plan(6), site.plan(6)
    assert set(claimed(site, 2)) == {first, second}
    assert site.ledger.set_priority(second, 5) == "running"
    assert claimed(site, 2) == [second, second]
    site.ledger.set_priority(first, 9)
    assert claimed(site, 2) == [first, first]
    assert site.status(first).priority == 9
    site.ledger.set_priority(first, 0)
    assert claimed(site, 3) == [second] * 3
    assert claimed(site, 9) == [first] * 3


def test_among_its_equals_it_waits_no_longer_than_before(site: ControlSite) -> None:
    first, second, third = site.plan(3), site.plan(3), site.plan(3)
    for ref in (third, second, first):
        site.ledger.set_priority(ref, 4)
    assert claimed(site, 4) == [first, second, third, first]


def test_it_holds_for_what_is_paused_or_has_nothing_ready(site: ControlSite) -> None:
    first, second = site.plan(2), site.submit(2)
    site.ledger.set_priority(second, 3)
    site.runner().run()
    site.ledger.pause(second)
    site.ledger.set_priority(second, 4)
    assert claimed(site, 1) == [first]
    site.ledger.resume(second)
    assert claimed(site, 3) == [second, second, first]


def test_it_outlives_redis(site: ControlSite) -> None:
    first, second = site.plan(2), site.plan(2)
    site.files(second).store_priority(7)
    site.ledger.set_priority(second, 7)
    site.redis.flushall()
    site.sweeper().recover()
    site.runner().run()
    assert site.status(second).priority == 7
    assert claimed(site, 4) == [second, second, first, first]


def test_a_job_that_is_over_takes_none(site: ControlSite) -> None:
    ref = site.plan(1)
    site.work(ref, 1)
    for _ in range(2):
        with pytest.raises(IllegalMove, match="takes no other priority"):
            site.ledger.set_priority(ref, 1)
        site.runner().run()
    assert site.report(ref).priority == 0
    with pytest.raises(NotFound):
        site.ledger.set_priority("0123456789", 1)


def test_the_api_keeps_it_in_the_storage(web: FlaskClient, services: Services) -> None:
    job = web.post("/v1/jobs", json={"sources": [URL], "options": {"priority": 2}}).json
    assert web.post(job["links"]["priority"], json={"priority": 6}).json["priority"] == 6
    # It lies there before the ledger is asked: here one that knows nothing of the job.
    services.ledger._redis.flushall()
    assert web.get(job["links"]["self"]).json["priority"] == 6
    assert web.post(job["links"]["priority"], json={"priority": 8}).json["priority"] == 8
    status = services.ledger.status(job["id"])
    assert status
    assert status.priority == 8
    web.post(job["links"]["cancel"])
    refused = web.post(job["links"]["priority"], json={"priority": 1})
    assert (refused.status_code, "cancelled already" in refused.json["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({"priority": 10}, "/priority"), ({"priority": -1}, "/priority"), ({}, "/priority"), ({"prio": 1}, "/prio")],
)
def test_what_is_no_priority_is_named(web: FlaskClient, body: object, pointer: str) -> None:
    job = web.post("/v1/jobs", json={"sources": [URL]}).json
    answer = web.post(job["links"]["priority"], json=body)
    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in answer.json["errors"]]


def test_the_client_and_the_command_set_it(api_server: ApiServer) -> None:
    client = Client(api_server.url)
    job_id = client.submit([URL["url"]]).id
    assert client.set_priority(job_id, 4).priority == 4
    done = maskmill("priority", job_id, "9", "--json", "--api", api_server.url)
    assert (done.returncode, '"priority":9' in done.stdout) == (0, True)
    assert maskmill("priority", job_id, "10", "--api", api_server.url).returncode == 2
    client.cancel(job_id)
    with pytest.raises(ClientError, match="cancelled already") as caught:
        client.set_priority(job_id, 1)
    assert caught.value.status == 409
