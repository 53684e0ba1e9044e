"""The drop-in endpoint answers as PaddleX's own service was recorded to, and says why where that only said 500."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
import requests
from flask.testing import FlaskClient

from maskmill.api import create_app
from maskmill.api.services import Services
from maskmill.shared.jobs.records import Failure
from maskmill.shared.replies import InteractiveReply, InteractiveRequest
from tests.integration.conftest import SHAPES
from tests.services import FileServer
from tests.services.api_server import ApiServer

PATH = "/instance-segmentation"
WORKER = "test/cpu/interactive/1"
IMAGE = base64.b64encode(b"the bytes of a picture").decode()
INSTANCE = {
    "bbox": [1.0, 2.0, 3.0, 4.0],
    "categoryId": 0,
    "categoryName": "disc",
    "score": 0.9,
    "mask": {"rleResult": "04", "size": [2, 2]},
}


class Worker:
    """Plays the worker's part on the real Redis: takes what waits and answers with what the test says."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.taken: list[InteractiveRequest] = []
        self.answer: Callable[[InteractiveRequest], InteractiveReply] = lambda request: InteractiveReply(
            width=4, height=4, instances=[INSTANCE], image=b"\xff\xd8drawn" if request.visualize else None
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            for request_id, request in self._services.interactive.take("shapes", 8):
                whole = replace(request, image=self._services.interactive.image(request_id, request))
                self.taken.append(whole)
                self._services.interactive.reply(request_id, self.answer(whole))


@pytest.fixture(autouse=True)
def serve_interactive_lane(services: Services) -> None:
    services.ledger.serve(WORKER, [SHAPES])


@pytest.fixture
def worker(services: Services) -> Iterator[Worker]:
    with Worker(services) as running:
        yield running


def failing(code: str, status: int, reason: str) -> Callable[[InteractiveRequest], InteractiveReply]:
    return lambda _: InteractiveReply(failure=Failure(stage="decode", code=code, reason=reason), status=status)


def test_a_success_has_the_recorded_keys_in_the_recorded_order(
    web: FlaskClient, worker: Worker, test_data: Path
) -> None:
    recorded = json.loads((test_data / "paddlex/http/ok_base64.response.json").read_text())
    drawn = base64.b64decode(recorded["result"]["image"])
    worker.answer = lambda _: InteractiveReply(instances=recorded["result"]["instances"], image=drawn)
    answer = web.post(PATH, data=(test_data / "paddlex/http/ok_base64.request.json").read_bytes())
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    assert list(answer.json) == list(recorded)
    assert list(answer.json["result"]) == list(recorded["result"])
    assert answer.json | {"logId": ""} == recorded | {"logId": ""}
    assert worker.taken[0].image.startswith(b"\xff\xd8")


# The bodies of recorded cases whose answers are the same here; a picture stands in for the recorded one.
RECORDED = {
    "missing_image": b'{"threshold": 0.5}',
    "image_null": b'{"image": null}',
    "image_number": b'{"image": 5}',
    "batch_list": json.dumps({"image": [IMAGE, IMAGE]}).encode(),
    "threshold_str": json.dumps({"image": IMAGE, "threshold": "abc"}).encode(),
    "threshold_list": json.dumps({"image": IMAGE, "threshold": [0.5]}).encode(),
    "visualize_str": json.dumps({"image": IMAGE, "visualize": "nope"}).encode(),
    "not_json": b"this is not json",
    "json_trailing_comma": b'{"image": "a",}',
    "empty_body": b"",
    "json_array": b"[1, 2]",
    "json_string": b'"x"',
    "json_null": b"null",
}


@pytest.mark.parametrize("case", RECORDED)
def test_a_wrong_request_is_answered_as_recorded(web: FlaskClient, test_data: Path, case: str) -> None:
    transcript = json.loads((test_data / "paddlex/http/transcript.json").read_text())
    recorded = next(one for one in transcript if one["case"] == case)
    answer = web.post(PATH, data=RECORDED[case], content_type="application/json")
    assert answer.status_code == recorded["status"]
    assert answer.json | {"logId": ""} == recorded["response_json"] | {"logId": ""}


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", "text/plain", None])
def test_the_body_is_json_whatever_its_content_type(web: FlaskClient, worker: Worker, content_type: str | None) -> None:
    answer = web.post(PATH, data=json.dumps({"image": IMAGE}), content_type=content_type)
    assert answer.status_code == 200
    assert worker.taken[0].image == b"the bytes of a picture"


@pytest.mark.parametrize(
    ("given", "meant"),
    [({}, None), ({"threshold": None}, None), ({"threshold": "0.25"}, 0.25), ({"threshold": 0.5}, 0.5)],
)
def test_a_threshold_may_be_a_number_a_numeral_or_null(
    web: FlaskClient, worker: Worker, given: dict[str, Any], meant: float | None
) -> None:
    assert web.post(PATH, json={"image": IMAGE, **given}).status_code == 200
    assert worker.taken[0].threshold == meant


@pytest.mark.parametrize("threshold", ["0", "1", "1.5", "-0.1", "true", "NaN"])
def test_a_threshold_outside_its_range_is_refused_with_the_reason(web: FlaskClient, threshold: str) -> None:
    answer = web.post(PATH, data=f'{{"image": "{IMAGE}", "threshold": {threshold}}}')
    assert answer.status_code == 422
    assert "between 0 and 1" in answer.json["errorMsg"]


@pytest.mark.parametrize(("visualize", "drawn"), [(None, True), (True, True), (False, False)])
def test_the_drawn_picture_is_there_unless_it_is_not_wanted(
    web: FlaskClient, worker: Worker, visualize: bool | None, drawn: bool
) -> None:
    result = web.post(PATH, json={"image": IMAGE, "visualize": visualize}).json["result"]
    assert ("image" in result) is drawn
    assert worker.taken[0].visualize is drawn


@pytest.mark.parametrize(
    "image",
    [
        base64.encodebytes(b"x" * 200).decode(),
        "data:image/png;base64," + base64.b64encode(b"x" * 200).decode(),
        base64.b64encode(b"x" * 200).decode().replace("e", "e\r\n", 3),
    ],
)
def test_base64_is_read_leniently(web: FlaskClient, worker: Worker, image: str) -> None:
    assert web.post(PATH, json={"image": image}).status_code == 200
    assert worker.taken[0].image == b"x" * 200


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("", "empty"),
        ("!!!not base64!!!", "nor base64"),
        (IMAGE[:-3], "nor base64"),
        ("päng", "nor base64"),
        ("ftp://127.0.0.1/x.jpg", "looks like a URL of ftp:"),
        ("file:///etc/hostname", "looks like a URL of file:"),
        ("s3://bucket/x.jpg", "looks like a URL of s3:"),
        ("/data/x.jpg", "looks like the path of a file"),
        ("/data/pictures/x", "looks like the path of a file"),
        ("C:\\x.jpg", "looks like the path of a file"),
        ("holiday/cat 1.JPG", "looks like the path of a file"),
        (base64.urlsafe_b64encode(b"\xfb\xff\xbf" * 40).decode(), "URL-safe base64"),
        ("data:image/png,abc", "a data: URI that is not in base64"),
        ("data:image/svg+xml;utf8,<svg/>", "a data: URI that is not in base64"),
        ("http://169.254.1.1/x.jpg", "169.254.1.1"),
        ("HTTP://169.254.1.1/x.jpg", "169.254.1.1"),
    ],
)
def test_what_is_wrong_with_the_image_is_said(web: FlaskClient, worker: Worker, image: str, reason: str) -> None:
    answer = web.post(PATH, json={"image": image, "logId": "mine"})
    assert answer.status_code == 422
    assert answer.json["logId"] == "mine"
    (fault,) = json.loads(answer.json["errorMsg"])
    assert fault["loc"] == "body.image"
    assert reason in fault["msg"]
    assert not worker.taken


