"""A model is pulled whole and verified or not at all, over interruptions and mirrors, from real loopback servers."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from maskmill.shared.egress.http import Egress
from maskmill.shared.errors import CannotStart, MaskmillError, ModelInvalid, UrlUnreachable
from maskmill.shared.settings import Settings
from maskmill.worker.device import Device
from maskmill.worker.models import FAMILIES, load
from maskmill.worker.models.library.catalogue import CatalogueModel, catalogue
from maskmill.worker.models.library.inventory import known_models
from maskmill.worker.models.library.pull import pull
from maskmill.worker.models.manifest import Manifest
from tests.onnx_models import LABELS, head_of, write_onnx
from tests.services import FileServer
from tests.services.commands import CLEAN, MASKMILL, run_limited
from tests.services.process import free_port

BODY = bytes(range(256)) * 8192


@pytest.fixture
def egress() -> Iterator[Egress]:
    """An egress that may reach 127.0.0.1, and waits a second."""
    egress = Egress(Settings(allow_networks=("127.0.0.1/32",), url_timeout=1))
    yield egress
    egress.close()


def entry(*urls: str, body: bytes = BODY) -> CatalogueModel:
    """The catalogue's entry for that body at these places."""
    return CatalogueModel(
        licence="MIT",
        size=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        urls=urls,
        model=Manifest(family="yolo_seg", labels=LABELS, threshold=0.25),
    )


def pulled(egress: Egress, folder: Path, wanted: CatalogueModel) -> list[int]:
    """Pull it as `mine`; the numbers of bytes that were reported."""
    reported: list[int] = []
    assert pull("mine", wanted, folder, egress, reported.append) == folder / "mine"
    assert (folder / "mine/model.onnx").read_bytes() == BODY
    assert sorted(path.name for path in folder.rglob("*")) == ["mine", "model.onnx", "model.yaml"]
    return reported


def refused(egress: Egress, folder: Path, wanted: CatalogueModel) -> MaskmillError:
    with pytest.raises(MaskmillError) as caught:
        pull("mine", wanted, folder, egress, lambda _: None)
    assert not (folder / "mine").exists()
    return caught.value


def test_a_pulled_model_loads_by_its_name(egress: Egress, file_server: FileServer, tmp_path: Path) -> None:
    body = write_onnx(tmp_path / "there.onnx", head_of(((8, 8, 40, 32), 1, 0.8))).read_bytes()
    wanted = entry(file_server.resumable("m.onnx", body), body=body)
    pull("mine", wanted, tmp_path / "models", egress, lambda _: None)
    model = load("mine", Device("cpu"), Settings(models_dir=tmp_path / "models", cpu_threads=1))
    assert (model.digest, model.labels) == (wanted.sha256, LABELS)
    written = yaml.safe_load((tmp_path / "models/mine/model.yaml").read_text())
    assert (written["licence"], written["sha256"]) == ("MIT", wanted.sha256)


def test_a_download_that_breaks_off_goes_on_where_it_was(
    egress: Egress, file_server: FileServer, tmp_path: Path
) -> None:
    url = file_server.resumable("m.onnx", BODY, cuts=[700_000, 1, 900_000])
    reported = pulled(egress, tmp_path, entry(url))
    assert file_server.ranges == [
        (None, None),
        ("bytes=700000-", '"1"'),
        ("bytes=700001-", '"1"'),
        ("bytes=1600001-", '"1"'),
    ]
    assert reported == sorted(set(reported))
    assert reported[-1] == len(BODY)


def test_an_interrupted_pull_is_taken_up_by_the_next_one(
    egress: Egress, file_server: FileServer, tmp_path: Path
) -> None:
    url = file_server.resumable("m.onnx", BODY, cuts=[700_000, 0])
    assert isinstance(refused(egress, tmp_path, entry(url)), UrlUnreachable)
    assert (tmp_path / ".mine.part/model.onnx").read_bytes() == BODY[:700_000]
    assert [known.name for known in known_models(tmp_path)] == ["shapes"]
    assert pulled(egress, tmp_path, entry(url))[0] > 700_000


