"""A job's artifacts endpoint gives that job's artifacts and nothing else, however the path is written."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from maskmill.shared.jobs import keys
from maskmill.shared.jobs.records import JobHead
from maskmill.shared.settings import Settings
from maskmill.shared.storage import open_storage
from tests.services.api_server import ApiServer, run_api

MINE, OTHER = "0123456789", "abcdefghjk"
SECRET = b"what another job was told"
UP = ["..", "%2e%2e", "%2E.", "%252e%252e", "..%00", "..;", "..\\"]
CLIMBS = [
    *(f"{up}/{up}/{OTHER}/job.json" for up in UP),
    *(f"x/{up}/{up}/{up}/{OTHER}/job.json" for up in UP),
    *(f"{up}%2F{up}%2F{OTHER}%2Fjob.json" for up in UP),
    f"%5c..%5c..%5c{OTHER}%5cjob.json",
    f"/jobs/{OTHER}/job.json",
    f"%2Fjobs/{OTHER}/job.json",
    f"./../../{OTHER}/job.json",
    f"..//..//{OTHER}/job.json",
]


@pytest.fixture(params=["file", "s3"])
def server(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> Iterator[ApiServer]:
    """An API on a folder, then on the S3-compatible server, with two jobs."""
    stored: Settings = request.getfixturevalue(f"{request.param}_settings")
    settings = stored.model_copy(update={"redis_url": redis_url})
    storage = open_storage(settings)
    storage.put(keys.head(MINE), JobHead(id=MINE, created_at=0, shard_size=2).model_dump_json().encode())
    storage.put(keys.artifact(MINE, "own_res.json"), b"own")
    storage.put(keys.job(OTHER), SECRET)
    with run_api(settings, tmp_path) as running:
        yield running


def get(server: ApiServer, path: str) -> tuple[int, bytes]:
    """The answer to a path sent as it is: other clients resolve `..` themselves."""
    with contextlib.closing(http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)) as client:
        client.putrequest("GET", path, skip_accept_encoding=True)
        client.endheaders()
        answer = client.getresponse()
        return answer.status, answer.read()


def test_no_path_leads_out_of_the_jobs_artifacts(server: ApiServer) -> None:
    assert get(server, f"/v1/jobs/{MINE}/artifacts/own_res.json") == (200, b"own")
    for climb in CLIMBS:
        status, body = get(server, f"/v1/jobs/{MINE}/artifacts/{climb}")
        assert status in (400, 404), f"{climb}: {status} {body[:100]!r}"
        assert SECRET not in body
    for name in ("..", "%2e%2e", f"{MINE}%2F..%2F{OTHER}", f"..%2F{OTHER}"):
        assert get(server, f"/v1/jobs/{name}/artifacts/own_res.json")[0] in (400, 404)


def test_where_clients_reach_the_server_they_are_led_there(
    s3_settings: Settings, redis_url: str, tmp_path: Path
) -> None:
    reached = {"redis_url": redis_url, "s3_public_endpoint": s3_settings.s3_endpoint}
    settings = s3_settings.model_copy(update=reached)
    storage = open_storage(settings)
    storage.put(keys.head(MINE), JobHead(id=MINE, created_at=0, shard_size=2).model_dump_json().encode())
    storage.put(keys.artifact(MINE, "a b/own_res.json"), b"own", content_type="application/json")
    with run_api(settings, tmp_path) as running:
        url = f"{running.url}/v1/jobs/{MINE}/artifacts/a b/own_res.json"
        answer = requests.get(url, timeout=60, allow_redirects=False)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (307, "no-store")
        assert requests.get(url, timeout=60).content == b"own"
        assert requests.get(f"{url}x", timeout=60).status_code == 404
