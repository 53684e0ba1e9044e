"""Fixtures of every test: real services, started when the first test asks for them."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from maskmill.shared.settings import Settings
from tests.services import FileServer, RedisServer, SeaweedServer, run_redis, run_seaweed, serve_files

ROOT = Path(__file__).resolve().parents[1]

# Told to do without IPP, OpenCV warns of it in every process; the tests read what the commands say.
if "OPENCV_IPP" in os.environ:
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The whole suite runs in several processes, each with services of its own; what is named by hand runs in this one.

    One more than there are cores: most tests wait for something most of the time.
    """
    return min((os.cpu_count() or 1) + 1, 4) if config.args == config.getini("testpaths") else 0


# What waits longest begins first: a long file that begins last keeps one process busy while the others have ended.
FIRST = (
    "test_supervisor",
    "test_workers",
    "test_outages",
    "test_api_memory",
    "test_up",
    "test_storage",
    "test_interactive",
    "test_egress_deadline",
    "test_supervised_devices",
    "test_worker_signals",
    "test_refusals",
    "test_kills",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order whole files by `FIRST`; the others follow as they were collected."""
    items.sort(key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST))


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> None:
    """Let Ctrl-C reach what is tested: a run in the background inherits, and would hand on, that it is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis of the whole run; a test that kills Redis makes its own with `run_redis`."""
    with run_redis() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of a Redis that is empty when the test begins."""
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[SeaweedServer]:
    """One S3-compatible server of the whole run; a test that kills it makes its own with `run_seaweed`."""
    with run_seaweed() as server:
        yield server


@pytest.fixture(scope="session")
def s3_bucket(s3_server: SeaweedServer) -> str:
    """One bucket of the whole run; a test has its own prefix of it."""
    return s3_server.make_bucket()


@pytest.fixture
def s3_url(s3_bucket: str) -> str:
    """A storage URL below a fresh prefix."""
    return f"s3://{s3_bucket}/{uuid.uuid4().hex}/prefix"


@pytest.fixture
def s3_settings(s3_server: SeaweedServer, s3_url: str) -> Settings:
    """Settings whose storage is a fresh prefix on the S3-compatible server."""
    return Settings.from_env({**s3_server.env, "MASKMILL_STORAGE_URL": s3_url})


@pytest.fixture
def file_settings(tmp_path: Path) -> Settings:
    """Settings whose storage is a fresh folder."""
    return Settings.from_env({"MASKMILL_STORAGE_URL": f"file://{tmp_path}/storage"})


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    """A loopback HTTP server for URL sources."""
    with serve_files() as server:
        yield server


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Pictures and models that are not in the repository; where they are absent the test is skipped, or fails on CI."""
    folder = Path(os.environ.get("TEST_DATA_DIR", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        refuse(f"no test data at {folder}; set TEST_DATA_DIR to its folder")
    return folder


def refuse(reason: str) -> None:
    """Skip the test for what is not on this machine, or fail it on CI."""
    pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
