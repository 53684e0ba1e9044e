"""The drop-in endpoint: POST /instance-segmentation and GET /health, in the envelope of PaddleX's basic serving."""

from __future__ import annotations

import binascii
import contextlib
import json
import tempfile
import uuid
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

from flask import Response, g
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field, ValidationError

from maskmill.api.responses.forms import content, operation_id, reference
from maskmill.api.responses.problems import UNEXPECTED, envelope
from maskmill.api.served_models import served_models
from maskmill.api.services import Services, services
from maskmill.api.submission.bodies import SMALL_BYTES, hold_room, read_json_bytes, release_room
from maskmill.api.submission.image_field import decode_image, is_url
from maskmill.api.submission.job_request import default_model
from maskmill.shared.doorbell import queue_name
from maskmill.shared.errors import EmptyInput, InputError, MaskmillError, RequestError, Unavailable
from maskmill.shared.jobs.records import Failure
from maskmill.shared.replies import InteractiveReply, InteractiveRequest

JSON_TYPE = "application/json"
# A multiple of 3, so that the pieces' base64 is the whole's.
PIECE_BYTES = 3 << 16
NOT_AN_OBJECT = ("model_attributes_type", "body", "Input should be a valid dictionary or object to extract fields from")


class InferRequest(BaseModel):
    """One picture; unknown fields are ignored."""

    image: str = Field(description="An http(s) URL, or the file's bytes in base64; a data: URI in base64 will do.")
    threshold: float | None = Field(
        default=None, description="Between 0 and 1, both excluded; null means the model's own."
    )
    visualize: bool | None = Field(default=None, description="Whether `image` is in the result; null means true.")
    model: str | None = Field(default=None, description="null means the server's default.")


class Mask(BaseModel):
    """The mask inside the box."""

    rleResult: str = Field(description="COCO's compressed run lengths.")  # noqa: N815 (PaddleX's spelling)
    size: tuple[int, int] = Field(description="[height, width] of the mask.")


class Instance(BaseModel):
    """One object found."""

    bbox: tuple[float, float, float, float] = Field(description="[x1, y1, x2, y2] in pixels.")
    categoryId: int  # noqa: N815
    categoryName: str  # noqa: N815
    score: float
    mask: Mask


class InferResult(BaseModel):
    """What was found."""

    instances: list[Instance]
    image: str | None = Field(
        default=None, description="The drawn picture, JPEG in base64; absent where `visualize` is false."
    )


class Envelope(BaseModel):
    """The body of an error and of /health."""

    logId: str  # noqa: N815
    errorCode: int  # noqa: N815
    errorMsg: str  # noqa: N815


class InferResponse(Envelope):
    """The body of a success."""

    result: InferResult
    errorCode: Literal[0] = 0  # noqa: N815
    errorMsg: Literal["Success"] = "Success"  # noqa: N815


_ERROR = {"description": "What is wrong is in errorMsg.", "content": content(JSON_TYPE, reference("Envelope"))}
RESPONSES: dict[str | int | HTTPStatus, type[BaseModel] | dict[Any, Any] | None] = {
    "422": _ERROR,
    "4XX": _ERROR,
    "5XX": _ERROR,
}
BODY = {"required": True, "content": content(JSON_TYPE, reference("InferRequest"))}

api = APIBlueprint(
    "instance_segmentation",
    __name__,
    operation_id_callback=operation_id,
    abp_tags=[Tag(name="Drop-in")],
    abp_responses=RESPONSES,
)


class _Refused(MaskmillError):
    """The request is wrong: its (type, place, message) as a JSON list, as PaddleX writes them."""

    code, status = "invalid_request", 422

    def __init__(self, *faults: tuple[str, str, str]) -> None:
        super().__init__(json.dumps([dict(zip(("type", "loc", "msg"), fault, strict=True)) for fault in faults]))


@api.get(
    "/health",
    responses={200: Envelope},
    description="As PaddleX's serving does: also while models still load; `/health/ready?lane=interactive` tells more.",
)
def health() -> Response:
    """Say that the process runs, as PaddleX's serving does"""
    answer = {"logId": str(uuid.uuid4()), "errorCode": 0, "errorMsg": "Healthy"}
    return Response(json.dumps(answer), content_type=JSON_TYPE)


@api.post(
    "/instance-segmentation",
    responses={200: InferResponse},
    description="As PaddleX's basic serving does. The body is read as JSON whatever its Content-Type.",
    openapi_extensions={"requestBody": BODY},
    strict_slashes=False,
)
def infer() -> Response:
    """Segment one picture while the caller waits"""
    held = services()
    # Fewer than there are threads, so that health and status are answered however many wait.
    with held.waiting_requests.hold():
        model, request_id = _submit(held)
        # The request's bytes are gone from this process, long before its reply is there.
        release_room()
        reply = _wait(held, model, request_id)
    return _failed(reply.failure, reply.status) if reply.failure else _succeeded(reply)


