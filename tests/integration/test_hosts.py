"""A page of another site that gives its own name this machine's address reaches nothing (DNS rebinding)."""

from __future__ import annotations

import contextlib
import http.client
import socket

import pytest
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from maskmill.api import create_app
from maskmill.api.services import Services
from maskmill.shared.jobs.keys import DEFAULT_TENANT
from tests.services.api_server import ApiServer

ARGUMENTS = {"job_id": "0123456789", "name": "x.json", "number": 0, "filename": "x.js", "doc_type": "swagger"}


def path_of(rule: Rule) -> str:
    built = rule.build({name: ARGUMENTS[name] for name in rule.arguments}, append_unknown=False)
    assert built
    return built[1]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_path_refuses_another_name_in_its_own_form(services: Services, method: str) -> None:
    app = create_app(services.settings, services)
    paths = {path_of(rule) for rule in app.url_map.iter_rules()} | {"/nowhere", "/v1/nowhere"}
    assert {"/instance-segmentation", "/openapi.json", "/docs", "/v1/jobs", "/health/live"} < paths
    for path in sorted(paths):
        answer = app.test_client().open(path, method=method, headers={"Host": "evil.example:8080"}, data=b"{}")
        assert answer.status_code == 421, path
        document = answer.json
        said = document["detail"] if path.startswith("/v1") else document["errorMsg"]
        assert (document.get("code") == "foreign_host") is path.startswith("/v1")
        assert "evil.example" in said
        assert "MASKMILL_API_TRUSTED_HOSTS" in said


def test_nothing_is_submitted_by_another_name(api_server: ApiServer, services: Services) -> None:
    body = b'{"sources": [{"type": "url", "url": "http://127.0.0.1/x.jpg"}]}'
    address = api_server.url.removeprefix("http://")
    statuses = {}
    for host in ("evil.example", address):
        with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as client:
            client.request("POST", "/v1/jobs", body, {"Host": host})
            statuses[host] = client.getresponse().status
    assert statuses == {"evil.example": 421, address: 202}
    assert len(services.ledger.jobs(DEFAULT_TENANT)[0]) == 1


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:9000", "localhost.", "127.0.0.1", "127.0.0.1:8080", "127.8.9.1", "[::1]", "[::1]:8080"],
)
def test_loopback_is_answered_by_any_of_its_names_and_ports(web: FlaskClient, host: str) -> None:
    assert web.get("/v1/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example:localhost",
        "localhost@evil.example",
        "0.0.0.0:8080",
        "192.168.1.4",
        "[fd00::1]:8080",
        "",
    ],
)
def test_what_only_looks_like_loopback_is_refused(web: FlaskClient, host: str) -> None:
    assert web.get("/v1/jobs", headers={"Host": host}).status_code == 421


def test_further_names_are_a_setting(services: Services) -> None:
    named = services.settings.model_copy(update={"api_trusted_hosts": ("masks.example.org", "10.0.0.7")})
    held = Services.open(named)
    web = create_app(named, held).test_client()
    answers = {
        host: web.get("/v1/jobs", headers={"Host": host}).status_code
        for host in ("masks.example.org", "Masks.Example.org:443", "10.0.0.7:8080", "localhost", "example.org")
    }
    held.close()
    assert answers == dict.fromkeys(answers, 200) | {"example.org": 421}


def test_a_check_without_a_host_as_load_balancers_send_is_answered(api_server: ApiServer) -> None:
    host, port = api_server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert client.recv(100).split(b" ", 2)[1] == b"200"
