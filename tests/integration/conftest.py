"""The API on a real Redis and a folder, and what a worker would leave there."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
from flask.testing import FlaskClient

from maskmill.api import create_app
from maskmill.api.services import Services
from maskmill.deploy.demo.scenes import draw_scene
from maskmill.shared.jobs.job_files import JobFiles
from maskmill.shared.jobs.records import SHARDS_A_PAGE, Failure, Item, OutcomeStatus, PlanPage, page_of
from maskmill.shared.jobs.sources import StoredBytes
from maskmill.shared.ledger import ModelCard
from maskmill.shared.settings import Settings
from maskmill.worker.outcomes import outcome_of
from tests.onnx_models import head_of, write_package
from tests.services import RedisServer, SeaweedServer, run_redis
from tests.services.api_server import ApiServer, run_api
from tests.services.control_site import ControlSite
from tests.services.s3_proxy import S3Proxy, s3_proxy
from tests.services.workers import run_workers, settings_for

SHAPES = ModelCard(name="shapes", digest="0" * 64, family="yolo_seg", labels=("disc", "star"), threshold=0.5)


@pytest.fixture(scope="session")
def api_settings(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of an API whose shards hold two items and whose local sources lie in one folder."""
    folder = tmp_path_factory.mktemp("api")
    return Settings(
        redis_url=redis_server.url,
        storage_url=f"file://{folder}/storage",
        shard_size=2,
        local_roots=(folder / "pictures",),
        allow_networks=("127.0.0.0/8",),
        max_input_bytes=3_000_000,
        max_sources=20,
        interactive_timeout=5,
        interactive_queue=2,
    )


@pytest.fixture
def services(api_settings: Settings, redis_url: str) -> Iterator[Services]:
    """The services of the API, empty but for one worker that says it serves `shapes`."""
    assert redis_url == api_settings.redis_url
    # Its hidden folder stays: the API that runs would take a folder without it for one that is not mounted.
    for kept in Path(api_settings.storage_url.removeprefix("file://")).glob("[!.]*"):
        shutil.rmtree(kept)
    held = Services.open(api_settings)
    held.ledger.serve("worker-of-the-test", [SHAPES])
    yield held
    held.close()


@pytest.fixture
def web(services: Services) -> FlaskClient:
    """The application, spoken to without a network."""
    return create_app(services.settings, services).test_client()


@pytest.fixture(scope="session")
def running_api(api_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One API of the whole run."""
    with run_api(api_settings, tmp_path_factory.mktemp("api-log")) as server:
        yield server


@pytest.fixture
def api_server(running_api: ApiServer, services: Services) -> ApiServer:
    """The application in processes of its own, over HTTP, beside the same services."""
    del services
    return running_api


@pytest.fixture(scope="session")
def drop_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """The drop-in endpoint of the whole run: Redis, API and a worker whose model finds two things in any picture."""
    folder = tmp_path_factory.mktemp("drop-in")
    head = head_of(((8, 8, 40, 40), 1, 0.9), ((20, 24, 60, 44), 0, 0.8))
    write_package(folder / "models/mine", head, by_brightness=False)
    more = {"MASKMILL_MODELS_DIR": f"{folder}/models", "MASKMILL_MODELS": "mine"}
    with run_redis() as redis:
        settings = settings_for(folder, redis.url, **more)
        with run_workers(settings, lane="interactive", control=False), run_api(settings, folder) as server:
            yield server


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for workers, with forty scenes in pictures/many."""
    place = tmp_path_factory.mktemp("workers")
    draw_pictures(place / "pictures/many", 40)
    return place


def draw_pictures(folder: Path, count: int) -> Path:
    """That many scenes of 160x120 as JPEG files in `folder`, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        scene = draw_scene(number, 160, 120)
        cv2.imwrite(str(folder / f"picture {number}.jpg"), cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR))
    return folder


@pytest.fixture
def site(tmp_path: Path, redis_url: str) -> Iterator[ControlSite]:
    """What control workers work on, in a folder and a Redis that is empty."""
    held = ControlSite(tmp_path, redis_url)
    yield held
    held.close()


# A user's bucket

Put = Callable[..., None]


@pytest.fixture
def bucket(s3_server: SeaweedServer) -> str:
    return s3_server.make_bucket()


@pytest.fixture
def put(s3_server: SeaweedServer, bucket: str) -> Put:
    """Put bytes under each of some keys."""

    def put(data: bytes, *keys: str, **more: str) -> None:
        for key in keys:
            s3_server.client().put_object(Bucket=bucket, Key=key, Body=data, **more)

    return put


@pytest.fixture
def bucket_settings(s3_server: SeaweedServer, bucket: str, tmp_path: Path, redis_url: str) -> Settings:
    """Settings whose storage is a folder, and which may read the bucket."""
    file = tmp_path / "buckets.toml"
    file.write_text(f"[{bucket}]\n")
    return settings_for(tmp_path, redis_url, **s3_server.env, MASKMILL_BUCKETS=str(file))


@pytest.fixture
def picture(place: Path) -> bytes:
    return (place / "pictures/many/picture 0.jpg").read_bytes()


@pytest.fixture
def proxied(s3_server: SeaweedServer) -> Iterator[S3Proxy]:
    with s3_proxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def through_proxy(bucket_settings: Settings, proxied: S3Proxy) -> Settings:
    """The settings of who reaches the bucket through the proxy."""
    return bucket_settings.model_copy(update={"s3_endpoint": proxied.endpoint})


def plan_shards(services: Services, job_id: str, shards: list[list[str]]) -> None:
    """Store the items of these shards as the planner does: all but the last are full."""
    size = services.settings.shard_size
    assert all(len(names) == size for names in shards[:-1])
    names = list(itertools.chain.from_iterable(shards))
    items = [
        Item(number=number, input_path=name, name=name, location=StoredBytes(key=f"inputs/{name}"))
        for number, name in enumerate(names)
    ]
    files = JobFiles(services.storage, job_id)
    length = size * SHARDS_A_PAGE
    for number in range(len(items) // length + 1):
        files.store_page(PlanPage(number=number, items=tuple(items[number * length : (number + 1) * length])))


def finish_shard(services: Services, job_id: str, shard: int, failures: dict[str, Failure] | None = None) -> None:
    """Store artifacts and outcomes as a worker does: what `failures` names fails, the rest succeeds."""
    files = JobFiles(services.storage, job_id)
    head, page = files.head(), files.page(page_of(shard))
    assert head
    assert page
    outcomes = []
    for item in page.shard(shard, head):
        failure = (failures or {}).get(item.name)
        artifacts = {} if failure else {"json": f"{item.name}_res.json", "image": f"{item.name}_res.jpg"}
        for kind, name in artifacts.items():
            files.store_artifact(name, f"{kind} of {item.name}".encode(), "application/octet-stream")
        status: OutcomeStatus = "failed" if failure else "succeeded"
        outcomes.append(outcome_of(item, status, artifacts=artifacts, error=failure))
    files.commit(shard, outcomes)
