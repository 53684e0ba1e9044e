"""The file of buckets: what may be read and written, whose keys go where, and what is told where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from maskmill.shared.buckets import Buckets, ObjectUrl
from maskmill.shared.errors import BucketRefused, CannotStart, InvalidRequest
from maskmill.shared.settings import Settings


def buckets(tmp_path: Path, text: str) -> Buckets:
    file = tmp_path / "buckets.toml"
    file.write_text(text)
    return Buckets.of(
        Settings(buckets=file, s3_endpoint="http://home:1", s3_access_key="key", s3_secret_key=SecretStr("secret"))
    )


def test_what_is_not_listed_is_refused_with_the_line_to_add(tmp_path: Path) -> None:
    known = buckets(tmp_path, '[photos]\n[masks]\nread = false\nwrite = true\nprefix = "out/"\n')
    known.check(ObjectUrl.parse("s3://photos/a/b.jpg"), "read")
    known.check(ObjectUrl.parse("s3://masks/out/a"), "write")
    for url, to, said in [
        ("s3://other/a", "read", r"bucket other may not be read here; add \[other\] to .*buckets\.toml"),
        ("s3://dotted.name/a", "read", r'add \["dotted\.name"\]'),
        ("s3://photos/a", "write", r"bucket photos may not be written here; add \[photos\] with `write = true`"),
        ("s3://masks/out/a", "read", "may not be read"),
        ("s3://masks/elsewhere", "write", "only what begins with 'out/' may be written"),
    ]:
        with pytest.raises(BucketRefused, match=said):
            known.check(ObjectUrl.parse(url), to)  # type: ignore[arg-type]
    with pytest.raises(BucketRefused, match="a file that MASKMILL_BUCKETS names"):
        Buckets.of(Settings()).check(ObjectUrl.parse("s3://photos/a"), "read")


def test_a_directory_bucket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BucketRefused, match="in no order"):
        buckets(tmp_path, "[photos--use1-az4--x-s3]").check(ObjectUrl.parse("s3://photos--use1-az4--x-s3/a"), "read")


def test_the_storages_keys_go_to_its_own_server_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEIR_KEY", "theirs")
    monkeypatch.setenv("THEIR_SECRET", "hidden")
    known = buckets(
        tmp_path,
        '[home]\n[far]\nendpoint = "https://far"\n'
        '[keyed]\nendpoint = "https://far"\naccess_key_env = "THEIR_KEY"\nsecret_key_env = "THEIR_SECRET"\n',
    )
    assert [known.server(name).access_key for name in ("home", "far", "keyed")] == ["key", None, "theirs"]
    assert "hidden" not in repr(known.server("keyed"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[photos", "no TOML"),
        ("[photos]\nreed = true", "reed"),
        ("[photos]\nread = 7", "read"),
        ('[photos]\naccess_key_env = "NOT_SET_ANYWHERE"\nsecret_key_env = "X"', "NOT_SET_ANYWHERE is not set"),
        ('[photos]\naccess_key_env = "PATH"', "go together"),
    ],
)
def test_a_file_that_is_wrong_keeps_a_process_from_starting(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(CannotStart, match=said):
        buckets(tmp_path, text)


def test_a_file_that_is_not_there_keeps_a_process_from_starting(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="No such file"):
        Buckets.of(Settings(buckets=tmp_path / "none.toml"))


@pytest.mark.parametrize("url", ["s3://", "s3:///a", "http://b/a", "b/a", "s3://b d/a", "s3://bucket/\0", "s3://b/a"])
def test_what_is_no_s3_url_is_told(url: str) -> None:
    with pytest.raises(InvalidRequest, match="s3"):
        ObjectUrl.parse(url)


def test_a_key_is_taken_as_it_stands() -> None:
    assert ObjectUrl.parse("S3://photos//a%20b?c#d/../e") == ("photos", "/a%20b?c#d/../e")
    assert ObjectUrl.parse("s3://photos") == ("photos", "")