@pytest.mark.parametrize("written", [str, lambda url: url.replace("http", "HTTP"), lambda url: f" {url}\n"])
def test_a_url_is_fetched(
    web: FlaskClient, worker: Worker, file_server: FileServer, written: Callable[[str], str]
) -> None:
    url = file_server.redirect("/old", file_server.add("/a.jpg", b"over http"))
    assert web.post(PATH, json={"image": written(url)}).status_code == 200
    assert worker.taken[0].image == b"over http"


def test_a_missing_url_is_told(web: FlaskClient, file_server: FileServer) -> None:
    answer = web.post(PATH, json={"image": file_server.url("/none.jpg")})
    assert answer.status_code == 422
    assert json.loads(answer.json["errorMsg"])[0]["type"] == "url_not_found"


def test_a_picture_that_cannot_be_decoded_is_422_with_the_workers_reason(web: FlaskClient, worker: Worker) -> None:
    worker.answer = failing("unsupported_format", 422, "no picture format that is read here")
    answer = web.post(PATH, json={"image": IMAGE, "logId": "mine"})
    assert answer.status_code == answer.json["errorCode"] == 422
    assert "no picture format" in answer.json["errorMsg"]
    assert answer.json["logId"] == "mine"


def test_a_failing_model_is_500_and_nothing_inside_is_told(web: FlaskClient, worker: Worker) -> None:
    worker.answer = failing("internal", 500, "KeyError: '/home/someone'")
    answer = web.post(PATH, json={"image": IMAGE})
    assert answer.status_code == 500
    assert answer.json["errorMsg"] == "Internal server error"


def test_nobody_answering_in_time_is_504(services: Services) -> None:
    hasty = Services.open(services.settings.model_copy(update={"interactive_timeout": 0.2}))
    answer = create_app(hasty.settings, hasty).test_client().post(PATH, json={"image": IMAGE})
    hasty.close()
    assert answer.status_code == answer.json["errorCode"] == 504


