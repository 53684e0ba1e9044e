"""Whatever Redis says while it cannot be used is an outage that says what to do; a defect of ours stays one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from maskmill.api import create_app
from maskmill.api.services import Services
from maskmill.shared.connection import connect, reachable
from maskmill.shared.doorbell import Doorbell
from maskmill.shared.errors import LedgerUnavailable
from maskmill.shared.jobs.records import Job, new_job_id
from maskmill.shared.ledger import Ledger
from maskmill.shared.replies import InteractiveQueue, InteractiveRequest
from maskmill.shared.settings import Settings
from maskmill.shared.storage import open_storage
from tests.integration.conftest import SHAPES
from tests.services import RedisServer, run_redis
from tests.services.forwarder import forward
from tests.services.process import free_port

State = Callable[[RedisServer, Redis], None]


def fill(_: RedisServer, admin: Redis) -> None:
    admin.config_set("maxmemory", "1mb")
    with suppress(RedisError):
        for number in range(100):
            admin.set(f"filling-{number}", b"x" * 100_000)


def follow_a_dead_primary(_: RedisServer, admin: Redis) -> None:
    admin.execute_command("REPLICAOF", "127.0.0.1", free_port())


def follow_a_dead_primary_and_say_so(server: RedisServer, admin: Redis) -> None:
    admin.config_set("replica-serve-stale-data", "no")
    follow_a_dead_primary(server, admin)


def lack_replicas(_: RedisServer, admin: Redis) -> None:
    admin.config_set("min-replicas-to-write", 1)


def ask_for_a_password(_: RedisServer, admin: Redis) -> None:
    admin.config_set("requirepass", "secret")
    admin.client_kill_filter(_type="normal")


def forbid_a_command(_: RedisServer, admin: Redis) -> None:
    admin.execute_command("ACL", "SETUSER", "default", "-hset", "-set", "-sadd", "-lpush")


def forbid_a_key(_: RedisServer, admin: Redis) -> None:
    admin.execute_command("ACL", "SETUSER", "default", "resetkeys", "~elsewhere:*")


def fail_to_save(server: RedisServer, admin: Redis) -> None:
    gone = server.folder / "gone"
    gone.mkdir()
    for name, value in (("appendonly", "no"), ("dir", gone), ("save", "3600 1")):
        admin.config_set(name, str(value))
    shutil.rmtree(gone)
    admin.bgsave()
    wait_for(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")


def take_no_more_clients(_: RedisServer, admin: Redis) -> None:
    admin.config_set("maxclients", 1)


def run_an_endless_script(server: RedisServer, admin: Redis) -> None:
    admin.config_set("lua-time-limit", 10)

    def spin() -> None:
        with suppress(RedisError), Redis.from_url(server.url) as client:
            client.eval("while true do end", 0)

    threading.Thread(target=spin, daemon=True).start()

    def busy() -> bool:
        with suppress(ResponseError):
            return not admin.ping()
        return True

    wait_for(busy)


STATES = [
    pytest.param(fill, "OOM command not allowed", "raise its maxmemory", id="OOM"),
    pytest.param(follow_a_dead_primary, "READONLY", "MASKMILL_REDIS_URL must lead to the primary", id="READONLY"),
    pytest.param(follow_a_dead_primary_and_say_so, "MASTERDOWN|READONLY", "must lead to the primary", id="MASTERDOWN"),
    pytest.param(lack_replicas, "NOREPLICAS", "min-replicas-to-write", id="NOREPLICAS"),
    pytest.param(ask_for_a_password, "uthenticat", "redis://USER:PASSWORD@HOST", id="NOAUTH"),
    pytest.param(forbid_a_command, "NOPERM|can't run this command", "MASKMILL_REDIS_PREFIX", id="NOPERM"),
    pytest.param(forbid_a_key, "NOPERM", "MASKMILL_REDIS_PREFIX", id="NOPERM-key"),
    pytest.param(fail_to_save, "MISCONF", "cannot save to its disk", id="MISCONF"),
    pytest.param(take_no_more_clients, "max number of clients", "maxclients", id="maxclients"),
    pytest.param(run_an_endless_script, "BUSY", "SCRIPT KILL", id="BUSY"),
]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis of the test's own, to be put into any state."""
    with run_redis() as server:
        yield server
        # Some states keep it from ending by itself.
        server.kill()


@pytest.fixture
def admin(server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(server.url) as client:
        client.ping()
        yield client


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)


def new_job() -> Job:
    return Job(id=new_job_id(), created_at=1.0, sources=(), shard_size=1)


@contextmanager
def users(url: str) -> Iterator[dict[str, Callable[[], object]]]:
    """Every way in which Maskmill speaks to Redis: a command, a script, a pipeline, a bell rung by Celery."""
    settings = Settings(redis_url=url, redis_prefix="test")
    ledger, queue, doorbell = (
        Ledger(url, "test"),
        InteractiveQueue(settings, open_storage(settings)),
        Doorbell(settings),
    )

    yield {
        "command": lambda: ledger.serve("worker", [SHAPES]),
        "script": lambda: ledger.enter(new_job()),
        "pipeline": lambda: queue.submit("shapes", InteractiveRequest(b"picture")),
        "bell": lambda: doorbell.ring("bulk", "shapes"),
    }
    ledger.disconnect()
    queue.close()
    doorbell.close()


