"""GET /openapi.json and GET /docs: the API described, and a page to try it; every asset is served from here."""

from __future__ import annotations

from typing import Any

from flask import jsonify, redirect
from flask_openapi3.models.schema import Schema
from flask_openapi3.openapi import OpenAPI
from flask_openapi3_swagger.plugins import RegisterPlugin  # type: ignore[import-untyped]
from pydantic import BaseModel

from maskmill.api.endpoints.instance_segmentation import Envelope, InferRequest
from maskmill.api.responses.forms import REFERENCE
from maskmill.api.responses.problems import Problem
from maskmill.api.submission.job_request import JobRequest, PriorityRequest, RetryRequest

# Models that the document refers to by name only.
NAMED: tuple[type[BaseModel], ...] = (Envelope, InferRequest, JobRequest, PriorityRequest, Problem, RetryRequest)


def register(app: OpenAPI) -> None:
    """Serve the document and the page."""
    for model in NAMED:
        schema = model.model_json_schema(ref_template=REFERENCE)
        parts: dict[str, Any] = schema.pop("$defs", {})
        for name, part in {model.__name__: schema, **parts}.items():
            app.components_schemas[name] = Schema(**part)
    app.register_blueprint(RegisterPlugin.register(doc_url="/openapi.json"), url_prefix="/docs")
    app.add_url_rule("/openapi.json", view_func=lambda: jsonify(_document(app)), endpoint="openapi")
    app.add_url_rule("/docs", view_func=lambda: redirect("/docs/swagger"), endpoint="docs")


def _document(app: OpenAPI) -> dict[str, Any]:
    document = app.api_doc
    # Without keys there is nothing to authorize; the page would show a button for it.
    document["components"].pop("securitySchemes", None)
    return document