def test_a_full_line_is_503_at_once_with_retry_after(web: FlaskClient, services: Services) -> None:
    for _ in range(2):
        services.interactive.submit("shapes", InteractiveRequest(image=b"x"))
    answer = web.post(PATH, json={"image": IMAGE})
    assert answer.status_code == answer.json["errorCode"] == 503
    assert answer.headers["Retry-After"]


def test_without_a_worker_it_is_503_at_once(web: FlaskClient, services: Services) -> None:
    services.ledger.leave(WORKER)
    answer = web.post(PATH, json={"image": IMAGE})
    assert answer.status_code == 503
    assert "no worker is running" in answer.json["errorMsg"]


@pytest.mark.usefixtures("worker")
def test_another_model_may_be_asked_for_if_it_is_served(web: FlaskClient) -> None:
    assert web.post(PATH, json={"image": IMAGE, "model": "shapes"}).status_code == 200
    answer = web.post(PATH, json={"image": IMAGE, "model": "coco"})
    assert answer.status_code == 422
    assert "served: shapes" in answer.json["errorMsg"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_another_method_is_405_in_the_envelope(web: FlaskClient, method: str) -> None:
    answer = web.open(PATH, method=method)
    assert answer.status_code == 405
    assert (answer.json["errorCode"], answer.json["errorMsg"]) == (405, "Method Not Allowed")


def test_an_unknown_path_is_404_in_the_envelope(web: FlaskClient) -> None:
    answer = web.post("/nope", json={})
    assert answer.status_code == 404
    assert (answer.json["errorCode"], answer.json["errorMsg"]) == (404, "Not Found")


def test_health_is_paddlexs(web: FlaskClient) -> None:
    answer = web.get("/health")
    assert list(answer.json) == ["logId", "errorCode", "errorMsg"]
    assert (answer.json["errorCode"], answer.json["errorMsg"]) == (0, "Healthy")


@pytest.mark.usefixtures("worker")
def test_a_client_in_the_style_of_paddlexs_runs_over_http(api_server: ApiServer) -> None:
    answer = requests.post(api_server.url + PATH, json={"image": IMAGE}, timeout=30)
    assert answer.status_code == 200
    result = answer.json()["result"]
    assert base64.b64decode(result["image"]) == b"\xff\xd8drawn"
    assert result["instances"] == [INSTANCE]


def test_several_callers_at_once_each_get_their_own_answer(services: Services, api_server: ApiServer) -> None:
    def echo(request: InteractiveRequest) -> InteractiveReply:
        return InteractiveReply(instances=[INSTANCE | {"categoryName": (request.image or b"").decode()}], image=b"jpeg")

    def call(name: str) -> str:
        body = {"image": base64.b64encode(name.encode()).decode()}
        answer = requests.post(api_server.url + PATH, json=body, timeout=30)
        return str(answer.json()["result"]["instances"][0]["categoryName"])

    names = [f"picture {number}" for number in range(40)]
    with Worker(services) as worker, ThreadPoolExecutor(2) as pool:
        worker.answer = echo
        assert list(pool.map(call, names)) == names


@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_body_too_large_for_json_is_413_in_the_envelope(api_server: ApiServer, in_chunks: bool) -> None:
    body = b'{"image": "' + b"A" * (64 << 20) + b'"}'
    answer = requests.post(api_server.url + PATH, data=iter([body]) if in_chunks else body, timeout=60)
    assert answer.status_code == answer.json()["errorCode"] == 413
    assert "give a URL" in answer.json()["errorMsg"]


@pytest.mark.usefixtures("worker")
def test_a_client_that_says_its_content_type_twice_is_served(api_server: ApiServer) -> None:
    body = json.dumps({"image": IMAGE}).encode()
    with contextlib.closing(http.client.HTTPConnection(api_server.url.removeprefix("http://"), timeout=60)) as client:
        client.putrequest("POST", PATH)
        for name, value in (("Content-Type", "application/json"),) * 2 + (("Content-Length", str(len(body))),):
            client.putheader(name, value)
        client.endheaders(body)
        assert client.getresponse().status == 200


@pytest.mark.usefixtures("worker")
def test_a_body_in_chunks_is_read(api_server: ApiServer) -> None:
    body = json.dumps({"image": IMAGE}).encode()
    assert requests.post(api_server.url + PATH, data=iter([body[:9], body[9:]]), timeout=60).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b'{"image": "\xff\xfe"}', 400, "not UTF-8"),
        (b"\xff\xd8\xff\xe0 a picture as it is", 400, '{"image": '),
        (b'{"image": "a", "threshold": 1' + b"0" * 5000 + b"}", 422, "json_invalid"),
        (b"[" * 200_000, 422, "json_invalid"),
    ],
)
def test_a_body_that_cannot_be_parsed_is_told_so(web: FlaskClient, body: bytes, status: int, said: str) -> None:
    answer = web.post(PATH, data=body)
    assert answer.status_code == answer.json["errorCode"] == status
    assert said in answer.json["errorMsg"]
