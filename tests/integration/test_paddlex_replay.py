"""The 73 exchanges recorded with PaddleX's serving, sent to this endpoint with a real worker behind it."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import requests
from PIL import Image as Pillow

from tests.services import FileServer
from tests.services.api_server import ApiServer

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "paddlex-differences.md"
DIFFERENCES = {
    case: (int(there), int(here))
    for case, there, here in re.findall(r"^\| `(\S+)` \| (\d{3}) \| (\d{3}) \| \S.* \|$", DOCUMENT.read_text(), re.M)
}
RECORDED_SERVER = "http://127.0.0.1:46273"
PATH = "/instance-segmentation"
OFF = ', "visualize": false'

# What the sample's request ends with in the recorded bodies, of which only the beginning was kept.
ENDINGS = {
    "ok_base64": "",
    "put": "",
    "ok_no_visualize": OFF,
    "ok_threshold_null": ', "threshold": null, "visualize": null',
    "ok_unknown_field_logId": f'{OFF}, "logId": "client-log-1", "foo": 1',
    "threshold_0": f', "threshold": 0{OFF}',
    "threshold_0.99": ', "threshold": 0.99',
    "threshold_1": f', "threshold": 1{OFF}',
    "threshold_1.5": f', "threshold": 1.5{OFF}',
    "threshold_-0.1": f', "threshold": -0.1{OFF}',
    "threshold_str_num": f', "threshold": "0.5"{OFF}',
    "threshold_str": ', "threshold": "abc"',
    "threshold_true": f', "threshold": true{OFF}',
    "threshold_nan": f', "threshold": NaN{OFF}',
    "threshold_list": ', "threshold": [0.5]',
    "visualize_str": ', "visualize": "nope"',
    **dict.fromkeys(("trailing_slash", "ct_text_plain", "ct_none", "ct_json_charset", "ct_vendor_json"), OFF),
}
# What is sent instead of the recorded picture, of which only the beginning was kept.
PICTURES: dict[str, Callable[[bytes], bytes]] = {
    "png_rgba": lambda data: again(data, "PNG", "RGBA"),
    "png_gray": lambda data: again(data, "PNG", "L"),
    "jpeg_exif6": lambda data: again(data, "JPEG", exif=turned()),
    "webp": lambda data: again(data, "WEBP"),
    "gif": lambda data: again(data, "GIF"),
    "bmp": lambda data: again(data, "BMP"),
    "tiff": lambda data: again(data, "TIFF"),
    "pdf": lambda data: again(data, "PDF"),
    "truncated_jpeg": lambda data: data[: len(data) // 2],
    "png_108MP": lambda _: bytes(cv2.imencode(".png", np.zeros((9000, 12000, 3), np.uint8))[1]),
}
Exchange = dict[str, Any]


@pytest.fixture(scope="module")
def transcript(test_data: Path) -> list[Exchange]:
    recorded: list[Exchange] = json.loads((test_data / "paddlex/http/transcript.json").read_text())
    assert len(recorded) == 73
    return recorded


@pytest.fixture(scope="module")
def sample(test_data: Path) -> str:
    """The recorded picture in base64."""
    image: str = json.loads((test_data / "paddlex/http/ok_base64.request.json").read_text())["image"]
    return image


@pytest.fixture(scope="module")
def bodies(transcript: list[Exchange], sample: str) -> dict[str, bytes]:
    """Each recorded request's body: as it is, or rebuilt where only its beginning was kept."""
    return {exchange["case"]: body_of(exchange, sample) for exchange in transcript}


def test_the_rebuilt_bodies_are_as_long_as_the_recorded(transcript: list[Exchange], bodies: dict[str, bytes]) -> None:
    cut = {one["case"]: re.search(r"\((\d+) bytes\)$", one["request_body"] or "") for one in transcript}
    told = {case: int(match[1]) for case, match in cut.items() if match and case not in (*PICTURES, "ct_multipart")}
    assert {case: len(bodies[case]) for case in told} == told


def test_every_difference_is_of_a_recorded_case(transcript: list[Exchange]) -> None:
    recorded = {exchange["case"]: exchange["status"] for exchange in transcript}
    assert {case: recorded.get(case) for case in DIFFERENCES} == {
        case: there for case, (there, _) in DIFFERENCES.items()
    }


def test_every_exchange_ends_as_recorded_or_as_the_table_of_differences_says(
    transcript: list[Exchange], bodies: dict[str, bytes], drop_in: ApiServer, file_server: FileServer, sample: str
) -> None:
    picture = file_server.add("/img.jpg", base64.b64decode(sample))
    file_server.redirect("/redir", picture)
    file_server.add("/text", b"no picture")
    assert DIFFERENCES
    faults = {}
    for exchange in transcript:
        body = bodies[exchange["case"]].replace(RECORDED_SERVER.encode(), file_server.url("").rstrip("/").encode())
        answer = send(drop_in.url, exchange, body)
        faults[exchange["case"]] = fault_of(exchange, body, answer)
    assert {case: fault for case, fault in faults.items() if fault} == {}


