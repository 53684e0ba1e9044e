"""Who waits gets a reply: batches, turns between models, lost bells, a bound of its own, large bytes in storage."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import requests
from redis import Redis

from maskmill.api.services import Services
from maskmill.shared.doorbell import queue_name
from maskmill.shared.errors import Overloaded
from maskmill.shared.jobs.records import Options
from maskmill.shared.replies import INLINE_BYTES, InteractiveQueue, InteractiveReply, InteractiveRequest
from maskmill.shared.settings import Settings
from maskmill.shared.storage import open_storage
from maskmill.worker.device import Device
from maskmill.worker.interactive import InteractiveRunner, InteractiveTask
from maskmill.worker.models import load
from maskmill.worker.pipeline.pipeline import Pipeline
from tests.integration.conftest import SHAPES
from tests.onnx_models import head_of, write_package
from tests.services import RedisServer, run_redis
from tests.services.api_server import ApiServer, run_api
from tests.services.workers import run_workers, settings_for, wait_until

PATH = "/instance-segmentation"
SIDES = range(80, 96)
LARGE = os.urandom(INLINE_BYTES + 1)


def picture(side: int) -> bytes:
    return cv2.imencode(".png", np.full((side, side, 3), 200, np.uint8))[1].tobytes()


def post(url: str, image: bytes, model: str | None = None) -> requests.Response:
    body = {"image": base64.b64encode(image).decode(), "model": model, "visualize": False}
    return requests.post(url + PATH, json=body, timeout=120)


def do_not_ring() -> None:
    """What a test passes whose worker needs no bell."""


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    """The embedded model: one run takes far longer than decoding a small picture."""
    settings = Settings(cpu_threads=1, batch_size=8)
    pipeline = Pipeline(load("shapes", Device("cpu"), settings), settings, lambda error: pytest.fail(str(error)))
    yield pipeline
    pipeline.close()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis of the test's own, whose statistics nobody else changes."""
    with run_redis() as server:
        yield server


@pytest.fixture
def two_models(tmp_path: Path, redis: RedisServer) -> Settings:
    """Settings of workers of two models that find one thing in any picture."""
    for name in ("a", "b"):
        write_package(tmp_path / "models" / name, head_of(((8, 8, 40, 40), 1, 0.9)), threshold=0.1)
    more = {"MASKMILL_MODELS_DIR": f"{tmp_path}/models", "MASKMILL_MODELS": "a,b"}
    return settings_for(tmp_path, redis.url, MASKMILL_INTERACTIVE_TIMEOUT="30", **more)


# Batches and turns


def test_waiting_requests_take_fewer_runs_than_they_are(pipeline: Pipeline, services: Services) -> None:
    settings = services.settings.model_copy(update={"interactive_queue": len(SIDES)})
    queue = InteractiveQueue(settings, services.storage)
    ids = [queue.submit("shapes", InteractiveRequest(picture(side))) for side in SIDES]
    InteractiveRunner(pipeline, queue, services.doorbell, Settings()).run()
    replies = [queue.wait(request_id, 10, do_not_ring) for request_id in ids]
    assert [(reply.width, reply.height) for reply in replies] == [(side, side) for side in SIDES]
    assert pipeline.progress.runs["decode"] == len(SIDES)
    assert pipeline.progress.runs["infer"] < len(SIDES)
    queue.close()


def test_constant_requests_for_one_model_do_not_starve_another(two_models: Settings) -> None:
    # The embedded model is slow enough that its line never gets empty.
    settings = two_models.model_copy(update={"models": ("shapes", "b")})
    over = threading.Event()

    def keep_line_full(queue: InteractiveQueue) -> None:
        while not over.wait(0.001):
            if queue.waiting("shapes") < 32:
                queue.submit("shapes", InteractiveRequest(picture(80), visualize=False))

    with run_workers(settings, lane="interactive", control=False) as workers, ThreadPoolExecutor(1) as pool:
        queue = InteractiveQueue(settings, workers.storage)
        load = pool.submit(keep_line_full, queue)
        with contextlib.ExitStack() as stack:
            stack.callback(over.set)
            wait_until(lambda: queue.waiting("shapes") == 32, 60)
            workers.doorbell.ring("interactive", "shapes")
            request_id = queue.submit("b", InteractiveRequest(picture(64)))
            workers.doorbell.ring("interactive", "b")
            assert queue.wait(request_id, 25, do_not_ring).width == 64
        assert load.exception() is None
        wait_until(lambda: queue.waiting("shapes") == 0, 60)
        queue.close()


# Bells


