"""What an API process takes in memory is bounded, however many large JSON bodies come at once."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from maskmill.api import create_app
from maskmill.api.services import Services
from maskmill.shared.replies import InteractiveReply
from tests.integration.conftest import SHAPES
from tests.services.api_server import ApiServer, run_api
from tests.services.workers import descendants

BODIES = 16
# Base64 of zeros: 45 MB of a file in 60 MB of JSON.
DATA = "A" * 60_000_000
# A process has 90 MB to begin with, and the 64 MiB of bodies that it lets in at once are there several times over while
# they are parsed, hashed, decoded and stored: 300 MB were measured, where 32 bodies took 1.8 GB without the bound.
PEAK_BYTES = 400 << 20


@pytest.fixture
def server(services: Services, tmp_path: Path) -> Iterator[ApiServer]:
    """An API of its own, as a process keeps its peak, that takes inputs of this size."""
    services.ledger.serve("host/cpu/interactive/1", [SHAPES])
    with run_api(services.settings.model_copy(update={"max_input_bytes": 128 << 20}), tmp_path) as running:
        yield running


def peak(server: ApiServer) -> int:
    """The most bytes that any of the server's processes ever had resident."""
    peaks = []
    for pid in [server.process.pid, *descendants(server.process.pid)]:
        (kib,) = re.findall(r"^VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
        peaks.append(int(kib) << 10)
    return max(peaks)


def post_all(url: str, body: bytes, how: str = "with its length") -> Counter[int]:
    head = b'--x\r\nContent-Disposition: form-data; name="job"\r\n\r\n'
    form = head + body + b"\r\n--x--\r\n" if how == "as a part" else b""
    kind = "multipart/form-data; boundary=x" if form else "application/json"

    def post(_: int) -> int:
        data = iter([body[:1000], body[1000:]]) if how == "in chunks" else form or body
        answer = requests.post(url, data=data, headers={"Content-Type": kind}, timeout=300)
        assert answer.status_code != 503 or answer.headers["Retry-After"]
        return answer.status_code

    with ThreadPoolExecutor(BODIES) as pool:
        return Counter(pool.map(post, range(BODIES)))


@pytest.mark.parametrize("how", ["with its length", "in chunks", "as a part"])
def test_many_large_jobs_at_once_stay_within_bounds(server: ApiServer, how: str) -> None:
    source = {"type": "base64", "name": "zeros.png", "data": DATA}
    statuses = post_all(f"{server.url}/v1/jobs", json.dumps({"sources": [source]}).encode(), how)
    assert set(statuses) <= {202, 503}
    assert statuses[202]
    assert peak(server) < PEAK_BYTES
    # And who comes later finds room again.
    assert requests.post(f"{server.url}/v1/jobs", json={"sources": [source]}, timeout=300).status_code == 202


def test_many_large_requests_to_the_drop_in_endpoint_at_once_stay_within_bounds(
    server: ApiServer, services: Services
) -> None:
    over = threading.Event()

    def play_worker() -> None:
        while not over.wait(0.02):
            for request_id, request in services.interactive.take("shapes", 1):
                assert len(services.interactive.image(request_id, request)) == 45_000_000
                services.interactive.reply(request_id, InteractiveReply())

    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(play_worker)
        try:
            body = json.dumps({"image": DATA}).encode()
            statuses = post_all(f"{server.url}/instance-segmentation", body)
        finally:
            over.set()
        worker.result()
    assert set(statuses) <= {200, 503}
    assert statuses[200]
    assert peak(server) < PEAK_BYTES


def test_small_bodies_pass_while_large_ones_fill_the_room(services: Services) -> None:
    web = create_app(services.settings, services).test_client()
    with services.large_bodies.hold(64 << 20):
        small = web.post("/v1/jobs", json={"sources": [{"type": "url", "url": "http://127.0.0.1/x.jpg"}]})
        assert small.status_code == 202
