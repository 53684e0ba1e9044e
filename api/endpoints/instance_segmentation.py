"""The drop-in endpoint: POST /instance-segmentation and GET /health, in the envelope of PaddleX's basic serving."""

from __future__ import annotations

import binascii
import json
import uuid
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import urlsplit

from flask import Response, g
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field, ValidationError

from maskmill.api.responses.forms import content, operation_id, reference
from maskmill.api.responses.problems import UNEXPECTED, envelope
from maskmill.api.services import Services, services
from maskmill.api.submission.bodies import read_json_bytes
from maskmill.api.submission.job_request import default_model
from maskmill.shared.errors import (
    EmptyInput,
    InputError,
    MaskmillError,
    RequestError,
    Unavailable,
    UnreadableInput,
    UrlTimeout,
    UrlUnreachable,
)
from maskmill.shared.jobs.records import Failure
from maskmill.shared.replies import Answer, Ask

JSON_TYPE = "application/json"
NOT_AN_OBJECT = ("model_attributes_type", "body", "Input should be a valid dictionary or object to extract fields from")


class InferRequest(BaseModel):
    """One picture; unknown fields are ignored."""

    image: str = Field(description="An http(s) URL, or the file's bytes in base64; a data: URI will do.")
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


@api.get("/health", responses={200: Envelope})
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
    wanted = parse(read_json_bytes(held.settings))
    model = _choose_model(held, wanted.model)
    ask = Ask(
        image=_image_bytes(held, wanted.image),
        threshold=wanted.threshold,
        visualize=wanted.visualize is not False,
    )
    request_id = held.replies.ask(model, ask)
    held.doorbell.ring("interactive", model)
    answer = held.replies.wait(request_id, held.settings.interactive_timeout)
    return _failed(answer.failure, answer.status) if answer.failure else _succeeded(answer)


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


def _choose_model(held: Services, asked: str | None) -> str:
    served = sorted(held.ledger.models())
    if not served:
        raise Unavailable("no worker is running, so no model is served")
    model = default_model(served, held.settings) if asked is None else asked
    if model not in served:
        raise _Refused(("unknown_model", "body.model", f"no worker serves {model!r}; served: {', '.join(served)}"))
    return model


def _image_bytes(held: Services, image: str) -> bytes:
    try:
        found = held.egress.fetch(image) if _is_url(image) else _decode(image)
        if not found:
            raise EmptyInput("the image is empty")
    except (InputError, UrlTimeout, UrlUnreachable) as error:
        raise _Refused((error.code, "body.image", error.reason)) from None
    return found


def _is_url(image: str) -> bool:
    if not image.startswith(("http://", "https://")):
        return False
    try:
        return bool(urlsplit(image).hostname)
    except ValueError:
        return False


def _decode(image: str) -> bytes:
    head, comma, data = image.partition(",") if image.startswith("data:") else ("", "", image)
    if head and not (comma and head.endswith(";base64")):
        raise UnreadableInput("a data: URI must be in base64")
    if ":" in data[:32]:
        raise UnreadableInput("neither an http(s) URL nor base64")
    try:
        return binascii.a2b_base64(data)
    except ValueError as error:
        raise UnreadableInput(f"neither an http(s) URL nor base64: {error}") from None


def _failed(failure: Failure, status: int) -> Response:
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        raise _Refused((failure.code, "body.image", failure.reason))
    return envelope(status, UNEXPECTED if failure.code == "internal" else failure.reason, g.get("log_id"))


def _succeeded(answer: Answer) -> Response:
    result: dict[str, Any] = {"instances": answer.instances}
    if answer.image is not None:
        result["image"] = binascii.b2a_base64(answer.image, newline=False).decode("ascii")
    body = {"logId": str(uuid.uuid4()), "result": result, "errorCode": 0, "errorMsg": "Success"}
    return Response(json.dumps(body, separators=(",", ":")), content_type=JSON_TYPE)
