"""Every error below /v1 is a problem document; health and the API's own description."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from flask.testing import FlaskClient
from openapi_spec_validator import validate
from pydantic import SecretStr

from maskmill.api import create_app
from maskmill.api.services import Services
from maskmill.shared.settings import Settings
from tests.integration.conftest import SHAPES
from tests.services.api_server import run_api
from tests.services.s3_proxy import S3Proxy


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nope", 404),
        ("GET", "/v1", 404),
        ("PUT", "/v1/jobs", 405),
        ("PATCH", "/v1/jobs/0123456789", 405),
        ("POST", "/v1/jobs", 400),
    ],
)
def test_every_error_below_v1_is_a_problem_document(web: FlaskClient, method: str, path: str, status: int) -> None:
    answer = web.open(path, method=method)
    assert answer.status_code == answer.json["status"] == status
    assert answer.content_type == "application/problem+json"
    assert {"type", "title", "detail", "code", "instance", "errors"} < set(answer.json)
    assert answer.json["instance"] == path


def test_a_wrong_method_names_the_right_ones(web: FlaskClient) -> None:
    assert set(re.split(", *", web.put("/v1/jobs").headers["Allow"])) == {"GET", "HEAD", "POST"}


def test_an_error_nobody_expected_tells_nothing_of_the_inside(services: Services) -> None:
    app = create_app(services.settings, services)

    @app.get("/v1/broken")
    def broken() -> str:
        raise KeyError("/home/someone/secret")

    answer = app.test_client().get("/v1/broken")
    assert answer.status_code == 500
    assert answer.json["code"] == "internal"
    assert "secret" not in answer.text


def test_alive_is_alive(web: FlaskClient) -> None:
    assert web.get("/health/live").json == {"status": "live"}


def test_ready_tells_by_model_and_lane_what_is_served(web: FlaskClient, services: Services) -> None:
    services.ledger.leave("worker-of-the-test")
    services.ledger.serve("a/b/cpu/bulk/17", [SHAPES])
    answer = web.get("/health/ready")
    assert answer.status_code == 200
    assert answer.json["checks"] == dict.fromkeys(("redis", "storage", "models", "workers"), "ok")
    assert answer.json["models"] == {"shapes": {"bulk": True, "interactive": False}}
    assert web.get("/health/ready?lane=bulk").status_code == 200
    loading = web.get("/health/ready?lane=interactive")
    assert loading.status_code == 503
    assert (loading.json["status"], loading.json["models"]) == ("not ready", answer.json["models"])
    assert "interactive" in loading.json["checks"]["models"]
    services.ledger.serve("host/gpu:0/interactive/18", [SHAPES, SHAPES.model_copy(update={"name": "coco"})])
    both = web.get("/health/ready?lane=interactive")
    assert both.status_code == 200
    assert both.json["models"] == {
        "coco": {"bulk": False, "interactive": True},
        "shapes": {"bulk": True, "interactive": True},
    }


def test_not_ready_without_a_worker_but_alive(web: FlaskClient, services: Services) -> None:
    services.ledger.leave("worker-of-the-test")
    answer = web.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json["models"] == {}
    assert (answer.json["checks"]["redis"], answer.json["checks"]["storage"]) == ("ok", "ok")
    assert "no worker is running" in answer.json["checks"]["models"]
    assert web.get("/health").status_code == web.get("/health/live").status_code == 200


def test_not_ready_where_the_storage_refuses_us(s3_settings: Settings, redis_url: str) -> None:
    wrong = s3_settings.model_copy(update={"redis_url": redis_url, "s3_secret_key": SecretStr("not the secret")})
    held = Services.open(wrong)
    held.ledger.serve("host/cpu/bulk/1", [SHAPES])
    answer = create_app(wrong, held).test_client().get("/health/ready")
    held.close()
    assert answer.status_code == 503
    assert "check the bucket's name, the access key and what it is permitted" in answer.json["checks"]["storage"]
    assert answer.json["checks"]["redis"] == "ok"


def test_services_that_hang_keep_neither_readiness_nor_liveness_waiting(
    services: Services, redis_url: str, tmp_path: Path
) -> None:
    services.ledger.serve("host/cpu/bulk/1", [SHAPES])
    with socket.create_server(("127.0.0.1", 0)) as hole:
        # Connections are made, and nothing is ever answered.
        silent = Settings(
            redis_url=redis_url,
            storage_url="s3://bucket",
            s3_endpoint=f"http://127.0.0.1:{hole.getsockname()[1]}",
            s3_access_key="a",
            s3_secret_key=SecretStr("b"),
            api_threads=4,
        )
        with run_api(silent, tmp_path) as server, ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(requests.get, f"{server.url}/health/ready", timeout=25) for _ in range(8)]
            assert requests.get(f"{server.url}/health/live", timeout=25).status_code == 200
            answers = [answer.result() for answer in asked]
    assert {answer.status_code for answer in answers} == {503}
    assert all("no answer" in answer.json()["checks"]["storage"] for answer in answers)
    assert all(answer.json()["checks"]["redis"] == "ok" for answer in answers)


def test_the_document_describes_every_endpoint(services: Services) -> None:
    app = create_app(services.settings, services)
    document = app.test_client().get("/openapi.json").json
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith(("/v1", "/health", "/instance-segmentation"))
    }
    assert described == served


def test_the_document_is_valid_openapi(web: FlaskClient) -> None:
    validate(web.get("/openapi.json").json)


def test_the_page_and_all_it_loads_are_served_from_here(web: FlaskClient) -> None:
    page = web.get("/docs", follow_redirects=True)
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert loaded
    for path in loaded:
        with web.get(f"/docs/{path}") as asset:
            assert asset.status_code == 200
    assert "http" not in " ".join(loaded)


def test_the_api_needs_none_of_the_workers_libraries() -> None:
    code = (
        "import sys; from maskmill.api import create_app; from maskmill.shared.settings import Settings;"
        "create_app(Settings());"
        "print(sorted({'cv2', 'numpy', 'onnxruntime', 'pypdfium2', 'PIL', 'boto3'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_client_and_the_commands_need_no_flask() -> None:
    code = "import sys, maskmill.client.cli, maskmill.api.cli; print('flask' in sys.modules, 'rich' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found == "False False\n"


@pytest.mark.parametrize(("every_writer_wins", "said"), [(False, "atomic"), (True, "not atomic")])
def test_ready_tells_whether_the_store_lets_one_writer_win(
    s3_settings: Settings, redis_url: str, proxied: S3Proxy, every_writer_wins: bool, said: str
) -> None:
    proxied.every_writer_wins = every_writer_wins
    settings = s3_settings.model_copy(update={"redis_url": redis_url, "s3_endpoint": proxied.endpoint})
    web = create_app(settings, Services.open(settings)).test_client()
    asked = (web.get("/health/ready").json["conditional_writes"] for _ in range(20))
    # A slow store has not told by the time that readiness waits.
    assert next(told for told in asked if told != "not known") == said


def test_what_workers_wait_for_is_told_and_makes_it_not_ready(web: FlaskClient, services: Services) -> None:
    services.ledger.serve("host/cpu/bulk/1", [SHAPES], trouble="the storage refuses us: AccessDenied")
    answer = web.get("/health/ready")
    assert (answer.status_code, answer.json["status"]) == (503, "not ready")
    assert answer.json["checks"]["workers"] == "host/cpu/bulk/1: the storage refuses us: AccessDenied"
    services.ledger.serve("host/cpu/bulk/1", [SHAPES])
    assert web.get("/health/ready").json["checks"]["workers"] == "ok"
