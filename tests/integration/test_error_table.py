"""The documented table of errors is what both APIs answer with."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from maskmill.api import create_app
from maskmill.api.services import Services
from maskmill.shared import errors
from maskmill.shared.errors import InputError, MaskmillError
from maskmill.shared.jobs.records import Failure, Options
from maskmill.worker.interactive import InteractiveTask
from maskmill.worker.pipeline.task import Done
from tests.integration.conftest import SHAPES
from tests.services import FileServer

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [path for path in (ROOT / "README.md", ROOT / "docs" / "errors.md") if path.is_file()]
DOCUMENTED = {
    code: int(status)
    for path in DOCUMENTS
    for code, status in re.findall(r"^\| `(\w+)` \| (\d{3}) \|", path.read_text(), re.M)
}
KINDS = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, MaskmillError) and kind.code in DOCUMENTED
}
PATH = "/instance-segmentation"
IMAGE = base64.b64encode(b"the bytes of a picture").decode()


def test_the_documents_have_a_table() -> None:
    assert {"url_timeout", "url_unreachable", "overloaded", "unreadable", "storage_refused"} <= set(KINDS)


@pytest.mark.parametrize("code", KINDS)
def test_an_error_has_the_documented_status_below_v1_and_elsewhere(services: Services, code: str) -> None:
    app = create_app(services.settings, services)

    def fail() -> str:
        raise KINDS[code]("the reason")

    for path in ("/v1/fails", "/fails"):
        app.add_url_rule(path, view_func=fail, endpoint=path.replace("/", "_"))
    problem, envelope = (app.test_client().get(path) for path in ("/v1/fails", "/fails"))
    assert problem.status_code == problem.json["status"] == DOCUMENTED[code]
    assert problem.json["code"] == code
    assert envelope.status_code == envelope.json["errorCode"] == DOCUMENTED[code]
    assert ("Retry-After" in problem.headers) is ("Retry-After" in envelope.headers) is (DOCUMENTED[code] == 503)


@pytest.mark.parametrize("code", [code for code, kind in KINDS.items() if issubclass(kind, InputError)])
def test_what_a_worker_finds_wrong_has_the_documented_status_at_the_drop_in_endpoint(
    services: Services, code: str
) -> None:
    services.ledger.serve("host/cpu/interactive/1", [SHAPES])
    over = threading.Event()

    def refuse() -> None:
        while not over.wait(0.005):
            for request_id, request in services.interactive.take("shapes", 1):
                task = InteractiveTask(request_id, request, (), services.interactive, threading.Semaphore(0), Options())
                error = KINDS[code]("the reason")
                task.done(Done(failure=Failure.of("decode", error), error=error))

    worker = threading.Thread(target=refuse)
    worker.start()
    answer = create_app(services.settings, services).test_client().post(PATH, json={"image": IMAGE})
    over.set()
    worker.join()
    assert answer.status_code == answer.json["errorCode"] == DOCUMENTED[code]
    (fault,) = json.loads(answer.json["errorMsg"])
    assert (fault["type"], fault["msg"]) == (code, "the reason")


# What a server may do to a URL, and the code that it should end with.
URLS: dict[str, tuple[str, Callable[[FileServer], str]]] = {
    "nobody listens": ("url_unreachable", lambda _: "http://127.0.0.1:9/x.jpg"),
    "no such name": ("url_unreachable", lambda _: "http://no-such-name.invalid/x.jpg"),
    "it fails": ("url_unreachable", lambda files: files.add("/x", b"", status=500)),
    "it is busy": ("url_unreachable", lambda files: files.add("/x", b"", status=429)),
    "it is slow": ("url_timeout", lambda files: files.drip("/x", b"x", 100, 0.05)),
    "it has none": ("url_not_found", lambda files: files.url("/none")),
    "it refuses": ("url_failed", lambda files: files.add("/x", b"", status=403)),
    "it has too much": ("url_too_large", lambda files: files.flood("/x", 1 << 22, announced=False)),
    "its network is private": ("url_refused", lambda _: "http://10.0.0.1/x.jpg"),
    "there is nothing in it": ("empty", lambda files: files.add("/x", b"")),
}


@pytest.mark.parametrize("case", URLS)
def test_what_is_wrong_with_a_url_has_the_documented_status_at_the_drop_in_endpoint(
    services: Services, file_server: FileServer, case: str
) -> None:
    services.ledger.serve("host/cpu/interactive/1", [SHAPES])
    code, url = URLS[case]
    hasty = Services.open(services.settings.model_copy(update={"url_timeout": 1.0}))
    answer = create_app(hasty.settings, hasty).test_client().post(PATH, json={"image": url(file_server)})
    hasty.close()
    assert answer.status_code == answer.json["errorCode"] == DOCUMENTED[code]
    if DOCUMENTED[code] == 503:
        assert answer.headers["Retry-After"]
        assert answer.json["errorMsg"]
    else:
        assert json.loads(answer.json["errorMsg"])[0]["type"] == code