def test_another_version_on_the_server_is_fetched_from_its_start(
    egress: Egress, file_server: FileServer, tmp_path: Path
) -> None:
    url = file_server.resumable("m.onnx", bytes(len(BODY)), etag='"old"', cuts=[700_000, 0])
    refused(egress, tmp_path, entry(url))
    file_server.resumable("m.onnx", BODY, etag='"new"')
    pulled(egress, tmp_path, entry(url))
    assert file_server.ranges[-1] == ("bytes=700000-", '"old"')
    assert len(file_server.ranges) == 3


def test_a_server_that_knows_no_ranges_sends_it_again(egress: Egress, file_server: FileServer, tmp_path: Path) -> None:
    cut = {"Content-Length": str(len(BODY)), "Connection": "close"}
    url = file_server.add("m.onnx", BODY[:700_000], headers=cut)
    refused(egress, tmp_path, entry(url))
    file_server.add("m.onnx", BODY)
    pulled(egress, tmp_path, entry(url))


def test_an_answer_with_another_range_is_not_appended(egress: Egress, file_server: FileServer, tmp_path: Path) -> None:
    url = file_server.resumable("m.onnx", BODY, cuts=[700_000, 0])
    refused(egress, tmp_path, entry(url))
    wrong = {"Content-Range": f"bytes 5-{len(BODY) - 1}/{len(BODY)}"}
    file_server.add("m.onnx", BODY[5:], status=206, headers=wrong)
    assert "asked for bytes from 700000" in refused(egress, tmp_path, entry(url)).reason


@pytest.mark.parametrize("down", ["refuses", "missing", "failing"])
def test_where_the_first_mirror_is_down_the_next_one_serves(
    egress: Egress, file_server: FileServer, tmp_path: Path, down: str
) -> None:
    first = {
        "refuses": f"http://127.0.0.1:{free_port()}/m.onnx",
        "missing": file_server.url("nowhere"),
        "failing": file_server.add("failing", b"", status=503),
    }[down]
    pulled(egress, tmp_path, entry(first, file_server.resumable("m.onnx", BODY)))


def test_a_mirror_completes_what_another_one_began(egress: Egress, file_server: FileServer, tmp_path: Path) -> None:
    first = file_server.resumable("first", BODY, cuts=[700_000, 0])
    pulled(egress, tmp_path, entry(first, file_server.resumable("second", BODY, etag='"2"')))
    assert file_server.ranges[-1] == ("bytes=700000-", None)


def test_a_wrong_beginning_from_another_mirror_costs_one_more_download(
    egress: Egress, file_server: FileServer, tmp_path: Path
) -> None:
    first = file_server.resumable("first", bytes(len(BODY)), cuts=[700_000, 0])
    pulled(egress, tmp_path, entry(first, file_server.resumable("second", BODY, etag='"2"')))
    assert file_server.ranges[-2:] == [("bytes=700000-", None), (None, None)]


def test_a_wrong_hash_is_refused_with_both_and_leaves_nothing(
    egress: Egress, file_server: FileServer, tmp_path: Path
) -> None:
    wanted = entry(file_server.resumable("m.onnx", bytes(len(BODY))))
    error = refused(egress, tmp_path / "models", wanted)
    assert isinstance(error, ModelInvalid)
    assert wanted.sha256 in error.reason
    assert hashlib.sha256(bytes(len(BODY))).hexdigest() in error.reason
    assert list((tmp_path / "models").iterdir()) == []


def test_after_a_wrong_hash_the_next_mirror_is_tried(egress: Egress, file_server: FileServer, tmp_path: Path) -> None:
    first = file_server.resumable("first", bytes(len(BODY)))
    pulled(egress, tmp_path, entry(first, file_server.resumable("second", BODY, etag='"2"')))