@pytest.mark.parametrize(("state", "said", "advice"), STATES)
def test_a_state_that_an_operator_mends_is_an_outage_that_says_what_to_do(
    server: RedisServer, admin: Redis, state: State, said: str, advice: str
) -> None:
    with users(server.url) as ways:
        state(server, admin)
        for name, way in ways.items():
            with pytest.raises(LedgerUnavailable, match=f"(?s)(?:{said}).*{advice}") as caught:
                way()
            assert "picture" not in caught.value.reason, name


def test_what_redis_refused_before_goes_on_once_it_is_mended(server: RedisServer, admin: Redis) -> None:
    with users(server.url) as ways:
        fill(server, admin)
        for way in ways.values():
            with pytest.raises(LedgerUnavailable):
                way()
        admin.config_set("maxmemory", "0")
        for way in ways.values():
            way()


def test_a_redis_that_reads_its_data_is_waited_for(server: RedisServer, admin: Redis) -> None:
    for number in range(500):
        admin.set(f"key-{number}", os.urandom(50_000).hex())
    admin.save()
    server.kill()
    # 20 ms a key, ten seconds in all: it is still reading when it is asked, also by a busy machine.
    server.process.command += ["--appendonly", "no", "--key-load-delay", "20000"]
    server.process.start()
    said = ""
    with connect(server.url, text=True) as client:
        while "LOADING" not in said:
            with pytest.raises(LedgerUnavailable) as caught, reachable():
                client.get("key-0")
            said = caught.value.reason
    assert "answers when it is done" in said


def test_a_redis_that_stands_still_is_away_and_is_found_again(server: RedisServer) -> None:
    with connect(server.url, text=True, seconds=0.2) as client:
        client.ping()
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(LedgerUnavailable, match="does not answer"), reachable():
                client.get("key")
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        with reachable():
            assert client.ping()


def test_what_is_no_redis_is_said_to_be_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        client = connect(f"redis://127.0.0.1:{listener.getsockname()[1]}/0", text=True)
        with pytest.raises(LedgerUnavailable, match=r"no Redis.*MASKMILL_REDIS_URL"), reachable():
            client.ping()
        client.close()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_database_that_redis_does_not_have_is_the_urls_fault(server: RedisServer) -> None:
    with (
        connect(server.url.replace("/0", "/99"), text=True) as client,
        pytest.raises(LedgerUnavailable, match=r"DB index is out of range.*MASKMILL_REDIS_URL"),
        reachable(),
    ):
        client.ping()


@pytest.mark.parametrize(
    "mistake",
    [
        lambda client: client.hget("text", "field"),
        lambda client: client.execute_command("GET"),
        lambda client: client.eval("return redis.call('HGET', 'text', 'field')", 0),
        lambda client: client.eval("return nil + 1", 0),
        lambda client: client.pipeline().hset("text", "OOM READONLY: BUSY", "x").execute(),
    ],
)
def test_a_defect_of_ours_is_no_outage(server: RedisServer, mistake: Callable[[Redis], object]) -> None:
    with connect(server.url, text=True) as client:
        client.set("text", "x")
        with pytest.raises(ResponseError), reachable():
            mistake(client)


def test_after_a_failover_the_address_is_asked_for_anew(server: RedisServer, admin: Redis, tmp_path: Path) -> None:
    port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    with run_redis(tmp_path) as promoted, forward(port) as address:
        ledger = Ledger(f"redis://127.0.0.1:{address.port}/0", "test")
        ledger.serve("before", [SHAPES])
        follow_a_dead_primary(server, admin)
        address.target = int(promoted.url.rsplit(":", 1)[1].split("/")[0])
        ledger.serve("after", [SHAPES])
        assert set(ledger.workers()) == {"after"}
        ledger.disconnect()


@pytest.mark.parametrize("state", [fill, follow_a_dead_primary, lack_replicas, fail_to_save])
def test_a_job_is_accepted_while_redis_takes_no_writes(
    server: RedisServer, admin: Redis, tmp_path: Path, state: State
) -> None:
    settings = Settings(redis_url=server.url, storage_url=f"file://{tmp_path}/storage")
    services = Services.open(settings)
    services.ledger.serve("worker", [SHAPES])
    web = create_app(settings, services).test_client()
    state(server, admin)
    answer = web.post("/v1/jobs", json={"sources": [{"type": "url", "url": "http://example.com/a.jpg"}]})
    assert answer.status_code == 202, answer.text
    assert services.storage.size(f"jobs/{json.loads(answer.text)['id']}/job.json")
    services.close()