def _submit(held: Services) -> tuple[str, str]:
    wanted = parse(read_json_bytes(held.settings))
    model = _choose_model(held, wanted.model)
    request = InteractiveRequest(_image_bytes(held, wanted.image), wanted.threshold, wanted.visualize is not False)
    return model, held.interactive.submit(model, request)


def _wait(held: Services, model: str, request_id: str) -> InteractiveReply:
    def ring_again() -> None:
        if not held.doorbell.waiting(queue_name("interactive", model)):
            held.doorbell.ring("interactive", model)

    try:
        held.doorbell.ring("interactive", model)
        return held.interactive.wait(request_id, held.settings.interactive_timeout, ring_again)
    except BaseException:
        with contextlib.suppress(MaskmillError):
            held.interactive.withdraw(model, request_id)
        raise


def parse(body: bytes) -> InferRequest:
    """The request of a body; raises with PaddleX's own words for each field that is wrong."""
    document = _document(body)
    if isinstance(document, dict) and isinstance(document.get("logId"), str):
        g.log_id = document["logId"]
    if not isinstance(document, dict):
        raise _Refused(NOT_AN_OBJECT)
    try:
        wanted = InferRequest.model_validate(document)
    except ValidationError as error:
        raise _Refused(*((p["type"], _loc(p["loc"]), p["msg"]) for p in error.errors())) from None
    if wanted.threshold is not None and not 0 < wanted.threshold < 1:
        reason = f"a threshold lies between 0 and 1, both excluded; got {wanted.threshold:g}"
        raise _Refused(("threshold_out_of_range", "body.threshold", reason))
    return wanted


def _document(body: bytes) -> Any:
    if not body:
        raise _Refused(("missing", "body", "Field required"))
    try:
        return json.loads(body)
    except UnicodeDecodeError:
        raise RequestError('the body is not UTF-8; send JSON, as in {"image": "BASE64 OR URL"}') from None
    except json.JSONDecodeError as error:
        raise _Refused(("json_invalid", f"body[{error.pos}]", "JSON decode error")) from None
    except (RecursionError, ValueError):
        # Nested too deeply, or a number of too many digits.
        raise _Refused(("json_invalid", "body", "JSON decode error")) from None


def _loc(loc: tuple[int | str, ...]) -> str:
    return ".".join(("body", *map(str, loc)))


def _choose_model(held: Services, named: str | None) -> str:
    served = [model for model, lanes in served_models(held.ledger).items() if lanes["interactive"]]
    if not served:
        raise Unavailable("no worker is running for the interactive lane, or none has loaded its models yet")
    model = default_model(served, held.settings) if named is None else named
    if model not in served:
        raise _Refused(("unknown_model", "body.model", f"no worker serves {model!r}; served: {', '.join(served)}"))
    return model


def _image_bytes(held: Services, image: str) -> bytes:
    try:
        found = _fetch(held, image.strip()) if is_url(image) else decode_image(image)
        if not found:
            raise EmptyInput("the image is empty")
    except InputError as error:
        raise _Refused((error.code, "body.image", error.reason)) from None
    return found


def _fetch(held: Services, url: str) -> bytes:
    # By way of a file, as its size is not known before: only then is it granted its room in memory.
    with tempfile.TemporaryDirectory(prefix="maskmill-url-") as folder:
        file = Path(folder) / "body"
        held.egress.download(url, file)
        size = file.stat().st_size
        if size > SMALL_BYTES:
            hold_room(size)
        return file.read_bytes()


def _failed(failure: Failure, status: int) -> Response:
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        raise _Refused((failure.code, "body.image", failure.reason))
    return envelope(status, UNEXPECTED if failure.code == "internal" else failure.reason, g.get("log_id"))


def _succeeded(reply: InteractiveReply) -> Response:
    drawn = {} if reply.image is None else {"image": ""}
    result = {"instances": reply.instances, **drawn}
    body = {"logId": str(uuid.uuid4()), "result": result, "errorCode": 0, "errorMsg": "Success"}
    text = json.dumps(body, separators=(",", ":")).encode()
    if reply.image is None:
        return Response(text, content_type=JSON_TYPE)
    head, tail = text.rsplit(b'""', 1)
    answer = Response(_pieces(head, reply.image, tail), content_type=JSON_TYPE)
    answer.content_length = len(text) + 4 * -(-len(reply.image) // 3)
    return answer


def _pieces(head: bytes, image: bytes, tail: bytes) -> Iterator[bytes]:
    """The body without ever holding the whole picture in base64."""
    yield head + b'"'
    for start in range(0, len(image), PIECE_BYTES):
        yield binascii.b2a_base64(image[start : start + PIECE_BYTES], newline=False)
    yield b'"' + tail