@pytest.mark.parametrize("length", [len(BODY) - 1, len(BODY) + 1, 1 << 22])
def test_a_wrong_size_is_refused_before_the_download(
    egress: Egress, file_server: FileServer, tmp_path: Path, length: int
) -> None:
    error = refused(egress, tmp_path, entry(file_server.flood("m.onnx", length, announced=True)))
    assert isinstance(error, ModelInvalid)
    assert f"expected {len(BODY)} bytes, the server has {length}" in error.reason
    assert list(tmp_path.iterdir()) == []


def test_no_more_than_the_size_is_taken_from_an_endless_body(
    egress: Egress, file_server: FileServer, tmp_path: Path
) -> None:
    error = refused(egress, tmp_path, entry(file_server.flood("m.onnx", 1 << 26, announced=False)))
    assert "sha256 expected" in error.reason
    assert list(tmp_path.iterdir()) == []


def test_a_slow_server_may_take_longer_than_the_limit_of_one_mebibyte(
    egress: Egress, file_server: FileServer, tmp_path: Path
) -> None:
    url = file_server.drip("slow", BODY[: len(BODY) // 4], 4, 0.4)
    body = BODY[: len(BODY) // 4] * 4
    pull("mine", entry(url, body=body), tmp_path, egress, lambda _: None)
    assert file_server.requests == ["/slow"]


def test_a_server_that_falls_silent_ends_at_the_limit(egress: Egress, file_server: FileServer, tmp_path: Path) -> None:
    url = file_server.drip("silent", BODY[: len(BODY) // 2], 2, 60)
    file_server.resumable("other", BODY)
    pulled(egress, tmp_path, entry(url, file_server.url("other")))


def test_a_private_address_is_refused(file_server: FileServer, tmp_path: Path) -> None:
    with contextlib.closing(Egress(Settings())) as closed:
        error = refused(closed, tmp_path, entry(file_server.resumable("m.onnx", BODY)))
    assert "MASKMILL_ALLOW_NETWORKS" in error.reason
    assert file_server.requests == []


def test_a_model_that_is_there_is_not_fetched_again(egress: Egress, file_server: FileServer, tmp_path: Path) -> None:
    wanted = entry(file_server.resumable("m.onnx", BODY))
    pulled(egress, tmp_path, wanted)
    assert pulled(egress, tmp_path, wanted) == []
    assert file_server.requests == ["/m.onnx"]


def test_another_model_of_that_name_is_left_alone(egress: Egress, file_server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/model.onnx").write_bytes(b"another")
    with pytest.raises(ModelInvalid, match="another model is there"):
        pull("mine", entry(file_server.resumable("m.onnx", BODY)), tmp_path, egress, lambda _: None)
    assert (tmp_path / "mine/model.onnx").read_bytes() == b"another"


def test_two_never_pull_the_same_model_at_once(egress: Egress, file_server: FileServer, tmp_path: Path) -> None:
    held, released = threading.Event(), threading.Event()

    def hold() -> None:
        (tmp_path / ".mine.part").mkdir()
        handle = os.open(tmp_path / ".mine.part", os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
        held.set()
        released.wait()
        os.close(handle)

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    wanted = entry(file_server.resumable("m.onnx", BODY))
    try:
        assert isinstance(refused(egress, tmp_path, wanted), CannotStart)
    finally:
        released.set()
        other.join()
    pulled(egress, tmp_path, wanted)


def test_a_models_folder_that_cannot_be_is_said(egress: Egress, file_server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CannotStart, match="MASKMILL_MODELS_DIR"):
        pull("mine", entry(file_server.resumable("m.onnx", BODY)), tmp_path / "file", egress, lambda _: None)


def command(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    env = CLEAN | {f"MASKMILL_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run([*MASKMILL, "models", "pull", *words], capture_output=True, text=True, env=env, check=False)


def test_the_command_pulls_what_a_users_catalogue_names(file_server: FileServer, tmp_path: Path) -> None:
    wanted = entry(file_server.resumable("m.onnx", BODY))
    file = tmp_path / "catalogue.yaml"
    file.write_text(yaml.safe_dump({"mine": wanted.model_dump(mode="json", exclude_unset=True)}))
    settings = {"catalogue": str(file), "models_dir": str(tmp_path / "models"), "allow_networks": "127.0.0.1/32"}
    listed = command("--list", **settings)
    assert "maskrcnn-12-int8" in listed.stdout
    assert "mine" in listed.stdout
    done = command("mine", **settings)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "models/mine") in done.stdout
    assert (tmp_path / "models/mine/model.onnx").read_bytes() == BODY


def test_the_command_says_what_there_is_and_what_went_wrong(tmp_path: Path) -> None:
    unknown = command("nothing")
    assert (unknown.returncode, "maskrcnn-12-int8" in unknown.stderr) == (2, True)
    wanted = entry(f"http://127.0.0.1:{free_port()}/m.onnx")
    file = tmp_path / "catalogue.yaml"
    file.write_text(yaml.safe_dump({"mine": wanted.model_dump(mode="json", exclude_unset=True)}))
    down = command("mine", catalogue=str(file), models_dir=str(tmp_path / "m"), allow_networks="127.0.0.1/32")
    assert (down.returncode, "no mirror had it" in down.stderr) == (4, True)
    file.write_text("../mine: {}")
    broken = command("--list", catalogue=str(file))
    assert (broken.returncode, str(file) in broken.stderr) == (78, True)


def test_a_disk_that_does_not_take_it_is_said_and_the_next_call_goes_on(
    file_server: FileServer, tmp_path: Path
) -> None:
    wanted = entry(file_server.resumable("m.onnx", BODY))
    file = tmp_path / "catalogue.yaml"
    file.write_text(yaml.safe_dump({"mine": wanted.model_dump(mode="json", exclude_unset=True)}))
    env = CLEAN | {
        "MASKMILL_CATALOGUE": str(file),
        "MASKMILL_MODELS_DIR": str(tmp_path / "models"),
        "MASKMILL_ALLOW_NETWORKS": "127.0.0.1/32",
    }
    full = run_limited([*MASKMILL, "models", "pull", "mine"], env, kibibytes=1000)
    assert full.returncode == 78
    assert "File too large; the next try goes on from what is there" in full.stderr
    assert "Traceback" not in full.stderr
    assert 0 < (tmp_path / "models/.mine.part/model.onnx").stat().st_size <= 1000 * 1024
    again = run_limited([*MASKMILL, "models", "pull", "mine"], env)
    assert again.returncode == 0, again.stderr
    assert file_server.ranges[-1][0] is not None
    assert (tmp_path / "models/mine/model.onnx").read_bytes() == BODY


def test_answers_that_are_no_http_try_the_next_mirror(egress: Egress, file_server: FileServer, tmp_path: Path) -> None:
    strange = file_server.redirect("strange", "http://[elsewhere")
    assert "which is no URL" in refused(egress, tmp_path, entry(strange)).reason
    assert list(tmp_path.iterdir()) == []
    for name, length in (("word", "many"), ("digits", "9" * 5000)):
        headers = {"Content-Length": length, "Connection": "close"}
        (tmp_path / name).mkdir()
        pulled(egress, tmp_path / name, entry(strange, file_server.add(f"{name}.onnx", BODY, headers=headers)))


def test_every_shipped_entry_is_permissive_and_of_a_family_that_exists() -> None:
    for shipped in catalogue(None).values():
        assert shipped.licence in ("MIT", "Apache-2.0", "BSD-3-Clause")
        assert shipped.model.family in FAMILIES
        assert all(url.startswith("https://") for url in shipped.urls)
        assert len(shipped.urls) > 1