def test_the_description_holds_all_of_paddlexs(test_data: Path, drop_in: ApiServer) -> None:
    recorded = json.loads((test_data / "paddlex/http/openapi.json").read_text())
    ours = requests.get(f"{drop_in.url}/openapi.json", timeout=60).json()
    names = {"AIStudioResultResponse_InferResult_": "InferResponse", "AIStudioNoResultResponse": "Envelope"}
    for name, schema in recorded["components"]["schemas"].items():
        own = bare(ours["components"]["schemas"][names.get(name, name)])
        assert own["required"] == schema["required"]
        assert own["properties"] | bare(schema["properties"]) == own["properties"]
    assert {"/health", "/instance-segmentation"} <= set(ours["paths"])


def bare(schema: Any) -> Any:
    """A schema without its words and defaults."""
    if isinstance(schema, list):
        return [bare(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: bare(value) for key, value in schema.items() if key not in ("title", "description", "default")}


def send(url: str, exchange: Exchange, body: bytes) -> requests.Response:
    return requests.request(
        exchange["method"],
        url + exchange["path"],
        data=body or None,
        headers=exchange["request_headers"],
        allow_redirects=False,
        timeout=60,
    )


def fault_of(exchange: Exchange, body: bytes, answer: requests.Response) -> str:
    """What of the answer is not as it should be; empty where all is well."""
    there, here = DIFFERENCES.get(exchange["case"], (exchange["status"], exchange["status"]))
    if answer.status_code != here:
        return f"{answer.status_code} {answer.text[:200]}, not {here} (PaddleX: {there})"
    if exchange["method"] == "HEAD" or exchange["path"] in ("/docs", "/openapi.json"):
        return ""
    if answer.headers["Content-Type"] != "application/json":
        return answer.headers["Content-Type"]
    found = answer.json()
    if here == 200:
        lacking = exchange["case"].startswith("ok_") and not found["result"]["instances"]
        return "nothing was found" if lacking else success_fault(found, body)
    if (found["errorCode"], list(found)) != (here, ["logId", "errorCode", "errorMsg"]):
        return str(found)
    return reason_fault(exchange, found, body)


def success_fault(found: Exchange, body: bytes) -> str:
    if not body:
        return "" if (found["errorCode"], found["errorMsg"]) == (0, "Healthy") else str(found)
    drawn = b'"visualize": false' not in body
    keys = ["instances", "image"] if drawn else ["instances"]
    if [*found] != ["logId", "result", "errorCode", "errorMsg"] or [*found["result"]] != keys:
        return f"keys {[*found]} {[*found['result']]}"
    if drawn and not base64.b64decode(found["result"]["image"]).startswith(b"\xff\xd8"):
        return "the drawn picture is no JPEG"
    return next(filter(None, map(instance_fault, found["result"]["instances"])), "")


def instance_fault(instance: Exchange) -> str:
    if [*instance] != ["bbox", "categoryId", "categoryName", "score", "mask"] or [*instance["mask"]] != [
        "rleResult",
        "size",
    ]:
        return f"instance {instance}"
    x1, y1, x2, y2 = instance["bbox"]
    return "" if instance["mask"]["size"] == [round(y2) - round(y1), round(x2) - round(x1)] else f"size of {instance}"


def reason_fault(exchange: Exchange, found: Exchange, body: bytes) -> str:
    recorded = exchange["response_json"]
    if exchange["case"] in DIFFERENCES:
        return "" if found["errorMsg"] not in ("", "Internal server error", recorded.get("errorMsg")) else "no reason"
    if found["errorMsg"] != recorded["errorMsg"]:
        return f"{found['errorMsg']}, not {recorded['errorMsg']}"
    echoed = recorded["logId"] if recorded["logId"].encode() in body else found["logId"]
    return "" if found["logId"] == echoed else "logId is not the client's"


def body_of(exchange: Exchange, sample: str) -> bytes:
    case, recorded = exchange["case"], exchange["request_body"] or ""
    picture = PICTURES.get(case)
    if picture:
        data = base64.b64encode(picture(base64.b64decode(sample))).decode()
        return f'{{"image": "{data}"{OFF}}}'.encode()
    if case in ENDINGS:
        return f'{{"image": "{sample}"{ENDINGS[case]}}}'.encode()
    wrapped = re.findall(".{1,76}", sample)
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    rebuilt = {
        "bad_base64_padding": f'{{"image": "{sample[:-3]}"}}'.encode(),
        "data_url": f'{{"image": "data:image/jpeg;base64,{sample}"}}'.encode(),
        "base64_newlines": json.dumps({"image": "\n".join(wrapped), "visualize": False}).encode(),
        "json_dup_key": f'{{"image": 5, "image": "{sample}"{OFF}}}'.encode(),
        "batch_list": f'{{"image": ["{sample}", "{sample}"]}}'.encode(),
        "invalid_utf8": b'{"image": "\xff\xfe"}',
        "ct_multipart": head + base64.b64decode(sample) + b"\r\n--x--\r\n",
    }
    return rebuilt.get(case, recorded.encode())


def again(data: bytes, form: str, mode: str = "RGB", **options: Any) -> bytes:
    """The picture in another format."""
    out = io.BytesIO()
    Pillow.open(io.BytesIO(data)).convert(mode).save(out, form, **options)
    return out.getvalue()


def turned() -> Pillow.Exif:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    return exif
