"""Our service away is waited for, our service refusing is waited for loudly, their object refused is a failure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from maskmill.shared.egress.http import Egress
from maskmill.shared.errors import KeyNotFound, ObjectRefused, UrlUnreachable
from maskmill.shared.ledger import Ledger
from maskmill.shared.settings import Settings
from maskmill.shared.storage import Storage, for_one_object, open_storage
from maskmill.worker import retry
from maskmill.worker.retry import outage, patiently, trouble
from tests.services import FileServer, RedisServer, run_redis
from tests.services.process import free_port
from tests.services.s3_proxy import S3Proxy, s3_proxy


@pytest.fixture
def proxy(s3_settings: Settings) -> Iterator[S3Proxy]:
    assert s3_settings.s3_endpoint
    with s3_proxy(s3_settings.s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def storage(s3_settings: Settings, proxy: S3Proxy) -> Storage:
    return open_storage(s3_settings.model_copy(update={"s3_endpoint": proxy.endpoint}))


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the log has had lately does not count for the next test."""
    monkeypatch.setattr(retry, "_waits", type(retry._waits)())


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)


def test_a_storage_that_refuses_pauses_the_work_loudly_until_it_is_mended(
    storage: Storage, proxy: S3Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.refuses = lambda _method, _path: True
    with ThreadPoolExecutor(4) as pool:
        puts = [pool.submit(patiently, storage.put, f"key-{number}", b"x") for number in range(4)]
        wait_for(lambda: min(proxy.count("PUT", f"key-{number}") for number in range(4)) >= 3)
        reason = trouble()
        assert outage()
        assert not any(put.done() for put in puts)
        proxy.refuses = lambda _method, _path: False
        assert all(put.result() for put in puts)
    assert reason.startswith("refused since 20")
    for told in ("AccessDenied", proxy.endpoint, "check the bucket's name, the access key and what it is permitted"):
        assert told in reason
    assert (trouble(), outage()) == ("", False)
    assert [record.levelname for record in caplog.records if record.name == retry.__name__] == ["ERROR"]
    assert "AccessDenied" in caplog.text
    assert sorted(storage.list()) == [f"key-{number}" for number in range(4)]


def test_it_is_trouble_until_the_last_thread_is_through_and_since_the_first_was_refused(
    storage: Storage, proxy: S3Proxy
) -> None:
    refused = {"first", "second"}
    proxy.refuses = lambda _method, path: path.rsplit("/", 1)[-1] in refused
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(patiently, storage.put, "first", b"x")
        wait_for(lambda: trouble() != "")
        reason = trouble()
        second = pool.submit(patiently, storage.put, "second", b"x")
        wait_for(lambda: proxy.count("PUT", "second") >= 2)
        assert "first" in trouble()
        assert trouble()[:40] == reason[:40]
        refused.remove("first")
        assert first.result()
        assert "second" in trouble()
        refused.clear()
        assert second.result()
    assert trouble() == ""


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_an_object_that_is_refused_is_not_waited_for(storage: Storage, proxy: S3Proxy, method: str) -> None:
    storage.put("theirs", b"x")
    proxy.refuses = lambda asked, path: asked == method and path.endswith("theirs")
    call = storage.get if method == "GET" else partial(storage.put, data=b"x")
    with pytest.raises(ObjectRefused, match="theirs"):
        patiently(for_one_object, storage, call, "theirs")
    assert trouble() == ""


def test_an_object_is_waited_for_while_the_storage_refuses_everything(storage: Storage, proxy: S3Proxy) -> None:
    storage.put("theirs", b"x")
    proxy.refuses = lambda _method, _path: True
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(patiently, for_one_object, storage, storage.get, "theirs")
        wait_for(lambda: trouble() != "")
        assert not read.done()
        proxy.refuses = lambda _method, _path: False
        assert read.result() == b"x"


def test_what_is_not_there_is_not_waited_for(storage: Storage) -> None:
    with pytest.raises(KeyNotFound):
        patiently(for_one_object, storage, storage.get, "nothing")


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with run_redis() as server:
        yield server


def test_a_redis_that_is_away_is_waited_for_and_is_no_refusal(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(redis.url, "test")
    redis.kill()
    waiting = threading.Thread(target=patiently, args=(ledger.ping,))
    waiting.start()
    wait_for(outage)
    assert trouble() == ""
    redis.start()
    waiting.join()
    assert not outage()
    assert {record.levelname for record in caplog.records if record.name == retry.__name__} == {"WARNING"}
    ledger.disconnect()


def test_a_url_that_does_not_answer_gets_three_tries(file_server: FileServer) -> None:
    egress = Egress(Settings(allow_networks=("127.0.0.0/8",)))
    with pytest.raises(UrlUnreachable, match="503"):
        patiently(egress.fetch, file_server.add("a", b"", status=503))
    assert file_server.requests == ["/a"] * 3
    with pytest.raises(UrlUnreachable):
        patiently(egress.fetch, f"http://127.0.0.1:{free_port()}/")
    assert not outage()
    egress.close()


def test_any_other_error_is_raised_at_once() -> None:
    with pytest.raises(ZeroDivisionError):
        patiently(lambda: 1 // 0)
    assert not outage()