def test_a_request_whose_bell_is_lost_with_a_killed_worker_is_answered(two_models: Settings, tmp_path: Path) -> None:
    queue = f"{two_models.redis_prefix}:{queue_name('interactive', 'a')}"
    with (
        run_workers(two_models, lane="interactive", control=False) as workers,
        run_api(two_models, tmp_path) as server,
        Redis.from_url(two_models.redis_url) as redis,
        ThreadPoolExecutor(1) as pool,
    ):
        # Stopped, it holds what Redis has sent and does not note it; killed, it takes it along.
        main = min(workers.processes("device", "interactive"))
        os.kill(main, signal.SIGSTOP)
        before = rung(redis)
        answer = pool.submit(post, server.url, picture(80), "a")
        wait_until(lambda: rung(redis) > before, 20)
        redis.delete(queue)
        os.kill(main, signal.SIGKILL)
        assert answer.result().status_code == 200, answer.result().text


def rung(redis: Redis) -> int:
    """How many messages were ever sent through Redis."""
    return int(redis.info("commandstats").get("cmdstat_lpush", {"calls": 0})["calls"])


def test_many_who_wait_ring_no_more_than_once_while_a_bell_is_there(services: Services, tmp_path: Path) -> None:
    services.ledger.serve("host/cpu/interactive/1", [SHAPES])
    settings = services.settings.model_copy(update={"interactive_queue": 8, "interactive_timeout": 5})
    with run_api(settings, tmp_path) as server, ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(post, server.url, b"x") for _ in range(6)]
        assert {answer.result().status_code for answer in answers} == {504}
        # One each at most, as they came; none for each of the rounds in which they went on waiting.
        assert 1 <= services.doorbell.waiting(queue_name("interactive", "shapes")) <= 6


# The bound of those who wait


Answers = list[Future[requests.Response]]


@pytest.fixture
def full_api(services: Services, tmp_path: Path) -> Iterator[tuple[ApiServer, Answers]]:
    """An API whose every place to wait is taken, by requests for two models; the test plays the worker."""
    cards = [SHAPES, SHAPES.model_copy(update={"name": "coco"})]
    services.ledger.serve("host/cpu/interactive/1", cards)
    services.ledger.serve("host/cpu/bulk/2", cards)
    update = {"api_threads": 4, "interactive_queue": 64, "interactive_timeout": 60}
    with run_api(services.settings.model_copy(update=update), tmp_path) as server, ThreadPoolExecutor(24) as pool:
        answers = [pool.submit(post, server.url, b"x", card.name) for card in cards for _ in range(12)]
        wait_until(lambda: waiting(services) >= 2, 30)
        try:
            yield server, answers
        finally:
            reply_to_all(services, answers)


def waiting(services: Services) -> int:
    return services.interactive.waiting("shapes") + services.interactive.waiting("coco")


def reply_to_all(services: Services, answers: Answers) -> None:
    def all_done() -> bool:
        for model in ("shapes", "coco"):
            for request_id, _ in services.interactive.take(model, 8):
                services.interactive.reply(request_id, InteractiveReply())
        return all(answer.done() for answer in answers)

    wait_until(all_done, 60)


def test_health_and_status_answer_while_every_place_to_wait_is_taken(
    services: Services, full_api: tuple[ApiServer, Answers]
) -> None:
    server, answers = full_api
    job = {"sources": [{"type": "url", "url": "http://127.0.0.1/x.jpg"}]}
    submitted = requests.post(f"{server.url}/v1/jobs", json=job, timeout=10)
    assert submitted.status_code == 202
    # Often enough that both processes are asked, each over a connection of its own.
    for _ in range(8):
        for path in ("/health/live", "/health/ready", submitted.headers["Location"]):
            assert requests.get(server.url + path, timeout=10).status_code == 200
    wait_until(lambda: sum(answer.done() for answer in answers) + waiting(services) == len(answers), 30)
    refused = [answer.result() for answer in answers if answer.done()]
    assert len(refused) >= len(answers) - 4
    assert {answer.status_code for answer in refused} == {503}
    assert all(answer.headers["Retry-After"] and "wait for their replies" in answer.text for answer in refused)


def test_a_place_to_wait_is_free_again_after_the_answer(
    services: Services, full_api: tuple[ApiServer, Answers]
) -> None:
    server, answers = full_api
    reply_to_all(services, answers)
    assert {answer.result().status_code for answer in answers} == {200, 503}
    with ThreadPoolExecutor(2) as pool:
        later = [pool.submit(post, server.url, b"x", "shapes") for _ in range(2)]
        reply_to_all(services, later)
    assert [answer.result().status_code for answer in later] == [200, 200]


# Where the bytes are


@pytest.fixture(params=["file", "s3"])
def queue(request: pytest.FixtureRequest, redis_url: str) -> Iterator[InteractiveQueue]:
    """A queue on a folder, then on the S3-compatible server."""
    stored: Settings = request.getfixturevalue(f"{request.param}_settings")
    settings = stored.model_copy(update={"redis_url": redis_url, "interactive_queue": 2})
    queue = InteractiveQueue(settings, open_storage(settings))
    yield queue
    queue.close()


def stored(queue: InteractiveQueue) -> list[str]:
    return list(queue._storage.list())


def largest_value(redis_url: str) -> int:
    with Redis.from_url(redis_url) as redis:
        return max((redis.memory_usage(key) or 0 for key in redis.scan_iter("*")), default=0)


