"""The services that other tests rest on keep their own promises."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from redis import Redis

from tests.services import FileServer, SeaweedServer, run_redis, serve_files


def test_a_killed_redis_comes_back_with_its_data_and_empty_when_asked() -> None:
    with run_redis() as server:
        client = Redis.from_url(server.url)
        client.set("word", "kept")
        server.kill()
        server.start()
        assert client.get("word") == b"kept"
        server.lose_everything()
        assert client.get("word") is None
        client.close()


def test_a_stored_object_is_read_back_from_the_s3_server(s3_server: SeaweedServer) -> None:
    bucket = s3_server.make_bucket()
    s3_server.client().put_object(Bucket=bucket, Key="a/b", Body=b"bytes")
    assert s3_server.client().get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"bytes"


def test_the_file_server_serves_a_folder(tmp_path: Path, file_server: FileServer) -> None:
    (tmp_path / "a.txt").write_bytes(b"hello")
    with serve_files(tmp_path) as server, urllib.request.urlopen(server.url("a.txt")) as reply:
        assert reply.read() == b"hello"
    with urllib.request.urlopen(file_server.add("x", b"route")) as reply:
        assert reply.read() == b"route"
