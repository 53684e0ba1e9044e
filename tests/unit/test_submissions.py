"""What a submission may say, decided without any service."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskmill.api.submission.job_request import check_sources, choose_model, digest, job_id_of, parse
from maskmill.api.submission.uploads import NAME_BYTES, safe_name
from maskmill.shared.buckets import Buckets
from maskmill.shared.errors import InvalidRequest, PathRefused, UnknownModel
from maskmill.shared.jobs.keys import DEFAULT_TENANT
from maskmill.shared.jobs.records import Job
from maskmill.shared.settings import Settings

ROOTED = Settings(local_roots=(Path("/data/pictures"),))


def path(text: str) -> None:
    check_sources(parse({"sources": [{"type": "path", "path": text}]}), 0, Buckets.of(ROOTED))


@pytest.mark.parametrize("inside", ["/data/pictures", "/data/pictures/a/b.jpg", "/data/pictures//a/../b.jpg"])
def test_a_path_below_a_root_is_accepted(inside: str) -> None:
    path(inside)


@pytest.mark.parametrize("outside", ["/", "/data", "/data/pictures2/a.jpg", "/data/pictures/../../etc/passwd"])
def test_a_path_outside_the_roots_is_refused(outside: str) -> None:
    with pytest.raises(PathRefused):
        path(outside)


def test_without_roots_the_setting_is_named() -> None:
    request = parse({"sources": [{"type": "path", "path": "/a.jpg"}]})
    with pytest.raises(PathRefused, match="MASKMILL_LOCAL_ROOTS"):
        check_sources(request, 0, Buckets.of(Settings()))


@pytest.mark.parametrize("url", ["http://h/a b", "http://h/\n", "http://h:99999/", "//h/a", "javascript:alert(1)", "h"])
def test_what_is_no_http_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        check_sources(parse({"sources": [{"type": "url", "url": url}]}), 0, Buckets.of(Settings()))


def test_the_model_asked_for_must_be_served() -> None:
    request = parse({"options": {"model": "coco"}})
    assert choose_model(request, ["shapes", "coco"], Settings()).model == "coco"
    with pytest.raises(UnknownModel, match="served: shapes, tiny"):
        choose_model(request, ["tiny", "shapes"], Settings())


def test_the_default_model_is_the_settings_first_whether_a_name_or_a_path() -> None:
    assert choose_model(parse({}), ["a", "b"], Settings(models=("b", "a"))).model == "b"
    assert choose_model(parse({}), ["a", "b"], Settings(models=("/models/b.onnx",))).model == "b"
    assert choose_model(parse({}), ["a", "b.v2"], Settings(models=("/models/b.v2/",))).model == "b.v2"
    assert choose_model(parse({}), ["a", "my-b"], Settings(models=("/models/my b.onnx",))).model == "my-b"


def test_an_idempotency_key_always_makes_the_same_valid_id() -> None:
    ids = [job_id_of(DEFAULT_TENANT, key) for key in ("a", "b", "a", "ü")]
    assert ids[0] == ids[2]
    assert len(set(ids)) == 3
    for job_id in ids:
        assert Job(id=job_id, created_at=0, sources=(), shard_size=1).id == job_id


def test_an_idempotency_key_of_two_tenants_makes_two_ids_and_the_default_tenants_are_as_they_ever_were() -> None:
    ids = {tenant: job_id_of(tenant, "a key") for tenant in (DEFAULT_TENANT, "acme", "acme-2")}
    assert len(set(ids.values())) == 3
    assert ids[DEFAULT_TENANT] == "dy7pccwt8ghctw2gyd954jg2"


def test_requests_differ_by_document_by_file_name_and_by_bytes() -> None:
    requests = [({}, []), ({"name": "a"}, []), ({}, [("a", "1")]), ({}, [("b", "1")]), ({}, [("a", "2")])]
    assert len({digest(*request) for request in requests}) == 5
    assert digest({"a": 1, "b": 2}, []) == digest({"b": 2, "a": 1}, [])


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("a.jpg", "a.jpg"),
        ("sub/deep/a.jpg", "sub/deep/a.jpg"),
        ("a/b/c/d/e/f/g/h/i/j/1.jpg", "a/b/c/d/e/f/g/h/i/j/1.jpg"),
        ("C:\\fotos\\a.jpg", "C_/fotos/a.jpg"),
        ("../../etc/passwd", "etc/passwd"),
        ("/absolute.jpg", "absolute.jpg"),
        ("...", "file"),
        ("", "file"),
        ("Straße ä.jpg", "Straße ä.jpg"),
        ("a\x00b\n.jpg", "a_b_.jpg"),
    ],
)
def test_an_upload_keeps_its_users_words_but_nothing_dangerous(given_name: str, kept: str) -> None:
    assert safe_name(given_name) == kept


@given(st.text(max_size=600))
def test_any_name_becomes_a_relative_path_that_every_disk_takes(name: str) -> None:
    segments = safe_name(name).split("/")
    assert all(segments)
    assert not {".", ".."} & set(segments)
    assert max(len(segment.encode()) for segment in segments) <= 220
    assert len("/".join(segments).encode()) <= NAME_BYTES
    assert all(segment.isprintable() or "\x00" not in segment for segment in segments)