def test_large_bytes_go_by_way_of_storage_and_leave_nothing_there(queue: InteractiveQueue, redis_url: str) -> None:
    request_id = queue.submit("shapes", InteractiveRequest(LARGE, 0.25, visualize=False))
    assert largest_value(redis_url) < 1000
    assert stored(queue) == [f"interactive/{request_id}"]
    ((taken_id, taken),) = queue.take("shapes", 8)
    assert (taken_id, taken.threshold, taken.visualize) == (request_id, 0.25, False)
    assert queue.image(taken_id, taken) == LARGE
    assert stored(queue) == []
    queue.reply(request_id, InteractiveReply(width=3, instances=[{"label": "disc"}], image=LARGE))
    assert largest_value(redis_url) < 1000
    reply = queue.wait(request_id, 5, do_not_ring)
    assert (reply.width, reply.instances, reply.image) == (3, [{"label": "disc"}], LARGE)
    assert stored(queue) == []


def test_many_instances_count_as_large_too(queue: InteractiveQueue, redis_url: str) -> None:
    request_id = queue.submit("shapes", InteractiveRequest(b"x"))
    reply = InteractiveReply(instances=[{"mask": "0" * 1000}] * 1000)
    queue.reply(request_id, reply)
    assert largest_value(redis_url) < 1000
    assert queue.wait(request_id, 5, do_not_ring) == reply


def test_small_bytes_stay_on_redis(queue: InteractiveQueue) -> None:
    request_id = queue.submit("shapes", InteractiveRequest(b"x" * INLINE_BYTES))
    assert stored(queue) == []
    ((_, taken),) = queue.take("shapes", 8)
    assert queue.image(request_id, taken) == b"x" * INLINE_BYTES


def test_a_request_given_up_leaves_neither_bytes_nor_a_place_in_the_line(queue: InteractiveQueue) -> None:
    ids = [queue.submit("shapes", InteractiveRequest(LARGE)) for _ in range(2)]
    with pytest.raises(Overloaded):
        queue.submit("shapes", InteractiveRequest(LARGE))
    for request_id in ids:
        assert queue.is_awaited(request_id)
        queue.withdraw("shapes", request_id)
        assert not queue.is_awaited(request_id)
    assert stored(queue) == []
    assert queue.take("shapes", 8) == []
    queue.submit("shapes", InteractiveRequest(b"x"))


def test_a_reply_that_comes_as_its_request_is_given_up_leaves_nothing(queue: InteractiveQueue) -> None:
    request_id = queue.submit("shapes", InteractiveRequest(b"x"))
    queue.take("shapes", 8)
    queue.reply(request_id, InteractiveReply(image=LARGE))
    queue.withdraw("shapes", request_id)
    assert stored(queue) == []


def test_a_request_given_up_after_it_was_taken_is_not_run(pipeline: Pipeline, services: Services) -> None:
    queue, over = services.interactive, threading.Semaphore(0)
    request_id = queue.submit("shapes", InteractiveRequest(picture(80)))
    ((_, request),) = queue.take("shapes", 1)
    queue.withdraw("shapes", request_id)
    pipeline.put(InteractiveTask(request_id, request, ("disc",), queue, over, Options()))
    assert over.acquire(timeout=30)
    assert pipeline.progress.runs["decode"] == 0


def test_a_large_picture_that_waits_is_in_storage_and_not_in_redis(
    services: Services, api_server: ApiServer, redis_url: str
) -> None:
    services.ledger.serve("host/cpu/interactive/1", [SHAPES])
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, api_server.url, os.urandom(2_000_000))
        wait_until(lambda: services.interactive.waiting("shapes") == 1, 30)
        assert largest_value(redis_url) < INLINE_BYTES
        assert len(list(services.storage.list("interactive/"))) == 1
        assert answer.result().status_code == 504
    assert list(services.storage.list("interactive/")) == []


def test_what_killed_processes_left_in_storage_is_deleted_by_a_worker_that_starts(
    two_models: Settings,
) -> None:
    storage = open_storage(two_models)
    now = int(time.time())
    old = [f"interactive/{now - 7200:08x}-0123456789ab", f"interactive/{now - 86400 * 40:08x}-ba9876543210.reply"]
    young = f"interactive/{now - 60:08x}-0123456789ab"
    for key in [*old, young]:
        storage.put(key, b"left over")
    with run_workers(two_models, lane="interactive", control=False):
        wait_until(lambda: list(storage.list("interactive/")) == [young], 30)
    assert storage.get(young) == b"left over"


def test_leftovers_are_deleted_whatever_else_lies_beside_them(services: Services) -> None:
    storage = services.storage
    for name in (".hidden", "00000001-left", f"{int(time.time()):08x}-fresh", "strange"):
        storage.put(f"interactive/{name}", b"bytes")
    assert InteractiveQueue(services.settings, storage).expire() == 1
    left = list(storage.list("interactive/"))
    assert len(left) == 3
    assert "interactive/00000001-left" not in left
