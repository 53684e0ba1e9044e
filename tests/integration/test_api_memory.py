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

from maskmill.api.services import Services
from maskmill.shared.replies import InteractiveReply
from tests.integration.conftest import SHAPES
from tests.services.api_server import ApiServer, run_api
from tests.services.workers import descendants

BODIES = 32
# Base64 of zeros: 45 MB of a file in 60 MB of JSON.
DATA = "A" * 60_000_000
# A process needs 90 MB to begin with. The 64 MiB of bodies that it lets in at once are there up to five times: bytes,
# the parsed text, the decoded file, what is hashed and stored. Without a bound 16 bodies took 2.9 GB each process.
PEAK_BYTES = 520 << 20


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


def post_all(url: str, body: bytes, *, in_chunks: bool) -> Counter[int]:
    def post(_: int) -> int:
        data = iter([body[:1000], body[1000:]]) if in_chunks else body
        answer = requests.post(url, data=data, headers={"Content-Type": "application/json"}, timeout=300)
        assert answer.status_code != 503 or answer.headers["Retry-After"]
        return answer.status_code

    with ThreadPoolExecutor(BODIES) as pool:
        return Counter(pool.map(post, range(BODIES)))


@pytest.mark.parametrize("in_chunks", [False, True])
def test_many_large_jobs_at_once_stay_within_bounds(server: ApiServer, in_chunks: bool) -> None:
    document = {"sources": [{"type": "base64", "name": "zeros.png", "data": DATA}]}
    statuses = post_all(f"{server.url}/v1/jobs", json.dumps(document).encode(), in_chunks=in_chunks)
    assert set(statuses) <= {202, 503}
    assert statuses[202]
    assert peak(server) < PEAK_BYTES
    # And those that come later find room again.
    small = requests.post(f"{server.url}/v1/jobs", json={"sources": [document["sources"][0]]}, timeout=300)
    assert small.status_code == 202


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
            statuses = post_all(f"{server.url}/instance-segmentation", body, in_chunks=False)
        finally:
            over.set()
        worker.result()
    assert set(statuses) <= {200, 503}
    assert statuses[200]
    assert peak(server) < PEAK_BYTES


def test_small_bodies_pass_while_large_ones_fill_the_room(services: Services) -> None:
    with services.large_bodies.hold(64 << 20):
        from maskmill.api import create_app

        web = create_app(services.settings, services).test_client()
        small = web.post("/v1/jobs", json={"sources": [{"type": "url", "url": "http://127.0.0.1/x.jpg"}]})
        assert small.status_code == 202
