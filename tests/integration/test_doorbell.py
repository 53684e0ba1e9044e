"""The doorbells: no more of them than there are ears, over a real Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from maskmill.shared.doorbell import CONTROL_QUEUE, LISTEN_SECONDS, Doorbell, queue_name
from maskmill.shared.settings import Settings

BULK = queue_name("bulk", "shapes")


@pytest.fixture
def doorbell(redis_url: str) -> Iterator[Doorbell]:
    held = Doorbell(Settings(redis_url=redis_url, redis_prefix="test"))
    yield held
    held.close()


def test_where_nobody_listens_one_bell_waits_however_much_there_is_to_do(doorbell: Doorbell) -> None:
    for _ in range(20):
        doorbell.ring("bulk", "shapes", 1000)
        doorbell.ring_control(1000)
    assert (doorbell.waiting(BULK), doorbell.waiting(CONTROL_QUEUE)) == (1, 1)


def test_a_bell_is_rung_for_each_who_listens_and_no_more(doorbell: Doorbell) -> None:
    for number in range(50):
        doorbell.listen(BULK, f"host-{number}/cpu/bulk")
    doorbell.ring("bulk", "shapes", 3)
    assert doorbell.waiting(BULK) == 3
    doorbell.ring("bulk", "shapes", 50)
    assert doorbell.waiting(BULK) == 50
    for _ in range(20):
        doorbell.ring("bulk", "shapes", 1000)
    assert doorbell.waiting(BULK) == 50


def test_a_control_worker_hears_as_many_bells_as_it_has_threads(doorbell: Doorbell) -> None:
    doorbell.listen(CONTROL_QUEUE, "one", 8)
    doorbell.listen(CONTROL_QUEUE, "another", 8)
    doorbell.listen(CONTROL_QUEUE, "another", 8)
    doorbell.ring_control(3)
    assert doorbell.waiting(CONTROL_QUEUE) == 3
    doorbell.ring_control(1000)
    assert doorbell.waiting(CONTROL_QUEUE) == 16


def test_who_listens_to_one_queue_is_not_rung_for_in_another(doorbell: Doorbell) -> None:
    for number in range(5):
        doorbell.listen(BULK, f"host-{number}/cpu/bulk")
    doorbell.ring("interactive", "shapes", 5)
    doorbell.ring("bulk", "other", 5)
    assert doorbell.waiting(queue_name("interactive", "shapes")) == 1
    assert doorbell.waiting(queue_name("bulk", "other")) == 1


def test_who_has_not_said_so_for_long_is_not_rung_for(doorbell: Doorbell, redis_url: str) -> None:
    doorbell.listen(BULK, "gone", 10)
    with Redis.from_url(redis_url) as client:
        ears = f"test:ears:{BULK}"
        for ear in client.zrange(ears, 0, -1):
            client.zincrby(ears, -LISTEN_SECONDS - 1, ear)
        doorbell.listen(BULK, "here", 2)
        assert client.zcard(ears) == 2
    doorbell.ring("bulk", "shapes", 10)
    assert doorbell.waiting(BULK) == 2
